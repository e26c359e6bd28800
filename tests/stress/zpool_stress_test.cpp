// SPDX-License-Identifier: MIT
//
// Pools under threads - everything at once on shared pools, and races aimed at one object.
//
// The first tests share an Arena: places that hold a handle each, worked on by all threads without
// agreement, so that frees, maps and evictions of one handle meet. What must hold is counted: every
// object that was stored is freed once, by whoever; a mapping shows a whole object, the one that
// the handle named; nothing is evicted twice at once. The others repeat one race often.
//
// Loads are in operations, scaled by MMKIT_SCALE.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/captured_failure.hpp"
#include "support/child_process.hpp"
#include "support/driver_variants.hpp"
#include "support/pattern.hpp"
#include "support/race.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::run_threads;
using testing::SpinBarrier;
using testing::write_pattern;

constexpr unsigned kThreads = 4;

std::unique_ptr<SimPageAllocator> make_source() {
  return SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value();
}

// A place for one object. Only who takes it from kEmpty to kTaken fills it; only whoever freed its
// handle, by free or eviction, empties it. A handle comes at most once, so key and size read
// between two equal reads of the handle are the handle's.
struct Place {
  static constexpr std::uint64_t kEmpty = 0, kTaken = 1;  // no handle: the tag 0 is nobody's

  std::atomic<std::uint64_t> handle{kEmpty};
  std::atomic<std::uint64_t> key{0};
  std::atomic<std::size_t> size_bytes{0};
  std::atomic<std::uint64_t> being_evicted{0};
  std::mutex bytes;  // held to write to the object, and to read it where it may be written to
};

// How often each thing is done, of 100.
struct Mix {
  unsigned fill = 25, free = 20, verify = 25, rewrite = 8, touch = 5, shrink = 7, look = 2;
  // the rest: two steps on the same place at once with what the others do
};

class Arena {
 public:
  Arena(std::string_view type, std::size_t places, std::size_t limit_pages)
      : source_(make_source()), places_(places) {
    ZpoolOptions options;
    options.name = "arena";
    options.pages = source_.get();
    options.limit_bytes = limit_pages * kPageSize;
    options.evict = [this](Zpool&, Handle handle) { return evict(handle); };
    pool_ = Zpool::create(type, std::move(options)).value();
  }

  Zpool& pool() { return *pool_; }
  void work(std::uint64_t operations, std::uint64_t seed, const Mix& mix) {
    std::mt19937_64 random(seed);
    for (std::uint64_t i = 0; i < operations; ++i) {
      Place& place = places_[random() % places_.size()];
      auto draw = static_cast<unsigned>(random() % 100);
      const auto is = [&draw](unsigned share) {
        const bool mine = draw < share;
        draw -= share;
        return mine;
      };
      if (is(mix.fill)) {
        fill(place, random);
      } else if (draw < 100 && is(mix.free)) {
        free(place);
      } else if (draw < 100 && is(mix.verify)) {
        verify(place);
      } else if (draw < 100 && is(mix.rewrite)) {
        rewrite(place);
      } else if (draw < 100 && is(mix.touch)) {
        touch(place);
      } else if (draw < 100 && is(mix.shrink)) {
        static_cast<void>(pool_->shrink(1 + random() % 2));
      } else if (draw < 100 && is(mix.look)) {
        look();
      } else {
        verify(place);
        free(place);
      }
    }
  }

  // At rest: every live object is where a place says, whole; and the counts add up.
  void expect_consistent() {
    EXPECT_TRUE(pool_->validate());
    std::size_t live = 0, payload_bytes = 0;
    for (Place& place : places_) {
      const std::uint64_t handle = place.handle.load();
      if (handle == Place::kEmpty) continue;
      ++live;
      payload_bytes += place.size_bytes.load();
      const Result<Mapping> mapping = pool_->try_map(Handle{handle}, MapMode::read_only);
      ASSERT_TRUE(mapping);
      EXPECT_TRUE(has_pattern(mapping->const_bytes().first(place.size_bytes), place.key));
    }
    const ZpoolStats stats = pool_->stats();
    EXPECT_EQ(stats.objects, live);
    EXPECT_EQ(stats.payload_bytes, payload_bytes);
    EXPECT_EQ(stats.allocations, stored_.load());
    EXPECT_EQ(stats.frees, freed_.load());
    EXPECT_EQ(stored_.load() - freed_.load(), live);
    EXPECT_LE(stats.evicted, stats.frees);
    EXPECT_EQ(source_->stats().held_pages, stats.pages);
    EXPECT_EQ(wrong_.load(), 0u) << "the first of " << wrong_.load() << ": " << first_wrong_.load();
  }
  void free_all() {
    for (Place& place : places_) free(place);
    EXPECT_EQ(pool_->total_bytes(), 0u);
    EXPECT_EQ(source_->stats().held_pages, 0u);
    expect_consistent();
  }

  // In the child of a fork: the pool works, whatever other threads were in the middle of.
  int use_in_child() {
    for (Place& place : places_) place.being_evicted = 0;  // by threads that are not here
    if (!pool_->validate()) return 1;
    const std::vector<std::byte> object = testing::make_pattern(700, 7);
    const Result<Handle> handle = pool_->store(object);
    // The parent may hold all pages that the limit allows, mapped by threads that are not here.
    if (handle) {
      Result<Mapping> mapping = pool_->try_map(*handle);
      if (!mapping || !has_pattern(mapping->const_bytes().first(700), 7)) return 2;
      if (Status freed = pool_->try_free(*handle); freed || freed.error() != Errc::busy) return 3;
      *mapping = Mapping();
      if (!pool_->try_free(*handle)) return 4;
    } else if (handle.error() != Errc::out_of_memory || pool_->limit_bytes() == 0) {
      return 5;
    }
    for (Place& place : places_) {
      const std::uint64_t live = place.handle.load();
      if (live == Place::kEmpty || live == Place::kTaken || !place.bytes.try_lock()) continue;
      if (Result<Mapping> mapping = pool_->try_map(Handle{live}, MapMode::read_only)) {
        if (!has_pattern(mapping->const_bytes().first(place.size_bytes), place.key)) return 6;
      }
      place.bytes.unlock();
    }
    static_cast<void>(pool_->shrink(2));
    if (!pool_->validate()) return 7;
    if (wrong_.load() != 0) return 8;
    const std::size_t held = source_->stats().held_pages, mine = pool_->stats().pages;
    const testing::CapturedLeaks leaks;
    pool_.reset();
    return source_->stats().held_pages == held - mine ? 0 : 9;
  }

 private:
  void wrong(const char* what) {
    if (wrong_.fetch_add(1) == 0) first_wrong_ = what;
  }
  void require(bool holds, const char* what) {
    if (!holds) wrong(what);
  }
  // Objects in places of odd number are made by allocate and map, and are written to later on.
  bool is_written(const Place& place) const { return (&place - places_.data()) % 2 != 0; }

  void fill(Place& place, std::mt19937_64& random) {
    std::uint64_t empty = Place::kEmpty;
    if (!place.handle.compare_exchange_strong(empty, Place::kTaken)) return;
    const std::uint64_t key = keys_.fetch_add(1);
    const std::size_t size_bytes = 16 + random() % (random() % 4 == 0 ? 3900 : 1900);
    const Gfp gfp = random() % 8 == 0 ? Gfp::nowait : Gfp::kernel;
    place.key = key;
    place.size_bytes = size_bytes;
    const Result<Handle> handle = is_written(place)
                                      ? make_by_map(size_bytes, key, gfp)
                                      : pool_->store(testing::make_pattern(size_bytes, key), gfp);
    if (handle) {
      stored_.fetch_add(1);
    } else {
      const bool expected = handle.error() == Errc::out_of_memory ||
                            (has(gfp, Gfp::nowait) && handle.error() == Errc::try_again);
      require(expected, "an allocation fails for a reason that there was");
    }
    place.handle = handle ? static_cast<std::uint64_t>(*handle) : Place::kEmpty;
  }

  // Known to nobody yet, so the evict callback refuses it, and it must stay.
  Result<Handle> make_by_map(std::size_t size_bytes, std::uint64_t key, Gfp gfp) {
    const Result<Handle> handle = pool_->allocate(size_bytes, gfp);
    if (!handle) return handle;
    Result<Mapping> mapping = pool_->try_map(*handle, MapMode::write_only);
    if (mapping) {
      write_pattern(mapping->bytes().first(size_bytes), key);
    } else {
      wrong("a refused eviction leaves the object");
    }
    return handle;
  }

  // Whoever frees it empties its place.
  void emptied(Place& place, std::uint64_t handle) {
    freed_.fetch_add(1);
    require(place.handle.compare_exchange_strong(handle, Place::kEmpty),
            "who frees an object is alone in that");
  }
  void free(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle == Place::kEmpty || handle == Place::kTaken) return;
    const Status freed = pool_->try_free(Handle{handle});
    if (freed) {
      emptied(place, handle);
    } else {
      require(freed.error() == Errc::busy || freed.error() == Errc::invalid_argument,
              "try_free says busy or invalid_argument");
    }
  }

  // Maps what the place names; `use` gets the mapping with the size and key that belong to it.
  template <class Use>
  void with_mapping(Place& place, MapMode mode, Use&& use) {
    const std::uint64_t handle = place.handle.load();
    if (handle == Place::kEmpty || handle == Place::kTaken) return;
    const std::uint64_t key = place.key.load();
    const std::size_t size_bytes = place.size_bytes.load();
    std::unique_lock lock(place.bytes, std::defer_lock);
    if (is_written(place) && !lock.try_lock()) return;
    Result<Mapping> mapping = pool_->try_map(Handle{handle}, mode);
    if (!mapping) {
      require(mapping.error() == Errc::not_found, "try_map says not_found");
      return;
    }
    // Mapped now, so nobody frees it: the place still names it, with the key that was read.
    require(place.handle.load() == handle, "a mapped object stays in its place");
    if (mapping->bytes().size() < size_bytes) return wrong("a mapping is long enough");
    use(mapping->bytes().first(size_bytes), key);
    const Status freed = pool_->try_free(Handle{handle});
    require(!freed && freed.error() == Errc::busy, "a mapped object is not freed");
  }
  void verify(Place& place) {
    with_mapping(place, MapMode::read_only,
                 [this](std::span<const std::byte> bytes, std::uint64_t key) {
                   require(has_pattern(bytes, key), "a mapping shows the whole object");
                 });
  }
  void rewrite(Place& place) {
    if (!is_written(place)) return;
    with_mapping(place, MapMode::read_write, [this](std::span<std::byte> bytes, std::uint64_t key) {
      require(has_pattern(bytes, key), "a mapping shows the whole object");
      std::fill(bytes.begin(), bytes.end(), std::byte{});
      write_pattern(bytes, key);
    });
  }
  void touch(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle != Place::kEmpty && handle != Place::kTaken) pool_->touch(Handle{handle});
  }

  void look() {
    require(pool_->validate().has_value(), "the pool is valid at every instant");
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == stats.allocations - stats.frees, "stats are of one instant");
    require(stats.payload_bytes <= stats.pages * kPageSize, "objects fit into their pages");
    bool seen = false;
    for_each_live_pool([&](const ZpoolInfo& info) { seen |= info.name == "arena"; });
    require(seen, "a live pool is listed");
  }

  Status evict(Handle handle) {
    const auto number = static_cast<std::uint64_t>(handle);
    for (Place& place : places_) {
      if (place.handle.load() != number) continue;
      require(place.being_evicted.exchange(number) != number, "nothing is evicted twice at once");
      const Status answer = give_up(place, number);
      std::uint64_t mine = number;
      place.being_evicted.compare_exchange_strong(mine, 0);
      return answer;
    }
    return fail(Errc::busy);  // not ours yet, or not any more
  }
  Status give_up(Place& place, std::uint64_t handle) {
    const std::uint64_t turn = turns_.fetch_add(1);
    if (turn % 8 == 0) return fail(Errc::busy);
    if (turn % 8 == 1) return {};  // a lie
    verify(place);
    // Frees the neighbours, the buddy in the page perhaps among them.
    if (turn % 8 == 2) {
      free(places_[turn % places_.size()]);
      free(places_[(turn + 1) % places_.size()]);
    }
    const Status freed = pool_->try_free(Handle{handle});
    if (freed) emptied(place, handle);
    return freed;
  }

  std::unique_ptr<SimPageAllocator> source_;
  std::vector<Place> places_;
  std::atomic<std::uint64_t> keys_{1}, stored_{0}, freed_{0}, turns_{0};
  std::atomic<std::uint64_t> wrong_{0};
  std::atomic<const char*> first_wrong_{"nothing"};
  std::unique_ptr<Zpool> pool_;
};

class ZpoolStress : public ::testing::TestWithParam<std::string> {
 protected:
  void work_together(Arena& arena, std::uint64_t operations, const Mix& mix) {
    run_threads(kThreads,
                [&](unsigned t) { arena.work(operations / kThreads, testing::test_seed(t), mix); });
    arena.expect_consistent();
    arena.free_all();
  }
};

TEST_P(ZpoolStress, KeepsEveryObjectWholeWhenThreadsShareAPool) {
  Arena arena(GetParam(), 128, /*limit_pages=*/0);
  work_together(arena, testing::scaled(400'000, 20'000), {});
}

// Fewer pages than places: allocations evict.
TEST_P(ZpoolStress, KeepsEveryObjectWholeWhenThreadsMeetTheLimit) {
  Arena arena(GetParam(), 128, /*limit_pages=*/24);
  work_together(arena, testing::scaled(300'000, 20'000), {.shrink = 2});
}

// Few objects, so that each operation meets the same pages, and as many shrinks as frees.
TEST_P(ZpoolStress, EvictsNothingTwiceWhenShrinksAndFreesMeet) {
  Arena arena(GetParam(), 10, /*limit_pages=*/0);
  work_together(arena, testing::scaled(300'000, 20'000),
                {.fill = 40, .free = 15, .verify = 10, .rewrite = 3, .touch = 5, .shrink = 25});
}

// The objects of one round, which two or three threads then fight for in the same order.
struct Round {
  static constexpr std::size_t kObjects = 64;

  std::array<Handle, kObjects> handles{};
  std::array<std::atomic<unsigned>, kObjects> gone{};  // how often it was freed or evicted
  std::uint64_t key(std::size_t i) const { return base_key + i; }
  std::uint64_t base_key = 0;
};
constexpr std::size_t kRoundObjectBytes = 1500;

void store_round(Zpool& pool, Round& round, std::uint64_t number) {
  round.base_key = number * Round::kObjects;
  for (std::size_t i = 0; i < Round::kObjects; ++i) {
    round.gone[i] = 0;
    round.handles[i] = pool.store(testing::make_pattern(kRoundObjectBytes, round.key(i))).value();
  }
}

TEST_P(ZpoolStress, OfTwoFreesOfOneHandleOneSucceeds) {
  const std::uint64_t rounds = testing::scaled(4000, 200);
  const auto source = make_source();
  const auto pool = Zpool::create(GetParam(), {.pages = source.get()}).value();
  Round round;
  SpinBarrier meet(2);
  run_threads(2, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) store_round(*pool, round, r);
      meet.arrive_and_wait();
      for (std::size_t i = 0; i < Round::kObjects; ++i) {
        const Status freed = pool->try_free(round.handles[i]);
        if (freed) {
          round.gone[i].fetch_add(1);
        } else {
          EXPECT_EQ(freed.error(), Errc::invalid_argument);
        }
      }
      meet.arrive_and_wait();
      if (t != 0) continue;
      for (const auto& gone : round.gone) EXPECT_EQ(gone.load(), 1u);
    }
  });
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(pool->stats().frees, rounds * Round::kObjects);
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// One thread frees each object, one maps it, one evicts: it goes once, and until then a mapping
// shows it whole.
TEST_P(ZpoolStress, FreeMapAndEvictionOfOneHandleAgree) {
  const std::uint64_t rounds = testing::scaled(1000, 60);
  const auto source = make_source();
  Round round;
  ZpoolOptions options{.pages = source.get()};
  options.evict = [&round](Zpool& pool, Handle handle) -> Status {
    for (std::size_t i = 0; i < Round::kObjects; ++i) {
      if (round.handles[i] != handle) continue;
      const Status freed = pool.try_free(handle);
      if (freed) round.gone[i].fetch_add(1);
      return freed;
    }
    ADD_FAILURE() << "an object is evicted that is none";
    return fail(Errc::busy);
  };
  const auto pool = Zpool::create(GetParam(), std::move(options)).value();
  SpinBarrier meet(3);
  run_threads(3, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) store_round(*pool, round, r);
      meet.arrive_and_wait();
      for (std::size_t i = 0; i < Round::kObjects; ++i) {
        if (t == 0) {
          Status freed = pool->try_free(round.handles[i]);
          while (!freed && freed.error() == Errc::busy) freed = pool->try_free(round.handles[i]);
          if (freed) round.gone[i].fetch_add(1);
        } else if (t == 1) {
          Result<Mapping> mapping = pool->try_map(round.handles[i], MapMode::read_only);
          if (!mapping) continue;
          EXPECT_TRUE(has_pattern(mapping->const_bytes().first(kRoundObjectBytes), round.key(i)));
        } else if (i % 2 == 0) {
          static_cast<void>(pool->shrink(1));
        }
      }
      meet.arrive_and_wait();
      if (t != 0) continue;
      for (const auto& gone : round.gone) EXPECT_EQ(gone.load(), 1u);
    }
  });
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(pool->stats().objects, 0u);
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// Two threads map one object a hundred times over, across the point where a slot counts no further.
TEST_P(ZpoolStress, CountsEveryMappingOfOneObject) {
  const std::uint64_t rounds = testing::scaled(20'000, 400);
  const auto source = make_source();
  const auto pool = Zpool::create(GetParam(), {.pages = source.get()}).value();
  const Handle handle = pool->store(testing::make_pattern(100, 1)).value();
  run_threads(kThreads, [&](unsigned t) {
    std::mt19937_64 random(testing::test_seed(t));
    std::vector<Mapping> mappings;
    for (std::uint64_t r = 0; r < rounds; ++r) {
      const std::size_t wanted = random() % 40;
      while (mappings.size() < wanted) mappings.push_back(pool->map(handle, MapMode::read_only));
      while (mappings.size() > wanted) mappings.pop_back();
      if (mappings.empty()) continue;
      const Status freed = pool->try_free(handle);
      ASSERT_FALSE(freed);
      EXPECT_EQ(freed.error(), Errc::busy);
    }
  });
  // All have let go: no count was lost, or it would be busy; none too many, or it would be gone.
  EXPECT_TRUE(pool->try_free(handle));
  EXPECT_TRUE(pool->validate());
}

// Pools come and go, with and without eviction, while others list them.
TEST_P(ZpoolStress, PoolsComeAndGoWhileOthersLookAtThem) {
  const std::uint64_t pools = testing::scaled(6000, 200);
  const auto source = make_source();
  std::atomic<unsigned> makers{kThreads - 1};
  std::atomic<std::uint64_t> seen{0};
  run_threads(kThreads, [&](unsigned t) {
    if (t == 0) {
      while (makers.load() != 0) {
        for_each_live_pool([&](const ZpoolInfo& info) {
          if (info.name.rfind("passing-", 0) != 0) return;
          seen.fetch_add(1);
          EXPECT_EQ(info.type, GetParam());
          EXPECT_LE(info.stats.objects, 8u);
          EXPECT_NE(info.tag, 0u);
        });
      }
      return;
    }
    for (std::uint64_t i = 0; i < pools / (kThreads - 1); ++i) {
      const std::uint64_t key = i * kThreads + t;
      ZpoolOptions options{.name = "passing-" + std::to_string(key), .pages = source.get()};
      if (i % 2 == 0) {
        options.evict = [](Zpool& pool, Handle handle) { return pool.try_free(handle); };
      }
      const auto pool = Zpool::create(GetParam(), std::move(options)).value();
      std::array<Handle, 8> handles{};
      for (std::uint64_t n = 0; n < 8; ++n) {
        handles[n] = pool->store(testing::make_pattern(200 + 400 * n, key + n)).value();
      }
      {
        const Mapping mapping = pool->map(handles[7], MapMode::read_only);
        EXPECT_TRUE(has_pattern(mapping.const_bytes().first(3000), key + 7));
      }
      EXPECT_EQ(pool->shrink(1).status.has_value(), pool->evictable());
      std::size_t freed = 0;
      for (const Handle handle : handles) freed += pool->try_free(handle) ? 1u : 0u;
      EXPECT_EQ(freed, 8 - pool->stats().evicted);
    }
    makers.fetch_sub(1);
  });
  EXPECT_EQ(source->stats().held_pages, 0u);
}

// Forks while threads are in the middle of everything: each child checks the pool, uses it, and
// takes it apart.
TEST_P(ZpoolStress, AForkFindsThePoolWholeAndCanUseAndEndIt) {
  for (const std::size_t limit_pages : {std::size_t{0}, std::size_t{24}}) {
    const std::uint64_t forks = testing::scaled(60, 10);
    Arena arena(GetParam(), 64, limit_pages);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads - 1; ++t) {
      threads.emplace_back([&, t] {
        for (std::uint64_t seed = testing::test_seed(t); !stop; ++seed) arena.work(200, seed, {});
      });
    }
    int code = 0;
    for (std::uint64_t i = 0; i < forks && code == 0; ++i) {
      code = testing::run_in_child([&arena] { return arena.use_in_child(); });
      EXPECT_EQ(code, 0) << "fork " << i;
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    arena.expect_consistent();
    arena.free_all();
  }
}

INSTANTIATE_TEST_SUITE_P(Driver, ZpoolStress, ::testing::ValuesIn(testing::registered_types()),
                         [](const auto& type) { return type.param; });

}  // namespace
}  // namespace mmkit
