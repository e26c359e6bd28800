// SPDX-License-Identifier: MIT
//
// SlotTable - the slots behind the handles of one pool: read and pinned without a lock.
//
// It knows which handles are live, how often each is mapped and which place each has; what a place
// means is the driver's affair (HandleTable makes it an address), and so is what lies in an entry
// beside the slot.
//
//   slot word (slot_word.hpp)   place = the driver's of a live object; next free slot + 1 of a free one
//
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

/// An entry that is a slot and nothing else: eight bytes a handle.
struct BareSlot {
  std::atomic<std::uint64_t> slot;
};

/// The slots of one pool. `Entry` has a member `slot`, an atomic word, and whatever a driver keeps
/// beside it.
template <class Entry = BareSlot>
class SlotTable {
 public:
  static constexpr std::uint32_t kNoSlot = 0xffffffff;

  explicit SlotTable(std::uint16_t tag) noexcept : pins_(tag) {}
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

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
  Handle publish(std::uint32_t index, std::uint64_t place, unsigned pins) noexcept {
    const std::uint64_t generation = slot_word::generation_of(load(index));
    // Release: pairs with the acquire of pin() and kill().
    slot(index).store(slot_word::make(place, generation, slot_word::kLive + pins),
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
  /// Whether a slot is live, and how it is mapped. Caller: keeps it from being killed.
  bool is_live_slot(std::uint32_t index) const noexcept {
    return index < slots() && slot_word::state_of(load(index)) >= slot_word::kLive;
  }
  /// Acquire: pairs with unpin(), so that who finds no pin finds what the last user wrote.
  bool is_pinned_slot(std::uint32_t index) const noexcept {
    return slot_word::state_of(slot(index).load(std::memory_order_acquire)) > slot_word::kLive;
  }
  std::uint64_t place_of_slot(std::uint32_t index) const noexcept {
    return slot_word::place_of(load(index));
  }

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
  /// The object has this place now.
  void end_move(std::uint32_t index, std::uint64_t place) noexcept {
    SlotPins::end_move(slot(index), place);
  }

  /// For the fork handlers of the driver, inside its own lock.
  void lock_for_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS { pins_.lock_for_fork(); }
  void unlock_after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS { pins_.unlock_after_fork(); }

  // ------------------------------------------------------------------ no lock

  /// Maps a live object once more; gives its place. Errors: not_found (dead), out_of_memory (mapped
  /// very often, and no memory to count it). Thread safety: safe.
  Result<std::uint64_t> pin(Handle handle) noexcept { return pin(handle, find(handle)); }
  /// The same, for whoever looked the entry up already.
  Result<std::uint64_t> pin(Handle handle, Entry* entry) noexcept {
    if (entry == nullptr) [[unlikely]]
      return fail(Errc::not_found);
    std::uint64_t word;
    if (!pins_.try_pin(handle, entry->slot, word)) [[unlikely]] {
      const Result<std::uint64_t> pinned = pins_.pin(handle, entry->slot);
      if (!pinned) return fail(pinned.error());
      word = *pinned;
    }
    return slot_word::place_of(word);
  }

  /// Ends one mapping. Returns false when the object is not mapped, or not live: misuse.
  /// Thread safety: safe.
  bool unpin(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return false;
    return pins_.try_unpin(handle, entry->slot) || pins_.unpin(handle, entry->slot);
  }

  /// Takes a live, unmapped slot from its object: the handle is dead from here on. recycle() must
  /// follow. Returns the object's place. Errors: invalid_argument (dead already), busy (mapped).
  /// Thread safety: safe; of several calls at one instant one succeeds.
  Result<std::uint64_t> kill(Handle handle) noexcept {
    Entry* entry = find(handle);
    if (entry == nullptr) return fail(Errc::invalid_argument);
    std::uint64_t word;
    if (!pins_.try_take(handle, entry->slot, slot_word::kFree, word)) [[unlikely]] {
      const Result<std::uint64_t> taken = pins_.take(handle, entry->slot, slot_word::kFree);
      if (!taken) return fail(taken.error());
      word = *taken;
    }
    return slot_word::place_of(word);
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
    std::uint64_t place;
  };
  Glimpse glimpse(Handle handle) const noexcept { return glimpse(handle, find(handle)); }
  Glimpse glimpse(Handle handle, const Entry* entry) const noexcept {
    if (entry == nullptr) return {};
    const std::uint64_t word = entry->slot.load(std::memory_order_relaxed);
    const bool live = slot_word::has_name(pins_.tag(), handle, word) &&
                      slot_word::state_of(word) >= slot_word::kBusy;
    return {live, slot_word::state_of(word) > slot_word::kLive, slot_word::place_of(word)};
  }

  // ------------------------------------------------------------------ what lies beside a slot

  /// The entry of a handle's slot; null for an index that no handle of this pool has.
  Entry* find(Handle handle) const noexcept {
    const std::uint32_t index = handle_bits::index(handle);
    Chunk* chunk = table_.find(index / kChunkSlots);
    return chunk == nullptr ? nullptr : &chunk->entry[index % kChunkSlots];
  }
  Entry& entry(std::uint32_t index) const noexcept {
    return table_.find(index / kChunkSlots)->entry[index % kChunkSlots];
  }

 private:
  static constexpr std::uint32_t kChunkSlots = 1024;
  static constexpr std::size_t kKeptFree = 64;

  struct Chunk {
    Entry entry[kChunkSlots];
  };

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
