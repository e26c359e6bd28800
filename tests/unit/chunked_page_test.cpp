// SPDX-License-Identifier: MIT
//
// Places in a page of three: every combination of objects against a map of its chunks.
#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>
#include <memory>
#include <mmkit/zpool/chunked_page.hpp>
#include <vector>

namespace mmkit {
namespace {

using Chunks = std::bitset<64>;

Chunks range(unsigned begin, unsigned count) {
  Chunks chunks;
  for (unsigned i = begin; i < begin + count; ++i) chunks.set(i);
  return chunks;
}
// What of the page is taken, the red zone included.
Chunks taken(const ChunkedPage& page) {
  Chunks chunks = range(0, 2);
  for (const auto buddy : ChunkedPage::kInOrder) {
    if (!page.holds(buddy)) continue;
    const auto begin = static_cast<unsigned>(page.place(buddy) - page.data()) / 64;
    const Chunks mine = range(begin, page.chunks(buddy));
    EXPECT_EQ(mine.count(), page.chunks(buddy)) << "it ends with the page";
    EXPECT_TRUE((chunks & mine).none()) << "objects overlap";
    chunks |= mine;
  }
  return chunks;
}
unsigned longest_gap(const Chunks& chunks) {
  unsigned longest = 0, length = 0;
  for (unsigned i = 0; i < 64; ++i) {
    length = chunks[i] ? 0 : length + 1;
    longest = std::max(longest, length);
  }
  return longest;
}

class ChunkedPages : public ::testing::Test {
 protected:
  // A page with these objects, MIDDLE where it was put behind a FIRST of so many chunks.
  void make(unsigned first, unsigned middle, unsigned last, unsigned old_first) {
    page_ = std::make_unique<ChunkedPage>();
    page_->frame = std::uint64_t{1} << ChunkedPage::kFrameBits;
    if (middle != 0) {
      page_->put(ChunkedPage::kFirst, old_first * 64);
      page_->put(ChunkedPage::kMiddle, middle * 64);
      page_->take_out(ChunkedPage::kFirst);
    }
    if (first != 0) page_->put(ChunkedPage::kFirst, first * 64);
    if (last != 0) page_->put(ChunkedPage::kLast, last * 64);
  }
  template <class Visit>
  void for_each_page(Visit&& visit) {
    for (unsigned first = 0; first <= 61; first += first < 8 ? 1 : 7) {
      for (unsigned middle = 0; middle + first <= 60; middle += middle < 8 ? 1 : 7) {
        for (unsigned last = 0; middle + first + last <= 62; last += last < 8 ? 1 : 7) {
          const unsigned least = std::max(1u, first), most = middle == 0 ? least : least + 9;
          for (unsigned old = least; old <= most && old + middle + last <= 62; ++old) {
            make(first, middle, last, old);
            visit(*page_);
          }
        }
      }
    }
  }
  std::unique_ptr<ChunkedPage> page_;
};

TEST_F(ChunkedPages, KnowTheLargestObjectThatFits) {
  for_each_page([](ChunkedPage& page) {
    ASSERT_TRUE(page.is_sound());
    const Chunks chunks = taken(page);
    if (page.objects() == 3) {
      EXPECT_EQ(page.free_chunks(), 0u) << "no fourth object";
    } else if (!page.holds(ChunkedPage::kMiddle)) {
      EXPECT_EQ(page.free_chunks(), longest_gap(chunks));
    } else {
      EXPECT_LE(page.free_chunks(), longest_gap(chunks));
    }
  });
}

TEST_F(ChunkedPages, TakeWhateverFits) {
  for_each_page([](ChunkedPage& page) {
    for (unsigned chunks = 1; chunks <= std::min(page.free_chunks(), 61u); ++chunks) {
      const std::uint64_t frame = page.frame;
      const std::uint8_t start = page.start_middle;
      const ChunkedPage::Buddy buddy = page.choose(chunks);
      ASSERT_FALSE(page.holds(buddy));
      page.put(buddy, chunks * 64 - 63);
      ASSERT_TRUE(page.is_sound());
      ASSERT_EQ(page.chunks(buddy), chunks);
      taken(page);
      page.take_out(buddy);
      page.start_middle = start;
      ASSERT_EQ(page.frame, frame);
    }
  });
}

TEST_F(ChunkedPages, SlideMiddleOnlyWhereThatMakesRoom) {
  for_each_page([](ChunkedPage& page) {
    if (!page.can_slide()) return;
    ASSERT_TRUE(page.holds(ChunkedPage::kMiddle));
    ASSERT_LT(page.objects(), 3u);
    const unsigned before = page.free_chunks(), promised = page.room_after_slide();
    const unsigned start = page.best_start_middle();
    if (page.objects() == 1) {
      const std::size_t size = page.size_bytes[ChunkedPage::kMiddle];
      page.take_out(ChunkedPage::kMiddle);
      page.put(ChunkedPage::kFirst, size);
    } else {
      const unsigned gap =
          start > page.start_middle ? start - page.start_middle : page.start_middle - start;
      ASSERT_GE(gap, 3u);
      page.start_middle = static_cast<std::uint8_t>(start);
    }
    ASSERT_TRUE(page.is_sound());
    EXPECT_EQ(page.free_chunks(), promised);
    EXPECT_GE(page.free_chunks(), before);
    EXPECT_FALSE(page.can_slide()) << "once is enough";
  });
}

TEST(ChunkedPageTable, KeepsWhereAPageLiesAndItsNumber) {
  ChunkedPageTable table;
  ASSERT_TRUE(table.grow());
  const auto address = [](std::uint64_t page) { return reinterpret_cast<std::byte*>(page << 12); };
  // The first decides what numbers can be kept: those about as far off.
  constexpr std::uint64_t kFirst = 0x7'1234'5678;
  for (const std::uint64_t pfn : {std::uint64_t{0}, std::uint64_t{5}, kFirst, ~std::uint64_t{0}}) {
    ChunkedPageTable fresh;
    ASSERT_TRUE(fresh.grow());
    const PageRun run{address(kFirst), 1, Pfn{pfn}};
    ASSERT_TRUE(fresh.can_describe(run));
    const PageIndex index = fresh.take();
    fresh.open(index, run);
    EXPECT_EQ(fresh[index].data(), run.data);
    for (const std::int64_t off : {-1'000'000, -1, 0, 1, 1'000'000}) {
      const PageRun other{address(kFirst + 77), 1, Pfn{pfn + 77 + static_cast<std::uint64_t>(off)}};
      ASSERT_TRUE(fresh.can_describe(other));
      const PageIndex at = fresh.take();
      fresh.open(at, other);
      const PageRun back = fresh.close(at);
      EXPECT_EQ(back.data, other.data);
      EXPECT_EQ(back.first, other.first);
      EXPECT_EQ(back.pages, 1u);
      fresh.give_back(at);
    }
    EXPECT_FALSE(fresh.can_describe({address(kFirst), 1, Pfn{pfn + (std::uint64_t{1} << 28)}}));
    EXPECT_FALSE(fresh.can_describe({address(kFirst), 1, Pfn{pfn - (std::uint64_t{1} << 28)}}));
    EXPECT_EQ(fresh.close(index).first, run.first);
    fresh.give_back(index);
    EXPECT_TRUE(fresh.validate());
  }
  EXPECT_FALSE(table.can_describe({address(std::uint64_t{1} << 37), 1, Pfn{0}})) << "too far up";
}

TEST(ChunkedPageTable, HandsOutEachPageOnce) {
  ChunkedPageTable table;
  EXPECT_EQ(table.take(), kNoPage);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(table.grow());
  std::vector<bool> given(table.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    const PageIndex index = table.take();
    ASSERT_LT(index, given.size());
    EXPECT_FALSE(given[index]);
    given[index] = true;
  }
  EXPECT_EQ(table.take(), kNoPage);
  table.give_back(7);
  EXPECT_TRUE(table.validate());
  EXPECT_EQ(table.take(), 7u);
}

}  // namespace
}  // namespace mmkit
