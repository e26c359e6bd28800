// SPDX-License-Identifier: MIT
//
// HandleTable - from handles to objects: one 64-bit slot a handle, read and pinned without a lock.
//
// It knows which handles are live, how often each is mapped and where its object lies; it knows
// nothing of pages, classes or lists. A driver keeps a word beside each slot for what it needs.
//
//   slot word (slot_word.hpp)   place = address / 64 of a live object; next free slot + 1 of a free one
//
// Units:      locations are addresses in units of 64 bytes, 42 bits wide
// Invariants: 1, 2 those of slot_word.hpp  3 the free list holds every slot that is neither live,
//             reserved nor retired, once
// Locking:    reserve(), publish(), cancel(), recycle(), begin_move(), end_move(): caller serialises
//             (a driver's lock). pin(), unpin(), kill(), is_live(): none (slot_pins.hpp).
// Complexity: everything O(1) but validate() and first_pinned()
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/growing_table.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/zpool/handle.hpp>
#include <mmkit/zpool/slot_pins.hpp>

namespace mmkit {

/// The handles of one pool. `Side` is a trivial type of at most eight bytes, which lies in the cache
/// line of its slot: written by the driver between reserve() and publish(), read by whoever holds a
/// pin or the driver's lock.
template <class Side>
class HandleTable {
 public:
  static constexpr unsigned kLocationBits = slot_word::kPlaceBits;
  static constexpr unsigned kLocationUnitShift = 6;
  static constexpr std::uint32_t kNoSlot = 0xffffffff;

  explicit HandleTable(std::uint16_t tag) noexcept : pins_(tag) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

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
    first_free_ = static_cast<std::uint32_t>(slot_word::place_of(load(index))) - 1;
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
    const std::uint64_t generation = slot_word::generation_of(load(index));
    // Release: pairs with the acquire of pin() and kill().
    slot(index).store(slot_word::make(place(object), generation, slot_word::kLive + pins),
                      std::memory_order_release);
    --reserved_;
    return handle_bits::make(pins_.tag(), static_cast<std::uint32_t>(generation), index);
  }

  /// Ends the mapping a slot was published with, before anybody was told its handle: so nobody else
  /// writes the slot, and a store does. Release: pairs with pin() and kill(), for the object's bytes.
  void end_first_mapping(std::uint32_t index) noexcept {
    slot(index).store(load(index) - 1, std::memory_order_release);
  }

  /// Gives back a reserved slot that was never published.
  void cancel(std::uint32_t index) noexcept {
    --reserved_;
    link_free(index, slot_word::generation_of(load(index)));
  }

  /// Gives back a slot that kill() took from its object.
  void recycle(std::uint32_t index) noexcept {
    const std::uint64_t generation = slot_word::generation_of(load(index));
    if (MMKIT_MUTATE(MMKIT_MUTANT_handle_generation_not_retired, generation != 0, true)) {
      link_free(index, generation);
    } else {
      ++retired_;
    }
  }

  /// The handle of a live slot. Caller: keeps the slot from being killed meanwhile.
  Handle handle_of(std::uint32_t index) const noexcept {
    return handle_bits::make(
        pins_.tag(), static_cast<std::uint32_t>(slot_word::generation_of(load(index))), index);
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
    return index < slots() && slot_word::state_of(load(index)) >= slot_word::kLive;
  }
  /// Acquire: pairs with unpin(), so that who finds no pin finds what the last user wrote.
  bool is_pinned_slot(std::uint32_t index) const noexcept {
    return slot_word::state_of(slot(index).load(std::memory_order_acquire)) > slot_word::kLive;
  }
  std::byte* address_of_slot(std::uint32_t index) const noexcept { return address(load(index)); }

  std::size_t metadata_bytes() const noexcept { return table_.bytes(); }
  std::size_t slots() const noexcept { return table_.count() * kChunkSlots; }
  std::size_t retired() const noexcept { return retired_; }

  /// A live handle that is mapped; Handle::none when there is none. Complexity: O(slots).
  Handle first_pinned() const noexcept {
    for (std::uint32_t i = 0; i < slots(); ++i) {
      if (slot_word::state_of(load(i)) > slot_word::kLive) return handle_of(i);
    }
    return Handle::none;
  }

  /// Checks invariants 1 to 3, given how many slots should be live. Complexity: O(slots).
  bool validate(std::size_t live_expected) const noexcept {
    std::size_t live = 0, retired = 0;
    for (std::uint32_t i = 0; i < slots(); ++i) {
      const std::uint64_t word = load(i);
      if (slot_word::state_of(word) >= slot_word::kLive) {
        ++live;
        if (slot_word::generation_of(word) == 0) return false;
      } else if (slot_word::state_of(word) != slot_word::kFree) {
        return false;
      } else if (slot_word::generation_of(word) == 0) {
        ++retired;
      }
    }
    std::size_t listed = 0;
    for (std::uint32_t i = first_free_; i != kNoSlot; ++listed) {
      if (listed == free_count_ || i >= slots()) return false;
      const std::uint64_t word = load(i);
      if (slot_word::state_of(word) != slot_word::kFree || slot_word::generation_of(word) == 0)
        return false;
      i = static_cast<std::uint32_t>(slot_word::place_of(word)) - 1;
    }
    return live == live_expected && retired == retired_ && listed == free_count_ &&
           live + retired + listed + reserved_ == slots();
  }

  /// Takes a live, unmapped object away from its users, to be copied elsewhere; false when it is
  /// mapped. end_move() must follow, with no wait in between: who wants the object waits for it.
  bool begin_move(std::uint32_t index) noexcept {
    return SlotPins::begin_move(slot(index), slot_word::place_of(load(index)));
  }
  /// The object lies at `object` now.
  void end_move(std::uint32_t index, const std::byte* object) noexcept {
    SlotPins::end_move(slot(index), place(object));
  }

  /// For the fork handlers of the driver, inside its own lock.
  void lock_for_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS { pins_.lock_for_fork(); }
  void unlock_after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS { pins_.unlock_after_fork(); }

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
    if (entry == nullptr) [[unlikely]]
      return fail(Errc::not_found);
    std::uint64_t word;
    if (!pins_.try_pin(handle, entry->slot, word)) [[unlikely]] {
      const Result<std::uint64_t> pinned = pins_.pin(handle, entry->slot);
      if (!pinned) return fail(pinned.error());
      word = *pinned;
    }
    return Pinned{address(word), entry->side.load(std::memory_order_relaxed)};
  }

  /// Ends one mapping. Returns false when the object is not mapped, or not live: misuse.
  /// Thread safety: safe.
  bool unpin(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return false;
    return pins_.try_unpin(handle, entry->slot) || pins_.unpin(handle, entry->slot);
  }

  /// Takes a live, unmapped slot from its object: the handle is dead from here on. recycle() must
  /// follow. Returns the object's address. Errors: invalid_argument (dead already), busy (mapped).
  /// Thread safety: safe; of several calls at one instant one succeeds.
  Result<std::byte*> kill(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return fail(Errc::invalid_argument);
    std::uint64_t word;
    if (!pins_.try_take(handle, entry->slot, slot_word::kFree, word)) [[unlikely]] {
      const Result<std::uint64_t> taken = pins_.take(handle, entry->slot, slot_word::kFree);
      if (!taken) return fail(taken.error());
      word = *taken;
    }
    return address(word);
  }

  /// Whether the handle names an object at this instant. Thread safety: safe.
  bool is_live(Handle handle) const noexcept {
    const Entry* entry = find(handle);
    return entry != nullptr && pins_.is_live(handle, entry->slot);
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
    const bool live = slot_word::has_name(pins_.tag(), handle, word) &&
                      slot_word::state_of(word) >= slot_word::kBusy;
    return {live, slot_word::state_of(word) > slot_word::kLive, address(word),
            entry->side.load(std::memory_order_relaxed)};
  }

 private:
  static constexpr std::uint32_t kChunkSlots = 1024;
  static constexpr std::size_t kKeptFree = 64;

  struct Entry {
    std::atomic<std::uint64_t> slot;
    std::atomic<Side> side;
  };
  static_assert(std::atomic<Side>::is_always_lock_free && sizeof(Entry) == 16);
  static_assert(alignof(Side) == sizeof(Side), "clang loads others by a call to libatomic");
  struct Chunk {
    Entry entry[kChunkSlots];
  };
  static std::byte* address(std::uint64_t word) noexcept {
    return reinterpret_cast<std::byte*>(slot_word::place_of(word) << kLocationUnitShift);
  }
  static std::uint64_t place(const std::byte* object) noexcept {
    return reinterpret_cast<std::uintptr_t>(object) >> kLocationUnitShift;
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
    slot(index).store(slot_word::make(next, generation, slot_word::kFree),
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

  GrowingTable<Chunk> table_;
  SlotPins pins_;
  std::uint32_t first_free_ = kNoSlot;
  std::size_t free_count_ = 0;
  std::size_t reserved_ = 0;
  std::size_t retired_ = 0;
};

}  // namespace mmkit
