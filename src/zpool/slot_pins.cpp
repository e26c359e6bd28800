// SPDX-License-Identifier: MIT
#include <mmkit/zpool/slot_pins.hpp>

#include <sched.h>

#include <new>

namespace mmkit {

using namespace slot_word;

SlotPins::~SlotPins() {
  MutexLock lock(excess_mutex_);
  while (Excess* entry = excess_.pop_front()) delete entry;
}

// A mover is done within a copy of one object, unless it lost its CPU: then its time slice.
void SlotPins::wait_while_busy(const Slot& slot) noexcept {
  constexpr unsigned kSpins = 2000;
  for (unsigned spins = 0; state_of(slot.load(std::memory_order_relaxed)) == kBusy; ++spins) {
    if constexpr (detail::kStepped) {
      detail::step_while_waiting();
    } else if (spins >= kSpins) {
      ::sched_yield();
    } else {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }
}

bool SlotPins::await_mover(Handle handle, const Slot& slot) const noexcept {
  // Relaxed: whoever asks exchanges the word afterwards, and orders by that.
  const std::uint64_t word = slot.load(std::memory_order_relaxed);
  if (state_of(word) != kBusy || !has_name(tag_, handle, word)) return names(handle, word);
  wait_while_busy(slot);
  return true;
}

Result<std::uint64_t> SlotPins::pin(Handle handle, Slot& slot) noexcept {
  do {
    std::uint64_t word;
    if (try_pin(handle, slot, word)) return word;
    if (names(handle, word) && state_of(word) >= kMostPins) return pin_excess(handle, slot);
    if (MMKIT_MUTATE(MMKIT_MUTANT_slot_pins_what_is_moved, false, state_of(word) == kBusy))
      return word;
  } while (await_mover(handle, slot));
  return fail(Errc::not_found);
}

bool SlotPins::unpin(Handle handle, Slot& slot) noexcept {
  while (true) {
    if (try_unpin(handle, slot)) return true;
    const std::uint64_t word = slot.load(std::memory_order_relaxed);
    if (!names(handle, word) || state_of(word) == kLive) return false;
    if (state_of(word) == kManyPins && unpin_excess(slot)) return true;
  }
}

Result<std::uint64_t> SlotPins::take(Handle handle, Slot& slot, std::uint64_t state) noexcept {
  do {
    std::uint64_t word;
    if (try_take(handle, slot, state, word)) return word;
    if (names(handle, word) && state_of(word) != kLive) return fail(Errc::busy);
  } while (await_mover(handle, slot));
  return fail(Errc::invalid_argument);
}

SlotPins::Excess* SlotPins::find_excess(const Slot& slot) noexcept {
  for (Excess* at = excess_.front(); at != nullptr; at = excess_.next(*at)) {
    if (at->slot == &slot) return at;
  }
  return nullptr;
}

// Pins a slot whose count is full, or nearly. The state is 63 exactly while there is an entry, and
// changes to and from it only under the mutex.
Result<std::uint64_t> SlotPins::pin_excess(Handle handle, Slot& slot) noexcept {
  MutexLock lock(excess_mutex_);
  std::uint64_t word = slot.load(std::memory_order_relaxed);
  while (true) {
    if (!names(handle, word)) {
      // Mapped very often a moment ago, being moved now: as unlikely as it sounds.
      if (!await_mover(handle, slot)) return fail(Errc::not_found);
      word = slot.load(std::memory_order_relaxed);
      continue;
    }
    if (state_of(word) == kManyPins) {
      ++find_excess(slot)->pins;
      return word;
    }
    Excess* entry = nullptr;
    if (state_of(word) == kMostPins) {
      entry = new (std::nothrow) Excess;
      if (entry == nullptr) return fail(Errc::out_of_memory);
      entry->slot = &slot;
      entry->pins = 1;
      excess_.push_front(*entry);
    }
    // Acquire: pairs with whoever published the slot. From 62 this reaches 63, for which the entry
    // stands ready.
    if (slot.compare_exchange_strong(word, word + 1, std::memory_order_acquire,
                                     std::memory_order_relaxed)) {
      return word;
    }
    if (entry != nullptr) {
      excess_.remove(*entry);
      delete entry;
    }
  }
}

// Ends one of many mappings; false when by now the slot counts alone.
bool SlotPins::unpin_excess(Slot& slot) noexcept {
  MutexLock lock(excess_mutex_);
  // Release, here and through the mutex: pairs with take(), by way of the unpins still to come.
  if (state_of(slot.load(std::memory_order_relaxed)) != kManyPins) return false;
  Excess* entry = find_excess(slot);
  if (--entry->pins == 0) {
    excess_.remove(*entry);
    delete entry;
    slot.fetch_sub(1, std::memory_order_release);
  }
  return true;
}

}  // namespace mmkit
