// SPDX-License-Identifier: MIT
//
// zsmalloc against naive models - millions of random operations on pools of every configuration.
//
// A duel knows its pool only by what can be seen: the runs of pages that it takes and gives back, the
// addresses of mappings, answers and statistics. What must hold at every moment:
//   - an object lies in a cell of its own, of the class that the kernel's rule gives its size, and
//     holds its pattern; a mapped one stays where it is
//   - without what CPUs keep, an allocation goes to the fullest group of zspages that has room, and
//     takes pages only when there is no room; it fails if and only if there is none
//   - pages that a shrink or a compaction frees are those that it reports
//   - a compaction leaves fewer free cells in a class than a zspage has, unless some are mapped
//   - the callback is asked only for what lives, is not mapped and is not being asked for already;
//     of zspages clearly older than others first
// The callback does all the odd things that a callback may do. One file, since a duel is one thing.
//
// Load: kOperations times MMKIT_SCALE, spread over all configurations. Structures are validated after
// each of the first 10^4 operations, and after each 10^4-th from there on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"
#include "support/zspage_watch.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::NaiveClasses;
using testing::NaiveZspages;
using testing::WatchedSource;
using testing::write_pattern;

constexpr std::uint64_t kOperations = 10'000'000;
constexpr std::uint64_t kOperationsPerPool = 25'000;

// How a pool is made, and used.
struct Regime {
  std::size_t chain_pages;
  unsigned cache;
  std::size_t limit_pages;  // 0: none
  bool evictable;
  std::size_t least_bytes, most_bytes;
  std::size_t live;  // about so many objects
};

struct Object {
  Handle handle = Handle::none;
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  std::uintptr_t run = 0;
  std::size_t cell = 0;
  unsigned pins = 0;
  bool asked = false;  // being evicted
  std::size_t place_in_live = 0;
};

// A zspage as it looks from outside.
struct Run {
  std::size_t size_class = 0;
  std::vector<std::size_t> cells;  // object and one; 0: nothing that lives
  std::size_t live = 0;
  unsigned pins = 0;
  // Counts of allocations at its last use: at least that late, at most that late.
  std::uint64_t used_after = 0, used_before = 0;

  std::size_t group() const { return live * 10 / cells.size(); }
  bool has_room() const { return live != cells.size(); }
};

class Duel {
 public:
  Duel(const Regime& regime, std::uint64_t seed)
      : regime_(regime),
        random_(seed),
        classes_(regime.chain_pages),
        pages_(SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value()),
        source_(*pages_, [this](std::uintptr_t run) { on_run_freed(run); }) {
    ZpoolOptions options;
    options.name = "duel";
    if (regime.evictable) {
      options.evict = [this](Zpool&, Handle handle) { return on_evict(handle); };
    }
    options.pages = &source_;
    options.params = "chain_pages=" + std::to_string(regime.chain_pages) +
                     " cache=" + std::to_string(regime.cache);
    options.limit_bytes = regime.limit_pages * kPageSize;
    pool_ = Zpool::create("zsmalloc", std::move(options)).value();
  }

  bool broken() const { return broken_; }

  void step(std::uint64_t operation, bool validate) {
    operation_ = operation;
    const unsigned grow = live_.size() < regime_.live ? 40 : 22;
    const unsigned kind = below(1000);
    if (kind < grow * 10) {
      allocate();
    } else if (kind < 640) {
      free_any();
    } else if (kind < 780) {
      verify_any();
    } else if (kind < 840) {
      touch_any();
    } else if (kind < 890) {
      hold_any();
    } else if (kind < 930) {
      let_go();
    } else if (kind < 950) {
      shrink(1 + below(4));
    } else if (kind < 965) {
      compact();
    } else {
      refuse_misuse();
    }
    require(pool_->total_bytes() == source_.held_pages() * kPageSize, "pages are the source's");
    require(regime_.limit_pages == 0 || source_.held_pages() <= regime_.limit_pages,
            "the limit holds");
    if (operation % 16 == 0) compare_stats();
    if (validate) require(pool_->validate().has_value(), "the pool is valid");
  }

  // Frees everything; nothing may be left.
  void finish() {
    while (!held_.empty() && !broken_) let_go();
    while (!live_.empty() && !broken_) free_object(live_.back());
    require(pool_->validate().has_value(), "the empty pool is valid");
    require(pool_->total_bytes() == 0, "the empty pool has no page");
    require(pages_->stats().held_pages == 0, "no page is left behind");
    compare_stats();
  }

 private:
  void require(bool holds, const char* what) {
    if (holds || broken_) return;
    broken_ = true;
    ADD_FAILURE() << "operation " << operation_ << " (chain_pages=" << regime_.chain_pages
                  << " cache=" << regime_.cache << " limit " << regime_.limit_pages << " sizes "
                  << regime_.least_bytes << " to " << regime_.most_bytes << "): not so: " << what;
  }
  unsigned below(std::uint64_t limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned n) { return below(n) == 0; }
  Object& any_object() { return objects_[live_[below(live_.size())]]; }

  // ------------------------------------------------------------------ places

  // Notes where an object lies; whether it may lie there.
  void put(std::size_t id, std::uintptr_t address) {
    Object& object = objects_[id];
    const auto at = source_.find(address);
    require(at != source_.runs().end(), "an object lies in a page of the pool");
    if (broken_) return;
    const std::size_t size_class = classes_.find(object.size_bytes);
    const NaiveClasses::Shape& shape = classes_.shape(size_class);
    const auto [found, is_new] = runs_.try_emplace(at->first);
    Run& run = found->second;
    if (is_new) {
      run.size_class = size_class;
      // Where a call that must not wait finds no other room for what describes a zspage, it gives the
      // pages back and takes one more.
      const std::size_t pages = at->second - (gave_unused_back_ ? 1 : 0);
      run.cells.resize(pages * kPageSize / shape.bytes);
      run.used_before = allocated_;
      require(pages <= shape.pages, "a zspage is no longer than its class's");
      of_class_[size_class].insert(at->first);
    }
    const std::size_t offset = address - at->first;
    require(run.size_class == size_class, "a zspage has objects of one class");
    require(offset % shape.bytes == 0, "an object begins where a cell does");
    object.run = at->first;
    object.cell = offset / shape.bytes;
    require(object.cell < run.cells.size(), "an object lies within its zspage");
    if (broken_) return;
    require(run.cells[object.cell] == 0, "a cell has one object");
    run.cells[object.cell] = id + 1;
    ++run.live;
    run.pins += object.pins;
  }
  void take_away(const Object& object) {
    const auto at = runs_.find(object.run);
    require(at != runs_.end(), "an object's pages are there as long as it is");
    if (broken_) return;
    at->second.cells[object.cell] = 0;
    --at->second.live;
    at->second.pins -= object.pins;
  }
  void on_run_freed(std::uintptr_t address) {
    const auto at = runs_.find(address);
    if (at == runs_.end()) {
      gave_unused_back_ = true;
      return;
    }
    require(compacting_ || at->second.live == 0, "pages with a live object stay");
    of_class_[at->second.size_class].erase(address);
    runs_.erase(at);
  }
  // After objects have moved: looks at all of them.
  void look_again() {
    std::unordered_map<std::size_t, std::uint64_t> youngest;  // of a class
    for (auto& [address, run] : runs_) {
      std::fill(run.cells.begin(), run.cells.end(), 0);
      run.live = 0;
      run.pins = 0;
      run.used_before = allocated_;  // it may have taken over an age
    }
    for (const std::size_t id : live_) {
      const Result<Mapping> mapping = pool_->try_map(objects_[id].handle, MapMode::read_only);
      require(mapping.has_value(), "a live object can be mapped");
      if (broken_) return;
      const auto address = reinterpret_cast<std::uintptr_t>(mapping->const_bytes().data());
      const std::uintptr_t before =
          objects_[id].run +
          objects_[id].cell * classes_.shape(classes_.find(objects_[id].size_bytes)).bytes;
      require(objects_[id].pins == 0 || address == before, "a mapped object does not move");
      put(id, address);
    }
  }
  bool in_flight(std::uintptr_t run) const {
    return std::find(flight_.begin(), flight_.end(), run) != flight_.end();
  }

  // ------------------------------------------------------------------ one operation each

  struct Expected {
    std::size_t group = 0;  // of the fullest zspage with room
    bool room = false;      // in a zspage that is there
    bool kept = false;      // in one that is being emptied, if a CPU has kept some of it
    bool pages = false;     // within the limit, for a zspage of a page at least
    bool whole = false;     // and for one of the class's length
  };
  Expected expect(std::size_t size_bytes) {
    Expected expected;
    const std::size_t size_class = classes_.find(size_bytes);
    for (const std::uintptr_t address : of_class_[size_class]) {
      const Run& run = runs_.at(address);
      if (!run.has_room()) continue;
      if (in_flight(address)) {
        expected.kept |= regime_.cache != 0;
        continue;
      }
      expected.group = std::max(expected.group, run.group());
      expected.room = true;
    }
    const std::size_t held = source_.held_pages();
    expected.pages = regime_.limit_pages == 0 || held < regime_.limit_pages;
    expected.whole =
        regime_.limit_pages == 0 || held + classes_.shape(size_class).pages <= regime_.limit_pages;
    if (regime_.cache != 0) {
      // A zspage with nothing but kept objects goes when there is need.
      for (const auto& [address, run] : runs_) expected.pages |= run.live == 0;
    }
    return expected;
  }

  void allocate() {
    const std::size_t size_bytes =
        regime_.least_bytes + below(regime_.most_bytes - regime_.least_bytes + 1);
    const std::uint64_t key = ++keys_;
    Gfp gfp = one_in(16) ? Gfp::nowait : Gfp::kernel;
    const bool nowait = has(gfp, Gfp::nowait);
    const Expected expected = expect(size_bytes);
    const bool stored = one_in(2), zeroed = !stored && one_in(8);
    if (zeroed) gfp = gfp | Gfp::zero;
    const std::uint64_t evictions = asked_;
    flight_.push_back(0);
    note_passed_over();  // by a shrink at the limit
    gave_unused_back_ = false;
    const Result<Handle> handle = stored ? pool_->store(testing::make_pattern(size_bytes, key), gfp)
                                         : pool_->allocate(size_bytes, gfp);
    note_passed_over();
    note_survivor();
    flight_.pop_back();
    if (!handle) {
      require(handle.error() == Errc::out_of_memory, "no room is out_of_memory");
      require(nowait || !(expected.room || expected.whole), "where there is room none is refused");
      require(nowait || regime_.evictable || !expected.pages, "a page is enough for a zspage");
      ++failures_;
      return;
    }
    const bool plain = evictions == asked_;  // nobody was evicted for it
    require(!plain || expected.room || expected.kept || expected.pages,
            "where there is no room none is given");
    require(!index_.contains(*handle), "a new handle is no live one");
    const std::size_t id = add({*handle, size_bytes, key});
    Mapping mapping = pool_->map(*handle, stored ? MapMode::read_only : MapMode::read_write);
    require(mapping.bytes().size() == size_bytes, "a mapping is as long as the object");
    if (zeroed) {
      require(std::all_of(mapping.bytes().begin(), mapping.bytes().end(),
                          [](std::byte b) { return b == std::byte{}; }),
              "Gfp::zero clears");
    }
    if (stored) {
      require(has_pattern(mapping.bytes(), key), "store() stores");
    } else {
      write_pattern(mapping.bytes(), key);
    }
    ++allocations_;
    if (!nowait) ++allocated_;
    const std::size_t runs = runs_.size();
    gave_unused_back_ = gave_unused_back_ && nowait;
    put(id, reinterpret_cast<std::uintptr_t>(mapping.bytes().data()));
    gave_unused_back_ = false;
    if (broken_) return;
    Run& run = runs_.at(objects_[id].run);
    run.used_after = run.used_before = allocated_;
    if (regime_.cache != 0 || !plain) return;
    require((runs_.size() != runs) == !expected.room, "a zspage is opened when there is no room");
    require(!expected.room || (run.live - 1) * 10 / run.cells.size() == expected.group,
            "an allocation goes to the fullest group");
    require(!in_flight(objects_[id].run), "no room is given in a zspage that is being emptied");
  }
  std::size_t add(Object object) {
    std::size_t id = objects_.size();
    if (dead_.empty()) {
      objects_.push_back(object);
    } else {
      id = dead_.back();
      dead_.pop_back();
      objects_[id] = object;
    }
    objects_[id].place_in_live = live_.size();
    live_.push_back(id);
    index_.emplace(object.handle, id);
    payload_bytes_ += object.size_bytes;
    most_runs_ = std::max(most_runs_, source_.runs().size());
    return id;
  }
  void remove(std::size_t id) {
    const Object gone = objects_[id];
    take_away(gone);
    index_.erase(gone.handle);
    payload_bytes_ -= gone.size_bytes;
    objects_[live_.back()].place_in_live = gone.place_in_live;
    live_[gone.place_in_live] = live_.back();
    live_.pop_back();
    dead_.push_back(id);
    last_dead_ = gone.handle;
    ++frees_;
  }

  void free_object(std::size_t id) {
    const Object object = objects_[id];
    if (object.pins != 0) {
      const Status refused = pool_->try_free(object.handle);
      require(!refused && refused.error() == Errc::busy, "a mapped object is busy");
      return;
    }
    remove(id);  // before its pages go
    require(pool_->try_free(object.handle).has_value(), "a live object can be freed");
  }
  void free_any() {
    if (!live_.empty()) free_object(live_[below(live_.size())]);
  }

  void verify(const Object& object) {
    const Result<Mapping> mapping = pool_->try_map(object.handle, MapMode::read_only);
    require(mapping.has_value(), "a live object can be mapped");
    if (broken_) return;
    require(mapping->const_bytes().size() == object.size_bytes,
            "a mapping is as long as the object");
    require(has_pattern(mapping->const_bytes(), object.key), "an object keeps its bytes");
    const auto address = reinterpret_cast<std::uintptr_t>(mapping->const_bytes().data());
    const std::size_t bytes = classes_.shape(classes_.find(object.size_bytes)).bytes;
    require(address == object.run + object.cell * bytes, "only a compaction moves an object");
  }
  void verify_any() {
    if (!live_.empty()) verify(any_object());
  }
  void touch_any() {
    if (live_.empty()) return;
    const Object& object = any_object();
    pool_->touch(object.handle);
    Run& run = runs_.at(object.run);
    run.used_after = run.used_before = allocated_;
  }

  // Once, or more often than a slot can count.
  void hold_any() {
    if (live_.empty() || held_.size() >= kMostHeld) return;
    const unsigned times = one_in(50) ? 70 : 1;
    Object& object = any_object();
    for (unsigned n = 0; n < times; ++n) hold(object);
  }
  void hold(Object& object) {
    Result<Mapping> mapping = pool_->try_map(object.handle);
    require(mapping.has_value(), "a live object can be mapped");
    if (!mapping) return;
    ++object.pins;
    ++runs_.at(object.run).pins;
    held_.push_back({object.handle, *std::move(mapping)});
  }
  void let_go() {
    if (held_.empty()) return;
    Held& held = held_[below(held_.size())];
    const auto at = index_.find(held.handle);
    require(at != index_.end(), "a mapped object lives");
    if (broken_) return;
    Object& object = objects_[at->second];
    require(has_pattern(held.mapping.bytes(), object.key), "a mapped object keeps its bytes");
    --object.pins;
    --runs_.at(object.run).pins;
    held = std::move(held_.back());
    held_.pop_back();
  }

  void shrink(std::size_t pages) {
    const std::size_t before = source_.held_pages();
    const std::size_t aside = aside_;
    flight_.push_back(0);
    note_passed_over();
    const ShrinkOutcome done = pool_->shrink(pages);
    note_passed_over();
    note_survivor();
    flight_.pop_back();
    if (!regime_.evictable || before == 0) {
      require(!done.status && done.status.error() == Errc::invalid_argument &&
                  done.reclaimed_pages == 0,
              "what cannot shrink is invalid_argument");
    }
    require(done.status.has_value() == (done.reclaimed_pages >= pages),
            "a shrink succeeds if and only if it frees what it was asked for");
    if (!done.status) {
      const Errc why = done.status.error();
      require(why == Errc::try_again || (why == Errc::invalid_argument &&
                                         (!regime_.evictable || runs_.size() <= flight_.size())),
              "a shrink fails for a reason that there was");
    }
    // Whatever the callback freed and took besides is not the shrink's.
    require(source_.held_pages() + done.reclaimed_pages == before + (aside_ - aside),
            "pages freed by a shrink are those that it reports");
  }
  // A zspage with a mapped object is passed over, and counts as used then.
  void note_passed_over() {
    if (held_.empty()) return;
    for (auto& [address, run] : runs_) {
      if (run.pins != 0) run.used_before = allocated_;
    }
  }

  // One that was not emptied counts as used when that was over.
  void note_survivor() {
    const auto at = runs_.find(flight_.back());
    if (at != runs_.end()) at->second.used_after = at->second.used_before = allocated_;
  }

  void compact() {
    const std::size_t before = source_.held_pages();
    compacting_ = true;
    const Result<std::size_t> freed = pool_->compact();
    compacting_ = false;
    require(freed.has_value(), "a zsmalloc pool compacts");
    if (broken_) return;
    require(before - source_.held_pages() == *freed, "pages freed by compact() are reported");
    look_again();
    if (broken_) return;
    for (const auto& [c, runs] : of_class_) {
      std::size_t free_cells = 0;
      bool held = false;
      for (const std::uintptr_t address : runs) {
        const Run& run = runs_.at(address);
        held |= run.pins != 0 || in_flight(address);
        free_cells += run.cells.size() - run.live;
      }
      require(held || free_cells < classes_.shape(c).objects,
              "a compaction leaves less than a zspage free in a class");
    }
  }

  void refuse_misuse() {
    require(pool_->allocate(0).error() == Errc::invalid_argument, "size 0 is invalid_argument");
    require(pool_->allocate(kPageSize + 1 + below(1000)).error() == Errc::no_space,
            "a large object is no_space");
    failures_ += 2;
    const auto refused = [this](std::uint64_t raw) {
      const Handle handle{raw};
      if (index_.contains(handle)) return;
      require(pool_->try_free(handle).error() == Errc::invalid_argument, "it is not freed");
      require(pool_->try_map(handle).error() == Errc::not_found, "it is not mapped");
    };
    refused(0);
    if (last_dead_ == Handle::none) return;
    const std::uint64_t dead = handle_bits::raw(last_dead_);
    refused(dead);
    pool_->touch(last_dead_);
    refused(dead ^ std::uint64_t{1} << below(64));
    if (!live_.empty()) {
      const std::uint64_t live = handle_bits::raw(any_object().handle);
      refused(live ^ std::uint64_t{1} << below(64));
      refused(live + (std::uint64_t{1} << handle_bits::kGenerationShift));
    }
  }

  // ------------------------------------------------------------------ eviction

  Status on_evict(Handle handle) {
    ++asked_;
    const auto at = index_.find(handle);
    require(at != index_.end(), "what is evicted lives");
    if (broken_) return fail(Errc::busy);
    const std::size_t id = at->second;
    const std::uintptr_t run = objects_[id].run;
    require(objects_[id].pins == 0, "what is evicted is not mapped");
    require(!objects_[id].asked, "nothing is evicted twice at once");
    if (flight_.back() != run) {
      require(!in_flight(run), "a zspage is emptied by one shrink at a time");
      if (flight_.size() == 1 && regime_.cache == 0) check_age(runs_.at(run));
      note_survivor();
      flight_.back() = run;
    }
    runs_.at(run).used_before = allocated_;
    verify(objects_[id]);
    objects_[id].asked = true;
    const std::size_t before = source_.held_pages() - aside_;
    const Status answer = act(id, handle);
    aside_ = source_.held_pages() - before;  // callbacks inside of this one included
    if (index_.contains(handle)) objects_[id].asked = false;
    return answer;
  }

  // Not when another, that could be evicted, was used for the last time more than two generations
  // before this one was: a generation ends with an eighth as many allocations as there are zspages.
  void check_age(const Run& chosen) {
    const std::uint64_t two_generations = 2 * (most_runs_ / 8 + 2);
    for (const auto& [address, run] : runs_) {
      require(run.pins != 0 || run.used_before + two_generations >= chosen.used_after,
              "the least recently used are evicted first");
    }
  }

  Status act(std::size_t id, Handle handle) {
    const unsigned deed = one_in(3) ? below(12) : 0;
    switch (deed) {
      case 1:
        return fail(Errc::busy);
      case 2:
        return {};  // a lie
      case 3:
        pool_->touch(handle);
        return fail(Errc::busy);
      case 4:
        if (held_.size() < kMostHeld) hold(objects_[id]);
        return fail(Errc::busy);
      case 5:  // others, siblings perhaps among them
        for (unsigned n = 0; n < 3; ++n) {
          const std::size_t other = live_[below(live_.size())];
          if (other != id && !objects_[other].asked) free_object(other);
        }
        break;
      case 6:
        allocate();
        break;
      case 7:
        if (flight_.size() < 3) shrink(1 + below(2));
        break;
      case 8:
        compact();
        break;
      case 9: {  // frees it, and says no
        free_object(id);
        return fail(Errc::io_error);
      }
      case 10:
        require(pool_->validate().has_value(), "the pool is valid during an eviction");
        break;
      default:
        break;
    }
    if (broken_) return fail(Errc::busy);
    require(index_.contains(handle), "an object being evicted stays");
    if (broken_) return fail(Errc::busy);
    free_object(id);
    ++evicted_;
    return {};
  }

  void compare_stats() {
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == live_.size(), "stats: objects");
    require(stats.payload_bytes == payload_bytes_, "stats: payload");
    require(stats.pages == source_.held_pages(), "stats: pages");
    require(stats.allocations == allocations_, "stats: allocations");
    require(stats.frees == frees_, "stats: frees");
    require(stats.evicted == evicted_, "stats: evicted");
    require(stats.failures == failures_, "stats: failures");
    require(stats.compactable_pages <= stats.pages, "stats: compactable pages");
  }

  static constexpr std::size_t kMostHeld = 6;
  struct Held {
    Handle handle;
    Mapping mapping;
  };

  const Regime regime_;
  std::mt19937_64 random_;
  const NaiveClasses classes_;
  std::unique_ptr<SimPageAllocator> pages_;
  WatchedSource source_;
  std::vector<Object> objects_;
  std::vector<std::size_t> live_, dead_;
  std::unordered_map<Handle, std::size_t> index_;
  std::map<std::uintptr_t, Run> runs_;
  std::map<std::size_t, std::set<std::uintptr_t>> of_class_;
  std::vector<std::uintptr_t> flight_;  // by shrink under way, the zspage that it empties
  std::unique_ptr<Zpool> pool_;         // its pages go before what watches them
  std::vector<Held> held_;              // ends before the pool
  Handle last_dead_ = Handle::none;
  std::uint64_t operation_ = 0, keys_ = 0, allocations_ = 0, frees_ = 0, failures_ = 0;
  std::uint64_t allocated_ = 0;  // by calls that count as use
  std::uint64_t asked_ = 0, evicted_ = 0;
  std::size_t most_runs_ = 0, payload_bytes_ = 0;
  std::size_t aside_ = 0;          // pages that callbacks took, less those they freed
  bool gave_unused_back_ = false;  // pages, in the allocation that is under way
  bool compacting_ = false, broken_ = false;
};

// The n-th of the configurations, with sizes and loads at random.
Regime any_regime(std::uint64_t n, std::mt19937_64& random) {
  constexpr std::size_t kChains[] = {4, 8, 16};
  constexpr std::size_t kSizes[][2] = {
      {1, kPageSize}, {1, 130}, {33, 48}, {2900, kPageSize}, {450, 900}};
  constexpr std::size_t kLive[] = {8, 50, 200, 1500};
  const auto& sizes = kSizes[random() % std::size(kSizes)];
  Regime regime{.chain_pages = kChains[n % 3],
                .cache = n / 3 % 2 == 0 ? 0U : 32U,
                .limit_pages = 0,
                .evictable = n / 12 % 2 == 0,
                .least_bytes = sizes[0],
                .most_bytes = sizes[1],
                // The first is looked through after each operation.
                .live = kLive[random() % (n == 0 ? 2 : std::size(kLive))]};
  if (n / 6 % 2 == 0) {
    const std::size_t enough = regime.live * (sizes[0] + sizes[1]) / 2 / kPageSize + 2;
    regime.limit_pages = 1 + random() % (2 * enough);
  }
  return regime;
}

TEST(ZsmallocModel, EveryConfigurationDoesWhatCanBeSeenFromOutside) {
  const std::uint64_t operations = testing::scaled(kOperations, kOperationsPerPool);
  std::mt19937_64 random(testing::test_seed(0));
  std::unique_ptr<Duel> duel;
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (i % kOperationsPerPool == 0) {
      if (duel != nullptr) duel->finish();
      duel = std::make_unique<Duel>(any_regime(i / kOperationsPerPool, random), random());
    }
    duel->step(i, i < 10'000 || i % 10'000 == 0);
    ASSERT_FALSE(duel->broken());
  }
  duel->finish();
  ASSERT_FALSE(duel->broken());
}

// Only allocations: never more pages than zspages of the kernel's length would take, and one more.
TEST(ZsmallocModel, AFillTakesNoMorePagesThanTheKernelsRule) {
  std::mt19937_64 random(testing::test_seed(1));
  for (const std::size_t chain_pages : {std::size_t{4}, std::size_t{8}, std::size_t{16}}) {
    const NaiveClasses classes(chain_pages);
    const auto source =
        SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20}).value();
    for (std::size_t c = 0; c < classes.count(); ++c) {
      const auto pool = Zpool::create("zsmalloc", {.pages = source.get(),
                                                   .params = "cache=0 chain_pages=" +
                                                             std::to_string(chain_pages)})
                            .value();
      const NaiveClasses::Shape& shape = classes.shape(c);
      std::vector<Handle> handles;
      const std::size_t most = shape.objects * 12;
      for (std::size_t n = 1; n <= most; ++n) {
        handles.push_back(pool->allocate(shape.bytes - random() % 16).value());
        const std::size_t zspages = (n + shape.objects - 1) / shape.objects;
        ASSERT_LE(pool->total_bytes() / kPageSize, (zspages + 1) * shape.pages)
            << n << " objects of " << shape.bytes << " bytes, chain_pages=" << chain_pages;
      }
      for (const Handle handle : handles) pool->free(handle);
      ASSERT_EQ(source->stats().held_pages, 0u);
    }
  }
}

// Objects that come and go at random: never more pages than the kernel's rule would need for the
// same calls, and one zspage for each class.
TEST(ZsmallocModel, ChurnTakesNoMorePagesThanTheKernelsRule) {
  constexpr std::size_t kSizes[][2] = {{1, kPageSize}, {100, 700}, {1000, 3000}, {33, 48}};
  std::mt19937_64 random(testing::test_seed(2));
  for (const std::size_t chain_pages : {std::size_t{4}, std::size_t{8}, std::size_t{16}}) {
    const NaiveClasses classes(chain_pages);
    for (const auto& sizes : kSizes) {
      const auto source =
          SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20}).value();
      const auto pool = Zpool::create("zsmalloc", {.pages = source.get(),
                                                   .params = "cache=0 chain_pages=" +
                                                             std::to_string(chain_pages)})
                            .value();
      NaiveZspages naive(classes);
      struct Both {
        Handle handle;
        std::size_t size_bytes, zspage;
      };
      std::vector<Both> live;
      const std::uint64_t steps = testing::scaled(40'000, 8000);
      for (std::uint64_t i = 0; i < steps; ++i) {
        const std::size_t wanted = i / 4000 % 2 == 0 ? 1500 : 300;
        if (random() % 100 < (live.size() < wanted ? 60U : 40U)) {
          const std::size_t size_bytes = sizes[0] + random() % (sizes[1] - sizes[0] + 1);
          live.push_back({pool->allocate(size_bytes).value(), size_bytes, naive.add(size_bytes)});
        } else if (!live.empty()) {
          std::swap(live[random() % live.size()], live.back());
          pool->free(live.back().handle);
          naive.remove(live.back().size_bytes, live.back().zspage);
          live.pop_back();
        }
        if (i % 64 != 0) continue;
        ASSERT_LE(pool->total_bytes() / kPageSize, naive.pages() + naive.slack_pages())
            << "after " << i << " steps with " << live.size() << " objects of " << sizes[0]
            << " to " << sizes[1] << " bytes, chain_pages=" << chain_pages;
      }
      for (const Both& both : live) pool->free(both.handle);
    }
  }
}

// Slots are used again and again, until their generations are used up: a handle never comes back.
TEST(ZsmallocModel, NoHandleIsEverGivenTwice) {
  for (const char* params : {"cache=0", "cache=32"}) {
    const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{8} << 20}).value();
    const auto pool = Zpool::create("zsmalloc", {.pages = source.get(), .params = params}).value();
    std::vector<Handle> kept;
    for (unsigned i = 0; i < 200; ++i) kept.push_back(pool->allocate(100).value());
    std::unordered_set<Handle> seen;
    for (std::uint64_t i = 0; i < 300'000; ++i) {
      const Handle handle = pool->allocate(100).value();
      ASSERT_TRUE(seen.insert(handle).second) << "after " << i;
      pool->free(handle);
      ASSERT_FALSE(pool->try_free(handle));
    }
    for (const Handle handle : kept) pool->free(handle);
    EXPECT_TRUE(pool->validate());
    EXPECT_EQ(source->stats().held_pages, 0u);
  }
}

}  // namespace
}  // namespace mmkit
