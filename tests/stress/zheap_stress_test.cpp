// SPDX-License-Identifier: MIT
//
// zheap under threads: everything at once in every shape that its pools have; the floor while two
// threads free each other's objects; moves against mappings; what waits on CPUs against who takes it.
//
// Eight threads, on however many CPUs there are, work on a field of objects (object_field.hpp) with
// every operation of the pool, checks and statistics among them. Loads are in operations or rounds,
// scaled by MMKIT_SCALE. One file, since all of it needs the same few pools.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <mutex>
#include <random>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/field_work.hpp"
#include "support/moving_objects.hpp"
#include "support/object_field.hpp"
#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"
#include "support/race.hpp"
#include "support/sanitized.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::FieldOptions;
using testing::has_pattern;
using testing::ObjectField;
using testing::run_threads;
using testing::scaled;
using testing::store;
using testing::work_together;

constexpr unsigned kThreads = 8;
constexpr std::uint64_t kOperations = 1'000'000;

// ---------------------------------------------------------------- everything at once

struct Shape {
  const char* name;
  FieldOptions field;
};
const Shape kShapes[] = {
    {"Small", {.params = "", .places = 512, .most_bytes = 200}},
    {"SmallHighestFloorWandering",
     {.params = "floor=0.98", .places = 2000, .most_bytes = 64, .wander = true}},
    {"PageSized", {.params = "", .least_bytes = 3000}},
    {"AllSizesWandering", {.params = "floor=0.98", .places = 1500, .wander = true}},
    {"LargeWithoutFloor", {.params = "max_object=32768 floor=0", .most_bytes = 32768}},
    {"AtTheLimit",
     {.params = "", .least_bytes = 100, .most_bytes = 700, .limit_pages = 20, .wander = true}},
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.name;
}

class ZheapStress : public ::testing::TestWithParam<Shape> {};

TEST_P(ZheapStress, KeepsEveryObjectWholeWhateverThreadsDo) {
  ObjectField field("zheap", GetParam().field);
  work_together(field, kThreads, scaled(kOperations / std::size(kShapes), 8000),
                {.shrink = 1, .compact = 1});
}

// Nearly all that happens is that objects move: what else there is meets a mover.
TEST_P(ZheapStress, KeepsEveryObjectWholeWhileObjectsMove) {
  ObjectField field("zheap", GetParam().field);
  work_together(field, kThreads, scaled(kOperations / 20, 4000),
                {.fill = 20, .free = 22, .shrink = 1, .compact = 20});
}

TEST_P(ZheapStress, KeepsEveryObjectWholeWhileAllShrink) {
  ObjectField field("zheap", GetParam().field);
  work_together(field, kThreads, scaled(kOperations / 20, 4000),
                {.fill = 40, .free = 5, .shrink = 12, .compact = 1});
}

// A child of a fork finds no operation half done.
TEST_P(ZheapStress, AForkFindsThePoolWholeAndCanUseAndEndIt) {
  if (!testing::kHeapSurvivesForks) GTEST_SKIP() << "the child's checks allocate";
  ObjectField field("zheap", GetParam().field);
  testing::fork_beside_work(field, kThreads - 1, scaled(25, 5));
}

INSTANTIATE_TEST_SUITE_P(Shape, ZheapStress, ::testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

// ---------------------------------------------------------------- races of its own

std::unique_ptr<SimPageAllocator> make_source() {
  return SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20}).value();
}
std::unique_ptr<ZheapPool> make_pool(PageSource& source, std::string_view params,
                                     std::function<Status(Handle)> evict = {}) {
  return ZheapPool::create({.name = "race",
                            .params = params,
                            .pages = &source,
                            .pool_tag = 7,
                            .evict = std::move(evict)})
      .value();
}
// ---------------------------------------------------------------- moves

TEST(ZheapMoves, AMappingShowsWhatWasWrittenLastWhereverItsObjectWent) {
  for (const std::size_t size_bytes : {200U, 1300U}) {
    const auto source = make_source();
    const auto pool = make_pool(*source, "floor=0.98");
    testing::race_owners_with_a_mover(*pool, {.size_bytes = size_bytes,
                                              .objects = 300,
                                              .holes = 800,
                                              .steps = scaled(6000, 3000),
                                              .more_steps = 5});
    EXPECT_EQ(source->stats().held_pages, 0u);
  }
}

// What is mapped for long stays while its neighbours move, and what is beside it is moved.
TEST(ZheapMoves, WhatIsMappedStaysWhileItsNeighboursMove) {
  constexpr std::size_t kBytes = 500, kObjects = 3000;
  const auto source = make_source();
  const auto pool = make_pool(*source, "floor=0");
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < kObjects; ++i) handles.push_back(store(*pool, kBytes, i));
  // In some blocks several are mapped; in all of them most others go.
  const auto is_mapped = [](std::size_t i) { return i % 50 == 0 && i < kObjects / 2; };
  const auto is_freed = [&](std::size_t i) { return !is_mapped(i) && i % 8 != 0; };
  std::vector<std::span<std::byte>> mapped(kObjects);
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (is_mapped(i)) {
      mapped[i] = *pool->map(handles[i], MapMode::read_write);
    } else if (is_freed(i)) {
      ASSERT_TRUE(pool->free(handles[i]));
    }
  }
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
  EXPECT_NE(pool->stats().moved, 0u);
  EXPECT_NE(pool->density().passed, 0u);
  EXPECT_TRUE(pool->validate());
  for (std::size_t i = 0; i < kObjects; ++i) {
    if (is_freed(i)) continue;
    const auto bytes = pool->map(handles[i], MapMode::read_only).value();
    EXPECT_TRUE(has_pattern(bytes, i)) << i;
    if (is_mapped(i)) {
      EXPECT_EQ(bytes.data(), mapped[i].data()) << i;
      pool->unmap(handles[i]);
    }
    pool->unmap(handles[i]);
    EXPECT_TRUE(pool->free(handles[i]));
  }
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// ---------------------------------------------------------------- the floor

// Two threads, each on its CPU where there are two, that fill and free each other's objects: each puts
// what it makes where the other takes what it frees. Samples are taken meanwhile, of all shards together.
// What is asserted: in the mean of the samples as much is in use as the floor says, less one block a shard.
// In none it is less by more than four: what a thread owes that is not running is paid later, and a sample
// is not of one instant. When both are done it is two at most.
TEST(ZheapFloor, IsKeptWhileTwoThreadsFreeEachOthersObjects) {
  constexpr std::size_t kLive = 4000;  // of each
  const auto source = make_source();
  const auto pool = make_pool(*source, "");
  struct Field {
    std::mutex mutex;
    std::vector<Handle> handles;
  };
  std::array<Field, 2> made;
  const auto exchange = [&](unsigned t, std::mt19937_64& random, bool grows) {
    Field& mine = made[t];
    Field& others = made[1 - t];
    const Handle fresh =
        pool->allocate(1 + random() % (random() % 3 == 0 ? 3000 : 900), Gfp::kernel).value();
    {
      const std::lock_guard lock(mine.mutex);
      mine.handles.push_back(fresh);
    }
    if (grows) return;
    // Its own where the other has fallen behind so far that it has none: as many live throughout.
    Handle gone = Handle::none;
    for (Field* const from : {&others, &mine}) {
      const std::lock_guard lock(from->mutex);
      if (from->handles.empty()) continue;
      std::swap(from->handles[random() % from->handles.size()], from->handles.back());
      gone = from->handles.back();
      from->handles.pop_back();
      break;
    }
    if (gone == Handle::none) return;  // the other was quicker, twice
    ASSERT_TRUE(pool->free(gone));
  };
  const auto blocks_short = [&] {
    const ZheapDensity density = pool->density();
    const auto granules = static_cast<double>(HeapBlock::granules_in(HeapBlock::kMostPages));
    const double held = static_cast<double>(density.blocks) * granules;
    return (density.floor - density.density) * held / granules;
  };
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  const auto work = [&](unsigned t, std::uint64_t operations) {
    testing::bind_thread(::pthread_self(), {cpus[t % cpus.size()]});
    std::mt19937_64 random(testing::test_seed(t));
    for (std::uint64_t i = 0; i < operations; ++i) exchange(t, random, i < kLive);
  };
  std::atomic<unsigned> busy{2};
  double worst = 0, sum = 0;
  std::uint64_t samples = 0;
  run_threads(3, [&](unsigned t) {
    if (t < 2) {
      work(t, scaled(300'000, 20'000));
      busy.fetch_sub(1);
      return;
    }
    while (busy.load() != 0) {
      const auto shards = static_cast<double>(pool->density().shards);
      const double now = blocks_short() / shards;
      worst = std::max(worst, now);
      sum += now;
      ++samples;
      std::this_thread::yield();
    }
  });
  EXPECT_LE(worst, 4.0) << "blocks a shard short of the floor";
  EXPECT_LE(sum, static_cast<double>(samples)) << "and in the mean";
  EXPECT_NE(pool->stats().moved, 0u);
  std::mt19937_64 random(testing::test_seed(9));
  for (unsigned i = 0; i < 4000; ++i) exchange(i % 2, random, false);
  EXPECT_LE(blocks_short(), 2.0 * static_cast<double>(pool->density().shards));
  EXPECT_TRUE(pool->validate());
  for (Field& field : made) {
    for (const Handle handle : field.handles) EXPECT_TRUE(pool->free(handle));
  }
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// ---------------------------------------------------------------- valid at every instant

// Blocks of a shard, and pages of one object, of which no shard knows, come and go while somebody looks.
TEST(ZheapValid, AtEveryInstantWhileWholePagesComeAndGo) {
  constexpr unsigned kWorkers = 3;
  const std::uint64_t steps = scaled(30'000, 3000);
  const auto source = make_source();
  const auto pool = make_pool(*source, "max_object=32768");
  std::atomic<unsigned> busy{kWorkers};
  testing::Verdict verdict;
  run_threads(kWorkers + 1, [&](unsigned t) {
    if (t == kWorkers) {
      while (busy.load() != 0) {
        verdict.require(pool->validate().has_value(), "the pool is valid");
        const ZheapDensity density = pool->density();
        verdict.require(density.density > 0 && density.density <= 1, "density is a part of one");
        // Who looks holds all locks, and workers get nowhere meanwhile.
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      return;
    }
    std::mt19937_64 random(testing::test_seed(t));
    std::vector<Handle> mine;
    for (std::uint64_t i = 0; i < steps; ++i) {
      const std::size_t size_bytes =
          random() % 3 == 0 ? 1 + random() % 3000 : kPageSize * (1 + i % 8);
      const Gfp gfp = random() % 4 == 0 ? Gfp::nowait : Gfp::kernel;
      if (const Result<Handle> handle = pool->allocate(size_bytes, gfp)) mine.push_back(*handle);
      if (mine.size() < 1 + random() % 8) continue;
      for (const Handle handle : mine) verdict.require(pool->free(handle).has_value(), "it lives");
      mine.clear();
    }
    for (const Handle handle : mine) verdict.require(pool->free(handle).has_value(), "it lives");
    busy.fetch_sub(1);
  });
  verdict.expect_good();
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// ---------------------------------------------------------------- evictions

// Runs that begin where a block of any size would: so an address says which block it is in.
class AlignedSource final : public PageSource {
 public:
  explicit AlignedSource(PageSource& source) : source_(source) {}
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    PageRequest aligned = request;
    aligned.align_pages = HeapBlock::kMostPages;
    return source_.allocate_pages(aligned);
  }
  void free_pages(PageRun run) noexcept override { source_.free_pages(run); }
  PageSourceStats stats() const noexcept override { return source_.stats(); }

 private:
  PageSource& source_;
};

// While one thread evicts, others free what it is about to ask for, and store something else in the same
// slot at once. It asks for all objects of one block before it goes on to another, and none of them
// stays: who asks for an older object of a block that it had left was astray in between.
TEST(ZheapEviction, AsksForTheObjectsOfOneBlockAtATime) {
  constexpr std::uint64_t kEmpty = 0, kTaken = 1;
  struct Place {
    std::atomic<std::uint64_t> handle{kEmpty};
    std::atomic<std::uint64_t> born{0};
  };
  const std::uint64_t shrinks = scaled(6000, 1500);
  const auto simulated = make_source();
  AlignedSource source(*simulated);
  std::array<Place, 48> places;
  std::unique_ptr<Zpool> pool;
  std::atomic<std::uint64_t> now{1}, astray{0};
  std::uint64_t begun = 0;             // of this shrink
  std::vector<std::uintptr_t> blocks;  // of the objects that it asked for, one a change
  const auto note = [&](const Mapping& mapping, bool is_old) {
    const auto at = reinterpret_cast<std::uintptr_t>(mapping.const_bytes().data());
    const std::uintptr_t block = at / (HeapBlock::kMostPages * kPageSize);
    if (!blocks.empty() && blocks.back() == block) return;
    if (is_old && std::find(blocks.begin(), blocks.end(), block) != blocks.end()) ++astray;
    blocks.push_back(block);
  };
  ZpoolOptions options;
  options.pages = &source;
  options.evict = [&](Zpool&, Handle handle) -> Status {
    const auto found = std::find_if(places.begin(), places.end(), [&](const Place& place) {
      return place.handle == static_cast<std::uint64_t>(handle);
    });
    if (found != places.end()) {
      const bool is_old = found->born < begun;
      if (const auto mapping = pool->try_map(handle, MapMode::read_only)) note(*mapping, is_old);
      auto number = static_cast<std::uint64_t>(handle);
      if (found->handle.compare_exchange_strong(number, kEmpty)) return pool->try_free(handle);
    }
    while (pool->try_map(handle, MapMode::read_only)) std::this_thread::yield();
    return {};  // by who took it first
  };
  pool = Zpool::create("zheap", std::move(options)).value();
  std::atomic<bool> is_over{false};
  const auto store_again = [&](Place& place, std::size_t size_bytes) {
    const std::uint64_t number = place.handle.exchange(kTaken);
    if (number == kTaken) return;
    // Mapped by who is asked to give it up, perhaps.
    while (number != kEmpty && !pool->try_free(Handle{number})) std::this_thread::yield();
    const auto fresh = static_cast<std::uint64_t>(pool->allocate(size_bytes).value());
    place.born = ++now;
    place.handle = fresh;
  };
  run_threads(3, [&](unsigned t) {
    std::mt19937_64 random(testing::test_seed(t));
    while (t != 0 && !is_over) {
      store_again(places[random() % places.size()], 900 + random() % 2000);
    }
    for (std::uint64_t i = 0; t == 0 && i < shrinks; ++i) {
      while (pool->stats().objects < places.size() / 2) std::this_thread::yield();
      blocks.clear();
      begun = ++now;
      static_cast<void>(pool->shrink(1));
    }
    is_over = true;
  });
  EXPECT_EQ(astray.load(), 0u) << "of " << pool->stats().evicted << " objects";
  for (const Place& place : places) {
    if (place.handle != kEmpty) pool->free(Handle{place.handle.load()});
  }
}

// ---------------------------------------------------------------- what waits

// Threads fill a pool until extents may wait on their CPUs, and empty it together: whoever notices that
// it is small by now takes back what waits, while the others go on. Nothing may be left on a CPU.
TEST(ZheapWaiting, NothingIsLeftOnACpuWhenAPoolShrinks) {
  constexpr unsigned kEach = 3;
  const std::uint64_t rounds = scaled(40, 10);
  const auto source = make_source();
  const auto pool = make_pool(*source, "floor=0");
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  for (std::uint64_t round = 0; round < rounds; ++round) {
    testing::SpinBarrier barrier(kEach);
    run_threads(kEach, [&](unsigned t) {
      testing::bind_thread(::pthread_self(), {cpus[t % cpus.size()]});
      std::mt19937_64 random(testing::test_seed(round * kEach + t));
      std::vector<Handle> mine;
      for (int i = 0; i < 1200; ++i) {
        mine.push_back(pool->allocate(1500 + random() % 900, Gfp::kernel).value());
      }
      std::shuffle(mine.begin(), mine.end(), random);
      barrier.arrive_and_wait();
      for (const Handle handle : mine) ASSERT_TRUE(pool->free(handle));
    });
    ASSERT_TRUE(pool->validate());
    ASSERT_EQ(pool->stats().objects, 0u);
    ASSERT_EQ(pool->stats().payload_bytes, 0u);
    ASSERT_EQ(pool->total_pages(), 0u) << "round " << round;
  }
}

// One thread takes back what waits on all CPUs, just as another frees the last objects of its own, which
// may wait already, or just come to know that they may: where they wait then, nobody comes for them.
TEST(ZheapWaiting, NothingIsKeptWhileAllIsTakenBack) {
  constexpr int kBallast = 860;  // somewhat more than the pages that let one extent wait
  const std::uint64_t rounds = scaled(3000, 800);
  const auto source = make_source();
  const auto pool = make_pool(*source, "floor=0");
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  testing::SpinBarrier barrier(2);
  std::atomic<std::uint64_t> left{0};
  // The same threads in all rounds: new ones would meet each other by chance.
  run_threads(2, [&](unsigned t) {
    testing::bind_thread(::pthread_self(), {cpus[t % cpus.size()]});
    std::mt19937_64 random(testing::test_seed(t));
    std::vector<Handle> mine;
    const auto add = [&] { mine.push_back(pool->allocate(2000, Gfp::kernel).value()); };
    for (std::uint64_t round = 0; round < rounds; ++round) {
      if (t == 0) {
        while (mine.size() < kBallast) add();
      }
      barrier.arrive_and_wait();
      if (t == 1 && round % 2 == 0) {
        // The first of these frees lets others wait here.
        for (int i = 0; i < 4; ++i) add();
        for (; mine.size() != 1; mine.pop_back()) ASSERT_TRUE(pool->free(mine.back()));
      } else if (t == 1) {
        for (int i = 0; i < 2; ++i) add();
      }
      barrier.arrive_and_wait();
      if (t == 1) {
        for (std::uint64_t spins = random() % 20'000; spins != 0; --spins) {
          std::atomic_signal_fence(std::memory_order_seq_cst);
        }
      }
      for (const Handle handle : mine) ASSERT_TRUE(pool->free(handle));
      mine.clear();
      barrier.arrive_and_wait();
      if (t == 0) left += pool->total_pages() != 0 ? 1 : 0;
    }
  });
  EXPECT_EQ(left.load(), 0u) << "rounds of " << rounds
                             << " that ended with pages but without objects";
}

}  // namespace
}  // namespace mmkit
