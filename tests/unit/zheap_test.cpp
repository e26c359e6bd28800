// SPDX-License-Identifier: MIT
//
// zheap - what its own class promises beyond what every driver does: parameters, large objects, the
// floor and what it costs, small pools, what waits on CPUs, what compaction and eviction choose.
#include <mmkit/zpool/zheap.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <random>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "support/backend_fixture.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

class Zheap : public testing::BackendTest<ZheapPool> {
 protected:
  Result<std::unique_ptr<ZheapPool>> create(const std::string& params) {
    return ZheapPool::create(
        {.name = "unit", .params = params, .pages = source_.get(), .pool_tag = 3, .evict = {}});
  }
  std::size_t held_granules() const {
    return pool_->total_pages() * kPageSize / HeapBlock::kGranuleBytes - pool_->density().blocks;
  }
  // Granules that are missing to the floor; negative: beyond it. Of a pool without objects that have
  // pages of their own.
  double short_of(double floor) const {
    const auto held = static_cast<double>(held_granules());
    return floor * held - pool_->density().density * held;
  }
  std::size_t size_of(Handle handle) {
    const std::size_t size_bytes = pool_->map(handle, MapMode::read_only).value().size();
    pool_->unmap(handle);
    return size_bytes;
  }
  void free_at(std::size_t at) {
    ASSERT_TRUE(pool_->free(handles_[at]));
    handles_[at] = handles_.back();
    handles_.pop_back();
  }

  // What kills density: half the objects go, others of other sizes come, again and again. Calls `look`
  // after each operation; objects of `spared` stay.
  template <class Look>
  void churn(std::size_t objects, unsigned rounds, const std::set<Handle>& spared, Look&& look) {
    std::mt19937_64 random(testing::test_seed(0));
    for (unsigned round = 0; round < rounds; ++round) {
      const std::size_t most = round % 2 == 0 ? 3000 : 900;
      while (handles_.size() < objects) {
        add(1, 1 + random() % most);
        look();
      }
      for (std::size_t i = 0; i < objects / 2; ++i) {
        const std::size_t at = random() % handles_.size();
        if (spared.contains(handles_[at])) continue;
        free_at(at);
        look();
      }
    }
  }
};

constexpr std::size_t kBlockGranules = HeapBlock::granules_in(HeapBlock::kMostPages);

// ---------------------------------------------------------------- parameters

TEST_F(Zheap, TakesAFloorAndALargestObject) {
  for (const char* params :
       {"", "floor=0", "floor=0.955", "floor=0.98", "floor=.5", "max_object=4096",
        "max_object=32768", "floor=0.9,max_object=5000", "max_object=5000 floor=0"}) {
    EXPECT_TRUE(create(params)) << params;
  }
  for (const char* params :
       {"floor=", "floor=0.9801", "floor=1", "floor=-0.1", "floor=0.9x", "floor=1e-1", "floor=nan",
        "floor=inf", "floor=0,9", "floor", "max_object=4095", "max_object=32769",
        "max_object=", "max_object=1e4", "max_object=-1", "cache=8", "chain_pages=8",
        "floor=0.9;max_object=5000"}) {
    const auto made = create(params);
    EXPECT_FALSE(made) << params;
    if (!made) {
      EXPECT_EQ(made.error(), Errc::invalid_argument) << params;
    }
  }
}

TEST_F(Zheap, TellsTheFloorThatItPromises) {
  EXPECT_EQ(make("").density().floor, ZheapPool::kDefaultFloor);
  EXPECT_EQ(make("floor=0").density().floor, 0.0);
  EXPECT_EQ(make("floor=0.91").density().floor, 0.91);
  EXPECT_EQ(pool_->density().density, 1.0) << "nothing is lost in an empty pool";
  EXPECT_EQ(pool_->max_object_bytes(), kPageSize);
  EXPECT_EQ(make("max_object=12345").max_object_bytes(), 12345u);
}

TEST_F(Zheap, WantsPagesAndATag) {
  EXPECT_EQ(ZheapPool::create({.name = "x", .pages = nullptr, .pool_tag = 1, .evict = {}}).error(),
            Errc::invalid_argument);
  EXPECT_EQ(
      ZheapPool::create({.name = "x", .pages = source_.get(), .pool_tag = 0, .evict = {}}).error(),
      Errc::invalid_argument);
}

// ---------------------------------------------------------------- large objects

TEST_F(Zheap, TakesObjectsUpToTheLargestAndNoneBeyond) {
  make("max_object=32768");
  for (const std::size_t size : {1u, 4095u, 4096u, 4097u, 5000u, 8192u, 32767u, 32768u}) {
    add(3, size);
    expect_intact();
  }
  const ZpoolStats before = pool_->stats();
  EXPECT_EQ(pool_->allocate(32769, Gfp::kernel).error(), Errc::no_space);
  EXPECT_EQ(pool_->allocate(~std::size_t{0}, Gfp::kernel).error(), Errc::no_space);
  EXPECT_EQ(pool_->allocate(0, Gfp::kernel).error(), Errc::invalid_argument);
  EXPECT_EQ(pool_->stats().allocations, before.allocations);
  EXPECT_EQ(pool_->stats().pages, before.pages);
  free_if([](std::size_t i) { return i % 3 == 0; });
  expect_intact();
}

TEST_F(Zheap, WithoutBeingToldTakesAPageAtMost) {
  make("");
  add(1, 4096);
  EXPECT_EQ(pool_->allocate(4097, Gfp::kernel).error(), Errc::no_space);
}

TEST_F(Zheap, TakesLargeObjectsThroughTheFrontEnd) {
  const auto pool =
      Zpool::create("zheap", {.pages = source_.get(), .params = "max_object=32768"}).value();
  EXPECT_EQ(pool->max_object_bytes(), 32768u);
  for (const std::size_t size : {4096u, 4097u, 5000u, 8192u, 32767u, 32768u}) {
    const Handle handle = pool->store(testing::make_pattern(size, size)).value();
    {
      const Mapping mapping = pool->map(handle);
      ASSERT_EQ(mapping.const_bytes().size(), size);
      EXPECT_TRUE(testing::has_pattern(mapping.const_bytes(), size));
    }
    EXPECT_EQ(pool->allocate(32769).error(), Errc::no_space);
    pool->free(handle);
    EXPECT_EQ(pool->total_bytes(), 0u);
  }
}

TEST_F(Zheap, MapsAsManyBytesAsWereAskedFor) {
  make("max_object=32768");
  std::size_t payload = 0;
  for (std::size_t size = 1; size <= 32768; size += size < 64 ? 1 : size / 7) {
    const Handle handle = pool_->allocate(size, Gfp::zero).value();
    const auto bytes = pool_->map(handle, MapMode::read_write).value();
    EXPECT_EQ(bytes.size(), size);
    EXPECT_TRUE(
        std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; }));
    pool_->unmap(handle);
    handles_.push_back(handle);
    payload += size;
    EXPECT_EQ(pool_->stats().payload_bytes, payload);
  }
}

// ---------------------------------------------------------------- pages of their own

TEST_F(Zheap, AnObjectThatFillsPagesHasThemForItself) {
  make("max_object=32768");
  std::size_t pages = 0;
  // To within a 64th of its pages.
  for (const std::size_t size : {4096u, 4032u, 8192u, 8064u, 12100u, 32768u, 32256u}) {
    add(1, size);
    pages += (size + kPageSize - 1) / kPageSize;
    EXPECT_EQ(pool_->total_pages(), pages) << size;
  }
  EXPECT_EQ(pool_->density().blocks, 0u);
  EXPECT_EQ(pool_->density().density, 1.0);
  add(1, 4031);
  EXPECT_EQ(pool_->density().blocks, 1u) << "one byte less, and it lies among others";
}

TEST_F(Zheap, APoolOfWholePagesIsAsDenseAsTheyAre) {
  make("");
  add(500, 4096);
  EXPECT_EQ(pool_->total_pages(), 500u);
  EXPECT_EQ(pool_->stats().payload_bytes, 500 * kPageSize);
  for (std::size_t left = 500; left != 0; --left) {
    EXPECT_EQ(pool_->total_pages(), left) << "a page goes with its object, whatever waits";
    free_at(left / 2);
  }
  EXPECT_EQ(pool_->stats().moved, 0u);
}

TEST_F(Zheap, EvictsAnObjectWithPagesOfItsOwn) {
  std::set<Handle> gone;
  make("max_object=32768", [&](Handle handle) {
    gone.insert(handle);
    return pool_->free(handle);
  });
  add(3, 32768);
  const auto mapped = pool_->map(handles_[0], MapMode::read_only).value();
  const ShrinkOutcome done = pool_->shrink(9);
  EXPECT_TRUE(done.status);
  EXPECT_EQ(done.reclaimed_pages, 16u);
  EXPECT_EQ(gone, (std::set<Handle>{handles_[1], handles_[2]}));
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again) << "what is left is mapped";
  EXPECT_EQ(gone.size(), 2u);
  EXPECT_TRUE(testing::has_pattern(mapped, 0));
  pool_->unmap(handles_[0]);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::invalid_argument) << "nothing is left";
  EXPECT_EQ(pool_->stats().evicted, 3u);
  forget(gone);
}

// ---------------------------------------------------------------- the floor

// The newest block is left aside, and one is being emptied: so two. What best fit leaves between objects
// is nearly all that the highest floor allows, so a pool owes it moves nearly always.
struct Promise {
  double floor;
  double most_blocks;
};
constexpr Promise kFloors[] = {{0.9, 2}, {0.955, 2}, {0.98, 4}};

TEST_F(Zheap, KeepsItsFloorLessTwoBlocksWhileAsMuchComesAsGoes) {
  for (const Promise& promise : kFloors) {
    const double floor = promise.floor, most_blocks = promise.most_blocks;
    make("floor=" + std::to_string(floor));
    std::mt19937_64 random(testing::test_seed(0));
    for (int i = 0; i < 5000; ++i) add(1, 1 + random() % 3000);
    double worst = 0;
    for (int i = 0; i < 20'000; ++i) {
      free_at(random() % handles_.size());
      worst = std::max(worst, short_of(floor));
      add(1, 1 + random() % 3000);
      worst = std::max(worst, short_of(floor));
      if (i % 2048 == 0) {
        EXPECT_TRUE(pool_->validate());
      }
    }
    EXPECT_LE(worst / kBlockGranules, most_blocks) << "blocks short of " << floor;
    EXPECT_NE(pool_->stats().moved, 0u);
    EXPECT_NE(pool_->density().emptied, 0u);
    expect_intact();
    free_if([](std::size_t) { return true; });
  }
}

// Where half of all goes in one go, each call moves but two: so some blocks are owed for a while.
TEST_F(Zheap, PaysInLaterCallsWhatItOwes) {
  for (const Promise& promise : kFloors) {
    const double floor = promise.floor, most_blocks = promise.most_blocks;
    make("floor=" + std::to_string(floor));
    double worst = 0;
    churn(6000, 8, {}, [&] { worst = std::max(worst, short_of(floor)); });
    EXPECT_LE(worst / kBlockGranules, most_blocks + 4) << "blocks short of " << floor;
    std::mt19937_64 random(testing::test_seed(1));
    for (int i = 0; i < 4000; ++i) {
      free_at(random() % handles_.size());
      add(1, 1 + random() % 900);
    }
    // One more may be owed at any one moment.
    EXPECT_LE(short_of(floor) / kBlockGranules, most_blocks + 1) << "blocks short of " << floor;
    expect_intact();
    free_if([](std::size_t) { return true; });
  }
}

TEST_F(Zheap, WithoutAFloorMovesNothingUntilItIsTold) {
  make("floor=0");
  churn(3000, 5, {}, [] {});
  EXPECT_EQ(pool_->stats().moved, 0u);
  EXPECT_EQ(pool_->density().emptied, 0u);
  EXPECT_LT(pool_->density().density, 0.9) << "there is something to be moved";
  EXPECT_NE(pool_->compact().value(), 0u);
  EXPECT_NE(pool_->stats().moved, 0u);
  expect_intact();
}

TEST_F(Zheap, NoCallMovesMoreThanFour) {
  for (const char* params : {"floor=0.9", "floor=0.98"}) {
    make(params);
    std::uint64_t before = 0, most = 0;
    churn(3000, 4, {}, [&] {
      const std::uint64_t moved = pool_->stats().moved;
      most = std::max(most, moved - before);
      before = moved;
    });
    EXPECT_LE(most, 4u);
    EXPECT_NE(before, 0u);
    free_if([](std::size_t) { return true; });
  }
}

TEST_F(Zheap, WhatIsMappedForLongStaysAndCostsItsBlocksAtMost) {
  make("");
  add(6000, 1200);
  std::set<Handle> spared;
  std::vector<std::span<std::byte>> places;
  for (std::size_t i = 0; i < 64; ++i) {
    const Handle handle = handles_[i * handles_.size() / 64];
    spared.insert(handle);
  }
  for (const Handle handle : spared) {
    places.push_back(pool_->map(handle, MapMode::read_only).value());
  }
  double worst = 0;
  churn(6000, 8, spared, [&] { worst = std::max(worst, short_of(ZheapPool::kDefaultFloor)); });
  EXPECT_LE(worst / kBlockGranules, 6 + 64);
  EXPECT_NE(pool_->density().passed, 0u);
  std::size_t i = 0;
  for (const Handle handle : spared) {
    EXPECT_EQ(pool_->map(handle, MapMode::read_only).value().data(), places[i++].data());
    pool_->unmap(handle);
    EXPECT_EQ(pool_->free(handle).error(), Errc::busy);
  }
  expect_intact();
  for (const Handle handle : spared) pool_->unmap(handle);
}

// ---------------------------------------------------------------- small pools, and what waits

TEST_F(Zheap, ASmallPoolHoldsFewPages) {
  make("");
  EXPECT_EQ(pool_->total_pages(), 0u);
  add(1, 100);
  EXPECT_EQ(pool_->total_pages(), 1u);
  add(30, 100);
  EXPECT_EQ(pool_->total_pages(), 1u);
  add(1000, 100);
  EXPECT_LE(pool_->total_pages(), 40u);
  EXPECT_EQ(pool_->density().shards, 1u);
  free_if([](std::size_t i) { return i != 500; });
  EXPECT_LE(pool_->total_pages(), HeapBlock::kMostPages);
  free_at(0);
  EXPECT_EQ(pool_->total_pages(), 0u) << "at once";
}

// Extents of freed objects wait on CPUs in large pools alone, and count for nothing in statistics.
TEST_F(Zheap, CountsPayloadExactlyWhileExtentsWait) {
  make("");
  add(20'000, 400);
  ASSERT_GT(pool_->total_pages(), 1000u);
  std::size_t payload = handles_.size() * 400;
  std::mt19937_64 random(testing::test_seed(0));
  for (std::size_t i = 0; i < 600; ++i) {
    const std::size_t at = random() % handles_.size();
    payload -= size_of(handles_[at]);
    free_at(at);
    if (i % 3 == 0) {
      add(1, 100);
      payload += 100;
    }
    const ZpoolStats stats = pool_->stats();
    ASSERT_EQ(stats.objects, handles_.size());
    ASSERT_EQ(stats.payload_bytes, payload) << i;
  }
}

TEST_F(Zheap, WhatWaitsComesBackWhenThePoolShrinks) {
  make("");
  for (int round = 0; round < 3; ++round) {
    add(12'000, 400);
    free_if([](std::size_t i) { return i % 97 != 0; });
    const ZpoolStats stats = pool_->stats();
    EXPECT_EQ(stats.payload_bytes, handles_.size() * 400);
    // What is in use is what lives: nothing waits in so small a pool.
    const auto used = static_cast<double>(handles_.size() * HeapBlock::granules_for(400));
    EXPECT_NEAR(pool_->density().density * static_cast<double>(held_granules()), used, 0.5);
    free_if([](std::size_t) { return true; });
    EXPECT_EQ(pool_->total_pages(), 0u);
  }
}

TEST_F(Zheap, ASlotThatUsedItsGenerationsUpIsNeverUsedAgain) {
  make("");
  add(1, 50);
  std::unordered_set<Handle> given;
  Handle last = Handle::none;
  for (int i = 0; i < 150'000; ++i) {
    const Handle handle = pool_->allocate(8, Gfp::kernel).value();
    ASSERT_TRUE(given.insert(handle).second) << "a handle comes once";
    if (last != Handle::none) {
      ASSERT_EQ(pool_->free(last).error(), Errc::invalid_argument);
    }
    ASSERT_TRUE(pool_->free(handle));
    last = handle;
  }
  EXPECT_EQ(pool_->total_pages(), 1u);
  expect_intact();
}

// A header has room for a part of a slot's number.
TEST_F(Zheap, TellsSlotsApartThatHeadersDoNot) {
  make("floor=0");
  constexpr std::size_t kSlots = std::size_t{1} << HeapBlock::kOwnerBits;
  add(kSlots * 2 + 20'000, 1);
  // Holes that are long enough to be listed.
  free_if([](std::size_t i) { return i / 8 % 2 == 0; });
  EXPECT_TRUE(pool_->validate());
  ASSERT_GE(pool_->stats().compactable_pages, 4 * HeapBlock::kMostPages);
  EXPECT_NE(pool_->compact().value(), 0u);
  EXPECT_LE(pool_->stats().compactable_pages, 2 * HeapBlock::kMostPages);
  expect_intact();
}

// A pool that owes moves lets nothing wait, and one that has paid does.
TEST_F(Zheap, LetsExtentsWaitAgainWhenNothingIsOwed) {
  make("floor=0.9");
  churn(900, 3, {}, [] {});
  ASSERT_NE(pool_->stats().moved, 0u);
  // Enough for one to wait, and of one shard: what another one owes, this CPU might never pay.
  while (pool_->total_pages() < 440) add(1, 1000);
  ASSERT_EQ(pool_->density().shards, 1u);
  const auto in_use = [&] {
    return pool_->density().density * static_cast<double>(held_granules());
  };
  // What waits is counted as in use.
  unsigned waited = 0;
  for (int i = 0; i < 40; ++i) {
    const double before = in_use();
    free_at(handles_.size() - 1);
    if (in_use() == before) ++waited;
  }
  EXPECT_GE(waited, 10u);
}

// ---------------------------------------------------------------- eviction

TEST_F(Zheap, EvictsTheLeastRecentlyUsedBlocksFirst) {
  std::vector<Handle> gone;
  make("floor=0", [&](Handle handle) {
    gone.push_back(handle);
    return pool_->free(handle);
  });
  add(2000, 2000);
  const std::set<Handle> old(handles_.begin() + 500, handles_.begin() + 1000);
  for (int round = 0; round < 4; ++round) {
    for (const Handle handle : handles_) {
      if (!old.contains(handle)) pool_->touch(handle);
    }
  }
  const ShrinkOutcome done = pool_->shrink(100);
  EXPECT_TRUE(done.status);
  EXPECT_GE(done.reclaimed_pages, 100u);
  EXPECT_LE(done.reclaimed_pages, 100u + HeapBlock::kMostPages);
  EXPECT_FALSE(gone.empty());
  for (const Handle handle : gone) EXPECT_TRUE(old.contains(handle));
  forget({gone.begin(), gone.end()});
  expect_intact();
}

TEST_F(Zheap, ABlockWithAMappedObjectIsNotEvicted) {
  std::set<Handle> gone;
  make("floor=0", [&](Handle handle) {
    gone.insert(handle);
    return pool_->free(handle);
  });
  add(300, 2000);
  std::vector<std::span<std::byte>> mapped;
  for (std::size_t i = 0; i < 100; ++i) {
    mapped.push_back(pool_->map(handles_[i], MapMode::read_only).value());
  }
  const ShrinkOutcome done = pool_->shrink(1000);
  EXPECT_FALSE(done.status);
  EXPECT_GE(done.reclaimed_pages, 80u);
  for (std::size_t i = 0; i < 100; ++i) {
    EXPECT_FALSE(gone.contains(handles_[i]));
    EXPECT_TRUE(testing::has_pattern(mapped[i], i));
    pool_->unmap(handles_[i]);
  }
  forget(gone);
  expect_intact();
}

TEST_F(Zheap, ACallbackThatLiesHasRefused) {
  std::size_t asked = 0;
  make("", [&](Handle) {
    ++asked;
    return Status{};
  });
  add(100, 2000);
  const ShrinkOutcome done = pool_->shrink(1);
  EXPECT_EQ(done.status.error(), Errc::try_again);
  EXPECT_EQ(done.reclaimed_pages, 0u);
  EXPECT_LE(asked, ZheapPool::kReclaimRetries) << "the first that stays ends the try";
  EXPECT_GE(asked, 2u) << "another block may do better";
  EXPECT_EQ(pool_->stats().evicted, 0u);
  expect_intact();
}

// ---------------------------------------------------------------- compaction

TEST_F(Zheap, CompactsUntilNoBlockMoreCanBeGivenBack) {
  make("floor=0");
  std::mt19937_64 random(testing::test_seed(0));
  for (int i = 0; i < 4000; ++i) add(1, 1 + random() % 3000);
  free_if([&](std::size_t) { return random() % 2 == 0; });
  const std::size_t before = pool_->total_pages(), promised = pool_->stats().compactable_pages;
  ASSERT_GT(promised, 300u);
  const std::size_t freed = pool_->compact().value();
  EXPECT_EQ(pool_->total_pages(), before - freed);
  EXPECT_GE(freed, promised * 9 / 10);
  EXPECT_LE(pool_->stats().compactable_pages, 2 * HeapBlock::kMostPages);
  EXPECT_LE(pool_->compact().value(), HeapBlock::kMostPages) << "there is hardly more to gain";
  expect_intact();
}

TEST_F(Zheap, OfNothingCompactsNothing) {
  make("");
  EXPECT_EQ(pool_->compact().value(), 0u);
  add(1, 100);
  EXPECT_EQ(pool_->compact().value(), 0u);
  free_at(0);
  EXPECT_EQ(pool_->compact().value(), 0u);
  add(5, 4096);
  EXPECT_EQ(pool_->compact().value(), 0u);
  EXPECT_EQ(pool_->stats().moved, 0u);
}

TEST_F(Zheap, CompactsInsideOfAnEviction) {
  std::set<Handle> gone;
  std::size_t compacted = 0;
  make("floor=0", [&](Handle handle) {
    compacted += pool_->compact().value();
    gone.insert(handle);
    return pool_->free(handle);
  });
  add(1000, 1000);
  free_if([](std::size_t i) { return i % 2 == 0; });
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_FALSE(gone.empty());
  EXPECT_NE(compacted, 0u);
  forget(gone);
  expect_intact();
}

}  // namespace
}  // namespace mmkit
