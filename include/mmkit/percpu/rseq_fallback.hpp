// SPDX-License-Identifier: MIT
//
// The same operations by atomics - for machines and processes without restartable sequences.
//
// The CPU number is a hint here: it may be stale when the operation happens, and then two threads
// meet on one copy. So each operation is atomic by itself, or takes the record's lock. Nothing else
// differs, and the totals are as exact.
// Locking: a record's lock word holds percpu_lock_token() while it is taken. A waiter gives up after
//          a while: it may be a signal handler that interrupted the holder. What it then reports
//          (full, or empty) is true of a stack it cannot see.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <mmkit/percpu/mode.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>

namespace mmkit::detail::fallback {

// Out of line on purpose: where there is rseq these are the cold side of an inlined sequence.
#define MMKIT_PERCPU_COLD [[gnu::noinline]] inline

// Behind a word may stand an object of another type, such as a pointer: a compiler that looks
// into these functions must not take it for untouched.
struct Aliased {
  using Word32 [[gnu::may_alias]] = std::uint32_t;
  using Word64 [[gnu::may_alias]] = std::uint64_t;
  static Word32* pointer(std::uintptr_t address, const std::uint32_t*) noexcept {
    return reinterpret_cast<Word32*>(address);
  }
  static Word64* pointer(std::uintptr_t address, const std::uint64_t*) noexcept {
    return reinterpret_cast<Word64*>(address);
  }
};

// current_cpu(), without its calls: CPUs that can exist have open units.
inline unsigned cpu_hint() noexcept {
  const auto cpu = static_cast<unsigned>(::sched_getcpu());  // -1 on failure: out of range too
  return cpu < open_units() ? cpu : 0;
}

template <std::size_t kStride>
std::uintptr_t here(const void* unit0) noexcept {
  return reinterpret_cast<std::uintptr_t>(unit0) + cpu_hint() * kStride;
}
template <std::size_t kStride, class Word>
auto* word_here(Word* word) noexcept {
  return Aliased::pointer(here<kStride>(word), word);
}

// Relaxed: per-CPU operations order nothing, in either mode.
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD void add(Word* word, Word value) noexcept {
  __atomic_fetch_add(word_here<kStride>(word), value, __ATOMIC_RELAXED);
}
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD void bit_and(Word* word, Word value) noexcept {
  __atomic_fetch_and(word_here<kStride>(word), value, __ATOMIC_RELAXED);
}
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD void bit_or(Word* word, Word value) noexcept {
  __atomic_fetch_or(word_here<kStride>(word), value, __ATOMIC_RELAXED);
}
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD void write(Word* word, Word value) noexcept {
  __atomic_store_n(word_here<kStride>(word), value, __ATOMIC_RELAXED);
}
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD Word add_return(Word* word, Word value) noexcept {
  return __atomic_add_fetch(word_here<kStride>(word), value, __ATOMIC_RELAXED);
}
// Acquire and release, as callers hand pointers over with these two: what one thread wrote before,
// another thread on the same CPU must see. (A sequence has that for nothing: on one CPU everything
// happens in order.)
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD Word exchange(Word* word, Word value) noexcept {
  return __atomic_exchange_n(word_here<kStride>(word), value, __ATOMIC_ACQ_REL);
}
template <std::size_t kStride, class Word>
MMKIT_PERCPU_COLD Word compare_exchange(Word* word, Word expected, Word desired) noexcept {
  __atomic_compare_exchange_n(word_here<kStride>(word), &expected, desired, /*weak=*/false,
                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return expected;
}

/// Takes a record's lock, or gives up after `tries`. A lock left by the parent of a fork counts as
/// free. Acquire: pairs with the release in unlock_record().
inline bool lock_record(std::uint32_t* lock, unsigned tries) noexcept {
  const std::uint32_t token = percpu_lock_token();
  for (unsigned i = 0; i < tries; ++i) {
    std::uint32_t seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
    if (seen != token && __atomic_compare_exchange_n(lock, &seen, token, /*weak=*/false,
                                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return true;
    }
  }
  return false;
}
inline void unlock_record(std::uint32_t* lock) noexcept {
  __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

inline constexpr unsigned kLockTries = 1000;

/// See rseq::push: false when full, or locked for long.
template <std::size_t kStride>
MMKIT_PERCPU_COLD bool push(void* record, std::size_t head, void* item,
                            std::size_t capacity) noexcept {
  const std::uintptr_t mine = here<kStride>(record);
  auto* const lock = reinterpret_cast<std::uint32_t*>(mine);
  auto* const count = reinterpret_cast<std::uint64_t*>(mine + head);
  if (!lock_record(lock, kLockTries)) return false;
  const std::uint64_t items = *count;
  if (items < capacity) {
    reinterpret_cast<void**>(count + 1)[items] = item;
    __atomic_store_n(count, items + 1, __ATOMIC_RELAXED);  // others peek at it without the lock
  }
  unlock_record(lock);
  return items < capacity;
}

/// See rseq::pop: nullptr when empty, or locked for long.
template <std::size_t kStride>
MMKIT_PERCPU_COLD void* pop(void* record, std::size_t head) noexcept {
  const std::uintptr_t mine = here<kStride>(record);
  auto* const lock = reinterpret_cast<std::uint32_t*>(mine);
  auto* const count = reinterpret_cast<std::uint64_t*>(mine + head);
  if (!lock_record(lock, kLockTries)) return nullptr;
  const std::uint64_t items = *count;
  void* item = nullptr;
  if (items != 0) {
    item = reinterpret_cast<void**>(count + 1)[items - 1];
    __atomic_store_n(count, items - 1, __ATOMIC_RELAXED);
  }
  unlock_record(lock);
  return item;
}

/// See rseq::push_number: false when at its limit, or locked for long.
template <std::size_t kStride>
MMKIT_PERCPU_COLD bool push_number(void* record, std::size_t head, std::uint32_t item) noexcept {
  const std::uintptr_t mine = here<kStride>(record);
  auto* const lock = reinterpret_cast<std::uint32_t*>(mine);
  auto* const count = reinterpret_cast<std::uint32_t*>(mine + head);
  if (!lock_record(lock, kLockTries)) return false;
  const std::uint32_t items = *count;
  // Relaxed: whoever lowers the limit takes the record's lock afterwards.
  const bool room = items < __atomic_load_n(count + 1, __ATOMIC_RELAXED);
  if (room) {
    count[2 + items] = item;
    __atomic_store_n(count, items + 1, __ATOMIC_RELAXED);  // others peek at it without the lock
  }
  unlock_record(lock);
  return room;
}

/// See rseq::pop_number: zero when empty, or locked for long.
template <std::size_t kStride>
MMKIT_PERCPU_COLD std::uint32_t pop_number(void* record, std::size_t head) noexcept {
  const std::uintptr_t mine = here<kStride>(record);
  auto* const lock = reinterpret_cast<std::uint32_t*>(mine);
  auto* const count = reinterpret_cast<std::uint32_t*>(mine + head);
  if (!lock_record(lock, kLockTries)) return 0;
  const std::uint32_t items = *count;
  std::uint32_t item = 0;
  if (items != 0) {
    item = count[1 + items];
    __atomic_store_n(count, items - 1, __ATOMIC_RELAXED);
  }
  unlock_record(lock);
  return item;
}

#undef MMKIT_PERCPU_COLD

}  // namespace mmkit::detail::fallback
