// SPDX-License-Identifier: MIT
//
// The edges of words and ranges by hand, and every search over some small bitmaps by exhaustion.
// Random bitmaps are in tests/model/bitmap_model_test.cpp.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <mmkit/base/bitmap.hpp>
#include <vector>

namespace mmkit {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

// Usable in constant expressions.
constexpr std::size_t first_fit_of_a_constant() {
  const std::array<std::uint64_t, 2> words{0xff, 0};
  return bitmap::find_clear_run(words.data(), 0, 128, 100, 4);
}
static_assert(first_fit_of_a_constant() == 8);

// What find_run means: the lowest start that is aligned and whose bits are all of one kind.
std::size_t naive_find_run(const std::uint64_t* words, std::size_t begin, std::size_t end,
                           std::size_t count, std::size_t align, bool kind) {
  for (std::size_t start = begin; start < end && count <= end - start; ++start) {
    if (start % align != 0) continue;
    std::size_t length = 0;
    while (length < count && bitmap::test(words, start + length) == kind) ++length;
    if (length == count) return start;
  }
  return end;
}

TEST(Bitmap, CountsTheWordsOfItsBits) {
  EXPECT_EQ(bitmap::words_for(0), 0u);
  EXPECT_EQ(bitmap::words_for(1), 1u);
  EXPECT_EQ(bitmap::words_for(64), 1u);
  EXPECT_EQ(bitmap::words_for(65), 2u);
  EXPECT_EQ(bitmap::words_for(~std::size_t{0}), (std::size_t{1} << 58));
}

TEST(Bitmap, ChangesTheNamedBitAlone) {
  std::array<std::uint64_t, 3> words{};
  for (std::size_t bit = 0; bit < 192; ++bit) {
    bitmap::set(words.data(), bit);
    EXPECT_TRUE(bitmap::test(words.data(), bit));
    EXPECT_EQ(bitmap::count_set(words.data(), 0, 192), 1u);
    EXPECT_EQ(words[bit / 64], std::uint64_t{1} << bit % 64);
    bitmap::clear(words.data(), bit);
    EXPECT_FALSE(bitmap::test(words.data(), bit));
    EXPECT_TRUE(bitmap::all_clear(words.data(), 0, 192));
  }
}

TEST(Bitmap, ChangesTheNamedRangeAloneForEveryRangeOfThreeWords) {
  for (std::size_t start = 0; start <= 192; ++start) {
    for (std::size_t count = 0; start + count <= 192; ++count) {
      std::array<std::uint64_t, 3> words{};
      bitmap::set_range(words.data(), start, count);
      ASSERT_TRUE(bitmap::all_set(words.data(), start, count));
      ASSERT_EQ(bitmap::count_set(words.data(), 0, 192), count) << start << "+" << count;
      ASSERT_EQ(bitmap::count_set(words.data(), start, count), count);
      ASSERT_TRUE(bitmap::all_clear(words.data(), 0, start));
      words = {kAll, kAll, kAll};
      bitmap::clear_range(words.data(), start, count);
      ASSERT_TRUE(bitmap::all_clear(words.data(), start, count));
      ASSERT_EQ(bitmap::count_set(words.data(), 0, 192), 192 - count) << start << "+" << count;
      ASSERT_TRUE(bitmap::all_set(words.data(), 0, start));
    }
  }
}

TEST(Bitmap, SeesOneWrongBitInARange) {
  for (const std::size_t wrong : {0u, 1u, 63u, 64u, 100u, 127u, 128u, 191u}) {
    std::array<std::uint64_t, 3> words{kAll, kAll, kAll};
    bitmap::clear(words.data(), wrong);
    EXPECT_FALSE(bitmap::all_set(words.data(), 0, 192));
    EXPECT_FALSE(bitmap::all_set(words.data(), wrong, 1));
    EXPECT_TRUE(bitmap::all_set(words.data(), 0, wrong));
    EXPECT_TRUE(bitmap::all_set(words.data(), wrong + 1, 191 - wrong));
    words = {0, 0, 0};
    bitmap::set(words.data(), wrong);
    EXPECT_FALSE(bitmap::all_clear(words.data(), 0, 192));
    EXPECT_TRUE(bitmap::all_clear(words.data(), 0, wrong));
    EXPECT_TRUE(bitmap::all_clear(words.data(), wrong + 1, 191 - wrong));
  }
}

TEST(Bitmap, FindsTheNextBitInsideTheRangeAlone) {
  std::array<std::uint64_t, 3> words{};
  bitmap::set(words.data(), 130);
  EXPECT_EQ(bitmap::next_set(words.data(), 0, 192), 130u);
  EXPECT_EQ(bitmap::next_set(words.data(), 130, 192), 130u);
  EXPECT_EQ(bitmap::next_set(words.data(), 131, 192), 192u);
  EXPECT_EQ(bitmap::next_set(words.data(), 0, 130), 130u);  // the end: none
  EXPECT_EQ(bitmap::next_set(words.data(), 0, 131), 130u);
  EXPECT_EQ(bitmap::next_set(words.data(), 0, 129), 129u);  // the bit lies in the word, behind
  EXPECT_EQ(bitmap::next_set(words.data(), 5, 5), 5u);
  EXPECT_EQ(bitmap::next_set(words.data(), 150, 140), 140u);  // an empty range
  EXPECT_EQ(bitmap::next_clear(words.data(), 130, 192), 131u);
  words = {kAll, kAll, kAll};
  EXPECT_EQ(bitmap::next_clear(words.data(), 0, 192), 192u);
  EXPECT_EQ(bitmap::next_clear(words.data(), 0, 128), 128u);
  EXPECT_EQ(bitmap::next_set(words.data(), 64, 65), 64u);
}

TEST(Bitmap, FindsTheLastBitInsideTheRangeAlone) {
  std::array<std::uint64_t, 3> words{};
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 192), 192u);
  bitmap::set(words.data(), 61);
  bitmap::set(words.data(), 130);
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 192), 130u);
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 131), 130u);
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 130), 61u);
  EXPECT_EQ(bitmap::last_set(words.data(), 61, 130), 61u);
  EXPECT_EQ(bitmap::last_set(words.data(), 62, 130), 130u);  // the end: none
  EXPECT_EQ(bitmap::last_set(words.data(), 62, 64), 64u);    // the bit lies in the word, before
  EXPECT_EQ(bitmap::last_set(words.data(), 131, 192), 192u);
  EXPECT_EQ(bitmap::last_set(words.data(), 5, 5), 5u);
  EXPECT_EQ(bitmap::last_set(words.data(), 150, 140), 140u);
  bitmap::set(words.data(), 191);
  bitmap::set(words.data(), 0);
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 192), 191u);
  EXPECT_EQ(bitmap::last_set(words.data(), 0, 61), 0u);
}

TEST(Bitmap, FindsAnAlignedRunInARangeShorterThanTheAlignment) {
  const std::uint64_t word = 0;
  EXPECT_EQ(bitmap::find_clear_run(&word, 5, 10, 1, 8), 8u);
  EXPECT_EQ(bitmap::find_clear_run(&word, 5, 10, 2, 8), 8u);
  EXPECT_EQ(bitmap::find_clear_run(&word, 5, 10, 3, 8), 10u);
  EXPECT_EQ(bitmap::find_clear_run(&word, 31, 33, 1, 32), 32u);
}

TEST(Bitmap, FindsNoRunLongerThanTheRange) {
  const std::array<std::uint64_t, 2> words{};
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 128, 129), 128u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 128, ~std::size_t{0}), 128u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 1, 128, 128), 128u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 7, 7, 1), 7u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 9, 7, 1), 7u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 1, 128, 1, std::size_t{1} << 63), 128u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 128, 1, std::size_t{1} << 63), 0u);
}

TEST(Bitmap, FindsRunsOverSeveralWords) {
  std::array<std::uint64_t, 8> words{};
  for (std::uint64_t& word : words) word = kAll;
  bitmap::clear_range(words.data(), 60, 300);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 512, 300), 60u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 512, 301), 512u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 512, 256, 64), 64u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 512, 256, 128), 512u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 360, 300), 60u);
  EXPECT_EQ(bitmap::find_clear_run(words.data(), 0, 359, 300), 359u);
  EXPECT_EQ(bitmap::find_set_run(words.data(), 0, 512, 100), 360u);
  EXPECT_EQ(bitmap::find_set_run(words.data(), 0, 512, 152), 360u);
  EXPECT_EQ(bitmap::find_set_run(words.data(), 0, 512, 153), 512u);
}

TEST(Bitmap, FindsWhatTheDefinitionFindsForEverySmallSearch) {
  // Free runs at word edges, across them, of every length from 1 to 9, and none at all.
  const std::vector<std::array<std::uint64_t, 2>> bitmaps{
      {0, 0},
      {kAll, kAll},
      {0x7fff'ffff'ffff'fffe, 0x7fff'ffff'ffff'fffe},
      {0x0fff'ffff'ffff'ffff, 0xffff'ffff'ffff'fff0},
      {0x5555'5555'5555'5555, 0x3333'3333'3333'3333},
      {0b1'0'1'00'1'000'1'0000'1'00000'1'000000'1'0000000'1'00000000, 0xff00'ff00'f0f0'0ff0},
  };
  std::size_t searches = 0;
  for (const auto& words : bitmaps) {
    for (std::size_t begin = 0; begin <= 128; begin += begin % 64 < 60 ? 3u : 1u) {
      for (std::size_t end = begin; end <= 128; end += end % 64 < 60 ? 3u : 1u) {
        for (const std::size_t count : {1u, 2u, 3u, 4u, 7u, 8u, 9u, 33u, 64u, 65u, 128u}) {
          for (std::size_t align = 1; align <= 256; align *= 2) {
            ASSERT_EQ(bitmap::find_clear_run(words.data(), begin, end, count, align),
                      naive_find_run(words.data(), begin, end, count, align, false))
                << "[" << begin << ", " << end << ") count " << count << " align " << align;
            ASSERT_EQ(bitmap::find_set_run(words.data(), begin, end, count, align),
                      naive_find_run(words.data(), begin, end, count, align, true))
                << "[" << begin << ", " << end << ") count " << count << " align " << align;
            ++searches;
          }
        }
      }
    }
  }
  EXPECT_GT(searches, 100'000u);
}

// Words that end where their memory ends: the page behind may not be read.
TEST(Bitmap, TouchesNoWordBehindTheRange) {
  const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory =
      ::mmap(nullptr, 2 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto* const bytes = static_cast<std::byte*>(memory);
  ASSERT_EQ(::mprotect(bytes + page_bytes, page_bytes, PROT_NONE), 0);
  auto* const words = reinterpret_cast<std::uint64_t*>(bytes + page_bytes - 16);  // the last two
  bitmap::set_range(words, 0, 128);
  EXPECT_EQ(bitmap::next_clear(words, 0, 128), 128u);
  EXPECT_EQ(bitmap::next_clear(words, 127, 128), 128u);
  EXPECT_EQ(bitmap::next_set(words, 128, 128), 128u);
  EXPECT_EQ(bitmap::find_set_run(words, 0, 128, 128), 0u);
  EXPECT_EQ(bitmap::find_clear_run(words, 0, 128, 1), 128u);
  EXPECT_TRUE(bitmap::all_set(words, 0, 128));
  EXPECT_TRUE(bitmap::all_clear(words, 128, 0));
  EXPECT_EQ(bitmap::count_set(words, 64, 64), 64u);
  bitmap::clear_range(words, 64, 64);
  bitmap::clear_range(words, 128, 0);
  bitmap::set_range(words, 128, 0);
  EXPECT_EQ(bitmap::find_clear_run(words, 0, 128, 64, 64), 64u);
  EXPECT_EQ(bitmap::find_clear_run(words, 0, 128, 65), 128u);
  ::munmap(memory, 2 * page_bytes);
}

}  // namespace
}  // namespace mmkit
