// SPDX-License-Identifier: MIT
//
// zsmalloc, one race a test: moves against whatever touches a moving object, evictions against their
// neighbours, what CPUs keep against those who take it away.
//
// Tests that need to see classes or to go without a front end use ZsmallocPool itself. Loads are in
// rounds or operations, scaled by MMKIT_SCALE. It is long since each race needs its own stage.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/captured_failure.hpp"
#include "support/child_process.hpp"
#include "support/moving_objects.hpp"
#include "support/object_field.hpp"
#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"
#include "support/race.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::is_whole;
using testing::Mover;
using testing::run_threads;
using testing::scaled;
using testing::SpinBarrier;
using testing::store;

constexpr std::uint16_t kTag = 7;

std::unique_ptr<SimPageAllocator> make_source() {
  return SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value();
}
std::unique_ptr<ZsmallocPool> make_pool(PageSource& source, std::string_view params,
                                        std::function<Status(Handle)> evict = {}) {
  return ZsmallocPool::create({.name = "race",
                               .params = params,
                               .pages = &source,
                               .pool_tag = kTag,
                               .evict = std::move(evict)})
      .value();
}

// ---------------------------------------------------------------- moves

TEST(ZsmallocMoves, AMappingShowsWhatWasWrittenLastWhereverItsObjectWent) {
  for (const std::size_t size_bytes : {48U, 700U, 1300U}) {
    const auto source = make_source();
    const auto pool = make_pool(*source, "cache=8");
    testing::race_owners_with_a_mover(*pool, {.size_bytes = size_bytes,
                                              .objects = 80,
                                              .holes = 200,
                                              .steps = scaled(6000, 3000),
                                              .more_steps = 20});
    EXPECT_EQ(source->stats().held_pages, 0u);
  }
}

// What is mapped for long stays while its neighbours move, and what is beside it is moved.
TEST(ZsmallocMoves, WhatIsMappedStaysWhileItsNeighboursMove) {
  constexpr std::size_t kBytes = 32, kCells = kPageSize / kBytes, kObjects = 10 * kCells;
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=0");
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < kObjects; ++i) handles.push_back(store(*pool, kBytes, i));
  // A zspage of this class is a page. Of each the first cells are mapped, more of them than a mover
  // takes at once; most others go.
  const auto is_mapped = [](std::size_t i) { return i % kCells < 40; };
  const auto is_freed = [&](std::size_t i) { return !is_mapped(i) && i % kCells < kCells - 8; };
  std::vector<std::span<std::byte>> mapped(kObjects);
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (is_mapped(i)) {
      mapped[i] = *pool->map(handles[i], MapMode::read_write);
    } else if (is_freed(i)) {
      ASSERT_TRUE(pool->free(handles[i]));
    }
  }
  ASSERT_TRUE(pool->compact());
  EXPECT_NE(pool->stats().moved, 0u);
  run_threads(3, [&](unsigned t) {
    for (std::size_t round = 0; round < 50; ++round) {
      if (t == 0) {
        EXPECT_TRUE(pool->compact());
      }
      for (std::size_t i = t; i < kObjects; i += 3) {
        if (is_mapped(i)) {
          EXPECT_TRUE(has_pattern(mapped[i], i)) << i;
        }
      }
    }
  });
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (is_mapped(i)) pool->unmap(handles[i]);
    if (!is_freed(i)) {
      EXPECT_TRUE(is_whole(*pool, handles[i], kBytes, i));
      EXPECT_TRUE(pool->free(handles[i]));
    }
  }
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// Of two threads that free the same handles one has each, though all of them move meanwhile.
TEST(ZsmallocMoves, OfTwoFreesOfAMovingObjectOneSucceeds) {
  constexpr std::size_t kBytes = 500, kObjects = 96;
  const std::uint64_t rounds = scaled(400, 40);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=4");
  std::array<Handle, kObjects> handles{};
  std::array<std::atomic<unsigned>, kObjects> gone{};
  SpinBarrier meet(2);
  const Mover mover(*pool);
  run_threads(2, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) {
        for (std::size_t i = 0; i < kObjects; ++i) handles[i] = store(*pool, kBytes, i);
        // Holes in every zspage.
        for (std::size_t i = 0; i < kObjects; ++i) {
          gone[i] = i % 3 == 0 ? 1 : 0;
          if (i % 3 == 0) {
            EXPECT_TRUE(pool->free(handles[i]));
          }
        }
      }
      meet.arrive_and_wait();
      for (std::size_t i = 0; i < kObjects; ++i) {
        const Status freed = pool->free(handles[i]);
        if (freed) gone[i].fetch_add(1);
        EXPECT_TRUE(freed || freed.error() == Errc::invalid_argument);
      }
      meet.arrive_and_wait();
      if (t == 0) {
        for (const auto& count : gone) EXPECT_EQ(count.load(), 1u);
      }
    }
  });
  EXPECT_EQ(pool->stats().objects, 0u);
}

// The zspage that a mover fills ends while it does: each object is freed as soon as it has moved. The
// class's lock is busy all the time, so that the mover has to wait for it.
TEST(ZsmallocMoves, ATargetMayGoWhileAMoverFillsIt) {
  constexpr std::size_t kBytes = 2048, kPairs = 4;
  const std::uint64_t rounds = scaled(1500, 300);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=0 chain_pages=4");
  std::array<Handle, 2 * kPairs> handles{};
  SpinBarrier meet(3);
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop)
      pool->for_each_class(
          [](const ZsmallocClassStats& row) { EXPECT_LE(row.objects, row.cells); });
  });
  run_threads(3, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) {
        std::array<Handle, 2 * kPairs> all{};
        for (std::size_t i = 0; i < all.size(); ++i) {
          handles[i] = store(*pool, kBytes, i);
          all[i] = store(*pool, kBytes, i);
        }
        // Half of each zspage goes.
        for (const Handle handle : all) EXPECT_TRUE(pool->free(handle));
      }
      meet.arrive_and_wait();
      if (t == 0) {
        EXPECT_TRUE(pool->compact());
      } else {
        for (std::size_t i = t - 1; i < handles.size(); i += 2) {
          EXPECT_TRUE(pool->free(handles[r % 2 == 0 ? i : handles.size() - 1 - i]));
        }
      }
      meet.arrive_and_wait();
      if (t == 0) {
        EXPECT_EQ(pool->total_pages(), 0u);
      }
    }
  });
  stop = true;
  reader.join();
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// Two compactions at once: what both report is what was freed, and every object is whole.
TEST(ZsmallocMoves, TwoCompactionsReportTogetherWhatTheyFree) {
  constexpr std::size_t kObjects = 600;
  const std::uint64_t rounds = scaled(150, 15);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=16");
  std::vector<Handle> handles(kObjects, Handle::none);
  const auto size_of = [](std::size_t i) { return 60 + i % 7 * 200; };
  std::atomic<std::size_t> reported{0};
  std::size_t before = 0;
  SpinBarrier meet(3);
  run_threads(3, [&](unsigned t) {
    std::mt19937_64 random(testing::test_seed(0));
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) {
        for (std::size_t i = 0; i < kObjects; ++i) {
          if (handles[i] == Handle::none) handles[i] = store(*pool, size_of(i), i);
        }
        for (std::size_t i = 0; i < kObjects; ++i) {
          if (random() % 3 == 0) continue;
          EXPECT_TRUE(pool->free(handles[i]));
          handles[i] = Handle::none;
        }
        before = pool->total_pages();
        reported = 0;
      }
      meet.arrive_and_wait();
      reported.fetch_add(pool->compact().value());
      meet.arrive_and_wait();
      if (t != 0) continue;
      EXPECT_EQ(before - pool->total_pages(), reported.load());
      EXPECT_EQ(pool->total_pages(), source->stats().held_pages);
      EXPECT_TRUE(pool->validate());
      for (std::size_t i = 0; i < kObjects; ++i) {
        if (handles[i] != Handle::none) {
          EXPECT_TRUE(is_whole(*pool, handles[i], size_of(i), i));
        }
      }
    }
  });
  for (const Handle handle : handles) {
    if (handle != Handle::none) {
      EXPECT_TRUE(pool->free(handle));
    }
  }
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// More mappings of an object than its slot can count, while a mover waits for the last to end.
TEST(ZsmallocMoves, CountsEveryMappingOfObjectsThatMoveInBetween) {
  constexpr std::size_t kBytes = 900, kObjects = 12;
  const std::uint64_t rounds = scaled(6000, 300);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=0");
  std::vector<Handle> handles, others;
  for (std::size_t i = 0; i < kObjects; ++i) {
    handles.push_back(store(*pool, kBytes, i));
    for (unsigned n = 0; n < 3; ++n) others.push_back(store(*pool, kBytes, 0));
  }
  for (const Handle handle : others) EXPECT_TRUE(pool->free(handle));
  {
    const Mover mover(*pool);
    run_threads(5, [&](unsigned t) {
      std::mt19937_64 random(testing::test_seed(t));
      for (std::uint64_t r = 0; r < rounds; ++r) {
        if (t == 0) {  // makes holes
          const Handle hole = store(*pool, kBytes, r), more = store(*pool, kBytes, r);
          EXPECT_TRUE(pool->free(hole));
          EXPECT_TRUE(pool->free(more));
          continue;
        }
        const std::size_t i = random() % kObjects;
        const unsigned count = r % 16 == 0 ? 80 : 1 + static_cast<unsigned>(random() % 3);
        for (unsigned n = 0; n < count; ++n) {
          const auto bytes = pool->map(handles[i], MapMode::read_only);
          ASSERT_TRUE(bytes);
          if (n == 0) {
            ASSERT_TRUE(has_pattern(*bytes, i));
          }
        }
        EXPECT_EQ(pool->free(handles[i]).error(), Errc::busy);
        for (unsigned n = 0; n < count; ++n) pool->unmap(handles[i]);
      }
    });
  }
  // No count was lost, or it would be busy; none too many, or it would be gone.
  for (const Handle handle : handles) EXPECT_TRUE(pool->free(handle));
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// ---------------------------------------------------------------- evictions

// While an object is asked for, others free it or a sibling, map a sibling for good, allocate of the
// class, compact and shrink. None that is freed is asked for, none gets room in the zspage, and the
// zspage goes if and only if nothing was left in it.
TEST(ZsmallocEvictions, WhateverHappensToSiblingsMeanwhile) {
  constexpr std::size_t kBytes = 480, kObjects = 6;  // of the eight that a page holds
  const std::uint64_t rounds = scaled(300, 40);
  const auto source = make_source();
  std::vector<Handle> handles;
  std::vector<unsigned> asked;
  enum class Stage { idle, asking, answered };
  std::atomic<Stage> stage{Stage::idle};
  const auto pool = make_pool(*source, "cache=0", [&](Handle handle) -> Status {
    const auto at = std::find(handles.begin(), handles.end(), handle);
    if (at == handles.end()) return fail(Errc::busy);  // made by the others
    ++asked[static_cast<std::size_t>(at - handles.begin())];
    if (stage.load() == Stage::idle) {
      stage = Stage::asking;
      while (stage.load() != Stage::answered) std::this_thread::yield();
    }
    return Status{};  // it was freed by another thread, or this is a lie
  });
  for (std::uint64_t r = 0; r < rounds; ++r) {
    handles.clear();
    for (std::size_t i = 0; i < kObjects; ++i) handles.push_back(store(*pool, kBytes, r + i));
    asked.assign(kObjects, 0);
    stage = Stage::idle;
    const bool one_stays = r % 2 == 0;
    ShrinkOutcome outcome;
    std::thread shrinker([&] { outcome = pool->shrink(1); });
    while (stage.load() != Stage::asking) std::this_thread::yield();
    // One zspage, all of it isolated by now. Which of its objects is asked for first is its affair.
    std::vector<Handle> others(3);
    run_threads(6, [&](unsigned t) {
      if (t < 3) {
        for (std::size_t i = t; i < kObjects - 1; i += 3) EXPECT_TRUE(pool->free(handles[i]));
        if (t == 0 && !one_stays) {
          EXPECT_TRUE(pool->free(handles[kObjects - 1]));
        }
      } else if (t == 3) {
        for (Handle& handle : others) handle = store(*pool, kBytes, r);
      } else if (t == 4) {
        EXPECT_TRUE(pool->compact());
        EXPECT_TRUE(pool->validate());
      } else if (one_stays) {
        EXPECT_TRUE(pool->map(handles[kObjects - 1], MapMode::read_only));
      }
    });
    stage = Stage::answered;
    shrinker.join();
    const std::size_t sum = std::accumulate(asked.begin(), asked.end(), std::size_t{0});
    EXPECT_LE(sum, one_stays ? 2u : 1u) << "what is dead is not asked for";
    EXPECT_TRUE(pool->validate());
    if (one_stays) {
      pool->unmap(handles[kObjects - 1]);
      EXPECT_TRUE(is_whole(*pool, handles[kObjects - 1], kBytes, r + kObjects - 1));
      EXPECT_TRUE(pool->free(handles[kObjects - 1]));
    } else {
      EXPECT_TRUE(outcome.status);
      EXPECT_NE(outcome.reclaimed_pages, 0u);
    }
    for (const Handle handle : others) {
      EXPECT_TRUE(is_whole(*pool, handle, kBytes, r));
      EXPECT_TRUE(pool->free(handle));
    }
    ASSERT_EQ(source->stats().held_pages, 0u);
  }
}

// Every zspage is being evicted already: a shrink more waits for nobody and says so.
TEST(ZsmallocEvictions, AShrinkThatFindsEveryZspageClaimedSaysTryAgain) {
  const auto source = make_source();
  std::atomic<unsigned> inside{0};
  std::atomic<bool> answer{false};
  std::unique_ptr<ZsmallocPool> pool;
  pool = make_pool(*source, "", [&](Handle handle) {
    inside.fetch_add(1);
    while (!answer) std::this_thread::yield();
    return pool->free(handle);
  });
  constexpr unsigned kZspages = 3;
  for (unsigned i = 0; i < kZspages; ++i) store(*pool, kPageSize - i, i);
  run_threads(kZspages + 1, [&](unsigned t) {
    if (t < kZspages) {
      EXPECT_TRUE(pool->shrink(1).status);
      return;
    }
    while (inside.load() != kZspages) std::this_thread::yield();
    const ShrinkOutcome outcome = pool->shrink(1);
    EXPECT_EQ(outcome.reclaimed_pages, 0u);
    EXPECT_EQ(outcome.status.error(), Errc::try_again);
    EXPECT_TRUE(pool->validate());
    EXPECT_EQ(pool->compact().value(), 0u);
    answer = true;
  });
  EXPECT_EQ(pool->stats().evicted, kZspages);
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// Zspages end, and their numbers are given to others of other classes, between the moment when one
// is chosen for eviction and the one when it is looked at.
TEST(ZsmallocEvictions, AZspageMayGoOnceItIsChosen) {
  constexpr unsigned kShrinkers = 3, kOwners = 5;
  const std::uint64_t steps = scaled(30'000, 2500);
  const auto source = make_source();
  std::atomic<unsigned> owners{kOwners};
  std::unique_ptr<ZsmallocPool> pool;
  testing::Verdict verdict;
  pool = make_pool(*source, "cache=0", [&](Handle) -> Status {
    return fail(Errc::busy);  // so that all is freed by its owner
  });
  run_threads(kShrinkers + kOwners, [&](unsigned t) {
    if (t < kShrinkers) {
      while (owners.load() != 0) static_cast<void>(pool->shrink(1));
      return;
    }
    std::mt19937_64 random(testing::test_seed(t));
    for (std::uint64_t i = 0; i < steps; ++i) {
      // Alone in its zspage, mostly.
      const std::size_t size_bytes = 64 + random() % (kPageSize - 64);
      const Handle handle = store(*pool, size_bytes, i);
      verdict.require(is_whole(*pool, handle, size_bytes, i), "an object is whole");
      verdict.require(pool->free(handle).has_value(), "an object can be freed");
    }
    owners.fetch_sub(1);
  });
  verdict.expect_good();
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// A fork while zspages are isolated by threads that the child does not have: in the child they are
// like any other, and go with their last object.
TEST(ZsmallocEvictions, AForkInTheMiddleOfAnEvictionEndsItInTheChild) {
  constexpr unsigned kShrinkers = 4;
  constexpr std::size_t kObjects = 24;
  const std::uint64_t forks = scaled(150, 25);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=8", [](Handle) { return fail(Errc::busy); });
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < kObjects; ++i) handles.push_back(store(*pool, 300 + i * 150, i));
  std::atomic<bool> stop{false};
  int code = 0;
  {
    testing::Crew crew;
    const testing::StopAtEnd stop_at_end(stop);
    for (unsigned t = 0; t < kShrinkers; ++t) {
      crew.add([&] {
        while (!stop) static_cast<void>(pool->shrink(1));
      });
    }
    crew.start();
    for (std::uint64_t i = 0; i < forks && code == 0; ++i) {
      code = testing::run_in_child([&] {
        if (!pool->validate()) return 1;
        for (std::size_t n = 0; n < kObjects; ++n) {
          if (!is_whole(*pool, handles[n], 300 + n * 150, n)) return 2;
          if (!pool->free(handles[n])) return 3;
        }
        if (!pool->validate()) return 4;
        return pool->total_pages() == 0 && source->stats().held_pages == 0 ? 0 : 5;
      });
      EXPECT_EQ(code, 0) << "fork " << i;
    }
  }
  for (const Handle handle : handles) EXPECT_TRUE(pool->free(handle));
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// ---------------------------------------------------------------- what CPUs keep

// Classes that swell and shrink on threads that change their CPU: room is granted and withdrawn all
// the time, under pushes and pops of others. An object that two threads get shows as a pattern that
// is not its own, one that is lost as a page that stays.
TEST(ZsmallocStacks, GrantsAndWithdrawalsLoseNothing) {
  constexpr unsigned kThreads = 8;
  const std::uint64_t rounds = scaled(60, 6);
  for (const std::size_t size_bytes : {32U, 1000U}) {
    const auto source = make_source();
    const auto pool = make_pool(*source, "cache=64");
    std::atomic<unsigned> busy{kThreads - 1};
    run_threads(kThreads, [&](unsigned t) {
      testing::Wanderer wanderer(testing::test_seed(t));
      if (t == 0) {  // takes away at its own pace
        while (busy.load() != 0) {
          EXPECT_TRUE(pool->compact());
          EXPECT_TRUE(pool->validate());
          std::this_thread::yield();
        }
        return;
      }
      std::mt19937_64 random(testing::test_seed(t));
      std::vector<std::pair<Handle, std::uint64_t>> mine;
      std::uint64_t key = std::uint64_t{t} << 48;
      for (std::uint64_t r = 0; r < rounds; ++r) {
        const std::size_t most = 100 + random() % 400;
        while (mine.size() < most) {
          if (mine.size() % 64 == 0) wanderer.move();
          mine.emplace_back(store(*pool, size_bytes, ++key), key);
        }
        const std::size_t least = random() % 3 == 0 ? 0 : random() % 50;
        while (mine.size() > least) {
          if (mine.size() % 64 == 0) wanderer.move();
          const auto [handle, written] = mine.back();
          mine.pop_back();
          ASSERT_TRUE(is_whole(*pool, handle, size_bytes, written)) << "an object has two owners";
          ASSERT_TRUE(pool->free(handle));
        }
      }
      for (const auto& [handle, written] : mine) ASSERT_TRUE(pool->free(handle));
      busy.fetch_sub(1);
    });
    EXPECT_TRUE(pool->validate());
    EXPECT_EQ(pool->stats().objects, 0u);
    EXPECT_EQ(source->stats().held_pages, 0u) << "an empty pool has no page";
  }
}

// What a CPU keeps comes back though nobody works there any more.
TEST(ZsmallocStacks, WhatIsKeptWhereNobodyRunsAnyMoreComesBack) {
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=64");
  std::vector<Handle> handles;
  testing::run_on(cpus.back(), [&] {
    for (std::size_t i = 0; i < 6000; ++i) handles.push_back(store(*pool, 32, i));
    for (unsigned n = 0; n < 600; ++n) {  // free and allocate, so that this CPU gets its room
      EXPECT_TRUE(pool->free(handles[n]));
      if (n % 2 == 0)
        handles[n] = store(*pool, 32, n);
      else
        handles[n] = Handle::none;
    }
  });
  testing::run_on(cpus.front(), [&] {
    for (const Handle handle : handles) {
      if (handle != Handle::none) {
        EXPECT_TRUE(pool->free(handle));
      }
    }
  });
  EXPECT_EQ(pool->total_pages(), 0u);
  EXPECT_TRUE(pool->validate());
}

// One thread stores, another frees: slots and cells cross from CPU to CPU, and none is lost on the way.
TEST(ZsmallocStacks, WhatIsFreedElsewhereReturns) {
  constexpr std::size_t kRing = 256, kPairs = 3;
  const std::uint64_t handovers = scaled(40'000, 3000);
  const auto source = make_source();
  const auto pool = make_pool(*source, "cache=32");
  struct Ring {
    std::array<std::atomic<std::uint64_t>, kRing> handles{};
  };
  std::vector<Ring> rings(kPairs);
  run_threads(2 * kPairs, [&](unsigned t) {
    Ring& ring = rings[t / 2];
    testing::Wanderer wanderer(testing::test_seed(t));
    for (std::uint64_t i = 0; i < handovers; ++i) {
      if (i % 1024 == 0) wanderer.move();
      std::atomic<std::uint64_t>& cell = ring.handles[i % kRing];
      const std::size_t size_bytes = 24 + i % 40;
      if (t % 2 == 0) {
        while (cell.load(std::memory_order_relaxed) != 0) std::this_thread::yield();
        cell.store(handle_bits::raw(store(*pool, size_bytes, i)), std::memory_order_release);
      } else {
        while (cell.load(std::memory_order_acquire) == 0) std::this_thread::yield();
        const Handle handle{cell.load(std::memory_order_relaxed)};
        cell.store(0, std::memory_order_relaxed);
        ASSERT_TRUE(is_whole(*pool, handle, size_bytes, i));
        ASSERT_TRUE(pool->free(handle));
      }
    }
  });
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(source->stats().held_pages, 0u);
  EXPECT_LT(pool->stats().metadata_bytes, std::size_t{2} << 20) << "slots are used again";
}

// ---------------------------------------------------------------- life and looks

// A pool is destroyed as soon as its threads are through, with objects kept, zspages isolated a moment
// ago, and some objects left.
TEST(ZsmallocLife, APoolEndsRightAfterItsLastUse) {
  constexpr unsigned kThreads = 4;
  const std::uint64_t pools = scaled(300, 30);
  const auto source = make_source();
  const testing::CapturedLeaks leaks;
  std::size_t left_in_pools = 0;
  for (std::uint64_t p = 0; p < pools; ++p) {
    std::unique_ptr<ZsmallocPool> pool;
    pool = make_pool(*source, p % 2 == 0 ? "cache=64" : "",
                     [&](Handle handle) { return pool->free(handle); });
    const bool leaves = p % 4 == 0;
    run_threads(kThreads, [&](unsigned t) {
      testing::Wanderer wanderer(testing::test_seed(p * kThreads + t));
      std::vector<Handle> mine;
      for (unsigned i = 0; i < 150; ++i) {
        if (i % 32 == 0) wanderer.move();
        mine.push_back(store(*pool, 32 + i % 5 * 600, i));
        if (i % 16 == t) static_cast<void>(pool->shrink(1));
        if (i % 16 == 8 + t) {
          EXPECT_TRUE(pool->compact());
        }
        if (i % 3 == 0) continue;
        static_cast<void>(pool->free(mine.back()));  // unless it was evicted
      }
      if (leaves) return;
      for (const Handle handle : mine) static_cast<void>(pool->free(handle));
    });
    const std::size_t left = pool->stats().objects;
    left_in_pools += left != 0 ? 1 : 0;
    EXPECT_TRUE(leaves || left == 0);
    pool.reset();
    ASSERT_EQ(source->stats().held_pages, 0u);
  }
  EXPECT_EQ(leaks.reports().size(), left_in_pools);
}

// Pools that CPUs begin to use at this very moment are valid, too, and count right.
TEST(ZsmallocLife, AYoungPoolIsValidAtEveryInstant) {
  constexpr unsigned kThreads = 6;
  const std::uint64_t pools = scaled(250, 25);
  const auto source = make_source();
  for (std::uint64_t p = 0; p < pools; ++p) {
    const auto pool = make_pool(*source, "cache=64");
    std::atomic<unsigned> busy{kThreads - 1};
    run_threads(kThreads, [&](unsigned t) {
      testing::Wanderer wanderer(testing::test_seed(p * kThreads + t));
      if (t == 0) {
        do {
          EXPECT_TRUE(pool->validate());
          const ZpoolStats stats = pool->stats();
          EXPECT_LE(stats.frees, stats.allocations);
          EXPECT_LE(stats.payload_bytes, stats.pages * kPageSize);
          std::this_thread::yield();
        } while (busy.load() != 0);
        return;
      }
      std::vector<Handle> mine;
      for (unsigned i = 0; i < 120; ++i) {
        if (i % 40 == 0) wanderer.move();
        mine.push_back(store(*pool, 64, i));
        if (i % 4 == 3) {
          for (const Handle handle : mine) EXPECT_TRUE(pool->free(handle));
          mine.clear();
        }
      }
      for (const Handle handle : mine) EXPECT_TRUE(pool->free(handle));
      busy.fetch_sub(1);
    });
    EXPECT_EQ(source->stats().held_pages, 0u);
  }
}

// Rows of classes while zspages of all classes come and go, their numbers with them.
TEST(ZsmallocLife, ClassesAreCountedWhileZspagesComeAndGo) {
  constexpr unsigned kThreads = 6, kLookers = 2;
  const std::uint64_t steps = scaled(20'000, 1500);
  const auto source = make_source();
  const auto pool = make_pool(*source, "");
  std::atomic<unsigned> busy{kThreads - kLookers};
  testing::Verdict verdict;
  run_threads(kThreads, [&](unsigned t) {
    if (t < kLookers) {
      while (busy.load() != 0) {
        pool->for_each_class([&](const ZsmallocClassStats& row) {
          const std::size_t zspages =
              std::accumulate(std::begin(row.zspages), std::end(row.zspages), std::size_t{0});
          verdict.require(row.objects <= row.cells, "objects fit into their cells");
          verdict.require(zspages != 0 && zspages <= row.pages, "a zspage has a page at least");
          verdict.require(row.pages <= zspages * row.shape.pages, "and no more than its class's");
        });
      }
      return;
    }
    std::mt19937_64 random(testing::test_seed(t));
    std::vector<Handle> mine;
    for (std::uint64_t i = 0; i < steps; ++i) {
      mine.push_back(store(*pool, 1 + random() % kPageSize, i));
      if (mine.size() < 1 + random() % 8) continue;
      for (const Handle handle : mine) EXPECT_TRUE(pool->free(handle));
      mine.clear();
    }
    for (const Handle handle : mine) EXPECT_TRUE(pool->free(handle));
    busy.fetch_sub(1);
  });
  verdict.expect_good();
  EXPECT_EQ(source->stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
