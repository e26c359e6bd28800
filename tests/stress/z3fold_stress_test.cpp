// SPDX-License-Identifier: MIT
//
// z3fold's compaction under threads: objects are mapped, freed and evicted while they move.
//
// Every place always holds the same bytes, under a handle that is new each time, so that a mapping
// can be judged whatever came before it. What is mapped must stay where it is: it is looked at twice.
// Loads are in operations, scaled by MMKIT_SCALE.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr unsigned kThreads = 3;
constexpr unsigned kCompactors = 2;
constexpr std::size_t kPlaces = 240;

class Z3foldStress : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20}).value();
    pool_ =
        Zpool::create("z3fold", {.evict = [this](Zpool&, Handle handle) { return evict(handle); },
                                 .pages = source_.get()})
            .value();
    for (std::size_t i = 0; i < kPlaces; ++i) places_[i].size_bytes = 200 + i * 997 % 1600;
  }

  struct Place {
    std::atomic<std::uint64_t> handle{0};
    std::size_t size_bytes = 0;
  };
  std::size_t index(const Place& place) const { return static_cast<std::size_t>(&place - places_); }

  void toggle(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle == 0) {
      const auto object = testing::make_pattern(place.size_bytes, index(place));
      const Handle stored = pool_->store(object).value();
      std::uint64_t empty = 0;
      if (!place.handle.compare_exchange_strong(empty, static_cast<std::uint64_t>(stored))) {
        drop(stored);
      }
    } else {
      const Status freed = pool_->try_free(Handle{handle});
      if (freed) emptied(place, handle);
    }
  }
  // Nobody else has this handle, but for an eviction, which refuses what it does not know.
  void drop(Handle handle) {
    require(pool_->try_free(handle).has_value(), "an own object is freed");
  }
  void emptied(Place& place, std::uint64_t handle) {
    require(place.handle.compare_exchange_strong(handle, 0), "an object is freed once");
  }
  void look(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle == 0) return;
    Result<Mapping> mapping = pool_->try_map(Handle{handle}, MapMode::read_only);
    if (!mapping) {
      require(mapping.error() == Errc::not_found, "try_map says not_found");
      return;
    }
    const auto bytes = mapping->const_bytes();
    require(bytes.size() == place.size_bytes, "an object has its size");
    require(testing::has_pattern(bytes, index(place)), "a mapping shows the whole object");
    std::this_thread::yield();
    require(testing::has_pattern(bytes, index(place)), "what is mapped does not move");
    const Result<Mapping> again = pool_->try_map(Handle{handle}, MapMode::read_only);
    require(again && again->const_bytes().data() == bytes.data(), "what is mapped does not move");
  }
  Status evict(Handle handle) {
    for (Place& place : places_) {
      if (place.handle.load() != static_cast<std::uint64_t>(handle)) continue;
      const Status freed = pool_->try_free(handle);
      if (freed) emptied(place, static_cast<std::uint64_t>(handle));
      return freed;
    }
    return fail(Errc::busy);
  }
  void require(bool holds, const char* what) {
    if (!holds && wrong_.fetch_add(1) == 0) first_wrong_ = what;
  }

  // Threads that use the places while others compact without pause.
  void run(std::uint64_t operations, unsigned toggles, unsigned shrinks) {
    std::atomic<unsigned> working{kThreads};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(testing::test_seed(t));
        for (std::uint64_t i = 0; i < operations / kThreads; ++i) {
          Place& place = places_[random() % kPlaces];
          const auto draw = static_cast<unsigned>(random() % 100);
          if (draw < toggles) {
            toggle(place);
          } else if (draw < toggles + shrinks) {
            static_cast<void>(pool_->shrink(1));
          } else {
            look(place);
          }
        }
        working.fetch_sub(1);
      });
    }
    for (unsigned t = 0; t < kCompactors; ++t) {
      threads.emplace_back([&] {
        while (working.load() != 0) {
          require(pool_->compact().has_value(), "compact() does not fail");
          require(pool_->validate().has_value(), "the pool is valid at every instant");
          std::this_thread::yield();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(pool_->validate());
    for (Place& place : places_) look(place);
    EXPECT_EQ(wrong_.load(), 0u) << "the first of " << wrong_.load() << ": " << first_wrong_.load();
    EXPECT_GT(pool_->stats().moved, operations / 200) << "the test is about moves";
  }
  void free_all() {
    for (Place& place : places_) {
      if (place.handle.load() != 0) toggle(place);
    }
    EXPECT_EQ(pool_->stats().objects, 0u);
    EXPECT_EQ(source_->stats().held_pages, 0u);
  }

  std::unique_ptr<SimPageAllocator> source_;
  Place places_[kPlaces];
  std::atomic<std::uint64_t> wrong_{0};
  std::atomic<const char*> first_wrong_{"nothing"};
  std::unique_ptr<Zpool> pool_;
};

TEST_F(Z3foldStress, ObjectsStayWholeWhileTheyMove) {
  run(testing::scaled(200'000, 20'000), /*toggles=*/40, /*shrinks=*/0);
  free_all();
}

TEST_F(Z3foldStress, ObjectsStayWholeWhileTheyMoveAndAreEvicted) {
  run(testing::scaled(100'000, 20'000), /*toggles=*/45, /*shrinks=*/6);
  free_all();
}

// Two threads, two compactions each: what one frees the other does not.
TEST_F(Z3foldStress, TwoCompactionsFreeEachPageOnce) {
  const std::uint64_t rounds = testing::scaled(300, 30);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (Place& place : places_) {
      if (place.handle.load() == 0) toggle(place);
    }
    for (std::size_t i = 0; i < kPlaces; ++i) {
      if (i * 7 % 11 > 3) toggle(places_[i]);
    }
    const std::size_t before = source_->stats().held_pages;
    std::atomic<std::size_t> freed{0};
    std::thread other([&] { freed += pool_->compact().value(); });
    freed += pool_->compact().value();
    other.join();
    EXPECT_EQ(before - source_->stats().held_pages, freed.load());
    EXPECT_EQ(pool_->stats().compactable_pages, 0u);
  }
  free_all();
}

// Ends with work noted and none done, again and again.
TEST_F(Z3foldStress, PoolsEndWithWorkNoted) {
  for (std::uint64_t i = 0; i < testing::scaled(500, 50); ++i) {
    const auto passing = Zpool::create("z3fold", {.pages = source_.get()}).value();
    std::vector<Handle> handles;
    for (int n = 0; n < 30; ++n) handles.push_back(passing->allocate(1000).value());
    std::thread other([&] {
      for (std::size_t n = 0; n < handles.size(); n += 3) passing->free(handles[n]);
    });
    for (std::size_t n = 1; n < handles.size(); n += 3) passing->free(handles[n]);
    other.join();
    for (std::size_t n = 2; n < handles.size(); n += 3) passing->free(handles[n]);
  }
  EXPECT_EQ(source_->stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
