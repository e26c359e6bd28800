// SPDX-License-Identifier: MIT
//
// HandleTable - from handles to objects at addresses: a SlotTable whose places are addresses.
//
// It knows nothing of pages, classes or lists. A driver keeps a word beside each slot for what it
// needs.
//
// Units:      locations are addresses in units of 64 bytes, 42 bits wide
// Locking:    as SlotTable's
// Complexity: as SlotTable's
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/zpool/slot_table.hpp>

namespace mmkit {

namespace detail {
template <class Side>
struct SlotAndSide {
  std::atomic<std::uint64_t> slot;
  std::atomic<Side> side;
};
}  // namespace detail

/// The handles of one pool. `Side` is a trivial type of at most eight bytes, which lies in the cache
/// line of its slot: written by the driver between reserve() and publish(), read by whoever holds a
/// pin or the driver's lock.
template <class Side>
class HandleTable : private SlotTable<detail::SlotAndSide<Side>> {
  using Entry = detail::SlotAndSide<Side>;
  using Slots = SlotTable<Entry>;
  static_assert(std::atomic<Side>::is_always_lock_free && sizeof(Entry) == 16);
  static_assert(alignof(Side) == sizeof(Side), "clang loads others by a call to libatomic");

 public:
  static constexpr unsigned kLocationBits = slot_word::kPlaceBits;
  static constexpr unsigned kLocationUnitShift = 6;
  using Slots::kNoSlot;

  explicit HandleTable(std::uint16_t tag) noexcept : Slots(tag) {}

  /// Whether an object at this address can be named.
  static bool can_locate(const void* address) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) >> (kLocationBits + kLocationUnitShift) == 0;
  }

  // ------------------------------------------------------------------ caller serialises

  using Slots::begin_move;
  using Slots::cancel;
  using Slots::end_first_mapping;
  using Slots::first_pinned;
  using Slots::handle_of;
  using Slots::is_live_slot;
  using Slots::is_pinned_slot;
  using Slots::lock_for_fork;
  using Slots::metadata_bytes;
  using Slots::prepare;
  using Slots::recycle;
  using Slots::reserve;
  using Slots::retired;
  using Slots::slots;
  using Slots::unlock_after_fork;
  using Slots::validate;

  /// Makes a reserved slot live, mapped `pins` times (0 or 1), and returns its handle.
  Handle publish(std::uint32_t index, const std::byte* object, unsigned pins) noexcept {
    return Slots::publish(index, place(object), pins);
  }
  /// What the driver keeps beside a slot. Relaxed: publish() and the driver's lock carry the order.
  Side side(std::uint32_t index) const noexcept {
    return Slots::entry(index).side.load(std::memory_order_relaxed);
  }
  void set_side(std::uint32_t index, Side side) noexcept {
    Slots::entry(index).side.store(side, std::memory_order_relaxed);
  }
  std::byte* address_of_slot(std::uint32_t index) const noexcept {
    return address(Slots::place_of_slot(index));
  }
  /// The object lies at `object` now.
  void end_move(std::uint32_t index, const std::byte* object) noexcept {
    Slots::end_move(index, place(object));
  }

  // ------------------------------------------------------------------ no lock

  using Slots::is_live;
  using Slots::unpin;

  /// What a pin gives: where the object lies, and the driver's word.
  struct Pinned {
    std::byte* address;
    Side side;
  };

  /// Maps a live object once more. Errors: not_found (dead), out_of_memory (mapped very often, and
  /// no memory to count it). Thread safety: safe.
  Result<Pinned> pin(Handle handle) noexcept {
    Entry* const entry = Slots::find(handle);
    const Result<std::uint64_t> pinned = Slots::pin(handle, entry);
    if (!pinned) [[unlikely]]
      return fail(pinned.error());
    return Pinned{address(*pinned), entry->side.load(std::memory_order_relaxed)};
  }

  /// Takes a live, unmapped slot from its object: the handle is dead from here on. recycle() must
  /// follow. Returns the object's address. Errors: invalid_argument (dead already), busy (mapped).
  /// Thread safety: safe; of several calls at one instant one succeeds.
  Result<std::byte*> kill(Handle handle) noexcept {
    const Result<std::uint64_t> killed = Slots::kill(handle);
    if (!killed) [[unlikely]]
      return fail(killed.error());
    return address(*killed);
  }

  /// What a handle named a moment ago, to be fetched ahead of the lock: a hint, and nothing else.
  struct Glimpse {
    bool live;
    bool mapped;
    const std::byte* address;
    Side side;
  };
  Glimpse glimpse(Handle handle) const noexcept {
    const Entry* const entry = Slots::find(handle);
    if (entry == nullptr) return {};
    const typename Slots::Glimpse seen = Slots::glimpse(handle, entry);
    return {seen.live, seen.mapped, address(seen.place),
            entry->side.load(std::memory_order_relaxed)};
  }

 private:
  static std::byte* address(std::uint64_t place) noexcept {
    return reinterpret_cast<std::byte*>(place << kLocationUnitShift);
  }
  static std::uint64_t place(const std::byte* object) noexcept {
    return reinterpret_cast<std::uintptr_t>(object) >> kLocationUnitShift;
  }
};

}  // namespace mmkit
