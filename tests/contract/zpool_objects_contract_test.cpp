// SPDX-License-Identifier: MIT
//
// Objects come, hold what was put into them, and go; every refusal has its code and changes
// nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "contract/zpool_contract.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::expect_unchanged;
using testing::make_pattern;
using testing::PoolSnapshot;
using testing::TrackedObjects;

class ZpoolObjects : public testing::ZpoolContract {};
MMKIT_FOR_EACH_DRIVER(ZpoolObjects);

constexpr Gfp kEveryFlagButHighmem = Gfp::zero | Gfp::movable | Gfp::no_warn;

// ---------------------------------------------------------------- what is refused

TEST_P(ZpoolObjects, RefusesSizeZero) {
  Zpool& pool = make_pool();
  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(0).error(), Errc::invalid_argument);
  EXPECT_EQ(pool.allocate(0, kEveryFlagButHighmem).error(), Errc::invalid_argument);
  EXPECT_EQ(pool.store({}).error(), Errc::invalid_argument);
  expect_unchanged(pool, before, 3);
  EXPECT_EQ(held_pages(), 0u);
}

TEST_P(ZpoolObjects, RefusesWhatIsLargerThanTheLargestObject) {
  Zpool& pool = make_pool();
  const PoolSnapshot before(pool);
  constexpr std::size_t kTop = std::numeric_limits<std::size_t>::max();
  const std::vector<std::size_t> too_large = {max_bytes() + 1,
                                              2 * max_bytes(),
                                              std::size_t{1} << 16,
                                              std::size_t{1} << 32,
                                              (std::size_t{1} << 32) + 1,
                                              std::size_t{1} << 63,
                                              kTop - 4096,
                                              kTop - 63,
                                              kTop};
  for (const std::size_t size : too_large) {
    EXPECT_EQ(pool.allocate(size).error(), Errc::no_space) << size;
    EXPECT_EQ(pool.allocate(size, Gfp::nowait).error(), Errc::no_space) << size;
  }
  const std::vector<std::byte> large(max_bytes() + 1);
  EXPECT_EQ(pool.store(large).error(), Errc::no_space);
  expect_unchanged(pool, before, 2 * too_large.size() + 1);
  EXPECT_EQ(held_pages(), 0u);
}

TEST_P(ZpoolObjects, KnowsItsLargestObject) {
  Zpool& pool = make_pool();
  EXPECT_EQ(pool.max_object_bytes(), max_bytes());
  TrackedObjects objects(pool);
  objects.add(pool.max_object_bytes());
  objects.add(pool.max_object_bytes());
  expect_sound(pool, objects);
}

TEST_P(ZpoolObjects, RefusesHighmemWhereItCannotServeIt) {
  const bool serves = traits().highmem;
  Zpool& pool = make_pool();
  const PoolSnapshot before(pool);
  if (serves) {
    const Result<Handle> handle = pool.allocate(100, Gfp::highmem | Gfp::movable);
    ASSERT_TRUE(handle);
    pool.free(*handle);
    return;
  }
  EXPECT_EQ(pool.allocate(100, Gfp::highmem).error(), Errc::invalid_argument);
  EXPECT_EQ(pool.store(make_pattern(100, 1), Gfp::highmem).error(), Errc::invalid_argument);
  // Looked for before the size limit.
  EXPECT_EQ(pool.allocate(max_bytes() + 1, Gfp::highmem).error(), Errc::invalid_argument);
  expect_unchanged(pool, before, 3);
}

TEST_P(ZpoolObjects, JoinsThePoolsFlagsToThoseOfACall) {
  if (traits().highmem) GTEST_SKIP() << "every flag is served";
  Zpool& pool = make_pool({.gfp = Gfp::highmem});
  EXPECT_EQ(pool.allocate(100).error(), Errc::invalid_argument);
  EXPECT_EQ(pool.allocate(100, Gfp::zero).error(), Errc::invalid_argument);
}

TEST_P(ZpoolObjects, TakesTheFlagsThatAskForNothingSpecial) {
  Zpool& pool = make_pool();
  const Result<Handle> handle = pool.allocate(300, kEveryFlagButHighmem);
  ASSERT_TRUE(handle);
  pool.free(*handle);
}

TEST_P(ZpoolObjects, FailsWithoutChangeWhenThereIsNoPage) {
  make_source({.capacity_bytes = 64 * kPageSize, .retain_bytes = 0});
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  Result<Handle> last = Handle::none;
  for (int i = 0; last && i < 1000; ++i) last = objects.store(max_bytes());
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error(), Errc::out_of_memory);
  EXPECT_GT(objects.size(), 0u);

  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes()).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.store(make_pattern(max_bytes(), 7)).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.allocate(max_bytes(), Gfp::zero).error(), Errc::out_of_memory);
  expect_unchanged(pool, before, 3);
  expect_sound(pool, objects);

  // The same call goes well once there is room.
  objects.free(objects.handles().front());
  EXPECT_TRUE(objects.store(max_bytes()));
  expect_sound(pool, objects);
}

// ---------------------------------------------------------------- what comes and goes

TEST_P(ZpoolObjects, StoresEverySizeAndReadsItBack) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  for (const std::size_t size : sizes()) {
    ASSERT_TRUE(objects.allocate(size));
    ASSERT_TRUE(objects.store(size));
    expect_sound(pool, objects);
  }
  while (objects.size() != 0) {
    objects.free(objects.handles()[objects.size() / 2]);
    expect_sound(pool, objects);
  }
}

TEST_P(ZpoolObjects, StoresEachSizeThereIs) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  for (std::size_t size = 1; size <= max_bytes(); ++size) objects.add(size);
  expect_sound(pool, objects);
  objects.free_all();
  expect_sound(pool, objects);
}

TEST_P(ZpoolObjects, HoldsNoPageWhenAllIsFreed) {
  Zpool& pool = make_pool();
  EXPECT_EQ(pool.total_bytes(), 0u);
  TrackedObjects objects(pool);
  for (int round = 0; round < 3; ++round) {
    for (std::size_t i = 0; i < 300; ++i) objects.add(1 + i * 7919 % max_bytes());
    EXPECT_GT(pool.total_bytes(), 0u);
    objects.free_all();
    EXPECT_EQ(pool.total_bytes(), 0u);
    EXPECT_EQ(held_pages(), 0u);
    EXPECT_EQ(pool.stats().pages, 0u);
    EXPECT_TRUE(pool.validate());
  }
}

TEST_P(ZpoolObjects, GivesZeroedMemoryWhenAskedTo) {
  for (const bool by_pool : {false, true}) {
    Zpool& pool = make_pool({.gfp = by_pool ? Gfp::zero : Gfp::kernel});
    for (const std::size_t size : sizes()) {
      // Leaves something behind where the next object goes.
      std::vector<Handle> dirty;
      for (int i = 0; i < 8; ++i) {
        dirty.push_back(pool.store(std::vector<std::byte>(size, std::byte{0xff})).value());
      }
      for (const Handle handle : dirty) pool.free(handle);
      const Handle handle = pool.allocate(size, by_pool ? Gfp::kernel : Gfp::zero).value();
      {
        const Mapping mapping = pool.map(handle, MapMode::read_only);
        const auto bytes = mapping.const_bytes().first(size);
        EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) {
          return b == std::byte{0};
        })) << size;
      }
      pool.free(handle);
    }
  }
}

TEST_P(ZpoolObjects, StoresTheObjectItselfAlsoWithZero) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  for (const std::size_t size : sizes()) ASSERT_TRUE(objects.store(size, Gfp::zero));
  expect_sound(pool, objects);
}

// Every pool must be able to say "not now" at once: on a source that holds nothing ready there is
// nothing it could give without a system call.
TEST_P(ZpoolObjects, TakesOnlyRetainedMemoryWhenItMustNotWait) {
  make_source({.capacity_bytes = std::size_t{64} << 20, .retain_bytes = std::size_t{1} << 20});
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  const PoolSnapshot fresh(pool);
  EXPECT_EQ(pool.allocate(max_bytes(), Gfp::nowait).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.store(make_pattern(max_bytes(), 1), Gfp::nowait).error(), Errc::out_of_memory);
  expect_unchanged(pool, fresh, 2);

  // Retained from here on: what was freed.
  for (int i = 0; i < 32; ++i) objects.add(max_bytes());
  objects.free_all();
  const std::size_t resident = source_->stats().resident_pages;
  Result<Handle> last = objects.store(max_bytes(), Gfp::nowait);
  EXPECT_TRUE(last);
  for (int i = 0; last && i < 1000; ++i) last = objects.store(max_bytes(), Gfp::nowait);
  ASSERT_FALSE(last) << "memory that was never touched was given";
  EXPECT_EQ(last.error(), Errc::out_of_memory);
  EXPECT_EQ(source_->stats().resident_pages, resident);
  expect_sound(pool, objects);
}

TEST_P(ZpoolObjects, MustNotWaitWhenThePoolSaysSo) {
  Zpool& pool = make_pool({.gfp = Gfp::nowait});
  EXPECT_EQ(pool.allocate(100).error(), Errc::out_of_memory);
}

// A pool that serves a call which must not wait has the bookkeeping of some objects ready.
TEST_P(ZpoolObjects, KeepsItsBookkeepingReadyForCallsThatMustNotWait) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  for (int i = 0; i < 8; ++i) objects.add(max_bytes());
  objects.free_all();
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(objects.allocate(max_bytes(), Gfp::nowait));
  expect_sound(pool, objects);
}

// ---------------------------------------------------------------- handles

TEST_P(ZpoolObjects, NamesObjectsByUniqueHandlesWithThePoolsTag) {
  const std::unique_ptr<Zpool> first = make({.name = "first of two"});
  const std::unique_ptr<Zpool> second = make({.name = "second of two"});
  std::uint16_t first_tag = 0;
  std::uint16_t second_tag = 0;
  for_each_live_pool([&](const ZpoolInfo& info) {
    if (info.name == "first of two") first_tag = info.tag;
    if (info.name == "second of two") second_tag = info.tag;
  });
  EXPECT_NE(first_tag, 0);
  EXPECT_NE(second_tag, 0);
  EXPECT_NE(first_tag, second_tag);

  std::set<Handle> seen;
  for (int i = 0; i < 2000; ++i) {
    const Handle one = first->allocate(50).value();
    const Handle two = second->allocate(50).value();
    EXPECT_EQ(handle_bits::tag(one), first_tag);
    EXPECT_EQ(handle_bits::tag(two), second_tag);
    EXPECT_NE(handle_bits::raw(one) << 16, 0u) << "the driver's 48 bits are not all zero";
    EXPECT_TRUE(seen.insert(one).second);
    EXPECT_TRUE(seen.insert(two).second);
  }
  for (const Handle handle : seen) {
    Zpool& owner = handle_bits::tag(handle) == first_tag ? *first : *second;
    owner.free(handle);
  }
}

TEST_P(ZpoolObjects, RefusesHandlesThatNameNothing) {
  Zpool& pool = make_pool();
  const std::unique_ptr<Zpool> other = make();
  const Handle live = pool.allocate(100).value();
  const Handle foreign = other->allocate(100).value();
  const Handle dead = pool.allocate(100).value();
  pool.free(dead);

  std::vector<Handle> nothing = {Handle::none, foreign, dead};
  // Never given: this pool's tag, and bits that no handle had.
  for (const std::uint64_t bits : {0x1ull, 0x40ull, 0xffffull, 0xffff'ffffull, 0xffff'0000'0000ull,
                                   0xffff'ffff'ffffull, 0x8000'0000'0000ull}) {
    const std::uint64_t changed = handle_bits::raw(live) ^ bits;
    nothing.push_back(Handle{changed});
  }
  const PoolSnapshot before(pool);
  const PoolSnapshot others(*other);
  for (const Handle handle : nothing) {
    EXPECT_EQ(pool.try_free(handle).error(), Errc::invalid_argument) << handle_bits::raw(handle);
    for (const MapMode mode : {MapMode::read_write, MapMode::read_only, MapMode::write_only}) {
      EXPECT_EQ(pool.try_map(handle, mode).error(), Errc::not_found) << handle_bits::raw(handle);
    }
  }
  expect_unchanged(pool, before, 0);
  expect_unchanged(*other, others, 0);
  pool.free(live);
  other->free(foreign);
}

TEST_P(ZpoolObjects, NeverTakesADeadHandleForALiveOne) {
  Zpool& pool = make_pool();
  std::deque<Handle> dead;
  std::vector<Handle> live;
  std::mt19937_64 random(testing::test_seed(1));
  for (std::uint64_t i = 0; i < testing::scaled(5000); ++i) {
    if (live.size() < 20 || random() % 2 == 0) {
      live.push_back(pool.allocate(1 + random() % 200).value());
      EXPECT_EQ(std::count(dead.begin(), dead.end(), live.back()), 0);
    } else {
      std::swap(live[random() % live.size()], live.back());
      EXPECT_TRUE(pool.try_free(live.back()));
      EXPECT_EQ(pool.try_free(live.back()).error(), Errc::invalid_argument);
      dead.push_back(live.back());
      if (dead.size() > 200) dead.pop_front();
      live.pop_back();
    }
    if (dead.empty()) continue;
    const Handle gone = dead[random() % dead.size()];
    EXPECT_EQ(pool.try_map(gone).error(), Errc::not_found);
    EXPECT_EQ(pool.try_free(gone).error(), Errc::invalid_argument);
    pool.touch(gone);
  }
  for (const Handle handle : live) pool.free(handle);
  EXPECT_TRUE(pool.validate());
}

TEST_P(ZpoolObjects, IgnoresATouchOfWhatIsGone) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  const Handle handle = objects.add(100);
  const Handle dead = pool.allocate(100).value();
  pool.free(dead);
  const PoolSnapshot before(pool);
  pool.touch(handle);
  pool.touch(dead);
  expect_unchanged(pool, before, 0);
  expect_sound(pool, objects);
}

// ---------------------------------------------------------------- accounts

TEST_P(ZpoolObjects, CountsExactly) {
  Zpool& pool = make_pool();
  ZpoolStats stats = pool.stats();
  EXPECT_EQ(stats.objects, 0u);
  EXPECT_EQ(stats.payload_bytes, 0u);
  EXPECT_EQ(stats.pages, 0u);
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_EQ(stats.frees, 0u);
  EXPECT_EQ(stats.failures, 0u);
  EXPECT_EQ(stats.evicted, 0u);
  EXPECT_EQ(stats.moved, 0u);
  EXPECT_EQ(stats.compactable_pages, 0u);
  EXPECT_GT(stats.metadata_bytes, 0u);

  const Handle one = pool.allocate(17).value();
  const Handle two = pool.store(make_pattern(1000, 2)).value();
  EXPECT_FALSE(pool.allocate(max_bytes() + 1));
  EXPECT_FALSE(pool.try_free(Handle::none));  // no failure of an allocation
  stats = pool.stats();
  EXPECT_EQ(stats.objects, 2u);
  EXPECT_EQ(stats.payload_bytes, 1017u);
  EXPECT_EQ(stats.allocations, 2u);
  EXPECT_EQ(stats.frees, 0u);
  EXPECT_EQ(stats.failures, 1u);
  EXPECT_EQ(stats.pages, held_pages());

  pool.free(one);
  stats = pool.stats();
  EXPECT_EQ(stats.objects, 1u);
  EXPECT_EQ(stats.payload_bytes, 1000u);
  EXPECT_EQ(stats.frees, 1u);
  pool.free(two);
  stats = pool.stats();
  EXPECT_EQ(stats.objects, 0u);
  EXPECT_EQ(stats.payload_bytes, 0u);
  EXPECT_EQ(stats.allocations, 2u);
  EXPECT_EQ(stats.frees, 2u);
  EXPECT_EQ(stats.failures, 1u);
}

TEST_P(ZpoolObjects, CountsItsMetadataAsItGrows) {
  Zpool& pool = make_pool();
  const std::size_t empty = pool.stats().metadata_bytes;
  std::vector<Handle> handles;
  for (int i = 0; i < 20000; ++i) handles.push_back(pool.allocate(1000).value());
  const std::size_t full = pool.stats().metadata_bytes;
  // A handle takes eight bytes at the very least.
  EXPECT_GE(full, empty + handles.size() * 8);
  EXPECT_LE(full, empty + handles.size() * 200);
  for (const Handle handle : handles) pool.free(handle);
}

// ---------------------------------------------------------------- compaction

TEST_P(ZpoolObjects, CompactsOrSaysThatItCannot) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  if (!traits().can_compact) {
    objects.add(100);
    const PoolSnapshot before(pool);
    EXPECT_EQ(pool.compact().error(), Errc::not_supported);
    expect_unchanged(pool, before, 0);
    return;
  }
  EXPECT_EQ(pool.compact().value(), 0u) << "of an empty pool";
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < 2000; ++i) handles.push_back(objects.add(1 + i * 7919 % 3000));
  for (std::size_t i = 0; i < handles.size(); ++i) {
    if (i % 4 != 0) objects.free(handles[i]);
  }
  const std::size_t before = held_pages();
  const Result<std::size_t> freed = pool.compact();
  ASSERT_TRUE(freed);
  EXPECT_EQ(before - held_pages(), *freed);
  EXPECT_EQ(pool.stats().compactable_pages, 0u);
  expect_sound(pool, objects);
}

// ---------------------------------------------------------------- long runs

TEST_P(ZpoolObjects, StaysSoundThroughARandomLife) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  std::vector<Handle> handles;
  std::mt19937_64 random(testing::test_seed(2));
  const std::uint64_t steps = testing::scaled(6000);
  for (std::uint64_t step = 0; step < steps; ++step) {
    // The target swings, so that the pool fills and empties several times.
    const std::size_t target = 20 + 200 * ((step / 500) % 3);
    if (handles.empty() || (handles.size() < target && random() % 4 != 0)) {
      const std::size_t limit = random() % 4 == 0 ? max_bytes() : 1500;
      handles.push_back(objects.add(1 + random() % limit));
    } else {
      std::swap(handles[random() % handles.size()], handles.back());
      objects.free(handles.back());
      handles.pop_back();
    }
    EXPECT_TRUE(pool.validate());
    EXPECT_EQ(pool.total_bytes(), held_pages() * kPageSize);
    if (step % 100 == 0) expect_sound(pool, objects);
  }
  expect_sound(pool, objects);
  objects.free_all();
  expect_sound(pool, objects);
}

TEST_P(ZpoolObjects, ServesManyThreadsAtOnce) {
  Zpool& pool = make_pool();
  constexpr std::uint64_t kThreads = 4;
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < kThreads; ++id) {
    threads.emplace_back([&pool, id, this] {
      TrackedObjects objects(pool, id << 32);
      std::vector<Handle> handles;
      std::mt19937_64 random(testing::test_seed(10 + id));
      for (std::uint64_t i = 0; i < testing::scaled(3000); ++i) {
        if (handles.size() < 50 || (handles.size() < 100 && random() % 2 == 0)) {
          handles.push_back(objects.add(1 + random() % max_bytes()));
        } else {
          std::swap(handles[random() % handles.size()], handles.back());
          objects.free(handles.back());
          handles.pop_back();
        }
        if (i % 256 == 0) {
          EXPECT_TRUE(pool.validate());
        }
      }
      objects.expect_intact_and_apart();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool.stats().objects, 0u);
  EXPECT_EQ(held_pages(), 0u);
  EXPECT_TRUE(pool.validate());
}

// An object is for whoever has its handle, whichever thread that is.
TEST_P(ZpoolObjects, AreFreedByOtherThreadsThanAllocatedThem) {
  Zpool& pool = make_pool();
  constexpr int kObjects = 500;
  std::vector<Handle> handles;
  std::thread([&] {
    for (int i = 0; i < kObjects; ++i) {
      handles.push_back(pool.store(make_pattern(1000, static_cast<std::uint64_t>(i))).value());
    }
  }).join();
  std::thread([&] {
    for (int i = 0; i < kObjects; ++i) {
      const Handle handle = handles[static_cast<std::size_t>(i)];
      {
        const Mapping mapping = pool.map(handle, MapMode::read_only);
        EXPECT_TRUE(
            testing::has_pattern(mapping.const_bytes().first(1000), static_cast<std::uint64_t>(i)));
      }
      pool.free(handle);
    }
  }).join();
  EXPECT_EQ(held_pages(), 0u);
}

}  // namespace
}  // namespace mmkit
