// SPDX-License-Identifier: MIT
//
// Duel - a pool of chunks (zbud, z3fold) and a naive model of its rule, driven side by side.
//
// The model, a Rule, must know every outcome that can be seen: the place of each object to the byte, the
// page count, the order of eviction, errors, statistics. Each object holds a pattern of its own.
//
// A shrink is compared by replay: the evict callback does something at random and writes down what;
// the model then runs the same shrink, and wherever it would call back it takes the next note,
// which must be about the very object that the model has chosen.
//
// A Rule is a LiveObjects with
//   kType, kMaxObject, kCompacts    of the driver
//   Place                           where an object goes: a page that is there, or a new one
//   choose(size), full()            the place for an object; whether there may be no new page
//   data_of(place)                  its page, null for a new one
//   offset_in(place, size)          where in it
//   add(handle, address, size, key, place), remove(id), touch(id), shrink(pages, replay), compact()
//   address_of(id), buddy_of(id), holds_page(data), pages(), evicted, moved
//
// Load: kDuelOperations times MMKIT_SCALE. Structures are validated after each of the first 10^4
// operations, and after each 10^4-th from there on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <random>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit::testing {

inline constexpr std::uint64_t kDuelOperations = 10'000'000;
inline constexpr std::uint64_t kOperationsPerPool = 50'000;
inline constexpr std::size_t kChunk = 64;
inline constexpr unsigned kLimitTries =
    16;  // evictions that one allocation at the limit may ask for
inline constexpr int kNone = -1;

inline unsigned chunks_of(std::size_t size_bytes) {
  return static_cast<unsigned>((size_bytes + kChunk - 1) / kChunk);
}

// What the evict callback may do with the object that it is asked for.
enum class Deed : unsigned {
  evict,          // frees it and says so
  refuse,         // says no
  lie,            // says yes, and keeps it
  free_and_fail,  // frees it, and says no
  free_both,      // frees its buddy, too
  allocate,       // allocates another object, then frees this one
  exchange,       // frees its buddy, allocates another object in its stead, frees this one
  hold,           // maps it, keeps the mapping, says no
  touch,          // touches it, which means nothing while its page is being evicted, and says no
  shrink,         // shrinks by a page, then frees it
  kCount
};

// What the callback did, as the model needs it to do the same.
struct Note {
  Handle handle = Handle::none;
  Deed deed = Deed::evict;
  Handle buddy = Handle::none;  // that was freed, or not: then buddy_error says why
  Errc buddy_error{};
  Handle made = Handle::none;  // that was allocated, or not: then made_error says why
  Errc made_error{};
  std::byte* address = nullptr;
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  ShrinkOutcome inner{};
};

struct Object {
  Handle handle = Handle::none;  // none: dead
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  unsigned pins = 0;
  std::size_t place_in_live = 0;
};

// The objects of a model, by numbers that are used again.
class LiveObjects {
 public:
  int find(Handle handle) const {
    const auto found = by_handle_.find(static_cast<std::uint64_t>(handle));
    return found == by_handle_.end() ? kNone : found->second;
  }
  Object& object(int id) { return objects_[static_cast<std::size_t>(id)]; }
  const Object& object(int id) const { return objects_[static_cast<std::size_t>(id)]; }
  Handle handle_of(int id) const { return id == kNone ? Handle::none : object(id).handle; }
  const std::vector<int>& live() const { return live_; }

  std::size_t payload_bytes = 0;
  std::uint64_t evicted = 0, moved = 0;

 protected:
  int add_object(Handle handle, std::size_t size_bytes, std::uint64_t key) {
    int id = static_cast<int>(objects_.size());
    if (dead_.empty()) {
      objects_.push_back({});
    } else {
      id = dead_.back();
      dead_.pop_back();
    }
    object(id) = {handle, size_bytes, key, 0, live_.size()};
    live_.push_back(id);
    by_handle_.emplace(static_cast<std::uint64_t>(handle), id);
    payload_bytes += size_bytes;
    return id;
  }
  void remove_object(int id) {
    const Object gone = object(id);
    by_handle_.erase(static_cast<std::uint64_t>(gone.handle));
    payload_bytes -= gone.size_bytes;
    object(live_.back()).place_in_live = gone.place_in_live;
    live_[gone.place_in_live] = live_.back();
    live_.pop_back();
    object(id).handle = Handle::none;
    dead_.push_back(id);
  }

  // The objects of a page, whatever else is in it.
  template <std::size_t kBuddies>
  bool is_any_pinned(const int (&ids)[kBuddies]) const {
    return std::any_of(std::begin(ids), std::end(ids),
                       [this](int id) { return id != kNone && object(id).pins != 0; });
  }
  // Asks for the objects in this order, until one stays.
  template <class Replay, std::size_t kBuddies>
  void evict_objects(const int (&ids)[kBuddies], Replay& replay) {
    Handle asked[kBuddies];
    std::transform(std::begin(ids), std::end(ids), asked, [this](int id) { return handle_of(id); });
    for (const Handle handle : asked) {
      const int id = handle == Handle::none ? kNone : find(handle);
      if (id == kNone) continue;  // none there, or freed meanwhile
      const bool success = replay(id);
      if (!success || find(handle) != kNone) break;
      ++evicted;
    }
  }

 private:
  std::vector<Object> objects_;
  std::vector<int> live_, dead_;
  std::unordered_map<std::uint64_t, int> by_handle_;
};

// How the objects of one pool are sized and how many there are.
struct Regime {
  unsigned least_bytes, most_bytes;
  std::size_t live;         // about so many
  std::size_t limit_pages;  // 0: none
  unsigned retries;
};

// A pool and its model, driven side by side.
template <class Rule>
class Duel {
 public:
  Duel(const Regime& regime, std::uint64_t seed)
      : regime_(regime), random_(seed), model_(regime.retries, regime.limit_pages) {
    auto pages = SimPageAllocator::create({.capacity_bytes = std::size_t{8} << 20});
    if (!pages) return;
    pages_ = *std::move(pages);
    ZpoolOptions options;
    options.name = "duel";
    options.evict = [this](Zpool&, Handle handle) { return on_evict(handle); };
    options.pages = pages_.get();
    options.params = "reclaim_retries=" + std::to_string(regime.retries);
    options.limit_bytes = regime.limit_pages * kPageSize;
    auto pool = Zpool::create(Rule::kType, std::move(options));
    if (pool) pool_ = *std::move(pool);
    require(pool_ != nullptr, "the pool was made");
  }

  bool broken() const { return broken_; }

  void step(std::uint64_t operation, bool validate) {
    operation_ = operation;
    // Steers toward the regime's number of objects.
    const unsigned grow = model_.live().size() < regime_.live ? 44 : 26;
    const unsigned kind = below(100);
    if (kind < grow) {
      allocate();
    } else if (kind < 70) {
      free_any();
    } else if (kind < 82) {
      verify_any();
    } else if (kind < 90) {
      touch_any();
    } else if (kind < 94) {
      hold_any();
    } else if (kind < 96) {
      let_go();
    } else if (kind < 98) {
      shrink(1 + below(3));
    } else if (Rule::kCompacts && kind < 99 && one_in(4)) {
      compact();
    } else {
      refuse_misuse();
    }
    require(pool_->total_bytes() == model_.pages() * kPageSize, "the page counts agree");
    if (operation % 16 == 0) compare_stats();
    if (validate) require(pool_->validate().has_value(), "the pool is valid");
  }

  // Frees everything; nothing may be left.
  void finish() {
    while (!held_.empty() && !broken_) let_go();
    while (!model_.live().empty() && !broken_) free_object(model_.live().back());
    if (broken_) return;
    require(pool_->validate().has_value(), "the empty pool is valid");
    require(pool_->total_bytes() == 0, "the empty pool has no page");
    require(pages_->stats().held_pages == 0, "no page is left behind");
    compare_stats();
  }

 private:
  using Place = typename Rule::Place;

  void require(bool holds, const char* what) {
    if (holds || broken_) return;
    broken_ = true;
    ADD_FAILURE() << "operation " << operation_ << ": not so: " << what;
  }
  unsigned below(std::uint64_t limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned n) { return below(n) == 0; }

  std::size_t any_size() {
    const std::size_t size =
        regime_.least_bytes + below(regime_.most_bytes - regime_.least_bytes + 1);
    // Often at the edge of a chunk, where a rounding is wrong if it ever is.
    if (!one_in(4)) return size;
    const std::size_t edge = (size + kChunk - 1) / kChunk * kChunk + below(3);
    return std::clamp<std::size_t>(edge - 1, 1, Rule::kMaxObject);
  }
  int any_object() { return model_.live()[below(model_.live().size())]; }

  // ------------------------------------------------------------------ one operation each

  // What the pool did, before the model has its say.
  struct Made {
    Handle handle = Handle::none;
    Errc error{};
    std::byte* address = nullptr;
    std::size_t size_bytes = 0;
    std::uint64_t key = 0;
  };

  Made make(Gfp gfp) {
    Made made;
    made.size_bytes = any_size();
    made.key = ++keys_;
    Result<Handle> handle = fail(Errc::io_error);
    const bool stored = one_in(2);
    if (stored) {
      std::byte buffer[Rule::kMaxObject];  // its own: an eviction may store another one meanwhile
      const std::span<std::byte> object(buffer, made.size_bytes);
      write_pattern(object, made.key);
      handle = pool_->store(object, gfp);
    } else {
      if (one_in(8)) gfp = gfp | Gfp::zero;
      handle = pool_->allocate(made.size_bytes, gfp);
    }
    if (!handle) {
      made.error = handle.error();
      return made;
    }
    made.handle = *handle;
    Mapping mapping = pool_->map(*handle, stored ? MapMode::read_only : MapMode::read_write);
    made.address = mapping.bytes().data();
    require(mapping.bytes().size() >= made.size_bytes &&
                mapping.bytes().size() <= chunks_of(made.size_bytes) * kChunk,
            "a mapping is as long as the object, and not longer than its chunks");
    const std::span<std::byte> object = mapping.bytes().first(made.size_bytes);
    if (stored) {
      require(has_pattern(object, made.key), "store() stores");
    } else {
      if (has(gfp, Gfp::zero)) {
        require(
            std::all_of(object.begin(), object.end(), [](std::byte b) { return b == std::byte{}; }),
            "Gfp::zero clears the object");
      }
      write_pattern(object, made.key);
    }
    return made;
  }

  bool has_room(Place chosen) const { return model_.data_of(chosen) != nullptr || !model_.full(); }
  // The model's say: it must have gone there, or there must have been no room.
  void account(const Made& made, bool room, Place chosen) {
    if (made.handle == Handle::none) {
      require(made.error == Errc::out_of_memory, "no room is out_of_memory");
      require(!room, "there was no room");
      ++failures_;
      return;
    }
    require(room, "there was room");
    require(model_.find(made.handle) == kNone, "a new handle is no live one");
    const std::size_t offset = model_.offset_in(chosen, made.size_bytes);
    const std::byte* const page = model_.data_of(chosen);
    require(reinterpret_cast<std::uintptr_t>(made.address) % kPageSize == offset,
            "the object lies where the rule puts it");
    if (page != nullptr) {
      require(made.address == page + offset, "the object is in the rule's page");
    } else {
      require(!model_.holds_page(made.address - offset), "a new page is new");
    }
    if (!broken_) {
      model_.add(made.handle, made.address, made.size_bytes, made.key, chosen);
      ++allocations_;
    }
  }

  void allocate() {
    const Gfp gfp = one_in(16) ? Gfp::nowait : Gfp::kernel;
    notes_.clear();
    const Made made = make(gfp);
    Place chosen = model_.choose(made.size_bytes);
    bool room = has_room(chosen);
    if (has(gfp, Gfp::nowait)) {
      // The page source may have no warm page: the one thing that the model does not know.
      if (made.handle == Handle::none && model_.data_of(chosen) == nullptr) room = false;
    } else {
      for (unsigned tries = 0; !room && !broken_ && tries < kLimitTries; ++tries) {
        if (shrink_model(1).reclaimed_pages == 0) tries = kLimitTries - 1;
        chosen = model_.choose(made.size_bytes);
        room = has_room(chosen);
      }
    }
    require(notes_.empty(), "the pool evicts no more than the rule");
    account(made, room, chosen);
  }

  void free_object(int id) {
    const Object object = model_.object(id);
    const Status freed = pool_->try_free(object.handle);
    if (object.pins != 0) {
      require(!freed && freed.error() == Errc::busy, "a mapped object is busy");
      return;
    }
    require(freed.has_value(), "a live object can be freed");
    model_.remove(id);
    ++frees_;
    last_dead_ = object.handle;
  }
  void free_any() {
    if (!model_.live().empty()) free_object(any_object());
  }

  void verify(int id) {
    const Object object = model_.object(id);
    Result<Mapping> mapping = pool_->try_map(object.handle, MapMode::read_only);
    require(mapping.has_value(), "a live object can be mapped");
    if (!mapping) return;
    require(mapping->bytes().size() == object.size_bytes, "an object is as long as was asked for");
    require(mapping->bytes().data() == model_.address_of(id),
            "an object lies where the rule moved it");
    require(has_pattern(mapping->bytes(), object.key), "an object keeps its bytes");
  }
  void verify_any() {
    if (!model_.live().empty()) verify(any_object());
  }

  void compact() {
    if constexpr (Rule::kCompacts) {
      const std::size_t promised = pool_->stats().compactable_pages;
      const Result<std::size_t> freed = pool_->compact();
      require(freed && *freed == model_.compact(), "compact() frees as many pages");
      if (!held_.empty() || broken_) return;
      require(*freed == promised, "compact() frees what was promised");
      require(pool_->stats().compactable_pages == 0, "nothing is left to compact");
    }
  }

  void touch_any() {
    if (model_.live().empty()) return;
    const int id = any_object();
    pool_->touch(model_.object(id).handle);
    model_.touch(id);
  }

  void hold_any() {
    if (model_.live().empty() || held_.size() >= kMostHeld) return;
    const int id = any_object();
    Result<Mapping> mapping = pool_->try_map(model_.object(id).handle);
    require(mapping.has_value(), "a live object can be mapped");
    if (!mapping) return;
    ++model_.object(id).pins;
    held_.push_back({model_.object(id).handle, *std::move(mapping)});
  }
  void let_go() {
    if (held_.empty()) return;
    Held& held = held_[below(held_.size())];
    const int id = model_.find(held.handle);
    require(id != kNone, "a mapped object lives");
    if (id == kNone) return;
    Object& object = model_.object(id);
    require(has_pattern(held.mapping.bytes().first(object.size_bytes), object.key),
            "a mapped object keeps its bytes");
    --object.pins;
    held = std::move(held_.back());
    held_.pop_back();
  }

  void shrink(std::size_t pages) {
    notes_.clear();
    const ShrinkOutcome done = pool_->shrink(pages);
    compare(done, shrink_model(pages));
    require(notes_.empty(), "the pool evicts no more than the rule");
  }

  void refuse_misuse() {
    const Result<Handle> nothing = pool_->allocate(0);
    require(!nothing && nothing.error() == Errc::invalid_argument, "size 0 is invalid_argument");
    const Result<Handle> large = pool_->allocate(Rule::kMaxObject + 1 + below(1000));
    require(!large && large.error() == Errc::no_space, "a large object is no_space");
    const Result<Handle> high = pool_->allocate(1, Gfp::highmem);
    require(!high && high.error() == Errc::invalid_argument, "highmem is invalid_argument");
    failures_ += 3;
    if (last_dead_ == Handle::none) return;
    const Status freed = pool_->try_free(last_dead_);
    require(!freed && freed.error() == Errc::invalid_argument, "a dead handle is not freed");
    const Result<Mapping> mapped = pool_->try_map(last_dead_);
    require(!mapped && mapped.error() == Errc::not_found, "a dead handle is not mapped");
    pool_->touch(last_dead_);
  }

  // ------------------------------------------------------------------ eviction

  Status on_evict(Handle handle) {
    const std::size_t mine = notes_.size();
    notes_.push_back({});
    Note note;
    note.handle = handle;
    note.deed =
        one_in(3) ? static_cast<Deed>(below(static_cast<unsigned>(Deed::kCount))) : Deed::evict;
    if (note.deed == Deed::hold && held_.size() >= kMostHeld) note.deed = Deed::refuse;
    if (note.deed == Deed::shrink && depth_ != 0) note.deed = Deed::evict;
    ++depth_;
    const Status answer = act(note);
    --depth_;
    notes_[mine] = note;
    return answer;
  }

  Status act(Note& note) {
    switch (note.deed) {
      case Deed::refuse:
        return fail(Errc::busy);
      case Deed::lie:
        return {};
      case Deed::touch:
        pool_->touch(note.handle);
        return fail(Errc::busy);
      case Deed::hold: {
        Result<Mapping> mapping = pool_->try_map(note.handle);
        require(mapping.has_value(), "an object being evicted can be mapped");
        if (mapping) held_.push_back({note.handle, *std::move(mapping)});
        return fail(Errc::busy);
      }
      case Deed::free_both:
        free_buddy(note);
        break;
      case Deed::exchange:
        free_buddy(note);
        allocate_inside(note);
        break;
      case Deed::allocate:
        allocate_inside(note);
        break;
      case Deed::shrink:
        note.inner = pool_->shrink(1);
        break;
      default:
        break;
    }
    require(pool_->try_free(note.handle).has_value(), "an object being evicted can be freed");
    if (note.deed == Deed::free_and_fail) return fail(Errc::io_error);
    return {};
  }

  // Out of date by what was done in this shrink: then it frees less, or nothing.
  void free_buddy(Note& note) {
    const int id = model_.find(note.handle);
    const int buddy = id == kNone ? kNone : model_.buddy_of(id);
    if (buddy == kNone) return;
    note.buddy = model_.object(buddy).handle;
    if (Status freed = pool_->try_free(note.buddy); !freed) note.buddy_error = freed.error();
  }
  void allocate_inside(Note& note) {
    const Made made = make(Gfp::kernel);
    note.made = made.handle;
    note.made_error = made.error;
    note.address = made.address;
    note.size_bytes = made.size_bytes;
    note.key = made.key;
  }

  ShrinkOutcome shrink_model(std::size_t pages) {
    return model_.shrink(pages, [this](int id) { return replay(id); });
  }

  // The model would call back for this object: the pool must have done so, and the same happens.
  bool replay(int id) {
    if (notes_.empty()) {
      require(false, "the pool evicts no less than the rule");
      return false;
    }
    const Note note = notes_.front();
    notes_.pop_front();
    require(note.handle == model_.object(id).handle, "the pool evicts in the rule's order");
    if (broken_) return false;
    switch (note.deed) {
      case Deed::refuse:
        return false;
      case Deed::lie:
        return true;
      case Deed::touch:
        model_.touch(id);
        return false;
      case Deed::hold:
        ++model_.object(id).pins;
        return false;
      case Deed::free_both:
        replay_buddy(note);
        break;
      case Deed::exchange:
        replay_buddy(note);
        replay_allocation(note);
        break;
      case Deed::allocate:
        replay_allocation(note);
        break;
      case Deed::shrink:
        compare(note.inner, shrink_model(1));
        break;
      default:
        break;
    }
    if (broken_) return false;
    // What happened above may have evicted nothing of this page: it is in flight.
    require(model_.find(note.handle) == id, "an object being evicted stays");
    if (broken_) return false;
    model_.remove(id);
    ++frees_;
    last_dead_ = note.handle;
    return note.deed != Deed::free_and_fail;
  }

  // Inside a callback no second eviction begins.
  void replay_allocation(const Note& note) {
    const Place chosen = model_.choose(note.size_bytes);
    account({note.made, note.made_error, note.address, note.size_bytes, note.key}, has_room(chosen),
            chosen);
  }

  void replay_buddy(const Note& note) {
    if (note.buddy == Handle::none) return;
    const int id = model_.find(note.buddy);
    if (id == kNone) {
      require(note.buddy_error == Errc::invalid_argument, "a dead buddy is not freed");
    } else if (model_.object(id).pins != 0) {
      require(note.buddy_error == Errc::busy, "a mapped buddy is busy");
    } else {
      require(note.buddy_error == Errc{}, "a live buddy can be freed");
      model_.remove(id);
      ++frees_;
    }
  }

  void compare(const ShrinkOutcome& done, const ShrinkOutcome& expected) {
    require(done.reclaimed_pages == expected.reclaimed_pages, "as many pages are reclaimed");
    require(done.status.has_value() == expected.status.has_value(), "a shrink ends alike");
    if (!done.status && !expected.status) {
      require(done.status.error() == expected.status.error(), "a shrink fails alike");
    }
  }

  void compare_stats() {
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == model_.live().size(), "stats: objects");
    require(stats.payload_bytes == model_.payload_bytes, "stats: payload");
    require(stats.pages == model_.pages(), "stats: pages");
    require(stats.allocations == allocations_, "stats: allocations");
    require(stats.frees == frees_, "stats: frees");
    require(stats.evicted == model_.evicted, "stats: evicted");
    require(stats.failures == failures_, "stats: failures");
    require(stats.moved == model_.moved, "stats: moved");
  }

  static constexpr std::size_t kMostHeld = 6;
  struct Held {
    Handle handle;
    Mapping mapping;
  };

  const Regime regime_;
  std::mt19937_64 random_;
  Rule model_;
  std::unique_ptr<SimPageAllocator> pages_;
  std::unique_ptr<Zpool> pool_;
  std::vector<Held> held_;  // ends before the pool
  std::deque<Note> notes_;
  Handle last_dead_ = Handle::none;
  std::uint64_t operation_ = 0, keys_ = 0, allocations_ = 0, frees_ = 0, failures_ = 0;
  unsigned depth_ = 0;
  bool broken_ = false;
};

/// Lets pools of this kind and their models run side by side, with objects of these sizes: least and most.
template <class Rule, std::size_t kCount>
void run_duels(const unsigned (&sizes)[kCount][2]) {
  constexpr std::size_t kLive[] = {4, 24, 60};
  constexpr unsigned kRetries[] = {1, 2, 8};
  const std::uint64_t operations = scaled(kDuelOperations, kOperationsPerPool);
  std::mt19937_64 random(test_seed(0));
  std::unique_ptr<Duel<Rule>> duel;
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (i % kOperationsPerPool == 0) {
      if (duel != nullptr) duel->finish();
      const auto& range = sizes[random() % kCount];
      Regime regime{range[0], range[1], kLive[random() % std::size(kLive)], 0,
                    kRetries[random() % std::size(kRetries)]};
      if (random() % 2 == 0) regime.limit_pages = 1 + random() % (regime.live / 2 + 4);
      duel = std::make_unique<Duel<Rule>>(regime, random());
    }
    duel->step(i, i < 10'000 || i % 10'000 == 0);
    ASSERT_FALSE(duel->broken());
  }
  duel->finish();
  ASSERT_FALSE(duel->broken());
}

}  // namespace mmkit::testing
