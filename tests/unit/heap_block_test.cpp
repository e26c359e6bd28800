// SPDX-License-Identifier: MIT
//
// HeapBlock beside a naive tiling: a map of extents, looked at whole after each step.
#include <mmkit/zpool/heap_block.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

// The tiling as anybody would write it down.
class Tiling {
 public:
  explicit Tiling(unsigned granules)
      : granules_(granules),
        memory_(std::make_unique<std::uint64_t[]>(granules + 1)),
        block_(reinterpret_cast<std::byte*>(memory_.get())) {
    block_.format(granules);
    extents_[0] = {granules, false, 0, {}};
  }

  // One extent taken, or one given back.
  void step(std::mt19937_64& random) {
    const auto at = std::next(extents_.begin(), static_cast<long>(random() % extents_.size()));
    if (at->second.used) {
      give(at);
    } else {
      const unsigned most = std::min(at->second.length, 40U);
      take(at, 1 + static_cast<unsigned>(random() % most), static_cast<std::uint32_t>(random()),
           static_cast<std::byte>(random()));
    }
  }
  void take_all_of(unsigned at) { take(extents_.find(at), extents_[at].length, 7, std::byte{7}); }
  void give(unsigned at) { give(extents_.find(at)); }
  void take(unsigned at, unsigned granules) { take(extents_.find(at), granules, 7, std::byte{7}); }

  void expect_same() const {
    unsigned used_sum = 0, used = 0;
    bool after_hole = false;
    unsigned before = 0;
    for (const auto& [at, extent] : extents_) {
      ASSERT_EQ(block_.is_used(at), extent.used) << at;
      ASSERT_EQ(block_.length(at), extent.length) << at;
      ASSERT_FALSE(block_.is_end(at)) << at;
      ASSERT_EQ(block_.next(at), at + extent.length);
      if (extent.used) {
        used_sum += extent.length;
        ASSERT_EQ(block_.follows_hole(at), after_hole) << at;
        if (after_hole) {
          ASSERT_EQ(block_.hole_before(at), before) << at;
        }
        ASSERT_EQ(block_.owner_bits_of(at), HeapBlock::owner_bits(extent.slot)) << at;
      } else {
        ASSERT_FALSE(after_hole) << "two holes beside each other at " << at;
        ASSERT_EQ(block_.is_listed(at), extent.listed) << at;
      }
      after_hole = !extent.used;
      before = at;
    }
    ASSERT_TRUE(block_.is_end(granules_));
    ASSERT_EQ(block_.follows_hole(granules_), after_hole);
    if (after_hole) {
      ASSERT_EQ(block_.hole_before(granules_), before);
    }
    ASSERT_TRUE(block_.validate(granules_, &used));
    ASSERT_EQ(used, used_sum);
  }
  HeapBlock& block() { return block_; }

 private:
  struct Extent {
    unsigned length;
    bool used;
    std::uint32_t slot;
    std::byte fill;
    bool listed = false;
  };
  using At = std::map<unsigned, Extent>::iterator;

  void take(At hole, unsigned granules, std::uint32_t slot, std::byte fill) {
    const auto [begin, was] = *hole;
    const unsigned rest = block_.take(begin, was.length, granules, slot);
    ASSERT_EQ(rest, was.length - granules);
    hole->second = {granules, true, slot, fill};
    if (rest != 0) extents_[begin + granules] = {rest, false, 0, {}};
    // All of it is the object's, to its last byte.
    std::memset(block_.object(begin), static_cast<int>(fill), HeapBlock::bytes_in(granules));
  }
  void give(At extent) {
    const std::byte* const object = block_.object(extent->first);
    const std::size_t bytes = HeapBlock::bytes_in(extent->second.length);
    ASSERT_EQ(std::count(object, object + bytes, extent->second.fill),
              static_cast<std::ptrdiff_t>(bytes))
        << "what happens beside an object leaves it alone";
    unsigned begin = extent->first, end = begin + extent->second.length;
    if (const At right = std::next(extent); right != extents_.end() && !right->second.used) {
      end += right->second.length;
      extents_.erase(right);
    }
    if (extent != extents_.begin() && !std::prev(extent)->second.used) {
      begin = std::prev(extent)->first;
      extents_.erase(std::prev(extent));
    }
    extents_.erase(extent);
    extents_[begin] = {end - begin, false, 0, {}};
    block_.give(begin, end);
  }

  unsigned granules_;
  std::unique_ptr<std::uint64_t[]> memory_;
  HeapBlock block_;
  std::map<unsigned, Extent> extents_;
};

TEST(HeapBlock, IsTheTilingThatItsStepsMake) {
  // Small ones, where everything meets its neighbours and the end mark; and all that a pool has.
  const struct {
    unsigned granules;
    std::uint64_t steps;
  } kCases[] = {{1, 20'000},
                {2, 60'000},
                {3, 100'000},
                {7, 400'000},
                {24, 500'000},
                {HeapBlock::granules_in(1), 30'000},
                {HeapBlock::granules_in(16), 2'000}};
  for (const auto& [granules, steps] : kCases) {
    Tiling tiling(granules);
    std::mt19937_64 random(testing::test_seed(granules));
    for (std::uint64_t i = 0; i < testing::scaled(steps, 500); ++i) {
      tiling.step(random);
      if (HasFatalFailure()) return;
      tiling.expect_same();
      if (HasFatalFailure()) FAIL() << granules << " granules, step " << i;
    }
  }
}

TEST(HeapBlock, AHoleUsedUpIsNobodysLeftNeighbour) {
  Tiling tiling(20);
  tiling.take(0, 5);
  tiling.take(5, 5);
  tiling.take(10, 5);
  tiling.give(5);
  EXPECT_TRUE(tiling.block().follows_hole(10));
  tiling.take_all_of(5);
  EXPECT_FALSE(tiling.block().follows_hole(10));
  tiling.take_all_of(15);
  EXPECT_FALSE(tiling.block().follows_hole(20)) << "the end mark is told too";
  EXPECT_TRUE(tiling.block().is_end(20));
  tiling.expect_same();
}

TEST(HeapBlock, KeepsSeventeenBitsOfAnOwnerAndAllElseBesides) {
  Tiling tiling(30);
  tiling.take(0, 10);
  tiling.take(10, 10);
  tiling.give(0);
  HeapBlock& block = tiling.block();
  for (const std::uint32_t slot : {0U, 1U, 0x1ffffU, 0x20000U, 0xffffffffU}) {
    block.set_owner(10, slot);
    EXPECT_EQ(block.owner_bits_of(10), slot & 0x1ffff);
    EXPECT_EQ(block.length(10), 10u);
    EXPECT_TRUE(block.is_used(10));
    EXPECT_TRUE(block.follows_hole(10));
  }
}

TEST(HeapBlock, AHoleIsListedOrNotAndStaysAsLong) {
  Tiling tiling(30);
  HeapBlock& block = tiling.block();
  EXPECT_FALSE(block.is_listed(0));
  block.set_listed(0, 30, true);
  EXPECT_TRUE(block.is_listed(0));
  EXPECT_FALSE(block.is_used(0));
  EXPECT_EQ(block.length(0), 30u);
  block.set_listed(0, 30, false);
  EXPECT_FALSE(block.is_listed(0));
}

TEST(HeapBlock, RoundsSizesUpToGranulesWithAHeader) {
  EXPECT_EQ(HeapBlock::granules_for(1), 1u);
  EXPECT_EQ(HeapBlock::granules_for(4), 1u);
  EXPECT_EQ(HeapBlock::granules_for(5), 2u);
  EXPECT_EQ(HeapBlock::granules_for(12), 2u);
  EXPECT_EQ(HeapBlock::granules_for(4096), 513u);
  EXPECT_EQ(HeapBlock::granules_for(32768), 4097u);
  for (unsigned granules = 1; granules < HeapBlock::granules_in(16); ++granules) {
    EXPECT_EQ(HeapBlock::granules_for(HeapBlock::bytes_in(granules)), granules);
    EXPECT_EQ(HeapBlock::granules_for(HeapBlock::bytes_in(granules) + 1), granules + 1);
  }
}

// Each way in which a block can be unsound is told.
TEST(HeapBlock, ValidateSeesWhatIsWrong) {
  const auto sound = [] {
    auto tiling = std::make_unique<Tiling>(30);
    tiling->take(0, 10);
    tiling->take(10, 10);
    tiling->give(0);
    return tiling;
  };
  unsigned used = 0;
  EXPECT_TRUE(sound()->block().validate(30, &used));
  EXPECT_FALSE(sound()->block().validate(29, &used)) << "another length";
  const auto broken = [&](unsigned word, std::uint32_t flips) {
    const auto tiling = sound();
    std::uint32_t value;
    std::byte* const at = tiling->block().object(0) - HeapBlock::kGranuleBytes + word * 4;
    std::memcpy(&value, at, 4);
    value ^= flips;
    std::memcpy(at, &value, 4);
    return !tiling->block().validate(30, &used);
  };
  EXPECT_TRUE(broken(1, 1U << 31)) << "a hole that is in use";
  EXPECT_TRUE(broken(1, 1U << 17)) << "a length";
  EXPECT_TRUE(broken(10 * 2, 1U)) << "a hole's last word";
  EXPECT_TRUE(broken(10 * 2 + 1, 1U << 30)) << "`left`";
  EXPECT_TRUE(broken(10 * 2 + 1, 1U << 31)) << "two holes beside each other";
  EXPECT_TRUE(broken(20 * 2 + 1, 1U << 31)) << "the last hole in use";
  EXPECT_TRUE(broken(30 * 2 + 1, 1U << 31)) << "the end mark";
  EXPECT_TRUE(broken(30 * 2 + 1, 1U << 30)) << "the end mark's `left`";
}

}  // namespace
}  // namespace mmkit
