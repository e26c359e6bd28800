// SPDX-License-Identifier: MIT
//
// PercpuPtr - one pointer for the copies of a variable on every CPU.
//
// It holds the address of unit 0's copy; every other follows by the stride. It owns nothing.
//
// Open units: to give back zeroed memory cheaply the allocator must know which units may have been
// written. Those of CPUs that can exist are, since any thread may write to them at any time. The
// rest (an allocator may have more units than the machine CPUs) are not until somebody opens one:
// per_cpu_ptr() does, per_cpu_read() does not. A high-water mark for the whole process says how far
// they are open.
// Invariants: 1 a unit at or above open_units() has never been written: its memory reads as zero
// Locking:    none needed. The mark only grows. Whoever writes to a unit raised it before; whoever
//             frees comes after the writer, by the program's own order; so whoever zeroes sees it.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mmkit/percpu/stride.hpp>
#include <type_traits>

namespace mmkit {

/// A per-CPU pointer: to a T on every CPU. A plain value; null by default.
template <class T>
struct PercpuPtr {
  T* unit0 = nullptr;  ///< unit 0's copy
  explicit operator bool() const noexcept { return unit0 != nullptr; }
  friend bool operator==(PercpuPtr a, PercpuPtr b) noexcept { return a.unit0 == b.unit0; }
};

/// The same variable as a U: the caller vouches that there is a U. Complexity: O(1).
template <class U, class T>
PercpuPtr<U> percpu_cast(PercpuPtr<T> p) noexcept {
  return {reinterpret_cast<U*>(p.unit0)};
}

namespace detail {

/// How many units are open, from unit 0 on. At least the possible CPUs, once main has begun.
extern std::atomic<unsigned> percpu_open_units;
inline unsigned open_units() noexcept {
  return percpu_open_units.load(std::memory_order_relaxed);
}

/// Raises the mark over `cpu`. A CPU that no allocator of this process has is misuse: fatal, named.
void percpu_open_unit(unsigned cpu) noexcept;
/// Fatal unless some allocator of this process has that unit.
void percpu_check_unit(unsigned cpu) noexcept;

template <class T>
T* unit_address(T* unit0, unsigned cpu) noexcept {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(unit0) + cpu * kPercpuUnitStride);
}

/// The bytes of a T that are not a T yet: it may have no default constructor.
template <class T>
struct RawBytes {
  alignas(T) std::byte bytes[sizeof(T)];
};

/// Reads a value that its CPU may be changing: in one piece where the machine can.
template <class T>
std::remove_cv_t<T> read_racing(const T* from) noexcept {
  using Value = std::remove_cv_t<T>;
  static_assert(std::is_trivially_copyable_v<Value>,
                "only plain bytes can be read while they change");
  RawBytes<Value> raw;
  if constexpr ((sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8) &&
                alignof(T) == sizeof(T)) {
    // Relaxed: pairs with nothing: a number, no order.
    __atomic_load(from, reinterpret_cast<Value*>(raw.bytes), __ATOMIC_RELAXED);
  } else {
    std::memcpy(raw.bytes, from, sizeof raw.bytes);
  }
  return std::bit_cast<Value>(raw);
}

}  // namespace detail

/// The copy of `cpu`, open for writing from now on. What other CPUs do with it meanwhile is the
/// caller's to order. A CPU that no allocator has is misuse: `cpu out of range`. Thread safety:
/// safe. Complexity: O(1); opening a unit beyond the possible CPUs makes all later zeroing in the
/// process cover it.
template <class T>
T* per_cpu_ptr(PercpuPtr<T> p, unsigned cpu) noexcept {
  if (cpu >= detail::open_units()) [[unlikely]]
    detail::percpu_open_unit(cpu);
  return detail::unit_address(p.unit0, cpu);
}

/// The value on `cpu`, without opening that unit: one that nobody opened reads as zero and costs no
/// memory. Misuse as above. Thread safety: safe; in one piece for the machine's own sizes.
/// Complexity: O(1).
template <class T>
T per_cpu_read(PercpuPtr<T> p, unsigned cpu) noexcept {
  if (cpu >= detail::open_units()) [[unlikely]] {
    detail::percpu_check_unit(cpu);
    return std::bit_cast<std::remove_cv_t<T>>(detail::RawBytes<std::remove_cv_t<T>>{});
  }
  return detail::read_racing(detail::unit_address(p.unit0, cpu));
}

}  // namespace mmkit
