// SPDX-License-Identifier: MIT
//
// ObjectField - places that hold an object of a pool each, worked on by many threads without
// agreement, so that every operation of the pool meets every other.
//
// Every object has a pattern of its own, looked at in every mapping and before every free. What must
// hold is counted where it happens and judged at the end: an object that is stored is freed once,
// by whoever; a mapping shows the whole object that its handle names, for as long as it lasts;
// nothing is evicted twice at once, or while it is mapped.
//
// One file, since every operation leans on the same rules about places.
//
// Objects in places of even number are stored and never change; those in places of odd number are
// made by a mapping and written to again and again.
// Locking:    a place's mutex is held to write to its object, or to read one that may be written to
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/captured_failure.hpp"
#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit::testing {

/// What threads found wrong: the first of it, and how often. Safe from any thread.
class Verdict {
 public:
  /// `what` lives for ever.
  void require(bool holds, const char* what) {
    if (!holds && count_.fetch_add(1) == 0) first_ = what;
  }
  bool good() const { return count_.load() == 0; }
  void expect_good() const {
    EXPECT_EQ(count_.load(), 0u) << "the first that was not so: " << first_.load();
  }

 private:
  std::atomic<std::uint64_t> count_{0};
  std::atomic<const char*> first_{"nothing"};
};

/// How often each thing is done, in proportion.
struct FieldMix {
  unsigned fill = 26, free = 20, verify = 18, rewrite = 10, hold = 6, let_go = 5, touch = 6;
  unsigned shrink = 3, compact = 2, look = 1, free_twice = 3;
};

struct FieldOptions {
  std::string params;
  std::size_t places = 256;
  std::size_t least_bytes = 1, most_bytes = kPageSize;
  std::size_t limit_pages = 0;  ///< 0: none
  bool wander = false;          ///< threads move between CPUs all the time
};

class ObjectField {
 public:
  ObjectField(std::string_view type, FieldOptions options)
      : options_(std::move(options)),
        source_(SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value()),
        places_(options_.places) {
    ZpoolOptions made;
    made.name = "field";
    made.pages = source_.get();
    made.params = options_.params;
    made.limit_bytes = options_.limit_pages * kPageSize;
    made.evict = [this](Zpool&, Handle handle) { return evict(handle); };
    pool_ = Zpool::create(type, std::move(made)).value();
  }

  Zpool& pool() { return *pool_; }
  const Verdict& verdict() const { return verdict_; }
  std::size_t held_pages() const { return source_->stats().held_pages; }

  /// One thread's part.
  void work(std::uint64_t operations, std::uint64_t seed, const FieldMix& mix) {
    Worker worker(seed);
    for (std::uint64_t i = 0; i < operations && verdict_.good(); ++i) {
      if (options_.wander && i % 128 == 0) worker.wanderer.move();
      step(worker, mix);
    }
    while (!worker.held.empty()) let_go(worker);
  }

  /// At rest: every live object is where a place says, whole; and the counts add up.
  void expect_consistent() {
    EXPECT_TRUE(pool_->validate());
    std::size_t live = 0, payload_bytes = 0;
    for (Place& place : places_) {
      const std::uint64_t handle = place.handle.load();
      if (handle == Place::kEmpty) continue;
      ++live;
      payload_bytes += place.size_bytes.load();
      const Result<Mapping> mapping = pool_->try_map(Handle{handle}, MapMode::read_only);
      ASSERT_TRUE(mapping) << "an object is lost";
      EXPECT_TRUE(has_pattern(mapping->const_bytes().first(place.size_bytes), place.key));
    }
    const ZpoolStats stats = pool_->stats();
    EXPECT_EQ(stats.objects, live);
    EXPECT_EQ(stats.payload_bytes, payload_bytes);
    EXPECT_EQ(stats.allocations, stored_.load());
    EXPECT_EQ(stats.frees, freed_.load());
    EXPECT_EQ(stored_.load() - freed_.load(), live);
    EXPECT_LE(stats.evicted, stats.frees);
    EXPECT_EQ(held_pages(), stats.pages);
    verdict_.expect_good();
  }
  void free_all() {
    for (Place& place : places_) free(place);
    EXPECT_EQ(pool_->total_bytes(), 0u) << "an empty pool has no page";
    EXPECT_EQ(held_pages(), 0u);
    expect_consistent();
  }

  /// In the child of a fork: checks, uses and takes apart the pool, whatever other threads were in
  /// the middle of. 0, or what was wrong.
  int use_in_child() {
    for (Place& place : places_) place.being_evicted = 0;  // by threads that are not here
    if (!pool_->validate()) return 1;
    std::mt19937_64 random(7);
    std::vector<Handle> mine;
    for (unsigned i = 0; i < 40; ++i) {
      const std::size_t size_bytes = any_size(random);
      const Result<Handle> handle = pool_->store(make_pattern(size_bytes, i));
      // The parent may hold all pages that the limit allows, mapped by threads that are not here.
      if (!handle && (handle.error() != Errc::out_of_memory || options_.limit_pages == 0)) return 2;
      if (!handle) break;
      mine.push_back(*handle);
      const Result<Mapping> mapping = pool_->try_map(*handle);
      if (!mapping || !has_pattern(mapping->const_bytes().first(size_bytes), i)) return 3;
    }
    for (Place& place : places_) {
      const std::uint64_t live = place.handle.load();
      if (live == Place::kEmpty || live == Place::kTaken || !place.bytes.try_lock()) continue;
      if (const Result<Mapping> mapping = pool_->try_map(Handle{live}, MapMode::read_only)) {
        if (!has_pattern(mapping->const_bytes().first(place.size_bytes), place.key)) return 4;
      }
      place.bytes.unlock();
    }
    if (!pool_->compact()) return 5;
    static_cast<void>(pool_->shrink(2));
    for (const Handle handle : mine) {
      if (const Status freed = pool_->try_free(handle); !freed) return 6;
    }
    if (!pool_->validate()) return 7;
    if (!verdict_.good()) return 8;
    const std::size_t held = held_pages(), of_pool = pool_->stats().pages;
    const CapturedLeaks leaks;
    pool_.reset();
    return held_pages() == held - of_pool ? 0 : 9;
  }

 private:
  // Only who takes it from kEmpty to kTaken fills it; only whoever freed its handle, by free or
  // eviction, empties it. A handle comes at most once, so key and size read between two equal reads
  // of the handle are the handle's.
  struct Place {
    static constexpr std::uint64_t kEmpty = 0, kTaken = 1;  // no handle: the tag 0 is nobody's

    std::atomic<std::uint64_t> handle{kEmpty};
    std::atomic<std::uint64_t> key{0};
    std::atomic<std::size_t> size_bytes{0};
    std::atomic<std::uint64_t> being_evicted{0};
    std::atomic<unsigned> holds{0};  // mappings that workers keep
    std::mutex bytes;
  };
  struct Held {
    Place* place;
    std::uint64_t handle, key;
    Mapping mapping;
  };
  struct Worker {
    explicit Worker(std::uint64_t seed) : random(seed), wanderer(seed) {}
    std::mt19937_64 random;
    Wanderer wanderer;
    std::deque<Held> held;
  };
  static constexpr std::size_t kMostHeld = 6;

  bool is_written(const Place& place) const { return (&place - places_.data()) % 2 != 0; }
  std::size_t any_size(std::mt19937_64& random) const {
    return options_.least_bytes + random() % (options_.most_bytes - options_.least_bytes + 1);
  }

  void step(Worker& worker, const FieldMix& mix) {
    Place& place = places_[worker.random() % places_.size()];
    const unsigned all = mix.fill + mix.free + mix.verify + mix.rewrite + mix.hold + mix.let_go +
                         mix.touch + mix.shrink + mix.compact + mix.look + mix.free_twice;
    auto draw = static_cast<unsigned>(worker.random() % all);
    const auto is = [&draw](unsigned share) {
      if (draw < share) return true;
      draw -= share;
      return false;
    };
    if (is(mix.fill)) return fill(place, worker.random);
    if (is(mix.free)) return free(place);
    if (is(mix.verify)) return verify(place);
    if (is(mix.rewrite)) return rewrite(place);
    if (is(mix.hold)) return hold(worker, place);
    if (is(mix.let_go)) return let_go(worker);
    if (is(mix.touch)) return touch(place);
    if (is(mix.shrink)) return shrink(1 + worker.random() % 3);
    if (is(mix.compact)) {
      verdict_.require(pool_->compact().has_value(), "compact() works");
      return;
    }
    if (is(mix.look)) return look();
    free_twice(place);
  }

  void fill(Place& place, std::mt19937_64& random) {
    std::uint64_t empty = Place::kEmpty;
    if (!place.handle.compare_exchange_strong(empty, Place::kTaken)) return;
    const std::uint64_t key = keys_.fetch_add(1);
    const std::size_t size_bytes = any_size(random);
    const Gfp gfp = random() % 8 == 0 ? Gfp::nowait : Gfp::kernel;
    place.key = key;
    place.size_bytes = size_bytes;
    const Result<Handle> handle = is_written(place)
                                      ? make_by_map(size_bytes, key, gfp)
                                      : pool_->store(make_pattern(size_bytes, key), gfp);
    if (handle) {
      stored_.fetch_add(1);
    } else {
      const bool expected = handle.error() == Errc::out_of_memory ||
                            (has(gfp, Gfp::nowait) && handle.error() == Errc::try_again);
      verdict_.require(expected, "an allocation fails for a reason that there was");
      verdict_.require(options_.limit_pages != 0 || has(gfp, Gfp::nowait),
                       "without a limit there is room");
    }
    place.handle = handle ? static_cast<std::uint64_t>(*handle) : Place::kEmpty;
  }
  // Known to nobody yet, so the evict callback refuses it, and it must stay.
  Result<Handle> make_by_map(std::size_t size_bytes, std::uint64_t key, Gfp gfp) {
    const Result<Handle> handle = pool_->allocate(size_bytes, gfp);
    if (!handle) return handle;
    Result<Mapping> mapping = pool_->try_map(*handle, MapMode::write_only);
    verdict_.require(mapping.has_value(), "an object that nobody knows stays");
    if (mapping) write_pattern(mapping->bytes().first(size_bytes), key);
    return handle;
  }

  // Whoever frees it empties its place.
  void emptied(Place& place, std::uint64_t handle) {
    freed_.fetch_add(1);
    verdict_.require(place.handle.compare_exchange_strong(handle, Place::kEmpty),
                     "who frees an object is alone in that");
  }
  void free(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle == Place::kEmpty || handle == Place::kTaken) return;
    if (!is_written(place)) verify(place);
    free_handle(place, handle);
  }
  void free_handle(Place& place, std::uint64_t handle) {
    const Status freed = pool_->try_free(Handle{handle});
    if (freed) {
      emptied(place, handle);
    } else {
      verdict_.require(freed.error() == Errc::busy || freed.error() == Errc::invalid_argument,
                       "try_free says busy or invalid_argument");
    }
  }
  void free_twice(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle == Place::kEmpty || handle == Place::kTaken) return;
    free_handle(place, handle);
    const Status again = pool_->try_free(Handle{handle});
    if (again) return emptied(place, handle);  // the first found it mapped
    verdict_.require(again.error() == Errc::busy || again.error() == Errc::invalid_argument,
                     "a dead handle is not freed again");
  }

  // Maps what the place names. Nothing: it was empty, or freed meanwhile.
  Mapping map(Place& place, std::uint64_t handle, std::uint64_t* key, std::size_t* size_bytes,
              MapMode mode) {
    *key = place.key.load();
    *size_bytes = place.size_bytes.load();
    Result<Mapping> mapping = pool_->try_map(Handle{handle}, mode);
    if (!mapping) {
      verdict_.require(mapping.error() == Errc::not_found, "try_map says not_found");
      return {};
    }
    // Mapped now, so nobody frees it: the place still names it, with the key that was read.
    verdict_.require(place.handle.load() == handle, "a mapped object stays in its place");
    verdict_.require(mapping->bytes().size() == *size_bytes, "a mapping is as long as the object");
    if (mapping->bytes().size() < *size_bytes) return {};
    return *std::move(mapping);
  }
  template <class Use>
  void with_mapping(Place& place, MapMode mode, Use&& use) {
    const std::uint64_t handle = place.handle.load();
    if (handle == Place::kEmpty || handle == Place::kTaken) return;
    std::unique_lock lock(place.bytes, std::defer_lock);
    if (is_written(place) && !lock.try_lock()) return;
    std::uint64_t key = 0;
    std::size_t size_bytes = 0;
    Mapping mapping = map(place, handle, &key, &size_bytes, mode);
    if (!mapping) return;
    use(mapping.bytes().first(size_bytes), key);
    const Status freed = pool_->try_free(Handle{handle});
    verdict_.require(!freed && freed.error() == Errc::busy, "a mapped object is not freed");
  }
  void verify(Place& place) {
    with_mapping(place, MapMode::read_only,
                 [this](std::span<const std::byte> bytes, std::uint64_t key) {
                   verdict_.require(has_pattern(bytes, key), "a mapping shows the whole object");
                 });
  }
  void rewrite(Place& place) {
    if (!is_written(place)) return;
    with_mapping(place, MapMode::read_write, [this](std::span<std::byte> bytes, std::uint64_t key) {
      verdict_.require(has_pattern(bytes, key), "a mapping shows the whole object");
      std::fill(bytes.begin(), bytes.end(), std::byte{});
      write_pattern(bytes, key);
    });
  }
  // A mapping that outlives what else its thread and all others do meanwhile.
  void hold(Worker& worker, Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (is_written(place) || handle == Place::kEmpty || handle == Place::kTaken) return;
    if (worker.held.size() == kMostHeld) let_go(worker);
    std::uint64_t key = 0;
    std::size_t size_bytes = 0;
    Mapping mapping = map(place, handle, &key, &size_bytes, MapMode::read_only);
    if (!mapping) return;
    place.holds.fetch_add(1);
    worker.held.push_back({&place, handle, key, std::move(mapping)});
  }
  void let_go(Worker& worker) {
    if (worker.held.empty()) return;
    const Held& held = worker.held.front();
    verdict_.require(held.place->handle.load() == held.handle, "a mapped object stays");
    verdict_.require(has_pattern(held.mapping.const_bytes(), held.key),
                     "a mapped object keeps its place and its bytes");
    held.place->holds.fetch_sub(1);
    worker.held.pop_front();
  }
  void touch(Place& place) {
    const std::uint64_t handle = place.handle.load();
    if (handle != Place::kEmpty && handle != Place::kTaken) pool_->touch(Handle{handle});
  }
  void shrink(std::size_t pages) {
    const ShrinkOutcome done = pool_->shrink(pages);
    verdict_.require(done.status.has_value() == (done.reclaimed_pages >= pages),
                     "a shrink succeeds if and only if it frees what it was asked for");
  }

  void look() {
    verdict_.require(pool_->validate().has_value(), "the pool is valid at every instant");
    const ZpoolStats stats = pool_->stats();
    verdict_.require(stats.objects == stats.allocations - stats.frees, "stats are of one instant");
    verdict_.require(stats.frees <= stats.allocations, "nothing is freed before it is allocated");
    verdict_.require(stats.payload_bytes <= stats.pages * kPageSize,
                     "objects fit into their pages");
    verdict_.require(
        options_.limit_pages == 0 || pool_->total_bytes() <= options_.limit_pages * kPageSize,
        "the limit holds at every instant");
  }

  Status evict(Handle handle) {
    const auto number = static_cast<std::uint64_t>(handle);
    for (Place& place : places_) {
      if (place.handle.load() != number) continue;
      verdict_.require(place.being_evicted.exchange(number) != number,
                       "nothing is evicted twice at once");
      const Status answer = give_up(place, number);
      std::uint64_t mine = number;
      place.being_evicted.compare_exchange_strong(mine, 0);
      return answer;
    }
    return fail(Errc::busy);  // not ours yet, or not any more
  }
  // In every way that a callback may answer.
  Status give_up(Place& place, std::uint64_t handle) {
    const std::uint64_t turn = turns_.fetch_add(1);
    switch (turn % 16) {
      case 0:
        return fail(Errc::busy);
      case 1:
        return {};  // a lie
      case 2:       // frees others: siblings in the zspage perhaps among them
        for (std::uint64_t n = 0; n < 8; ++n) free(places_[(turn * 31 + n * 17) % places_.size()]);
        break;
      case 3:
        verdict_.require(pool_->compact().has_value(), "compact() works inside an eviction");
        break;
      case 4:
        touch(place);
        return fail(Errc::busy);
      case 5: {  // stores another one first
        std::mt19937_64 random(turn);
        fill(places_[turn * 13 % places_.size()], random);
        break;
      }
      case 6: {  // frees it, and says no
        free_handle(place, handle);
        return fail(Errc::io_error);
      }
      default:
        break;
    }
    verify(place);
    const Status freed = pool_->try_free(Handle{handle});
    if (freed) emptied(place, handle);
    return freed;
  }

  const FieldOptions options_;
  std::unique_ptr<SimPageAllocator> source_;
  std::vector<Place> places_;
  std::atomic<std::uint64_t> keys_{1}, stored_{0}, freed_{0}, turns_{0};
  Verdict verdict_;
  std::unique_ptr<Zpool> pool_;
};

}  // namespace mmkit::testing
