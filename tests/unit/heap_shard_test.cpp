// SPDX-License-Identifier: MIT
//
// HeapShard - where objects go, which block is chosen to be emptied, and where its cursor stands.
#include <mmkit/zpool/heap_shard.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "support/heap_blocks.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::uint32_t kNobody = HeapShard::kNone;
constexpr unsigned kWholeBlock = HeapBlock::granules_in(HeapBlock::kMostPages);

// A shard by one thread, which takes its lock for each step.
class HeapShardTest : public ::testing::Test {
 protected:
  std::uint32_t add(std::size_t pages = HeapBlock::kMostPages) {
    const std::uint32_t number = blocks_.add(pages);
    ShortLockGuard lock(shard_.lock);
    EXPECT_TRUE(shard_.reserve(1));
    EXPECT_TRUE(shard_.has_reserve());
    shard_.add(number);
    return number;
  }
  void remove(std::uint32_t number) {
    {
      ShortLockGuard lock(shard_.lock);
      shard_.remove(number);
    }
    blocks_.remove(number);
  }
  HeapPlace take(unsigned granules, std::uint32_t slot = 0) {
    ShortLockGuard lock(shard_.lock);
    return shard_.take(granules, slot);
  }
  bool give(HeapPlace extent) {
    ShortLockGuard lock(shard_.lock);
    return shard_.give(extent);
  }
  bool elect(bool at_once = true) {
    ShortLockGuard lock(shard_.lock);
    return shard_.elect(at_once);
  }
  void pass() {
    ShortLockGuard lock(shard_.lock);
    if (block().is_used(shard_.cursor().granule())) {
      shard_.pass();
    } else {
      shard_.pass_hole();
    }
  }
  void release_victim() {
    ShortLockGuard lock(shard_.lock);
    shard_.release_victim();
  }
  // Fills a fresh block with objects of so many granules, as many as asked for.
  std::vector<HeapPlace> fill(std::uint32_t number, unsigned count, unsigned granules) {
    std::vector<HeapPlace> extents;
    for (unsigned i = 0; i < count; ++i) {
      extents.push_back(take(granules));
      EXPECT_EQ(extents.back().block(), number);
    }
    return extents;
  }
  // A block in which so many granules are in use, made when it is the only one with a long hole.
  std::uint32_t add_with(unsigned used) {
    const std::uint32_t number = add();
    if (used != 0) {
      // What fits nowhere else goes into the new one.
      const HeapPlace whole = take(kWholeBlock);
      EXPECT_EQ(whole.block(), number);
      EXPECT_TRUE(give(whole));
      relist(number);
      const HeapPlace there = take_there(number, used);
      EXPECT_EQ(there.block(), number);
    }
    return number;
  }
  HeapPlace take_there(std::uint32_t number, unsigned granules) {
    std::vector<HeapPlace> elsewhere;
    HeapPlace place = take(granules);
    while (!place.is_none() && place.block() != number) {
      elsewhere.push_back(place);
      place = take(granules);
    }
    for (const HeapPlace extent : elsewhere) {
      if (give(extent)) relist(extent.block());
    }
    return place;
  }
  void relist(std::uint32_t number) {
    ShortLockGuard lock(shard_.lock);
    shard_.relist(number);
  }
  HeapBlock block() { return blocks_.block(shard_.victim()); }

  testing::HeapBlocks blocks_;
  HeapShard shard_{blocks_.table()};
};

TEST_F(HeapShardTest, AnEmptyOneHasNoRoomAndNoVictim) {
  EXPECT_TRUE(take(1).is_none());
  EXPECT_FALSE(elect());
  EXPECT_EQ(shard_.used(), 0u);
  EXPECT_EQ(shard_.held(), 0u);
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardTest, SumsUpWhatItsBlocksHold) {
  const std::uint32_t a = add(1), b = add(4);
  EXPECT_EQ(shard_.held(), HeapBlock::granules_in(1) + HeapBlock::granules_in(4));
  const HeapPlace first = take(HeapBlock::granules_in(1));
  EXPECT_EQ(first.block(), a) << "the shortest hole that is long enough";
  const HeapPlace second = take(10);
  EXPECT_EQ(second.block(), b);
  EXPECT_EQ(shard_.used(), HeapBlock::granules_in(1) + 10);
  EXPECT_TRUE(shard_.validate(0));
  EXPECT_FALSE(shard_.validate(1)) << "blocks know their shard";
  EXPECT_TRUE(give(first)) << "its block is empty";
  remove(a);
  EXPECT_EQ(shard_.used(), 10u);
  EXPECT_EQ(shard_.held(), HeapBlock::granules_in(4));
  EXPECT_EQ(shard_.blocks(), 1u);
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardTest, TheLastBlockTakesThePlaceOfOneThatGoes) {
  std::vector<std::uint32_t> numbers;
  for (int i = 0; i < 5; ++i) numbers.push_back(add(1));
  std::vector<HeapPlace> extents;
  for (int i = 0; i < 5; ++i) extents.push_back(take(HeapBlock::granules_in(1)));
  const auto numbers_there = [&] {
    std::set<std::uint32_t> there;
    for (std::uint32_t i = 0; i < shard_.blocks(); ++i) there.insert(shard_.number(i));
    return there;
  };
  std::set<std::uint32_t> expected(numbers.begin(), numbers.end());
  for (const std::size_t at : {1U, 4U, 0U, 2U, 3U}) {
    const std::uint32_t number = extents[at].block();
    EXPECT_TRUE(give(extents[at]));
    remove(number);
    expected.erase(number);
    EXPECT_EQ(numbers_there(), expected);
    EXPECT_TRUE(shard_.validate(0));
  }
}

TEST_F(HeapShardTest, ElectsTheEmptiestButNotTheNewest) {
  const std::uint32_t full = add_with(8000);
  const std::uint32_t emptiest = add_with(500);
  const std::uint32_t middle = add_with(4000);
  const std::uint32_t newest = add_with(100);
  ASSERT_TRUE(elect());
  EXPECT_EQ(shard_.victim(), emptiest) << full << ' ' << middle << ' ' << newest;
  EXPECT_EQ(shard_.cursor().granule(), 0u);
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardTest, ElectsNobodyWhoseObjectsFindNoRoomElsewhere) {
  add_with(8000);
  add_with(5000);
  EXPECT_FALSE(elect()) << "of two blocks the older is full and the other the newest";
  add_with(8000);
  EXPECT_FALSE(elect()) << "5000 granules do not fit into two holes of 191";
}

// A short block counts by how full it is.
TEST_F(HeapShardTest, ElectsByFullnessAndNotByLength) {
  const std::uint32_t one_page = add(1);
  ASSERT_EQ(take(500).block(), one_page);
  const std::uint32_t sparse = add_with(4000);
  add_with(100);
  ASSERT_TRUE(elect());
  EXPECT_EQ(shard_.victim(), sparse) << "4000 of 8191 is less than 500 of 511";
}

TEST_F(HeapShardTest, PassesOverForSomeElectionsWhoCouldNotBeEmptied) {
  const std::uint32_t emptiest = add_with(300);
  const std::uint32_t next = add_with(600);
  add_with(900);
  add_with(0);
  ASSERT_TRUE(elect());
  EXPECT_EQ(shard_.victim(), emptiest);
  release_victim();
  EXPECT_EQ(shard_.victim(), kNobody);
  EXPECT_TRUE(shard_.validate(0)) << "its holes are listed again";
  ASSERT_TRUE(elect());
  EXPECT_EQ(shard_.victim(), next);
  release_victim();
  // Some elections on, it may be tried again.
  unsigned elections = 0;
  do {
    ASSERT_LT(++elections, 20u);
    if (!elect()) continue;
    if (shard_.victim() == emptiest) break;
    release_victim();
  } while (true);
  EXPECT_GE(elections, 2u);
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardTest, AfterAVainElectionLooksAgainOnlyWhenSomethingChanged) {
  add_with(8000);
  const std::uint32_t second = add_with(5000);
  const HeapPlace more = take_there(second, 2000);
  add_with(8000);
  EXPECT_FALSE(elect(/*at_once=*/false)) << "no room";
  EXPECT_FALSE(elect(/*at_once=*/false));
  add_with(0);
  EXPECT_TRUE(elect(/*at_once=*/false)) << "a block came";
  EXPECT_EQ(shard_.victim(), second);
  EXPECT_FALSE(give(more));
  EXPECT_TRUE(shard_.validate(0));
}

// Whoever came since the last election is not looked at alone.
TEST_F(HeapShardTest, LooksAtAllBlocksWhileTheyBecomeMore) {
  add_with(8000);
  const std::uint32_t sparse = add_with(7000);
  for (int i = 0; i < 4; ++i) {
    add_with(8000);
    EXPECT_FALSE(elect(/*at_once=*/false)) << "no room";
  }
  add_with(0);
  ASSERT_TRUE(elect(/*at_once=*/false));
  EXPECT_EQ(shard_.victim(), sparse);
}

// ---------------------------------------------------------------- the victim

class HeapShardVictim : public HeapShardTest {
 protected:
  // A victim of extents of ten granules each, beside an empty block.
  void SetUp() override {
    victim_ = add();
    extents_ = fill(victim_, 20, 10);
    // So that nobody takes what is left of it.
    add();
    ASSERT_TRUE(elect());
    ASSERT_EQ(shard_.victim(), victim_);
  }
  void cursor_to(unsigned extent) {
    while (shard_.cursor().granule() < extents_[extent].granule()) pass();
    ASSERT_EQ(shard_.cursor().granule(), extents_[extent].granule());
  }
  bool cursor_is_at_an_extent() {
    for (unsigned at = 0;; at = block().next(at)) {
      if (at == shard_.cursor().granule()) return true;
      if (block().is_end(at)) return false;
    }
  }

  std::uint32_t victim_ = kNobody;
  std::vector<HeapPlace> extents_;
};

TEST_F(HeapShardVictim, GivesNoRoomAway) {
  for (int i = 0; i < 100; ++i) EXPECT_NE(take(10).block(), victim_);
  EXPECT_FALSE(give(extents_[3])) << "and what is freed in it is not listed";
  EXPECT_NE(take(10).block(), victim_);
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardVictim, TheCursorStaysWhereItsExtentIsNotConcerned) {
  cursor_to(10);
  EXPECT_FALSE(give(extents_[4]));
  EXPECT_FALSE(give(extents_[15]));
  EXPECT_EQ(shard_.cursor().granule(), extents_[10].granule());
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardVictim, TheCursorStaysAtTheStartOfWhatIsFreedThere) {
  cursor_to(10);
  EXPECT_FALSE(give(extents_[10]));
  EXPECT_TRUE(cursor_is_at_an_extent());
  EXPECT_EQ(shard_.cursor().granule(), extents_[10].granule());
}

// The extents before and at the cursor become one hole.
TEST_F(HeapShardVictim, TheCursorGoesOnWhereAHoleGrowsAcrossIt) {
  cursor_to(10);
  EXPECT_FALSE(give(extents_[9]));
  EXPECT_EQ(shard_.cursor().granule(), extents_[10].granule());
  EXPECT_FALSE(give(extents_[10]));
  EXPECT_EQ(shard_.cursor().granule(), extents_[11].granule());
  EXPECT_TRUE(cursor_is_at_an_extent());
  EXPECT_TRUE(shard_.validate(0));
}

// The hole at the cursor is one with what is freed before it.
TEST_F(HeapShardVictim, TheCursorGoesOnWhereAHoleBecomesPartOfAnother) {
  EXPECT_FALSE(give(extents_[10]));
  cursor_to(10);
  EXPECT_FALSE(give(extents_[9]));
  EXPECT_EQ(shard_.cursor().granule(), extents_[11].granule());
  EXPECT_TRUE(cursor_is_at_an_extent());
}

TEST_F(HeapShardVictim, TheCursorComesToTheEndMark) {
  while (!block().is_end(shard_.cursor().granule())) pass();
  EXPECT_EQ(shard_.cursor().granule(), kWholeBlock);
  EXPECT_FALSE(give(extents_[19]));
  EXPECT_TRUE(block().is_end(shard_.cursor().granule()));
  release_victim();
  EXPECT_TRUE(shard_.validate(0));
}

TEST_F(HeapShardVictim, IsNobodyOnceItIsEmptyAndGone) {
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    EXPECT_EQ(give(extents_[i]), i + 1 == extents_.size());
  }
  remove(victim_);
  EXPECT_EQ(shard_.victim(), kNobody);
  EXPECT_TRUE(shard_.validate(0));
}

// ---------------------------------------------------------------- a long random life

TEST_F(HeapShardTest, StaysSoundThroughARandomLife) {
  std::mt19937_64 random(testing::test_seed(1));
  std::vector<HeapPlace> live;
  std::size_t used = 0;
  const auto granules_of = [&](HeapPlace extent) {
    return blocks_.block(extent.block()).length(extent.granule());
  };
  const auto give_one = [&](std::size_t at) {
    const HeapPlace extent = live[at];
    live[at] = live.back();
    live.pop_back();
    used -= granules_of(extent);
    if (give(extent)) remove(extent.block());
  };
  for (std::uint64_t i = 0; i < testing::scaled(60'000, 4000); ++i) {
    const std::uint64_t kind = random() % 100;
    if (kind < (i % 4000 < 2000 ? 45U : 25U)) {
      const auto granules = 1 + static_cast<unsigned>(random() % (kind % 4 == 0 ? 600 : 60));
      HeapPlace place = take(granules);
      if (place.is_none()) {
        std::size_t pages = std::size_t{1} << random() % 5;
        while (HeapBlock::granules_in(pages) < granules) pages *= 2;
        add(pages);
        place = take(granules);
      }
      ASSERT_FALSE(place.is_none());
      ASSERT_NE(place.block(), shard_.victim()) << "nothing goes where everything leaves";
      used += granules;
      live.push_back(place);
    } else if (kind < 80 && !live.empty()) {
      give_one(random() % live.size());
    } else if (kind < 82) {
      if (shard_.victim() == kNobody) elect(random() % 2 == 0);
    } else if (kind < 84) {
      if (shard_.victim() != kNobody) release_victim();
    } else if (shard_.victim() != kNobody) {
      if (block().is_end(shard_.cursor().granule())) {
        release_victim();
      } else {
        pass();
      }
    }
    if (shard_.victim() != kNobody) {
      unsigned at = 0;
      while (at < shard_.cursor().granule()) at = block().next(at);
      ASSERT_EQ(at, shard_.cursor().granule()) << "the cursor is inside of an extent, step " << i;
    }
    ASSERT_EQ(shard_.used(), used);
    if (i < 4000 || i % 64 == 0) {
      ASSERT_TRUE(shard_.validate(0)) << i;
    }
  }
  while (!live.empty()) give_one(live.size() - 1);
  EXPECT_EQ(shard_.blocks(), 0u);
  EXPECT_EQ(shard_.held(), 0u);
}

}  // namespace
}  // namespace mmkit
