// SPDX-License-Identifier: MIT
//
// Bits - powers of two, logarithms, rounding, and sums that say when they overflow.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mmkit/base/check.hpp>

namespace mmkit {

/// Whether exactly one bit of `value` is set. Complexity: O(1).
template <std::unsigned_integral T>
constexpr bool is_power_of_two(T value) noexcept {
  // Not std::has_single_bit: without a popcount instruction that is a call.
  return value != 0 && (value & static_cast<T>(value - 1)) == 0;
}

/// floor(log2(value)); `value` is at least 1. Complexity: O(1).
template <std::unsigned_integral T>
constexpr unsigned log2_floor(T value) noexcept {
  MMKIT_ASSERT(value != 0);
  return static_cast<unsigned>(std::bit_width(value)) - 1;
}

/// ceil(log2(value)); `value` is at least 1. Complexity: O(1).
template <std::unsigned_integral T>
constexpr unsigned log2_ceil(T value) noexcept {
  MMKIT_ASSERT(value != 0);
  return static_cast<unsigned>(std::bit_width(static_cast<T>(value - 1)));
}

/// The greatest multiple of `unit` (a power of two) that is at most `value`.
template <std::unsigned_integral T>
constexpr T align_down(T value, T unit) noexcept {
  MMKIT_ASSERT(is_power_of_two(unit));
  return static_cast<T>(value & ~static_cast<T>(unit - 1));
}

/// The least multiple of `unit` (a power of two) that is at least `value`; it must fit in T.
template <std::unsigned_integral T>
constexpr T align_up(T value, T unit) noexcept {
  MMKIT_ASSERT(value <= std::numeric_limits<T>::max() - static_cast<T>(unit - 1));
  return align_down(static_cast<T>(value + static_cast<T>(unit - 1)), unit);
}

/// Whether `value` is a multiple of `unit`, a power of two.
template <std::unsigned_integral T>
constexpr bool is_aligned(T value, T unit) noexcept {
  return align_down(value, unit) == value;
}

/// ceil(value / unit); `unit` is at least 1. Never overflows.
template <std::unsigned_integral T>
constexpr T divide_up(T value, T unit) noexcept {
  MMKIT_ASSERT(unit != 0);
  return static_cast<T>(value / unit + (value % unit != 0 ? 1 : 0));
}

/// Sets `*sum` to a + b and says whether that fits.
template <std::unsigned_integral T>
constexpr bool add_fits(T a, T b, T* sum) noexcept {
  return !__builtin_add_overflow(a, b, sum);
}

/// Sets `*product` to a * b and says whether that fits.
template <std::unsigned_integral T>
constexpr bool multiply_fits(T a, T b, T* product) noexcept {
  return !__builtin_mul_overflow(a, b, product);
}

/// Whether [start, start + size_bytes) is a range that does not wrap. It may end exactly at the top
/// of the address space.
constexpr bool range_fits(std::uintptr_t start, std::size_t size_bytes) noexcept {
  return size_bytes == 0 || size_bytes - 1 <= std::numeric_limits<std::uintptr_t>::max() - start;
}

/// A word whose lowest `count` bits are set; `count` is 0 to 64.
constexpr std::uint64_t low_bits(unsigned count) noexcept {
  MMKIT_ASSERT(count <= 64);
  return count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
}

}  // namespace mmkit
