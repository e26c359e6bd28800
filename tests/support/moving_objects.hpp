// SPDX-License-Identifier: MIT
//
// Moving objects - a pool whose objects move, under those who map them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/zpool/driver.hpp>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "support/pattern.hpp"
#include "support/race.hpp"
#include "support/seed.hpp"

namespace mmkit::testing {

/// Stores an object with the pattern of a key, and looks whether it still has that.
template <class Pool>
Handle store(Pool& pool, std::size_t size_bytes, std::uint64_t key) {
  return pool.store(make_pattern(size_bytes, key), Gfp::kernel).value();
}
template <class Pool>
bool is_whole(Pool& pool, Handle handle, std::size_t size_bytes, std::uint64_t key) {
  const Result<std::span<std::byte>> bytes = pool.map(handle, MapMode::read_only);
  if (!bytes) return false;
  const bool whole = bytes->size() == size_bytes && has_pattern(*bytes, key);
  pool.unmap(handle);
  return whole;
}

/// Compacts without a pause until its end.
template <class Pool>
class Mover {
 public:
  explicit Mover(Pool& pool) {
    thread_ = std::thread([this, &pool] {
      while (!stop_) EXPECT_TRUE(pool.compact());
    });
  }
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;
  ~Mover() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

struct MoveRace {
  std::size_t size_bytes = 0;
  std::size_t objects = 0;       ///< of each owner
  std::size_t holes = 0;         ///< objects that come and go, so that others have somewhere to go
  std::uint64_t steps = 0;       ///< of each owner
  std::uint64_t more_steps = 1;  ///< so many times the steps, while little was moved
};

/// Objects that only their owner writes to, frees and replaces, again and again, while a mover copies
/// all that it can: what a mapping shows is what its owner wrote last, and stays so for as long as the
/// mapping lasts. One thread makes holes. The pool is empty at the end.
template <class Pool>
void race_owners_with_a_mover(Pool& pool, const MoveRace& race) {
  constexpr unsigned kOwners = 5;
  struct Owned {
    Handle handle = Handle::none;
    std::uint64_t key = 0;
  };
  std::atomic<unsigned> owners{kOwners};
  const auto make_holes = [&] {
    std::mt19937_64 random(test_seed(0));
    std::vector<Handle> mine;
    while (owners.load() != 0) {
      while (mine.size() < race.holes) mine.push_back(store(pool, race.size_bytes, 0));
      std::shuffle(mine.begin(), mine.end(), random);
      for (const Handle handle : mine) ASSERT_TRUE(pool.free(handle));
      mine.clear();
      std::this_thread::yield();
    }
  };
  const auto use_objects = [&](unsigned t) {
    std::mt19937_64 random(test_seed(t));
    std::vector<Owned> mine(race.objects);
    std::uint64_t keys = std::uint64_t{t} << 48;
    // Where there is little of a CPU to be had, until the mover has had its share.
    const auto goes_on = [&](std::uint64_t i) {
      return i < race.steps || (i < race.more_steps * race.steps &&
                                (i % 64 != 0 || pool.stats().moved < race.steps / 4));
    };
    for (std::uint64_t i = 0; goes_on(i); ++i) {
      Owned& owned = mine[random() % mine.size()];
      if (owned.handle == Handle::none) {
        owned.key = ++keys;
        owned.handle = store(pool, race.size_bytes, owned.key);
        continue;
      }
      const auto bytes = pool.map(owned.handle, MapMode::read_write);
      ASSERT_TRUE(bytes);
      ASSERT_TRUE(has_pattern(*bytes, owned.key)) << "before a write";
      owned.key = ++keys;
      write_pattern(*bytes, owned.key);
      if (i % 16 == 0) std::this_thread::yield();
      ASSERT_TRUE(has_pattern(*bytes, owned.key)) << "while it is mapped";
      pool.unmap(owned.handle);
      if (random() % 8 == 0) {
        ASSERT_TRUE(pool.free(owned.handle));
        owned.handle = Handle::none;
      }
    }
    for (const Owned& owned : mine) {
      if (owned.handle == Handle::none) continue;
      EXPECT_TRUE(is_whole(pool, owned.handle, race.size_bytes, owned.key));
      EXPECT_TRUE(pool.free(owned.handle));
    }
  };
  {
    const Mover mover(pool);
    run_threads(kOwners + 1, [&](unsigned t) {
      if (t == 0) return make_holes();
      use_objects(t);
      owners.fetch_sub(1);
    });
  }
  EXPECT_NE(pool.stats().moved, 0u);
  EXPECT_TRUE(pool.validate());
  EXPECT_EQ(pool.stats().objects, 0u);
}

}  // namespace mmkit::testing
