// SPDX-License-Identifier: MIT
//
// limit_bytes: never exceeded, whatever happens; an evictable pool makes room first.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "contract/zpool_contract.hpp"
#include "support/captured_failure.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::expect_unchanged;
using testing::make_pattern;
using testing::PoolSnapshot;
using testing::TrackedObjects;

constexpr std::size_t kLimitPages = 32;  // room for some runs of the drivers that take long ones
constexpr std::size_t kLimitBytes = kLimitPages * kPageSize;

class ZpoolLimit : public testing::ZpoolContract {
 protected:
  void TearDown() override {
    objects_.reset();
    EXPECT_LE(source_->stats().peak_pages, kLimitPages) << "the limit was exceeded";
    ZpoolContract::TearDown();
  }

  Zpool& make_limited(EvictFn evict = {}, std::size_t limit_bytes = kLimitBytes) {
    Zpool& pool = make_pool({.evict = std::move(evict), .limit_bytes = limit_bytes});
    objects_ = std::make_unique<TrackedObjects>(pool);
    return pool;
  }
  TrackedObjects& objects() { return *objects_; }

  /// Objects of the largest size until the pool refuses one; the refusal.
  Errc fill() {
    while (true) {
      const Result<Handle> handle = objects().store(max_bytes());
      if (!handle) return handle.error();
    }
  }
  /// As many of the largest objects as go in without an eviction.
  void fill_without_eviction(Zpool& pool) {
    const std::uint64_t before = pool.stats().evicted;
    while (pool.total_bytes() < kLimitBytes && objects().store(max_bytes())) {
      ASSERT_EQ(pool.stats().evicted, before);
    }
  }
  EvictFn giving_up() {
    return [this](Zpool&, Handle handle) -> Status {
      objects().free(handle);
      ++given_up_;
      return {};
    };
  }

  std::unique_ptr<TrackedObjects> objects_;
  std::uint64_t given_up_ = 0;
};
MMKIT_FOR_EACH_DRIVER(ZpoolLimit);

// For drivers that can shrink: what happens besides refusing.
class ZpoolLimitEviction : public ZpoolLimit {
 protected:
  void SetUp() override {
    ZpoolLimit::SetUp();
    if (!traits().can_shrink) GTEST_SKIP() << "this driver cannot shrink";
  }
};
MMKIT_FOR_EACH_DRIVER(ZpoolLimitEviction);

// ---------------------------------------------------------------- the limit itself

TEST_P(ZpoolLimit, BelowOnePageIsRefused) {
  for (const std::size_t limit : {1u, 64u, 4095u}) {
    EXPECT_EQ(try_make({.limit_bytes = limit}).error(), Errc::invalid_argument) << limit;
  }
}

TEST_P(ZpoolLimit, IsRoundedDownToPages) {
  EXPECT_EQ(make()->limit_bytes(), 0u);
  EXPECT_EQ(make({.limit_bytes = kPageSize})->limit_bytes(), kPageSize);
  EXPECT_EQ(make({.limit_bytes = 3 * kPageSize + 4095})->limit_bytes(), 3 * kPageSize);
}

TEST_P(ZpoolLimit, IsNotExceededByAPoolThatCannotEvict) {
  Zpool& pool = make_limited();
  EXPECT_EQ(fill(), Errc::out_of_memory);
  EXPECT_GT(objects().size(), 0u);
  EXPECT_LE(pool.total_bytes(), kLimitBytes);

  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes()).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.allocate(max_bytes(), Gfp::zero | Gfp::nowait).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.store(make_pattern(max_bytes(), 1)).error(), Errc::out_of_memory);
  expect_unchanged(pool, before, 3);
  expect_sound(pool, objects());

  // Room that was given back can be had again.
  objects().free(objects().handles().front());
  EXPECT_TRUE(objects().store(max_bytes()));
  objects().free_all();
  EXPECT_EQ(fill(), Errc::out_of_memory);
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimit, HoldsForObjectsOfEverySize) {
  Zpool& pool = make_limited();
  std::mt19937_64 random(testing::test_seed(3));
  std::vector<Handle> handles;
  for (std::uint64_t i = 0; i < testing::scaled(3000); ++i) {
    if (handles.empty() || random() % 8 != 0) {
      const Result<Handle> handle = objects().allocate(1 + random() % max_bytes());
      if (handle) {
        handles.push_back(*handle);
        continue;
      }
      EXPECT_EQ(handle.error(), Errc::out_of_memory);
    }
    std::swap(handles[random() % handles.size()], handles.back());
    objects().free(handles.back());
    handles.pop_back();
    EXPECT_LE(pool.total_bytes(), kLimitBytes);
  }
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimit, IsEachPoolsOwn) {
  std::unique_ptr<Zpool> other = make();
  Zpool& pool = make_limited();
  std::vector<Handle> of_other;
  for (int i = 0; i < 8; ++i) of_other.push_back(other->allocate(max_bytes()).value());
  const std::size_t others_pages = held_pages();
  EXPECT_EQ(fill(), Errc::out_of_memory);
  EXPECT_EQ(pool.total_bytes(), (held_pages() - others_pages) * kPageSize);
  for (const Handle handle : of_other) other->free(handle);
  other.reset();
  objects().free_all();
  // The source's peak was that of both, which TearDown would take for this pool's.
  make_source({.capacity_bytes = std::size_t{1} << 30});
}

TEST_P(ZpoolLimit, HoldsAgainstManyThreads) {
  Zpool& pool = make_limited();
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&pool, id, this] {
      TrackedObjects mine(pool, (id + 1) << 32);
      std::vector<Handle> handles;
      std::mt19937_64 random(testing::test_seed(20 + id));
      for (std::uint64_t i = 0; i < testing::scaled(2000); ++i) {
        const Result<Handle> handle = mine.store(1 + random() % max_bytes());
        if (handle) {
          handles.push_back(*handle);
        } else if (!handles.empty()) {
          mine.free(handles.back());
          handles.pop_back();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect_sound(pool, objects());
}

// ---------------------------------------------------------------- with eviction

TEST_P(ZpoolLimitEviction, MakesRoomInsteadOfFailing) {
  Zpool& pool = make_limited(giving_up());
  std::mt19937_64 random(testing::test_seed(4));
  for (std::uint64_t i = 0; i < testing::scaled(2000, 200); ++i) {
    const std::size_t size = 1 + random() % max_bytes();
    const Result<Handle> handle = i % 2 == 0 ? objects().allocate(size) : objects().store(size);
    ASSERT_TRUE(handle) << i;
    ASSERT_LE(pool.total_bytes(), kLimitBytes);
  }
  EXPECT_GT(given_up_, 0u);
  const ZpoolStats stats = pool.stats();
  EXPECT_EQ(stats.evicted, given_up_);
  EXPECT_EQ(stats.failures, 0u) << "an attempt that was made good is no failure";
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, EvictsNothingBelowTheLimit) {
  Zpool& pool = make_limited(giving_up());
  fill_without_eviction(pool);
  EXPECT_EQ(given_up_, 0u);
  ASSERT_TRUE(objects().store(max_bytes()));
  EXPECT_GT(given_up_, 0u);
  EXPECT_LE(pool.total_bytes(), kLimitBytes);
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, FailsWhenTheCallbackRefuses) {
  std::uint64_t asked = 0;
  Zpool& pool = make_limited([&](Zpool&, Handle) -> Status {
    ++asked;
    return fail(Errc::io_error);
  });
  EXPECT_EQ(fill(), Errc::out_of_memory);
  EXPECT_GT(asked, 0u);
  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes()).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.store(make_pattern(max_bytes(), 1)).error(), Errc::out_of_memory);
  expect_unchanged(pool, before, 2);  // one each, however often it was tried
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, FailsWhenTheCallbackLies) {
  Zpool& pool = make_limited([](Zpool&, Handle) -> Status { return {}; });
  EXPECT_EQ(fill(), Errc::out_of_memory);
  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes()).error(), Errc::out_of_memory);
  expect_unchanged(pool, before, 1);
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, FailsWhenEverythingIsMapped) {
  Zpool& pool = make_limited(giving_up());
  fill_without_eviction(pool);
  std::vector<Mapping> mappings;
  for (const Handle handle : objects().handles()) {
    mappings.push_back(pool.map(handle, MapMode::read_only));
  }
  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes()).error(), Errc::out_of_memory);
  EXPECT_EQ(given_up_, 0u);
  expect_unchanged(pool, before, 1);
  mappings.clear();
  EXPECT_TRUE(objects().store(max_bytes()));
  EXPECT_GT(given_up_, 0u);
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, DoesNotAskForWhatNoEvictionMends) {
  Zpool& pool = make_limited(giving_up());
  fill_without_eviction(pool);
  EXPECT_EQ(pool.allocate(0).error(), Errc::invalid_argument);
  EXPECT_EQ(pool.allocate(max_bytes() + 1).error(), Errc::no_space);
  if (!traits().highmem) {
    EXPECT_EQ(pool.allocate(max_bytes(), Gfp::highmem).error(), Errc::invalid_argument);
  }
  EXPECT_EQ(given_up_, 0u);
}

// A source that has no page is not helped by giving one back to it: others may take that.
TEST_P(ZpoolLimitEviction, DoesNotEvictForASourceWithoutPages) {
  make_source({.capacity_bytes = 16 * kPageSize, .retain_bytes = 0});
  Zpool& pool = make_limited(giving_up());
  EXPECT_EQ(fill(), Errc::out_of_memory);
  EXPECT_EQ(given_up_, 0u);
  EXPECT_EQ(pool.stats().failures, 1u);
  expect_sound(pool, objects());
}

TEST_P(ZpoolLimitEviction, DoesNotEvictWhereItMustNotWait) {
  Zpool& pool = make_limited(giving_up());
  fill_without_eviction(pool);
  const PoolSnapshot before(pool);
  EXPECT_EQ(pool.allocate(max_bytes(), Gfp::nowait).error(), Errc::out_of_memory);
  EXPECT_EQ(pool.store(make_pattern(max_bytes(), 1), Gfp::nowait).error(), Errc::out_of_memory);
  EXPECT_EQ(given_up_, 0u);
  expect_unchanged(pool, before, 2);
}

// An allocation from inside the callback that meets the limit fails: evicting for it would call the
// callback again, as deep as there are objects.
TEST_P(ZpoolLimitEviction, DoesNotEvictFromInsideAnEviction) {
  int depth = 0;
  int deepest = 0;
  int refusals = 0;
  Zpool& pool = make_limited([&](Zpool& asker, Handle handle) -> Status {
    deepest = std::max(deepest, ++depth);
    const Result<Handle> inner = asker.allocate(max_bytes());
    EXPECT_FALSE(inner);
    if (inner) {
      asker.free(*inner);
    } else {
      EXPECT_EQ(inner.error(), Errc::out_of_memory);
      ++refusals;
    }
    objects().free(handle);
    --depth;
    return {};
  });
  fill_without_eviction(pool);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(objects().store(max_bytes()));
  EXPECT_EQ(deepest, 1);
  EXPECT_GT(refusals, 0);
  EXPECT_EQ(pool.stats().failures, static_cast<std::uint64_t>(refusals));
  expect_sound(pool, objects());
}

// Two pools that each store what they evict in the other one: the ring ends at the first repeat.
TEST_P(ZpoolLimitEviction, DoesNotGoInCirclesThroughOtherPools) {
  const testing::CapturedLeaks leaks;  // what is in the ring at the end stays in it
  Zpool* pools[2] = {};
  int depth = 0;
  int deepest = 0;
  const auto evict = [&](Zpool& pool, Handle handle) -> Status {
    deepest = std::max(deepest, ++depth);
    Zpool& other = &pool == pools[0] ? *pools[1] : *pools[0];
    const Result<Handle> moved = other.allocate(max_bytes());
    --depth;
    if (!moved) return fail(moved.error());
    return pool.try_free(handle);
  };
  const std::unique_ptr<Zpool> one = make({.evict = evict, .limit_bytes = kLimitBytes / 2});
  const std::unique_ptr<Zpool> two = make({.evict = evict, .limit_bytes = kLimitBytes / 2});
  pools[0] = one.get();
  pools[1] = two.get();
  for (int i = 0; i < 200; ++i) static_cast<void>(pools[i % 2]->allocate(max_bytes()));
  EXPECT_GE(deepest, 1);
  EXPECT_LE(deepest, 2);
  for (Zpool* pool : pools) {
    EXPECT_TRUE(pool->validate());
    EXPECT_LE(pool->total_bytes(), kLimitBytes / 2);
  }
}

TEST_P(ZpoolLimitEviction, EvictsForManyThreads) {
  Zpool& pool = make_limited([](Zpool& asker, Handle handle) { return asker.try_free(handle); });
  std::atomic<std::uint64_t> stored{0};
  std::atomic<bool> stop{false};
  // Somebody looks on: accounts make sense at any time.
  std::thread observer([&] {
    while (!stop.load()) {
      const ZpoolStats stats = pool.stats();
      EXPECT_LE(stats.failures, testing::scaled(2000) * 4 * 20) << "went below zero";
      EXPECT_LE(stats.pages, kLimitPages);
    }
  });
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      std::mt19937_64 random(testing::test_seed(30 + id));
      for (std::uint64_t i = 0; i < testing::scaled(2000); ++i) {
        if (pool.allocate(1 + random() % max_bytes())) ++stored;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop = true;
  observer.join();
  EXPECT_EQ(pool.stats().allocations, stored);
  EXPECT_GT(pool.stats().evicted, 0u);
  EXPECT_TRUE(pool.validate());
  EXPECT_TRUE(pool.shrink(held_pages()).status);
  EXPECT_EQ(pool.stats().objects, 0u);
}

}  // namespace
}  // namespace mmkit
