// SPDX-License-Identifier: MIT
//
// The parts of the frame table, each by itself: hints, lists by length, order of age, batches.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "page/departing_runs.hpp"
#include "page/free_hints.hpp"
#include "page/retained_runs.hpp"
#include "support/seed.hpp"

namespace mmkit::page_detail {
namespace {

TEST(FreeHints, ClassesCoverEveryLengthWithoutGap) {
  for (std::size_t pages = 1; pages < 5000; ++pages) {
    const std::size_t length_class = FreeHints::class_of(pages);
    EXPECT_LE(FreeHints::floor_of(length_class), pages);
    if (length_class + 1 < FreeHints::kClasses) {
      EXPECT_GT(FreeHints::floor_of(length_class + 1), pages);
    }
  }
  for (std::size_t i = 0; i < FreeHints::kClasses; ++i) {
    EXPECT_EQ(FreeHints::class_of(FreeHints::floor_of(i)), i);
  }
  EXPECT_EQ(FreeHints::class_of(std::size_t{kNoFrame} - 1), FreeHints::kClasses - 1);
}

TEST(FreeHints, LowerReachesBackByTheLengthAndNotPastTheBegin) {
  FreeHints hints;
  hints.reset(5000);
  hints.lower(3000, 1000);
  EXPECT_EQ(hints.get(FreeHints::class_of(1)), 3000u);
  EXPECT_EQ(hints.get(FreeHints::class_of(2)), 2999u);
  EXPECT_EQ(hints.get(FreeHints::class_of(64)), 3000u - 63);
  EXPECT_EQ(hints.get(FreeHints::class_of(1024)), 3000u - 1023);
  EXPECT_EQ(hints.get(FreeHints::class_of(4096)), 1000u);
  hints.lower(4000, 1000);  // nothing is higher than before
  EXPECT_EQ(hints.get(FreeHints::class_of(1)), 3000u);
}

class RunsByLengthTest : public ::testing::Test {
 protected:
  void insert(FrameIndex first, FrameIndex pages) { runs_.insert(links_.data(), first, pages); }
  FrameIndex place(std::size_t pages, std::size_t align = 1) const {
    return runs_.find(links_.data(), pages, align).place;
  }

  std::vector<FrameLink> links_ = std::vector<FrameLink>(4096);
  RunsByLength runs_;
};

TEST_F(RunsByLengthTest, FindsTheLastOfTheExactLengthFirst) {
  EXPECT_EQ(place(1), kNoFrame);
  insert(10, 2);
  insert(20, 2);
  insert(30, 3);
  EXPECT_EQ(place(2), 20u);
  EXPECT_EQ(place(3), 30u);
  EXPECT_EQ(place(4), kNoFrame);
  runs_.remove(links_.data(), 20, links_[20].pages);
  EXPECT_EQ(place(2), 10u);
  runs_.remove(links_.data(), 10, links_[10].pages);
  EXPECT_EQ(place(2), 30u);  // the shortest that is longer
  runs_.remove(links_.data(), 30, links_[30].pages);
  EXPECT_EQ(runs_.lengths(), 0u);
}

TEST_F(RunsByLengthTest, FindsTheShortestAmongLongRuns) {
  insert(1000, 300);
  insert(2000, 70);
  insert(3000, 90);
  EXPECT_EQ(place(1), 2000u);
  EXPECT_EQ(place(64), 2000u);
  EXPECT_EQ(place(71), 3000u);
  EXPECT_EQ(place(91), 1000u);
  EXPECT_EQ(place(301), kNoFrame);
  insert(500, 64);
  EXPECT_EQ(place(64), 500u);
  EXPECT_EQ(place(65), 2000u);
}

TEST_F(RunsByLengthTest, SkipsRunsInWhichNothingAlignedFits) {
  insert(16, 2);
  insert(9, 2);  // freed last, 10 does not hold two
  insert(33, 10);
  EXPECT_EQ(place(2, 1), 9u);
  EXPECT_EQ(place(2, 2), 16u);
  EXPECT_EQ(place(1, 2), 10u);
  EXPECT_EQ(place(4, 4), 36u);
  EXPECT_EQ(place(4, 8), kNoFrame);
  EXPECT_EQ(place(3, 8), 40u);
  EXPECT_EQ(place(1, std::size_t{1} << 63), kNoFrame);
}

TEST_F(RunsByLengthTest, RemovesFromTheMiddle) {
  for (const FrameIndex first : {1u, 2u, 3u, 4u}) insert(first, 1);
  runs_.remove(links_.data(), 2, links_[2].pages);
  runs_.remove(links_.data(), 4, links_[4].pages);
  EXPECT_EQ(place(1), 3u);
  runs_.remove(links_.data(), 3, links_[3].pages);
  EXPECT_EQ(place(1), 1u);
}

TEST(RunsByAge, KeepsTheOrderOfFrees) {
  std::vector<FrameLink> links(100);
  RunsByAge ages;
  const auto order = [&] {
    std::vector<FrameIndex> runs;
    for (FrameIndex run = ages.oldest(); run != kNoFrame; run = links[run].newer) {
      runs.push_back(run);
    }
    EXPECT_EQ(ages.newest(), runs.empty() ? kNoFrame : runs.back());
    return runs;
  };
  EXPECT_TRUE(order().empty());
  for (const FrameIndex run : {5u, 3u, 9u}) ages.push_newest(links.data(), run);
  ages.insert_after(links.data(), 3, 7);
  ages.insert_after(links.data(), 9, 1);
  EXPECT_EQ(order(), (std::vector<FrameIndex>{5, 3, 7, 9, 1}));
  ages.remove(links.data(), 5);
  ages.remove(links.data(), 7);
  ages.remove(links.data(), 1);
  EXPECT_EQ(order(), (std::vector<FrameIndex>{3, 9}));
  ages.remove(links.data(), 3);
  ages.remove(links.data(), 9);
  EXPECT_TRUE(order().empty());
}

// Random disjoint runs, pushed in random order, against the plain way to join a sorted list.
TEST(DepartingRuns, SortAndJoinAsTheyShould) {
  std::mt19937_64 random(testing::test_seed(__LINE__));
  for (int round = 0; round < 300; ++round) {
    constexpr FrameIndex kNodeFrames = 500;
    std::vector<FrameLink> links(2000);
    std::vector<FrameIndex> runs;
    std::vector<FrameSpan> expected;
    for (FrameIndex at = 0; at < 1900;) {
      at += random() % 2 != 0 ? 0 : static_cast<FrameIndex>(random() % 30);
      const FrameIndex to_edge = kNodeFrames - at % kNodeFrames;
      const FrameIndex pages = std::min(to_edge, static_cast<FrameIndex>(1 + random() % 9));
      links[at].pages = pages;
      runs.push_back(at);
      const bool joins = !expected.empty() && at % kNodeFrames != 0 &&
                         expected.back().first + expected.back().pages == at;
      if (joins) {
        expected.back().pages += pages;
      } else {
        expected.push_back({at, pages});
      }
      at += pages;
    }
    std::shuffle(runs.begin(), runs.end(), random);
    DepartingRuns batch(links.data(), kNodeFrames);
    EXPECT_TRUE(batch.empty());
    batch.sort();
    EXPECT_TRUE(batch.empty());
    for (const FrameIndex run : runs) batch.push(run);
    batch.sort();
    for (const FrameSpan& span : expected) {
      ASSERT_FALSE(batch.empty());
      const FrameSpan got = batch.pop_joined();
      ASSERT_EQ(got.first, span.first);
      ASSERT_EQ(got.pages, span.pages);
    }
    ASSERT_TRUE(batch.empty());
  }
}

}  // namespace
}  // namespace mmkit::page_detail
