// SPDX-License-Identifier: MIT
//
// The reader of traces, its figures, and the replay: every fault of a file by its offset, every
// figure by hand.
#include "replay/replay.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "replay/gpt_trace.hpp"

namespace mmkit::replay {
namespace {

constexpr std::uint32_t kFree = GptTrace::kFree;

void put(std::string& bytes, std::uint32_t word) {
  for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(word >> shift & 0xff);
}

std::string header(std::uint32_t operations, std::uint32_t allocations, std::uint32_t flags = 0) {
  std::string bytes = "GPT1";
  for (const std::uint32_t word : {operations, allocations, flags}) put(bytes, word);
  return bytes;
}

std::string with_ops(std::string bytes, std::initializer_list<std::uint32_t> ops) {
  for (const std::uint32_t op : ops) put(bytes, op);
  return bytes;
}

GptTrace read(const std::string& bytes) {
  return read_gpt_bytes({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()});
}

void refuses(const std::string& bytes, std::uint64_t offset, const std::string& reason) {
  try {
    read(bytes);
    ADD_FAILURE() << "was read; it should not: " << reason;
  } catch (const GptError& error) {
    EXPECT_EQ(error.offset_bytes(), offset) << error.what();
    EXPECT_EQ(std::string(error.what()), reason);
  }
}

TEST(GptTrace, ReadsOperationsAndSizes) {
  const GptTrace trace = read(with_ops(header(4, 2), {7, kFree - 1, kFree | 0, kFree | 1}));
  EXPECT_EQ(trace.ops, (std::vector<std::uint32_t>{7, kFree - 1, kFree, kFree | 1}));
  EXPECT_EQ(trace.sizes, (std::vector<std::uint32_t>{7, kFree - 1}));
}

TEST(GptTrace, RefusesAFileThatIsNone) {
  refuses("", 0, "the file is empty");
  refuses("GP", 2, "the file ends within its header of 16 bytes");
  refuses("GX", 0, "not a GPT1 trace");
  refuses("GPT2" + std::string(12, '\0'), 0, "not a GPT1 trace");
  refuses(header(1, 1).substr(0, 15), 15, "the file ends within its header of 16 bytes");
}

TEST(GptTrace, RefusesAHeaderThatCannotBe) {
  refuses(header(0, 0), 4, "a trace of no operations");
  refuses(with_ops(header(1, 2), {5}), 8, "more allocations than operations");
  refuses(with_ops(header(1, 1, 3), {5}), 12, "flags are 3, known is only 0");
  refuses(with_ops(header(2, 1), {5, 6}), 8,
          "the header says 1 allocations, the operations make 2");
}

TEST(GptTrace, RefusesAFileOfAnotherLengthThanItSays) {
  refuses(header(3, 1), 16, "the file ends after 0 of its 3 operations");
  refuses(with_ops(header(3, 3), {5, 6}), 24, "the file ends after 2 of its 3 operations");
  refuses(with_ops(header(3, 3), {5, 6, 7}).substr(0, 26), 24,
          "the file ends after 2 of its 3 operations");
  refuses(with_ops(header(1, 1), {5}) + "x", 20, "the file goes on after its last operation");
}

TEST(GptTrace, RefusesAnOperationThatCannotBe) {
  refuses(with_ops(header(2, 2), {5, 0}), 20, "an allocation of no bytes");
  refuses(with_ops(header(2, 1), {5, kFree | 1}), 20,
          "a free of allocation 1, which is not made yet");
  refuses(with_ops(header(3, 1), {5, kFree, kFree}), 24, "a second free of allocation 0");
}

TEST(GptTrace, BelievesNoCountInTheHeader) {
  // 2^32 - 1 operations would be 16 GiB; the bytes that are there decide.
  refuses(with_ops(header(~0u, ~0u), {5}), 20,
          "the file ends after 1 of its 4294967295 operations");
}

TEST(GptTrace, FindsFaultsBehindTheFirstBufferToo) {
  std::string bytes = header(50'001, 50'001);
  for (int i = 0; i < 50'000; ++i) put(bytes, 1);
  put(bytes, 0);
  refuses(bytes, 16 + 4 * 50'000, "an allocation of no bytes");
}

TEST(GptFigures, ArePeaksOfWhatIsLive) {
  // Bytes peak after the second operation, granules after the last.
  const GptTrace trace = read(with_ops(header(6, 5), {100, 60, kFree | 1, 17, 17, 17}));
  const GptFigures figures = figures_of(trace, 4);
  EXPECT_EQ(figures.peak_bytes, 160u);
  EXPECT_EQ(figures.peak_granules, 7u + 3 * 2);
  EXPECT_EQ(figures.peak_op, 5u);
  EXPECT_EQ(figures.peak_blocks, 4u);
  EXPECT_EQ(figures_of(trace, 30).peak_granules, 4u);
}

// Gives the lowest place of a heap of bytes, and refuses to free anything but what it gave.
class TestHeap {
 public:
  explicit TestHeap(std::size_t bytes) : bytes_(bytes) {}
  std::uintptr_t place(std::size_t size) {
    std::uintptr_t start = 0;
    for (const auto& [taken, length] : live_) {
      if (start + size <= taken) break;
      start = taken + length;
    }
    if (start + size > bytes_) return kNoPlace;
    live_[start] = size;
    return start;
  }
  void free(std::uintptr_t start, std::size_t size) {
    ASSERT_EQ(live_.count(start), 1u);
    ASSERT_EQ(live_[start], size);
    live_.erase(start);
  }
  std::size_t live() const { return live_.size(); }

 private:
  std::size_t bytes_;
  std::map<std::uintptr_t, std::size_t> live_;
};

TEST(Replay, LeavesOutWhatFindsNoPlaceAndItsFree) {
  const GptTrace trace = read(with_ops(header(6, 4), {6, 6, kFree | 1, 3, kFree | 0, 4}));
  TestHeap heap(10);
  Places places;
  replay(heap, trace, places);
  EXPECT_EQ(places, (Places{0, kNoPlace, 6, 0}));
  EXPECT_EQ(heap.live(), 2u);
  finish(heap, trace, places);
  EXPECT_EQ(heap.live(), 0u);
}

TEST(Replay, StopsWhereItIsTold) {
  const GptTrace trace = read(with_ops(header(4, 2), {6, 2, kFree | 0, kFree | 1}));
  TestHeap heap(10);
  Places places;
  replay(heap, trace, places, 3);
  EXPECT_EQ(heap.live(), 1u);
  finish(heap, trace, places, 3);
  EXPECT_EQ(heap.live(), 0u);
}

TEST(Replay, TimesEachAllocationOnce) {
  const GptTrace trace = read(with_ops(header(4, 3), {6, kFree | 0, 2, 3}));
  TestHeap heap(10), same(10);
  Places places, expected;
  std::vector<std::size_t> numbers;
  replay_timed(heap, trace, places, [&](std::size_t number, auto allocate) {
    numbers.push_back(number);
    allocate();
  });
  replay(same, trace, expected);
  EXPECT_EQ(places, expected);
  EXPECT_EQ(numbers, (std::vector<std::size_t>{0, 1, 2}));
}

TEST(SmallestHeap, IsTheOneInWhichEverythingFindsAPlace) {
  // 4 and 4, the first goes, 6 does not fit in its place: 14 and not 10.
  const GptTrace trace = read(with_ops(header(4, 3), {4, 4, kFree | 0, 6}));
  const std::uint64_t found = smallest_heap(10, [&](std::uint64_t bytes) {
    TestHeap heap(bytes);
    Places places;
    const bool well = fits(heap, trace, places);
    EXPECT_EQ(heap.live(), 0u);
    return well;
  });
  EXPECT_EQ(found, 14u);
}

TEST(SmallestHeap, IsExactForEverySmallBound) {
  for (std::uint64_t bound = 1; bound < 640; ++bound) {
    EXPECT_EQ(smallest_heap(10, [bound](std::uint64_t size) { return size >= bound; }),
              bound <= 10 ? 10 : bound);
  }
}

TEST(SmallestHeap, IsWithinAPartIn4096OfALargeBound) {
  constexpr std::uint64_t kLeast = 1'000'000, kBound = 1'234'567;
  const std::uint64_t found =
      smallest_heap(kLeast, [](std::uint64_t size) { return size >= kBound; });
  EXPECT_GE(found, kBound);
  EXPECT_LE(found, kBound + kLeast / 4096 + 1);
}

TEST(SmallestHeap, IsNoneWhenNoneWillDo) {
  std::uint64_t largest = 0;
  EXPECT_EQ(smallest_heap(10,
                          [&largest](std::uint64_t size) {
                            largest = std::max(largest, size);
                            return false;
                          }),
            0u);
  EXPECT_LE(largest, 640u);
}

}  // namespace
}  // namespace mmkit::replay
