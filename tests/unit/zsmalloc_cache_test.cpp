// SPDX-License-Identifier: MIT
//
// What zsmalloc keeps once a CPU: how much of a class, whose room it is, and that it never stands in
// anybody's way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/page/sim_page_allocator.hpp>
#include <random>
#include <set>
#include <unordered_set>
#include <vector>

#include "support/percpu_threads.hpp"
#include "support/seed.hpp"
#include "support/zsmalloc_fixture.hpp"

namespace mmkit {
namespace {

using testing::allowed_cpus;

class ZsmallocCache : public testing::ZsmallocTest {
 protected:
  // Frees and adds, so that room is granted.
  void churn(std::size_t size_bytes, int times) {
    for (int i = 0; i < times; ++i) {
      free_if([](std::size_t n) { return n >= 1000 && n < 1050; });
      add(50, size_bytes);
    }
  }
};

// The share that docs and header speak of, seen at every step of a class's way up and down.
TEST_F(ZsmallocCache, IsASmallPartOfItsClassAndGoesAsThatShrinks) {
  for (const char* params : {"cache=1", "cache=32", "cache=64"}) {
    make(params);
    std::size_t most = 0;
    const auto look = [&] {
      const ZsmallocClassStats row = class_of(500);
      most = std::max(most, row.kept);
      EXPECT_LE(row.kept * 16, row.objects);
      EXPECT_EQ(row.objects - row.kept, handles_.size());
      EXPECT_EQ(pool_->stats().objects, handles_.size());
    };
    for (int step = 0; step < 30; ++step) {
      add(100, 500);
      free_if([](std::size_t i) { return i % 50 == 7; });
      look();
    }
    EXPECT_GT(most, 0u) << params;
    while (!handles_.empty()) {
      free_if([this](std::size_t i) { return i % 10 == 0 || i + 20 > handles_.size(); });
      look();
    }
    EXPECT_EQ(pool_->total_pages(), 0u);
    EXPECT_TRUE(pool_->validate());
  }
}

TEST_F(ZsmallocCache, HoldsNoMoreThanItsParameterAllowsAndFewOfLargeObjects) {
  for (const std::size_t size : {100u, 2000u, 4096u}) {
    for (const std::size_t cache : {0u, 1u, 2u, 8u, 64u}) {
      make("cache=" + std::to_string(cache));
      add(4000, size);
      churn(size, 40);
      free_if([](std::size_t n) { return n >= 1000 && n < 1100; });
      const std::size_t kept = class_of(size).kept;
      EXPECT_LE(kept, cache);
      EXPECT_EQ(kept == 0, cache == 0) << size << ", " << cache;
      // Of large objects not more than 32 KiB, but two.
      EXPECT_LE(kept * size, std::max<std::size_t>(32 * 1024, 2 * size));
      expect_intact();
      free_if([](std::size_t) { return true; });
      EXPECT_EQ(pool_->total_pages(), 0u);
    }
  }
}

// The room of a kept object is used by others of its class, of other sizes, cleared if need be.
TEST_F(ZsmallocCache, ServesAnySizeOfItsClassAndClearsWhatItMust) {
  make("cache=64");
  add(3000, 3700);
  churn(3700, 20);
  for (const std::size_t size : {3700u, 3641u, 4096u}) {
    free_if([](std::size_t n) { return n >= 1000 && n < 1004; });
    const std::size_t kept = class_of(3700).kept;
    ASSERT_GE(kept, 4u);
    add(2, size);
    const Handle zeroed = pool_->allocate(size, Gfp::zero).value();
    const auto bytes = pool_->map(zeroed, MapMode::read_only).value();
    EXPECT_EQ(static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), std::byte{})), size);
    EXPECT_EQ(bytes.size(), size);
    pool_->unmap(zeroed);
    EXPECT_EQ(class_of(3700).kept, kept - 3) << "it was kept room";
    EXPECT_TRUE(pool_->free(zeroed));
  }
  expect_intact();
}

// A slot that is used again and again on one CPU: no handle comes twice, and the slot is given up when
// its names are used up.
TEST_F(ZsmallocCache, GivesNoNameTwiceHoweverOftenASlotIsUsed) {
  make("cache=64");
  add(3000, 64);
  churn(64, 20);
  std::unordered_set<std::uint64_t> seen;
  for (const Handle handle : handles_) seen.insert(handle_bits::raw(handle));
  Handle last = Handle::none;
  std::size_t last_names = 0;
  for (int i = 0; i < 3 * 65'536; ++i) {
    const Handle handle = pool_->allocate(64, Gfp::kernel).value();
    ASSERT_TRUE(seen.insert(handle_bits::raw(handle)).second);
    ASSERT_NE(handle_bits::generation(handle), 0u);
    if (handle_bits::generation(handle) == handle_bits::kMaxGeneration) ++last_names;
    ASSERT_TRUE(pool_->free(handle));
    if (last != Handle::none) {
      ASSERT_FALSE(pool_->free(last));
    }
    last = handle;
  }
  EXPECT_GE(last_names, 2u) << "slots were used up";
  expect_intact();
}

// One thread that is moved from CPU to CPU at any time.
TEST_F(ZsmallocCache, IsNowhereWhenThePoolIsEmptyThoughItsThreadWandered) {
  testing::Wanderer wanderer(testing::test_seed(1));
  std::mt19937_64 random(testing::test_seed(2));
  for (const std::size_t size : {40u, 700u, 4096u}) {
    make("cache=64");
    for (int round = 0; round < 3; ++round) {
      while (handles_.size() < 2000) {
        wanderer.move();
        add(100 + random() % 300, size);
        free_if([&](std::size_t i) { return (i + handles_.size()) % 64 == 0; });
      }
      EXPECT_TRUE(pool_->validate());
      while (!handles_.empty()) {
        wanderer.move();
        const std::size_t from = random() % handles_.size();
        free_if([&](std::size_t i) { return i >= from && i < from + 300; });
      }
      EXPECT_EQ(pool_->total_pages(), 0u);
      EXPECT_EQ(pool_->stats().objects, 0u);
      EXPECT_TRUE(pool_->validate());
    }
  }
}

// A class that one CPU keeps all it may of: a thread that comes to another CPU takes that over.
TEST_F(ZsmallocCache, FollowsItsThreadToAnotherCpu) {
  const std::vector<unsigned> cpus = allowed_cpus();
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU";
  make("cache=64");
  testing::bind_thread(::pthread_self(), {cpus[0]});
  add(1600, 100);  // 50 may be kept: less than fill one stack
  churn(100, 20);
  free_if([](std::size_t n) { return n >= 1000 && n < 1040; });
  ASSERT_GE(class_of(100).kept, 40u);
  add(40, 100);
  testing::bind_thread(::pthread_self(), {cpus[1]});
  churn(100, 20);
  const std::size_t kept = class_of(100).kept;
  EXPECT_LE(kept, 50u);
  add(kept, 100);
  EXPECT_LE(class_of(100).kept, 8u) << "what is kept is kept here";
  free_if([](std::size_t n) { return n >= 1000 && n < 1040; });
  EXPECT_GE(class_of(100).kept, 40u) << "and here is room for as much as there was";
  expect_intact();
}

// Where nobody can be asked to make room, kept objects of other classes give theirs.
TEST_F(ZsmallocCache, GivesItsPagesWhenThereAreNoOthers) {
  source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{8} << 20}).value();
  make("cache=64");
  add((std::size_t{8} << 20) / kPageSize, 4096);
  EXPECT_EQ(pool_->allocate(4096, Gfp::kernel).error(), Errc::out_of_memory);
  churn(4096, 20);
  const ZpoolStats full = pool_->stats();
  free_if([](std::size_t n) { return n >= 1000 && n < 1004; });
  ASSERT_EQ(class_of(4096).kept, 4u);
  ASSERT_EQ(pool_->total_pages(), full.pages) << "kept objects hold their pages";
  EXPECT_EQ(add_nowait(100).error(), Errc::out_of_memory) << "who must not wait does not take them";
  EXPECT_EQ(class_of(4096).kept, 4u);
  add(1, 100);
  EXPECT_EQ(class_of(4096).kept, 0u);
  EXPECT_LE(pool_->total_pages(), full.pages);
  expect_intact();
}

TEST_F(ZsmallocCache, GivesItsPagesToACompaction) {
  make("cache=64");
  add(3000, 4096);
  churn(4096, 20);
  free_if([](std::size_t n) { return n >= 1000 && n < 1008; });
  const std::size_t kept = class_of(4096).kept;
  ASSERT_GT(kept, 0u);
  EXPECT_EQ(pool_->stats().compactable_pages, kept) << "as announced";
  EXPECT_EQ(pool_->compact().value(), kept);
  EXPECT_EQ(class_of(4096).kept, 0u);
  EXPECT_EQ(pool_->stats().moved, 0u) << "nothing had to move for that";
  expect_intact();
}

}  // namespace
}  // namespace mmkit
