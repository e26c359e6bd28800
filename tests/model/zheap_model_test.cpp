// SPDX-License-Identifier: MIT
//
// zheap against a naive model - random operations on pools of every configuration, by one thread that
// stays on its CPU or wanders.
//
// A duel knows of its pool what can be seen: answers, mappings, statistics, the pages of the source.
// What must hold at every moment:
//   - a live object is mapped as long as it was asked for and holds its pattern; while it is mapped it
//     stays where it is, and is neither freed nor evicted; a dead handle is refused
//   - objects, payload, allocations, frees and evictions are counted exactly, and pages are the source's
//   - an allocation fails only where pages are refused or limited, and changes nothing then
//   - the callback is asked only for what lives, is not mapped and is not being asked for already
// The callback does all the odd things that a callback may do.
//
// Load: kOperations times MMKIT_SCALE, spread over all regimes. Structures are validated after each of
// the first 10^4 operations of a regime, and after each 10^4-th from there on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::make_pattern;
using testing::write_pattern;

constexpr std::uint64_t kOperations = 1'000'000;
constexpr std::uint64_t kEachValidated = 10'000;

// How a pool is made, and used.
struct Regime {
  const char* name;
  const char* params;
  std::size_t least_bytes, most_bytes;
  std::size_t live;             // about so many objects
  std::size_t limit_pages = 0;  // 0: none
  bool evictable = true;
  bool wanders = false;
  bool fails = false;  // pages are refused now and then
};

constexpr Regime kRegimes[] = {
    {.name = "Default", .params = "", .least_bytes = 1, .most_bytes = 4096, .live = 900},
    {.name = "NoFloor", .params = "floor=0", .least_bytes = 1, .most_bytes = 3000, .live = 900},
    {.name = "HighestFloorWandering",
     .params = "floor=0.98",
     .least_bytes = 20,
     .most_bytes = 2000,
     .live = 2500,
     .wanders = true},
    {.name = "LowFloorFailing",
     .params = "floor=0.9",
     .least_bytes = 1,
     .most_bytes = 2500,
     .live = 700,
     .fails = true},
    {.name = "LargeObjects",
     .params = "max_object=32768",
     .least_bytes = 1,
     .most_bytes = 32768,
     .live = 120},
    {.name = "LargeObjectsLimitedFailing",
     .params = "max_object=32768 floor=0.98",
     .least_bytes = 2000,
     .most_bytes = 32768,
     .live = 100,
     .limit_pages = 200,
     .fails = true},
    {.name = "TinyObjectsWandering",
     .params = "",
     .least_bytes = 1,
     .most_bytes = 60,
     .live = 5000,
     .wanders = true},
    {.name = "WholePagesAmongOthers",
     .params = "",
     .least_bytes = 3900,
     .most_bytes = 4096,
     .live = 300,
     .wanders = true},
    {.name = "TwoPages",
     .params = "",
     .least_bytes = 1,
     .most_bytes = 1500,
     .live = 30,
     .limit_pages = 2},
    {.name = "SeventeenPagesWandering",
     .params = "",
     .least_bytes = 1,
     .most_bytes = 2500,
     .live = 80,
     .limit_pages = 17,
     .wanders = true},
    {.name = "LimitedWithoutEviction",
     .params = "",
     .least_bytes = 1,
     .most_bytes = 3000,
     .live = 1000,
     .limit_pages = 300,
     .evictable = false,
     .wanders = true},
    // Several shards, and extents that wait.
    {.name = "ManyPagesWandering",
     .params = "",
     .least_bytes = 200,
     .most_bytes = 3900,
     .live = 8000,
     .wanders = true},
    {.name = "ManyPagesFailing",
     .params = "floor=0.98",
     .least_bytes = 200,
     .most_bytes = 3900,
     .live = 8000,
     .wanders = true,
     .fails = true},
};

struct Object {
  Handle handle = Handle::none;
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  unsigned pins = 0;
  bool asked = false;  // being evicted
  std::size_t place_in_live = 0;
};

class Duel {
 public:
  Duel(const Regime& regime, std::uint64_t seed)
      : regime_(regime),
        random_(seed),
        wanderer_(seed),
        pages_(SimPageAllocator::create({.capacity_bytes = std::size_t{128} << 20}).value()),
        source_(*pages_) {
    ZpoolOptions options;
    options.name = "duel";
    if (regime.evictable) {
      options.evict = [this](Zpool&, Handle handle) { return on_evict(handle); };
    }
    options.pages = &source_;
    options.params = regime.params;
    options.limit_bytes = regime.limit_pages * kPageSize;
    pool_ = Zpool::create("zheap", std::move(options)).value();
  }

  bool broken() const { return broken_; }

  void step(std::uint64_t operation, bool validate) {
    operation_ = operation;
    if (regime_.wanders && operation % 512 == 0) wanderer_.move();
    if (regime_.fails && operation % 64 == 0) refuse_pages();
    // By turns more comes than goes, and less.
    const bool grows = operation / 4096 % 2 == 0 && live_.size() < regime_.live;
    const unsigned kind = below(1000);
    if (kind < (grows ? 480u : 260u)) {
      add();
    } else if (kind < 640) {
      if (!live_.empty()) free_object(any());
    } else if (kind < 780) {
      verify_any();
    } else if (kind < 840) {
      if (!live_.empty()) pool_->touch(objects_[any()].handle);
    } else if (kind < 880) {
      hold_any();
    } else if (kind < 925) {
      let_go();
    } else if (kind < 940) {
      // Each takes a block or more with all its objects: seldom, or pools would stay small.
      if (one_in(32)) shrink(1 + below(4));
    } else if (kind < 945) {
      if (one_in(16)) compact();
    } else {
      refuse_misuse();
    }
    require(pool_->total_bytes() == pages_->stats().held_pages * kPageSize,
            "pages are the source's");
    require(regime_.limit_pages == 0 || pool_->total_bytes() <= regime_.limit_pages * kPageSize,
            "the limit holds");
    if (operation % 16 == 0) compare_stats();
    if (operation % 20'000 == 0) verify_all();
    if (validate) require(pool_->validate().has_value(), "the pool is valid");
  }

  // Frees everything; nothing may be left.
  void finish() {
    source_.succeed();
    verify_all();
    while (!held_.empty() && !broken_) let_go();
    while (!live_.empty() && !broken_) free_object(live_.back());
    require(pool_->validate().has_value(), "the empty pool is valid");
    require(pool_->total_bytes() == 0, "the empty pool has no page");
    require(pages_->stats().held_pages == 0, "no page is left behind");
    compare_stats();
    testing::bind_thread(::pthread_self(), testing::allowed_cpus());
  }
  std::uint64_t moved() const { return pool_->stats().moved; }

 private:
  void require(bool holds, const char* what) {
    if (holds || broken_) return;
    broken_ = true;
    ADD_FAILURE() << regime_.name << ", operation " << operation_ << ": not so: " << what;
  }
  unsigned below(std::uint64_t limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned n) { return below(n) == 0; }
  std::size_t any() { return live_[below(live_.size())]; }

  void refuse_pages() {
    if (one_in(3)) {
      source_.fail_nth(1 + below(3), one_in(2) ? FailingPageSource::Repeat::once
                                               : FailingPageSource::Repeat::for_ever);
    } else {
      source_.succeed();
    }
  }

  // ------------------------------------------------------------------ one operation each

  void add() {
    const bool is_small = one_in(3);  // so that sizes mix
    const std::size_t most = is_small ? regime_.least_bytes + 100 : regime_.most_bytes;
    const std::size_t size_bytes =
        regime_.least_bytes + below(std::min(most, regime_.most_bytes) - regime_.least_bytes + 1);
    const std::uint64_t key = ++keys_;
    const bool nowait = one_in(16);
    const Gfp gfp = (nowait ? Gfp::nowait : Gfp::kernel) | (one_in(8) ? Gfp::zero : Gfp::kernel);
    const bool stored = one_in(2);
    const std::uint64_t refused = source_.failed_calls();
    const std::uint64_t evicted = evicted_;
    const Result<Handle> handle = stored ? pool_->store(make_pattern(size_bytes, key), gfp)
                                         : pool_->allocate(size_bytes, gfp);
    if (!handle) {
      require(
          handle.error() == Errc::out_of_memory || (nowait && handle.error() == Errc::try_again),
          "an allocation fails for want of memory");
      require(nowait || regime_.limit_pages != 0 || source_.failed_calls() != refused,
              "or it does not fail");
      require(evicted_ == evicted || regime_.limit_pages != 0, "and evicts for a limit alone");
      return;
    }
    const std::size_t id = objects_.size();
    objects_.push_back({*handle, size_bytes, key, 0, false, live_.size()});
    live_.push_back(id);
    require(by_handle_.emplace(*handle, id).second, "a handle comes once");
    ++allocated_;
    payload_ += size_bytes;
    if (stored) return;
    Result<Mapping> mapping = pool_->try_map(*handle);
    require(mapping.has_value(), "what lives can be mapped");
    if (broken_) return;
    const auto bytes = mapping->bytes();
    require(bytes.size() == size_bytes, "a mapping is as long as was asked for");
    require(!has(gfp, Gfp::zero) || std::all_of(bytes.begin(), bytes.end(),
                                                [](std::byte b) { return b == std::byte{}; }),
            "zero is zero");
    write_pattern(bytes, key);
  }
  void forget(std::size_t id) {
    Object& object = objects_[id];
    objects_[live_.back()].place_in_live = object.place_in_live;
    live_[object.place_in_live] = live_.back();
    live_.pop_back();
    payload_ -= object.size_bytes;
    ++freed_;
    dead_.push_back(object.handle);
    if (dead_.size() > 64) dead_.pop_front();
    by_handle_.erase(object.handle);
  }
  bool free_object(std::size_t id) {
    if (objects_[id].pins == 0) verify(id);
    const Status freed = pool_->try_free(objects_[id].handle);
    if (objects_[id].pins != 0) {
      require(!freed && freed.error() == Errc::busy, "a mapped object is not freed");
      return false;
    }
    require(freed.has_value(), "what lives and is not mapped can be freed");
    if (!broken_) forget(id);
    return true;
  }
  void verify(std::size_t id) {
    const Object& object = objects_[id];
    const Result<Mapping> mapping = pool_->try_map(object.handle, MapMode::read_only);
    require(mapping.has_value(), "what lives can be mapped");
    if (broken_) return;
    require(mapping->const_bytes().size() == object.size_bytes,
            "a mapping is as long as the object");
    require(has_pattern(mapping->const_bytes(), object.key), "an object is what was stored");
  }
  void verify_any() {
    if (!live_.empty()) verify(any());
  }
  void verify_all() {
    for (const std::size_t id : live_) verify(id);
  }
  void hold_any() {
    if (live_.empty() || held_.size() == 40) return;
    const std::size_t id = any();
    Result<Mapping> mapping = pool_->try_map(objects_[id].handle, MapMode::read_only);
    require(mapping.has_value(), "what lives can be mapped");
    if (broken_) return;
    ++objects_[id].pins;
    held_.push_back({id, mapping->const_bytes().data(), *std::move(mapping)});
  }
  void let_go() {
    if (held_.empty()) return;
    Held& held = held_.front();
    const Object& object = objects_[held.id];
    require(has_pattern(held.mapping.const_bytes(), object.key), "a mapped object stays whole");
    verify(held.id);
    {
      const Mapping again = pool_->map(object.handle, MapMode::read_only);
      require(again.const_bytes().data() == held.address, "and where it is");
    }
    --objects_[held.id].pins;
    held_.pop_front();
  }
  void shrink(std::size_t pages) {
    const bool was_empty = pool_->total_bytes() == 0;
    const ShrinkOutcome done = pool_->shrink(pages);
    require(done.status.has_value() == (done.reclaimed_pages >= pages && regime_.evictable),
            "a shrink succeeds if and only if it frees what it was asked for");
    if (done.status) return;
    if (!regime_.evictable || was_empty) {
      require(done.status.error() == Errc::invalid_argument && done.reclaimed_pages == 0,
              "there is nothing to shrink");
    } else {
      require(done.status.error() == Errc::try_again ||
                  (done.status.error() == Errc::invalid_argument && pool_->total_bytes() == 0),
              "a shrink gives up, or comes to the end");
    }
  }
  void compact() {
    const std::size_t before = pool_->total_bytes();
    const Result<std::size_t> freed = pool_->compact();
    require(freed.has_value(), "compact() works");
    if (!broken_) {
      require(pool_->total_bytes() == before - *freed * kPageSize, "and says what it frees");
    }
  }
  void refuse_misuse() {
    if (!dead_.empty()) {
      const Handle dead = dead_[below(dead_.size())];
      const Status freed = pool_->try_free(dead);
      require(!freed && freed.error() == Errc::invalid_argument, "a dead handle is not freed");
      const Result<Mapping> mapping = pool_->try_map(dead);
      require(!mapping && mapping.error() == Errc::not_found, "a dead handle is not mapped");
      pool_->touch(dead);
    }
    const Handle foreign = handle_bits::make(static_cast<std::uint16_t>(random_()),
                                             static_cast<std::uint32_t>(random_()) & 0xffff,
                                             static_cast<std::uint32_t>(random_()));
    if (!by_handle_.contains(foreign)) {
      require(!pool_->try_free(foreign), "a made up handle is not freed");
      require(!pool_->try_map(foreign), "a made up handle is not mapped");
    }
    const Result<Handle> none = pool_->allocate(0);
    require(!none && none.error() == Errc::invalid_argument, "no object is of no byte");
    const Result<Handle> long_one = pool_->allocate(pool_->max_object_bytes() + 1 + below(5000));
    require(!long_one && long_one.error() == Errc::no_space, "nor longer than the longest");
  }
  void compare_stats() {
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == live_.size(), "objects are counted");
    require(stats.payload_bytes == payload_, "payload is counted");
    require(stats.allocations == allocated_, "allocations are counted");
    require(stats.frees == freed_, "frees are counted");
    require(stats.evicted == evicted_, "evictions are counted");
    require(stats.pages * kPageSize == pool_->total_bytes(), "pages are told alike");
    require(stats.payload_bytes <= stats.pages * kPageSize, "objects lie in pages");
  }

  // ------------------------------------------------------------------ the callback

  Status on_evict(Handle handle) {
    const auto at = by_handle_.find(handle);
    require(at != by_handle_.end(), "what is evicted lives");
    if (broken_) return fail(Errc::busy);
    const std::size_t id = at->second;
    require(objects_[id].pins == 0, "what is evicted is not mapped");
    require(!objects_[id].asked, "what is evicted is not being evicted");
    objects_[id].asked = true;
    const Status answer = give_up(id, handle);
    if (by_handle_.contains(handle)) objects_[id].asked = false;
    return answer;
  }
  Status give_up(std::size_t id, Handle handle) {
    ++depth_;
    const unsigned turn = depth_ > 2 ? 15 : below(16);
    Status answer;
    switch (turn) {
      case 0:
        answer = fail(Errc::busy);
        break;
      case 1:  // a lie
        break;
      case 2:  // frees others, of its block among them
        for (int n = 0; n < 4 && !live_.empty(); ++n) free_object(any());
        answer = free_asked(id, handle);
        break;
      case 3:
        compact();
        answer = free_asked(id, handle);
        break;
      case 4:
        pool_->touch(handle);
        answer = fail(Errc::busy);
        break;
      case 5:
        add();
        answer = free_asked(id, handle);
        break;
      case 6:  // frees it, and says no; that is a refusal for the count alone
        static_cast<void>(free_asked(id, handle));
        --evicted_;
        answer = fail(Errc::io_error);
        break;
      case 7:
        shrink(1);
        answer = free_asked(id, handle);
        break;
      default:
        answer = free_asked(id, handle);
        break;
    }
    --depth_;
    return answer;
  }
  Status free_asked(std::size_t id, Handle handle) {
    ++evicted_;
    if (by_handle_.contains(handle)) free_object(id);
    return {};
  }

  struct Held {
    std::size_t id;
    const std::byte* address;
    Mapping mapping;
  };

  const Regime& regime_;
  std::mt19937_64 random_;
  testing::Wanderer wanderer_;
  std::unique_ptr<SimPageAllocator> pages_;
  FailingPageSource source_;
  std::deque<Object> objects_;
  std::unordered_map<Handle, std::size_t> by_handle_;  // those that live
  std::vector<std::size_t> live_;
  std::deque<Handle> dead_;
  std::uint64_t keys_ = 0, allocated_ = 0, freed_ = 0, evicted_ = 0;
  std::uint64_t payload_ = 0, operation_ = 0;
  unsigned depth_ = 0;
  bool broken_ = false;
  std::unique_ptr<Zpool> pool_;
  std::deque<Held> held_;  // ends before the pool
};

class ZheapModel : public ::testing::TestWithParam<Regime> {};

void PrintTo(const Regime& regime, std::ostream* out) {
  *out << regime.name;
}

TEST_P(ZheapModel, AnyLifeGoesAsTheModelSays) {
  Duel duel(GetParam(), testing::test_seed(0));
  const std::uint64_t operations = testing::scaled(kOperations / std::size(kRegimes), 3000);
  for (std::uint64_t i = 0; i < operations && !duel.broken(); ++i) {
    duel.step(i, i < kEachValidated || i % kEachValidated == 0);
  }
  duel.finish();
  EXPECT_TRUE(operations < kEachValidated || duel.moved() != 0);
}

INSTANTIATE_TEST_SUITE_P(Regime, ZheapModel, ::testing::ValuesIn(kRegimes),
                         [](const auto& regime) { return regime.param.name; });

}  // namespace
}  // namespace mmkit
