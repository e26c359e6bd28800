// SPDX-License-Identifier: MIT
//
// SlotPins - what may be done to a live slot without any lock: map it, unmap it, free it, move it.
//
//   free  <-- take() --  live  -- begin_move() -->  busy  -- end_move() -->  live, elsewhere
//                        |  ^
//                  pin() v  | unpin()
//                     live, mapped
//
// It knows slot words and nothing of where they lie. An object that is busy is waited for by pin(),
// unpin() and take(): a mover copies one object, which takes some hundred nanoseconds.
// Locking:    none for slots; the side list of mappings that a word cannot count has a lock of its
//             own, LockRank::pin_overflow
// Orders:     who publishes a slot releases what was written about its object; a pin, a take and a
//             move acquire it. unpin() releases what a user wrote; take() and begin_move() acquire
//             it. end_move() releases the copied bytes.
// Complexity: O(1), one read-modify-write each
#pragma once

#include <atomic>
#include <cstdint>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/base/step.hpp>
#include <mmkit/zpool/slot_word.hpp>

namespace mmkit {

class SlotPins {
 public:
  using Slot = std::atomic<std::uint64_t>;

  explicit SlotPins(std::uint16_t tag) noexcept : tag_(tag) {}
  SlotPins(const SlotPins&) = delete;
  SlotPins& operator=(const SlotPins&) = delete;
  ~SlotPins();

  std::uint16_t tag() const noexcept { return tag_; }
  bool names(Handle handle, std::uint64_t word) const noexcept {
    return slot_word::names(tag_, handle, word);
  }

  // Each of the three comes as one attempt that hardly ever fails, without a call, and as a whole:
  // a caller that tries first and leaves the rest to a function of its own saves no registers.

  /// Maps a live object once more, if that is all there is to it; `word` is its slot's.
  [[gnu::always_inline]] bool try_pin(Handle handle, Slot& slot, std::uint64_t& word) noexcept {
    detail::step();
    // Relaxed: the exchange below orders, and fails if this is stale.
    word = slot.load(std::memory_order_relaxed);
    if (!names(handle, word) || slot_word::state_of(word) >= slot_word::kMostPins) return false;
    if (detail::single_threaded()) {
      slot.store(word + 1, std::memory_order_relaxed);  // nobody to race with
      return true;
    }
    detail::step();
    // Acquire: pairs with whoever published the slot, and with end_move().
    return MMKIT_MUTATE(MMKIT_MUTANT_handle_pin_adds_blindly,
                        slot.compare_exchange_strong(word, word + 1, std::memory_order_acquire,
                                                     std::memory_order_relaxed),
                        (detail::hold_window_open(), slot.fetch_add(1) != 0));
  }
  /// Maps a live object once more; gives its word. Errors: not_found (dead), out_of_memory (mapped
  /// very often, and no memory to count it). Thread safety: safe.
  Result<std::uint64_t> pin(Handle handle, Slot& slot) noexcept;

  /// Ends one mapping, if that is all there is to it.
  [[gnu::always_inline]] bool try_unpin(Handle handle, Slot& slot) noexcept {
    detail::step();
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    if (MMKIT_MUTATE(MMKIT_MUTANT_handle_unpin_ignores_generation, !names(handle, word),
                     slot_word::state_of(word) < slot_word::kLive) ||
        slot_word::state_of(word) == slot_word::kLive ||
        slot_word::state_of(word) == slot_word::kManyPins) {
      return false;
    }
    if (detail::single_threaded()) {
      slot.store(word - 1, std::memory_order_relaxed);  // nobody to race with
      return true;
    }
    detail::step();
    // Release: pairs with the acquire of take() and begin_move().
    return slot.compare_exchange_strong(word, word - 1, std::memory_order_release,
                                        std::memory_order_relaxed);
  }
  /// Ends one mapping. False when the object is not mapped, or not live: misuse.
  /// Thread safety: safe.
  bool unpin(Handle handle, Slot& slot) noexcept;

  /// Takes a live, unmapped slot from its object, if that is all there is to it; see take().
  [[gnu::always_inline]] bool try_take(Handle handle, Slot& slot, std::uint64_t state,
                                       std::uint64_t& word) noexcept {
    detail::step();
    word = slot.load(std::memory_order_relaxed);
    if (!names(handle, word) ||
        MMKIT_MUTATE(MMKIT_MUTANT_handle_kill_ignores_pins,
                     slot_word::state_of(word) != slot_word::kLive, false)) {
      return false;
    }
    const std::uint64_t dead = slot_word::freed(word, state);
    if (detail::single_threaded()) {
      slot.store(dead, std::memory_order_relaxed);  // nobody to race with
      return true;
    }
    detail::step();
    // Acquire: pairs with unpin(), end_move() and whoever published the slot. Release: whoever
    // reads the new generation knows that the handle is dead.
    return slot.compare_exchange_strong(word, dead, std::memory_order_acq_rel,
                                        std::memory_order_relaxed);
  }
  /// Takes a live, unmapped slot from its object, into `state` (free or cached): the handle is dead
  /// from here on. Gives the word as it was. Errors: invalid_argument (dead already), busy (mapped).
  /// Thread safety: safe; of several calls at one instant one succeeds.
  Result<std::uint64_t> take(Handle handle, Slot& slot, std::uint64_t state) noexcept;

  /// Whether the handle names an object at this instant. Thread safety: safe.
  bool is_live(Handle handle, const Slot& slot) const noexcept {
    detail::step();
    // Acquire: pairs with the release of take(): who sees it dead sees what came before.
    const std::uint64_t word = slot.load(std::memory_order_acquire);
    return slot_word::has_name(tag_, handle, word) && slot_word::state_of(word) >= slot_word::kBusy;
  }

  /// Takes a live, unmapped object at `place` away from its users, to be copied; false when it is
  /// mapped, dead or elsewhere. end_move() must follow, soon.
  static bool begin_move(Slot& slot, std::uint64_t place) noexcept {
    MMKIT_MUTATE(MMKIT_MUTANT_slot_moves_what_went_elsewhere, static_cast<void>(0),
                 detail::hold_window_open());
    detail::step();
    std::uint64_t word = slot.load(std::memory_order_relaxed);
    const bool movable = slot_word::state_of(word) == slot_word::kLive;
    if (MMKIT_MUTATE(MMKIT_MUTANT_slot_moves_what_is_mapped, !movable,
                     slot_word::state_of(word) < slot_word::kLive) ||
        MMKIT_MUTATE(MMKIT_MUTANT_slot_moves_what_went_elsewhere,
                     slot_word::place_of(word) != place, false)) {
      return false;
    }
    detail::step();
    // Acquire: pairs with unpin(), for the last user's writes.
    const bool begun =
        slot.compare_exchange_strong(word, slot_word::with_state(word, slot_word::kBusy),
                                     std::memory_order_acq_rel, std::memory_order_relaxed);
    MMKIT_MUTATE(MMKIT_MUTANT_slot_pins_what_is_moved, , detail::hold_window_open();)
    return begun;
  }
  /// The object is at `place` now. Release: pairs with pin() and take(), for the copied bytes.
  static void end_move(Slot& slot, std::uint64_t place) noexcept {
    detail::step();
    const std::uint64_t word = slot.load(std::memory_order_relaxed);
    slot.store(slot_word::make(place, slot_word::generation_of(word), slot_word::kLive),
               std::memory_order_release);
  }

  /// For the fork handlers of the driver, inside its own locks.
  void lock_for_fork() noexcept MMKIT_ACQUIRE(excess_mutex_) { excess_mutex_.lock_for_fork(); }
  void unlock_after_fork() noexcept MMKIT_RELEASE(excess_mutex_) { excess_mutex_.unlock(); }

 private:
  // Mappings of one object beyond those its slot can count.
  struct Excess : ListNode<> {
    const Slot* slot = nullptr;
    std::uint64_t pins = 0;
  };

  // Whether it is worth another attempt: once nobody moves the object, if somebody does.
  bool await_mover(Handle handle, const Slot& slot) const noexcept;
  static void wait_while_busy(const Slot& slot) noexcept;

  Excess* find_excess(const Slot& slot) noexcept MMKIT_REQUIRES(excess_mutex_);
  Result<std::uint64_t> pin_excess(Handle handle, Slot& slot) noexcept;
  bool unpin_excess(Slot& slot) noexcept;

  const std::uint16_t tag_;
  Mutex excess_mutex_{LockRank::pin_overflow};
  IntrusiveList<Excess> excess_ MMKIT_GUARDED_BY(excess_mutex_);
};

}  // namespace mmkit
