// SPDX-License-Identifier: MIT
//
// HoleBins beside a naive list of holes: which one is found, and which ones are taken out on the way.
#include <mmkit/zpool/hole_bins.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "support/heap_blocks.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::uint32_t kNobody = HeapBlockTable::kNone;

class HoleBinsTest : public ::testing::Test {
 protected:
  // A hole between two extents in use, in a block that has room for it. Not listed.
  HeapPlace carve(unsigned length) {
    if (number_ == kNobody || left_ < length + 1) {
      number_ = blocks_.add(HeapBlock::kMostPages);
      left_ = HeapBlock::granules_in(HeapBlock::kMostPages) - 1;
      at_ = 0;
    }
    HeapBlock block = blocks_.block(number_);
    block.take(at_, block.length(at_), length, 0);
    const HeapPlace hole(number_, at_);
    block.take(at_ + length, block.length(at_ + length), 1, 0);
    block.give(at_, at_ + length);
    at_ += length + 1;
    left_ -= length + 1;
    return hole;
  }
  void link(HeapPlace hole) {
    HeapBlock block = blocks_.block(hole.block());
    bins_.link(blocks_.table(), block, hole, block.length(hole.granule()));
  }
  void unlink(HeapPlace hole) {
    HeapBlock block = blocks_.block(hole.block());
    bins_.unlink(blocks_.table(), block, hole, block.length(hole.granule()));
    block.set_listed(hole.granule(), block.length(hole.granule()), false);
  }
  HoleBins::Hole find(unsigned granules, std::uint32_t not_there = kNobody) {
    return bins_.find(blocks_.table(), granules, not_there);
  }
  bool is_listed(HeapPlace hole) { return blocks_.block(hole.block()).is_listed(hole.granule()); }
  std::size_t listed() {
    std::size_t holes = 0;
    EXPECT_TRUE(bins_.validate(blocks_.table(), &holes));
    return holes;
  }

  testing::HeapBlocks blocks_;
  HoleBins bins_;

 private:
  std::uint32_t number_ = kNobody;
  unsigned at_ = 0, left_ = 0;
};

TEST_F(HoleBinsTest, FindsNothingWhereThereIsNothing) {
  EXPECT_TRUE(find(1).place.is_none());
  EXPECT_TRUE(find(HeapBlock::granules_in(16)).place.is_none());
  EXPECT_EQ(listed(), 0u);
}

TEST_F(HoleBinsTest, ListsNoHoleThatHasNoRoomForLinks) {
  for (const unsigned length : {1U, 2U}) link(carve(length));
  EXPECT_EQ(listed(), 0u);
  link(carve(HeapBlock::kFewestListed));
  EXPECT_EQ(listed(), 1u);
  EXPECT_EQ(find(1).length, HeapBlock::kFewestListed);
  EXPECT_EQ(listed(), 0u) << "what is found is in no list";
}

TEST_F(HoleBinsTest, OfEqualOnesFindsTheOneFreedLast) {
  const HeapPlace first = carve(20), second = carve(20), third = carve(20);
  link(first);
  link(third);
  link(second);
  EXPECT_EQ(find(20).place.where(), second.where());
  EXPECT_EQ(find(20).place.where(), third.where());
  EXPECT_EQ(find(20).place.where(), first.where());
}

// To what a page holds, the fit is the best there is; beyond, one of the best bin that is certain.
TEST_F(HoleBinsTest, FindsTheBestFitThatThereIs) {
  std::mt19937_64 random(testing::test_seed(0));
  std::multimap<unsigned, HeapPlace> listed_holes;
  std::vector<HeapPlace> idle;
  for (int i = 0; i < 400; ++i) {
    const unsigned most = i % 4 == 0 ? 8000 : i % 4 == 1 ? 560 : 60;
    idle.push_back(carve(3 + static_cast<unsigned>(random() % (most - 3))));
  }
  const auto length_of = [&](HeapPlace hole) {
    return blocks_.block(hole.block()).length(hole.granule());
  };
  for (std::uint64_t i = 0; i < testing::scaled(200'000, 5000); ++i) {
    if (random() % 2 == 0 && !idle.empty()) {
      std::swap(idle[random() % idle.size()], idle.back());
      link(idle.back());
      listed_holes.insert({length_of(idle.back()), idle.back()});
      idle.pop_back();
    } else if (random() % 8 == 0 && !listed_holes.empty()) {
      const auto at =
          std::next(listed_holes.begin(), static_cast<long>(random() % listed_holes.size()));
      unlink(at->second);
      idle.push_back(at->second);
      listed_holes.erase(at);
    } else {
      const unsigned granules = 1 + static_cast<unsigned>(random() % (i % 3 == 0 ? 8100 : 600));
      const auto best = listed_holes.lower_bound(granules);
      const HoleBins::Hole found = find(granules);
      if (best == listed_holes.end()) {
        ASSERT_TRUE(found.place.is_none()) << granules;
        continue;
      }
      if (found.place.is_none()) {
        // A bin of several lengths may have too many that are too short.
        ASSERT_GE(granules, 520u);
        const unsigned bin_begin = granules - (granules - 520) % 64;
        ASSERT_GE(std::distance(listed_holes.lower_bound(bin_begin), best), 16) << granules;
        continue;
      }
      ASSERT_EQ(found.length, length_of(found.place));
      ASSERT_GE(found.length, granules);
      if (found.length < 520) {
        ASSERT_EQ(found.length, best->first) << granules;
      } else if (best->first < 520) {
        FAIL() << "a hole of " << best->first << " is there, found one of " << found.length;
      }
      const auto [from, to] = listed_holes.equal_range(found.length);
      const auto at = std::find_if(
          from, to, [&](const auto& entry) { return entry.second.where() == found.place.where(); });
      ASSERT_TRUE(at != to) << "found what is not listed";
      listed_holes.erase(at);
      blocks_.block(found.place.block())
          .set_listed(found.place.granule(), found.length, /*listed=*/false);
      idle.push_back(found.place);
    }
    if (i % 64 == 0) {
      ASSERT_EQ(listed(), listed_holes.size());
    }
  }
}

TEST_F(HoleBinsTest, TakesOutTheHolesOfTheVictimThatItMeets) {
  std::vector<HeapPlace> holes;
  for (int i = 0; i < 30; ++i) {
    holes.push_back(carve(50));
    link(holes.back());
  }
  const std::uint32_t victim = holes[0].block();
  const HeapPlace longer = carve(8000);
  ASSERT_NE(longer.block(), victim);
  link(longer);
  const HoleBins::Hole found = find(50, victim);
  EXPECT_EQ(found.place.where(), longer.where()) << "none of the victim, though they fit better";
  for (const HeapPlace hole : holes) EXPECT_FALSE(is_listed(hole));
  EXPECT_EQ(listed(), 0u);
}

TEST_F(HoleBinsTest, LeavesTheHolesOfTheVictimThatItDoesNotMeet) {
  const HeapPlace short_one = carve(10), long_one = carve(100);
  link(short_one);
  link(long_one);
  const HeapPlace fits = carve(8150);
  link(fits);
  const std::uint32_t victim = short_one.block();
  ASSERT_NE(fits.block(), victim);
  EXPECT_EQ(find(50, victim).place.where(), fits.where());
  EXPECT_TRUE(is_listed(short_one)) << "too short to be looked at";
  EXPECT_FALSE(is_listed(long_one));
  EXPECT_EQ(listed(), 1u);
}

}  // namespace
}  // namespace mmkit
