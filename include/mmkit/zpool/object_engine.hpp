// SPDX-License-Identifier: MIT
//
// ObjectEngine - what drivers with movable objects share, whatever places the objects: handles, pins,
// moves, and what each CPU keeps.
//
//   handle --> slot (GrowingArray) --> place: 42 bits that belong to the placement
//                  |
//                  +-- live, mapped, busy: SlotPins, without any lock
//                  +-- cached: freed, its place kept; on a stack of the placement (CpuStacks)
//                  +-- free: on this CPU's stack of free slots, or in the list of its home
//
// A placement (zsmalloc's zspages; others may follow) takes free slots by the batch, writes places
// into them, and publishes them one by one. A published slot comes back by take(): cached, if the
// placement keeps the object's room for the next who comes, and by give_slots() when the room is
// gone.
//
// Eight slots share a cache line, and each allocation and free writes one: a line with slots of two
// CPUs would travel. So each chunk of 64 slots has a home, the CPU that first took from it, and free
// slots return there.
//
// Invariants: 1, 2 those of slot_word.hpp  3 a slot is live or busy, or cached, or free, or retired;
//             a free one is on one stack, in one list, or in the hands of one thread
// Locking:    pin(), unpin(), take(), publish(), is_live(): none. The lists of free slots have a lock
//             of rank zpool_slots, inside of which nothing else is locked.
// Orders:     those of slot_pins.hpp; publish() is the release that begins an object's life
// Complexity: O(1); take_slots() and give_slots() O(slots)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/base/step.hpp>
#include <mmkit/percpu/tsan.hpp>
#include <mmkit/zpool/cpu_stacks.hpp>
#include <mmkit/zpool/slot_pins.hpp>
#include <span>

namespace mmkit {

class ObjectEngine {
 public:
  using Slot = SlotPins::Slot;
  static constexpr std::uint32_t kNoSlot = 0xffffffff;

  explicit ObjectEngine(std::uint16_t tag) noexcept : pins_(tag) {}
  ObjectEngine(const ObjectEngine&) = delete;
  ObjectEngine& operator=(const ObjectEngine&) = delete;

  /// Where the placement's stacks may begin in a record of CpuStacks.
  static constexpr std::size_t kFirstPlacementHead =
      CpuStacks::kFirstHead + CpuStacks::stack_bytes(CpuStacks::kMostNumbers);
  /// Gets ready: records of so many bytes, and some slots for callers that must not wait. Errors:
  /// out_of_memory.
  Status start(std::size_t record_bytes) noexcept;

  // ------------------------------------------------------------------ slots

  std::uint16_t tag() const noexcept { return pins_.tag(); }
  /// The slot of a handle from outside; nullptr: no handle of this pool has that index.
  Slot* find(Handle handle) const noexcept { return slots_.find(handle_bits::index(handle)); }
  Slot& slot(std::uint32_t index) const noexcept { return slots_[index]; }

  /// What may be done to a live slot, see slot_pins.hpp.
  SlotPins& pins() noexcept { return pins_; }
  bool is_live(Handle handle) const noexcept {
    const Slot* slot = find(handle);
    return slot != nullptr && pins_.is_live(handle, *slot);
  }
  /// Makes a slot that is in the caller's hands live at `place`, and returns its handle.
  Handle publish(std::uint32_t index, std::uint64_t place) noexcept {
    Slot& slot = slots_[index];
    const std::uint64_t generation = slot_word::generation_of(slot.load(std::memory_order_relaxed));
    detail::step();
    // Release: pairs with the acquire of pin(), take() and begin_move().
    slot.store(slot_word::make(place, generation, slot_word::kLive), std::memory_order_release);
    return handle_bits::make(tag(), static_cast<std::uint32_t>(generation), index);
  }
  /// The handle of a live slot; the caller keeps it from being freed, or checks the handle later.
  Handle handle_of(std::uint32_t index) const noexcept {
    const std::uint64_t generation =
        slot_word::generation_of(slots_[index].load(std::memory_order_relaxed));
    return handle_bits::make(tag(), static_cast<std::uint32_t>(generation), index);
  }

  /// Takes free slots into the caller's hands, at least one and at most out.size(). nowait: makes
  /// no system call, waits for nobody. Errors: out_of_memory, try_again (nowait: a lock is taken).
  Result<std::size_t> take_slots(std::span<std::uint32_t> out, bool nowait) noexcept;
  /// One free slot of this CPU's stack, without a call; kNoSlot: none there, or not ready for it.
  [[gnu::always_inline]] std::uint32_t try_take_slot() noexcept {
    return try_find_kept(kFreeSlots);
  }
  /// Gives slots in the caller's hands back, whatever their state was.
  void give_slots(std::span<const std::uint32_t> slots) noexcept;

  // ------------------------------------------------------------------ what each CPU keeps

  CpuStacks& stacks() noexcept { return stacks_; }
  const CpuStacks& stacks() const noexcept { return stacks_; }
  /// Keeps a cached slot on a stack of the placement, on this CPU. False: no room.
  [[gnu::always_inline]] bool keep(std::size_t head, std::uint32_t index) noexcept {
    detail::tsan_release(&slots_[index]);
    return stacks_.push(head, index + 1);
  }
  /// The slot that this CPU kept last; kNoSlot: none.
  [[gnu::always_inline]] std::uint32_t find_kept(std::size_t head) noexcept {
    const std::uint32_t number = stacks_.pop(head);
    if (number != 0) detail::tsan_acquire(&slots_[number - 1]);
    return number - 1;
  }

  // The same without a call in them (CpuStacks::try_push).
  [[gnu::always_inline]] bool try_keep(std::size_t head, std::uint32_t index) noexcept {
    detail::tsan_release(&slots_[index]);
    return stacks_.try_push(head, index + 1);
  }
  [[gnu::always_inline]] std::uint32_t try_find_kept(std::size_t head) noexcept {
    const std::uint32_t number = stacks_.try_pop(head);
    if (number != 0) [[likely]]
      detail::tsan_acquire(&slots_[number - 1]);
    return number - 1;
  }

  // ------------------------------------------------------------------ the whole

  /// A live handle that is mapped; Handle::none when there is none. Complexity: O(slots).
  Handle first_pinned() const noexcept;
  std::size_t slots() const noexcept { return slots_.size(); }
  std::size_t metadata_bytes() const noexcept;
  /// Checks the invariants, given how many slots have a place: as many are live or cached, or a few
  /// more, which other threads have in their hands. Caller: has stopped the stacks, and moves.
  bool validate(const CpuStacks::Stopped& stopped, std::size_t placed) noexcept;

  void lock_for_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept { stacks_.unlock_in_child(); }

 private:
  static constexpr std::uint32_t kChunkSlots = 64;
  static constexpr unsigned kMostHomes = 64;
  static constexpr std::size_t kFreeSlots = CpuStacks::kFirstHead;  // head of the stack of them
  // Kept in the lists, for callers that must not wait.
  static constexpr std::size_t kKeptFree = 64;
  // A home with more free slots than this serves others, before new ones are made.
  static constexpr std::uint32_t kManyFree = 4096;

  struct Home {
    std::uint32_t first = kNoSlot;  // linked through the places of free slots
    std::uint32_t count = 0;
  };

  unsigned home_here() const noexcept { return this_cpu_index() % homes_count_; }
  std::size_t pop_here(std::span<std::uint32_t> out) noexcept;
  std::size_t take_listed(Home& home, std::span<std::uint32_t> out) noexcept MMKIT_REQUIRES(lock_);
  void list(std::uint32_t index) noexcept MMKIT_REQUIRES(lock_);
  Status grow(unsigned home) noexcept MMKIT_REQUIRES(lock_);
  Result<std::size_t> take_slots_slowly(std::span<std::uint32_t> out, bool nowait) noexcept;
  bool retire_if_used_up(std::uint32_t index) noexcept;

  SlotPins pins_;
  GrowingArray<Slot> slots_;
  CpuStacks stacks_;
  GrowingArray<std::uint8_t> home_of_chunk_;
  unsigned homes_count_ = 1;
  std::atomic<std::size_t> retired_{0};

  mutable ShortLock lock_{LockRank::zpool_slots};
  std::unique_ptr<Home[]> homes_;  // guarded by lock_, but for the pointer
  std::size_t listed_ MMKIT_GUARDED_BY(lock_) = 0;
};

}  // namespace mmkit
