// SPDX-License-Identifier: MIT
//
// HandleTable - from handles to objects: one 64-bit slot a handle, read and pinned without a lock.
//
// It knows which handles are live, how often each is mapped and where its object lies; it knows
// nothing of pages, classes or lists. A driver keeps a word beside each slot for what it needs.
//
//   slot  63                     22 21          6 5     0
//        +-------------------------+-------------+-------+
//        | location: address / 64  | generation  | state |      live
//        | next free slot + 1      | generation  |   0   |      free
//        +-------------------------+-------------+-------+
//   state 0 free or reserved, 3 live, 3 + n live and mapped n times; 63 mapped more often than
//         that, the rest being counted in a side list. 1 and 2 are kept for objects that move.
//
// A generation is used once: a slot whose last one is freed is retired, so that no dead handle is
// ever mistaken for a live one. That costs sixteen bytes in 65,535 frees.
//
// Units:      locations are addresses in units of 64 bytes, 42 bits wide
// Invariants: 1 a live slot's generation is 1 to 65535  2 a free slot's generation is the one its
//             next handle gets; 0: retired  3 the free list holds every slot that is neither live,
//             reserved nor retired, once  4 a slot in state 63 has one entry in the side list
// Locking:    reserve(), publish(), cancel(), recycle(): caller serialises (a driver's lock).
//             pin(), unpin(), kill(), is_live(): none. The side list has a lock, pin_overflow.
// Orders:     publish() releases what the driver wrote about the object; a pin or a kill acquires
//             it. unpin() releases what a user wrote; kill() acquires it.
// Complexity: everything O(1) but validate() and first_pinned()
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/growing_table.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/zpool/handle.hpp>
#include <new>

namespace mmkit {

/// The handles of one pool. `Side` is a trivial type of at most eight bytes, which lies in the cache
/// line of its slot: written by the driver between reserve() and publish(), read by whoever holds a
/// pin or the driver's lock.
template <class Side>
class HandleTable {
 public:
  static constexpr unsigned kLocationBits = 42;
  static constexpr unsigned kLocationUnitShift = 6;
  static constexpr std::uint32_t kNoSlot = 0xffffffff;

  explicit HandleTable(std::uint16_t tag) noexcept : tag_(tag) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;
  ~HandleTable() {
    while (Excess* entry = excess_.pop_front()) delete entry;
  }

  /// Whether an object at this address can be named.
  static bool can_locate(const void* address) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) >> (kLocationBits + kLocationUnitShift) == 0;
  }

  // ------------------------------------------------------------------ caller serialises

  /// Takes a free slot, which stays dead to others until published. `may_grow` false: no memory is
  /// asked for. Errors: out_of_memory.
  Result<std::uint32_t> reserve(bool may_grow) noexcept {
    // A few slots are kept ahead, so that callers that must not grow the table find one.
    if (free_count_ <= kKeptFree && may_grow) grow();
    if (free_count_ == 0) return fail(Errc::out_of_memory);
    const std::uint32_t index = first_free_;
    first_free_ = static_cast<std::uint32_t>(location_of(load(index))) - 1;
    --free_count_;
    ++reserved_;
    return index;
  }

  /// Gets the first slots ready, for callers that must not grow the table. Errors: out_of_memory.
  Status prepare() noexcept {
    if (free_count_ == 0) grow();
    if (free_count_ == 0) return fail(Errc::out_of_memory);
    return {};
  }

  /// Makes a reserved slot live, mapped `pins` times (0 or 1), and returns its handle.
  Handle publish(std::uint32_t index, const std::byte* object, unsigned pins) noexcept {
    const std::uint64_t generation = generation_of(load(index));
    const std::uint64_t location = reinterpret_cast<std::uintptr_t>(object) >> kLocationUnitShift;
    // Release: pairs with the acquire of pin() and kill().
    slot(index).store(location << kLocationShift | generation << kGenerationShift | (kLive + pins),
                      std::memory_order_release);
    --reserved_;
    return handle_bits::make(tag_, static_cast<std::uint32_t>(generation), index);
  }

  /// Ends the mapping a slot was published with, before anybody was told its handle: so nobody else
  /// writes the slot, and a store does. Release: pairs with pin() and kill(), for the object's bytes.
  void end_first_mapping(std::uint32_t index) noexcept {
    slot(index).store(load(index) - 1, std::memory_order_release);
  }

  /// Gives back a reserved slot that was never published.
  void cancel(std::uint32_t index) noexcept {
    --reserved_;
    link_free(index, generation_of(load(index)));
  }

  /// Gives back a slot that kill() took from its object.
  void recycle(std::uint32_t index) noexcept {
    const std::uint64_t generation = generation_of(load(index));
    if (MMKIT_MUTATE(MMKIT_MUTANT_handle_generation_not_retired, generation != 0, true)) {
      link_free(index, generation);
    } else {
      ++retired_;
    }
  }

  /// The handle of a live slot. Caller: keeps the slot from being killed meanwhile.
  Handle handle_of(std::uint32_t index) const noexcept {
    return handle_bits::make(tag_, static_cast<std::uint32_t>(generation_of(load(index))), index);
  }
  /// What the driver keeps beside a slot. Relaxed: publish() and the driver's lock carry the order.
  Side side(std::uint32_t index) const noexcept {
    return entry(index).side.load(std::memory_order_relaxed);
  }
  void set_side(std::uint32_t index, Side side) noexcept {
    entry(index).side.store(side, std::memory_order_relaxed);
  }
  /// Whether a slot is live, and how it is mapped. Caller: keeps it from being killed.
  bool is_live_slot(std::uint32_t index) const noexcept {
    return index < slots() && state_of(load(index)) >= kLive;
  }
  /// Acquire: pairs with unpin(), so that who finds no pin finds what the last user wrote.
  bool is_pinned_slot(std::uint32_t index) const noexcept {
    return state_of(slot(index).load(std::memory_order_acquire)) > kLive;
  }
  std::byte* address_of_slot(std::uint32_t index) const noexcept { return address(load(index)); }

  std::size_t metadata_bytes() const noexcept { return table_.bytes(); }
  std::size_t slots() const noexcept { return table_.count() * kChunkSlots; }
  std::size_t retired() const noexcept { return retired_; }

  /// A live handle that is mapped; Handle::none when there is none. Complexity: O(slots).
  Handle first_pinned() const noexcept {
    for (std::uint32_t i = 0; i < slots(); ++i) {
      if (state_of(load(i)) > kLive) return handle_of(i);
    }
    return Handle::none;
  }

  /// Checks invariants 1 to 3, given how many slots should be live. Complexity: O(slots).
  bool validate(std::size_t live_expected) const noexcept {
    std::size_t live = 0, retired = 0;
    for (std::uint32_t i = 0; i < slots(); ++i) {
      const std::uint64_t word = load(i);
      if (state_of(word) >= kLive) {
        ++live;
        if (generation_of(word) == 0) return false;
      } else if (state_of(word) != kFree) {
        return false;
      } else if (generation_of(word) == 0) {
        ++retired;
      }
    }
    std::size_t listed = 0;
    for (std::uint32_t i = first_free_; i != kNoSlot; ++listed) {
      if (listed == free_count_ || i >= slots()) return false;
      const std::uint64_t word = load(i);
      if (state_of(word) != kFree || generation_of(word) == 0) return false;
      i = static_cast<std::uint32_t>(location_of(word)) - 1;
    }
    return live == live_expected && retired == retired_ && listed == free_count_ &&
           live + retired + listed + reserved_ == slots();
  }

  /// For the fork handlers of the driver, inside its own lock.
  void lock_for_fork() noexcept MMKIT_ACQUIRE(excess_mutex_) { excess_mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept MMKIT_RELEASE(excess_mutex_) { excess_mutex_.unlock(); }

  // ------------------------------------------------------------------ no lock

  /// What a pin gives: where the object lies, and the driver's word.
  struct Pinned {
    std::byte* address;
    Side side;
  };

  /// Maps a live object once more. Errors: not_found (dead), out_of_memory (mapped very often, and
  /// no memory to count it). Thread safety: safe.
  Result<Pinned> pin(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return fail(Errc::not_found);
    std::atomic<std::uint64_t>& slot = entry->slot;
    // Relaxed: the exchange below orders, and fails if this is stale.
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    while (names(handle, word)) {
      if (state_of(word) >= kMostPins) {
        Status counted = pin_excess(handle, slot);
        if (!counted) return fail(counted.error());
        return Pinned{address(word), entry->side.load(std::memory_order_relaxed)};
      }
      // Acquire: pairs with publish().
      if (MMKIT_MUTATE(MMKIT_MUTANT_handle_pin_adds_blindly,
                       slot.compare_exchange_weak(word, word + 1, std::memory_order_acquire,
                                                  std::memory_order_relaxed),
                       (detail::hold_window_open(), slot.fetch_add(1) != 0))) {
        return Pinned{address(word), entry->side.load(std::memory_order_relaxed)};
      }
    }
    return fail(Errc::not_found);
  }

  /// Ends one mapping. Returns false when the object is not mapped, or not live: misuse.
  /// Thread safety: safe.
  bool unpin(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return false;
    std::atomic<std::uint64_t>& slot = entry->slot;
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    while (MMKIT_MUTATE(MMKIT_MUTANT_handle_unpin_ignores_generation, names(handle, word),
                        state_of(word) >= kLive) &&
           state_of(word) != kLive) {
      if (state_of(word) == kManyPins) {
        if (unpin_excess(handle, slot)) return true;
        word = slot.load(std::memory_order_relaxed);
        continue;
      }
      // Release: pairs with the acquire of kill() and is_pinned_slot().
      if (slot.compare_exchange_weak(word, word - 1, std::memory_order_release,
                                     std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  /// Takes a live, unmapped slot from its object: the handle is dead from here on. recycle() must
  /// follow. Returns the object's address. Errors: invalid_argument (dead already), busy (mapped).
  /// Thread safety: safe; of several calls at one instant one succeeds.
  Result<std::byte*> kill(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return fail(Errc::invalid_argument);
    std::atomic<std::uint64_t>& slot = entry->slot;
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    do {
      if (!names(handle, word)) return fail(Errc::invalid_argument);
      if (MMKIT_MUTATE(MMKIT_MUTANT_handle_kill_ignores_pins, state_of(word) != kLive, false)) {
        return fail(Errc::busy);
      }
      if (detail::single_threaded()) {
        slot.store(next_generation(word), std::memory_order_relaxed);  // nobody to race with
        break;
      }
      // Acquire: pairs with unpin() and publish(). Release: whoever reads the new generation knows
      // that the handle is dead.
    } while (!slot.compare_exchange_weak(word, next_generation(word), std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
    return address(word);
  }

  /// Whether the handle names an object at this instant. Thread safety: safe.
  bool is_live(Handle handle) const noexcept {
    const Entry* entry = find(handle);
    // Acquire: pairs with the release of kill(): who sees it dead sees what came before.
    return entry != nullptr && names(handle, entry->slot.load(std::memory_order_acquire));
  }

  /// What a handle named a moment ago, to be fetched ahead of the lock: a hint, and nothing else.
  struct Glimpse {
    bool live;
    bool mapped;
    const std::byte* address;
    Side side;
  };
  Glimpse glimpse(Handle handle) const noexcept {
    const Entry* entry = find(handle);
    if (entry == nullptr) return {};
    const std::uint64_t word = entry->slot.load(std::memory_order_relaxed);
    return {names(handle, word), state_of(word) > kLive, address(word),
            entry->side.load(std::memory_order_relaxed)};
  }

 private:
  static constexpr std::uint32_t kChunkSlots = 1024;
  static constexpr std::size_t kKeptFree = 64;
  static constexpr unsigned kGenerationShift = 6;
  static constexpr unsigned kLocationShift = 22;
  static constexpr std::uint64_t kStateMask = 63;
  static constexpr std::uint64_t kFree = 0, kLive = 3, kMostPins = 62, kManyPins = 63;

  struct Entry {
    std::atomic<std::uint64_t> slot;
    std::atomic<Side> side;
  };
  static_assert(std::atomic<Side>::is_always_lock_free && sizeof(Entry) == 16);
  static_assert(alignof(Side) == sizeof(Side), "clang loads others by a call to libatomic");
  struct Chunk {
    Entry entry[kChunkSlots];
  };
  // Mappings of one object beyond those its slot can count.
  struct Excess : ListNode<> {
    std::uint32_t index = 0;
    std::uint64_t pins = 0;
  };

  static std::uint64_t state_of(std::uint64_t word) noexcept { return word & kStateMask; }
  static std::uint64_t generation_of(std::uint64_t word) noexcept {
    return word >> kGenerationShift & handle_bits::kMaxGeneration;
  }
  static std::uint64_t location_of(std::uint64_t word) noexcept { return word >> kLocationShift; }
  static std::byte* address(std::uint64_t word) noexcept {
    return reinterpret_cast<std::byte*>(location_of(word) << kLocationUnitShift);
  }
  static std::uint64_t next_generation(std::uint64_t word) noexcept {
    const std::uint64_t next = (generation_of(word) + 1) & handle_bits::kMaxGeneration;
    return next << kGenerationShift | kFree;
  }
  // Whether a slot with this word is live under this handle. The tag is part of the name, so a
  // driver used without a front end refuses foreign handles too.
  bool names(Handle handle, std::uint64_t word) const noexcept {
    const std::uint64_t expected = std::uint64_t{tag_} << 16 | generation_of(word);
    return handle_bits::raw(handle) >> handle_bits::kGenerationShift == expected &&
           state_of(word) >= kLive;
  }

  // Null: an index that no handle of this pool has.
  Entry* find(Handle handle) const noexcept {
    const std::uint32_t index = handle_bits::index(handle);
    Chunk* chunk = table_.find(index / kChunkSlots);
    return chunk == nullptr ? nullptr : &chunk->entry[index % kChunkSlots];
  }
  Entry& entry(std::uint32_t index) const noexcept {
    return table_.find(index / kChunkSlots)->entry[index % kChunkSlots];
  }
  std::atomic<std::uint64_t>& slot(std::uint32_t index) const noexcept { return entry(index).slot; }
  // Relaxed: for callers whose lock, or whose exchange, carries the order.
  std::uint64_t load(std::uint32_t index) const noexcept {
    return slot(index).load(std::memory_order_relaxed);
  }

  // Relaxed: nobody reads the link of a free slot but the next reserve(), under the same lock.
  void link_free(std::uint32_t index, std::uint64_t generation) noexcept {
    const std::uint64_t next = (std::uint64_t{first_free_} + 1) & 0xffffffff;
    slot(index).store(next << kLocationShift | generation << kGenerationShift | kFree,
                      std::memory_order_relaxed);
    first_free_ = index;
    ++free_count_;
  }

  // A chunk more, its slots free and in order. Does nothing when there is no memory, or when the
  // indexes are used up.
  void grow() noexcept {
    const std::size_t base = slots();
    if (base > kNoSlot - kChunkSlots) return;
    if (!table_.append()) return;
    for (std::uint32_t i = kChunkSlots; i-- != 0;) {
      link_free(static_cast<std::uint32_t>(base) + i, /*generation=*/1);
    }
  }

  Excess* find_excess(std::uint32_t index) noexcept MMKIT_REQUIRES(excess_mutex_) {
    for (Excess* at = excess_.front(); at != nullptr; at = excess_.next(*at)) {
      if (at->index == index) return at;
    }
    return nullptr;
  }

  // Pins a slot whose count is full, or nearly. The state is 63 exactly while there is an entry,
  // and changes to and from it only under the mutex.
  Status pin_excess(Handle handle, std::atomic<std::uint64_t>& slot) noexcept {
    const std::uint32_t index = handle_bits::index(handle);
    MutexLock lock(excess_mutex_);
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    while (true) {
      if (!names(handle, word)) return fail(Errc::not_found);
      if (state_of(word) == kManyPins) {
        ++find_excess(index)->pins;
        return {};
      }
      Excess* entry = nullptr;
      if (state_of(word) == kMostPins) {
        entry = new (std::nothrow) Excess;
        if (entry == nullptr) return fail(Errc::out_of_memory);
        entry->index = index;
        entry->pins = 1;
        excess_.push_front(*entry);
      }
      // Acquire: pairs with publish(). From 62 this reaches 63, for which the entry stands ready.
      if (slot.compare_exchange_strong(word, word + 1, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return {};
      }
      if (entry != nullptr) {
        excess_.remove(*entry);
        delete entry;
      }
    }
  }

  // Ends one of many mappings; false when by now the slot counts alone.
  bool unpin_excess(Handle handle, std::atomic<std::uint64_t>& slot) noexcept {
    MutexLock lock(excess_mutex_);
    // Release, here and through the mutex: pairs with kill(), by way of the unpins still to come.
    if (state_of(slot.load(std::memory_order_relaxed)) != kManyPins) return false;
    Excess* entry = find_excess(handle_bits::index(handle));
    if (--entry->pins == 0) {
      excess_.remove(*entry);
      delete entry;
      slot.fetch_sub(1, std::memory_order_release);
    }
    return true;
  }

  GrowingTable<Chunk> table_;
  std::uint16_t tag_;
  std::uint32_t first_free_ = kNoSlot;
  std::size_t free_count_ = 0;
  std::size_t reserved_ = 0;
  std::size_t retired_ = 0;
  Mutex excess_mutex_{LockRank::pin_overflow};
  IntrusiveList<Excess> excess_ MMKIT_GUARDED_BY(excess_mutex_);
};

}  // namespace mmkit
