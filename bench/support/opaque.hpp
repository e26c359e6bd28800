// SPDX-License-Identifier: MIT
//
// Opaque - hides values from the optimiser, so that what is measured is done.
//
// Not Google Benchmark's DoNotOptimize: its form for variables, of release 1.7, lets g++ 12 lose a
// pointer that lives in a register.
#pragma once

namespace mmkit::bench {

/// As if `value` were looked at, and all memory it leads to.
template <class T>
inline void use(T* value) noexcept {
  asm volatile("" : : "r"(value) : "memory");
}

/// The same pointer, of which the compiler no longer knows what it points to.
template <class T>
inline T* of_unknown_type(T* pointer) noexcept {
  asm volatile("" : "+r"(pointer));
  return pointer;
}

}  // namespace mmkit::bench
