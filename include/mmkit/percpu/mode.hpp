// SPDX-License-Identifier: MIT
//
// Mode - how this process changes per-CPU variables: by restartable sequences or by atomics.
//
// Chosen once, before main, and never changed: a plain per-CPU addition and an atomic one on the
// same word would lose updates. In this order:
//
//   1 the area that the C library registered for every thread (glibc 2.35 and later)
//   2 an area of our own in each thread, registered at its first operation
//   3 atomics on the copy of the CPU the thread seems to be on ("fallback")
//
// 1 and 2 also need membarrier(2), by which one thread makes sure that no other is in the middle of
// a sequence; a system that refuses it gets 3. MMKIT_PERCPU_MODE=fallback in the environment asks
// for 3, to compare.
//
// The sequences find the area by one number, its distance from the thread pointer. It is fixed
// before any constructor of the program runs, so a compiler may keep it in a register for as long
// as it likes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/cpu.hpp>
#include <string_view>

#if defined(__linux__) && defined(__x86_64__) && !defined(__ILP32__)
#define MMKIT_PERCPU_HAS_RSEQ 1
#else
#define MMKIT_PERCPU_HAS_RSEQ 0
#endif

namespace mmkit {

/// How per-CPU variables are changed.
enum class PercpuMode {
  rseq,     ///< by restartable sequences: as fast as plain instructions
  fallback  ///< by atomic operations
};

/// The mode of this process. Thread safety: safe. Complexity: O(1).
PercpuMode percpu_mode() noexcept;
/// Why it is that one, in words: "rseq: the C library's area". Thread safety: safe.
std::string_view percpu_mode_reason() noexcept;

namespace detail {

/// For the thread that met an area which is not registered. True: it is registered now, go again.
/// False: the mode is fallback. Does not return when the kernel refuses the thread: that would mix
/// the modes, so it is fatal, named `rseq registration refused`. Makes a system call at most once a
/// thread.
bool percpu_enter_thread() noexcept;

/// Whether this thread can run sequences without percpu_enter_thread().
bool percpu_thread_ready() noexcept;

/// Waits until no other thread is inside a sequence that it began before the call: on `cpu`, or
/// anywhere. In fallback mode a no-op: the atomics need none. Complexity: about a microsecond.
void percpu_barrier(unsigned cpu) noexcept;
void percpu_barrier_everywhere() noexcept;

/// What a lock word of a per-CPU structure holds while it is locked by this process. A fork's child
/// gets another one, so that a lock which its parent held at that moment is seen to be stale.
std::uint32_t percpu_lock_token() noexcept;

#if MMKIT_PERCPU_HAS_RSEQ
/// The distance of the thread's rseq area from its thread pointer. Const to all who read it, so that a
/// compiler does not read it anew for every operation; mode.cpp writes it, before anybody reads.
extern "C" const std::ptrdiff_t mmkit_percpu_area;
/// Whether the mode is fallback, in the same way.
extern "C" const bool mmkit_percpu_uses_atomics;
inline std::ptrdiff_t rseq_area() noexcept {
  return mmkit_percpu_area;
}
/// The CPU number in it: below zero when the thread is not registered. A hint.
inline int rseq_cpu() noexcept {
  int cpu;
  asm volatile("movl %%fs:4(%1), %0" : "=r"(cpu) : "r"(rseq_area()));
  return cpu;
}
#endif

/// percpu_mode() == PercpuMode::fallback, without a call.
inline bool percpu_uses_atomics() noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  return mmkit_percpu_uses_atomics;
#else
  return true;
#endif
}
/// For the thread that could not run a sequence: whether atomics are the way, and not the sequence
/// again. See percpu_enter_thread().
inline bool percpu_must_use_atomics() noexcept {
  return percpu_uses_atomics() || !percpu_enter_thread();
}

}  // namespace detail

/// Which unit this thread uses now: its CPU. A hint, stale as soon as it is returned.
/// Thread safety: safe. Complexity: O(1), one load where there is rseq.
inline unsigned this_cpu_index() noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  const int cpu = detail::rseq_cpu();
  if (cpu >= 0) [[likely]]
    return static_cast<unsigned>(cpu);
#endif
  return current_cpu();
}

}  // namespace mmkit
