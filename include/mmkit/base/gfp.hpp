// SPDX-License-Identifier: MIT
//
// Gfp - how an allocation may go about it, in the kernel's words.
#pragma once

#include <cstdint>

namespace mmkit {

/// Flags of an allocation; join them with `|`.
enum class Gfp : std::uint32_t {
  kernel = 0,   ///< may wait, may call the operating system
  nowait = 1,   ///< no system call, no waiting, no page fault on memory that was never touched
  zero = 2,     ///< the memory reads as zero
  highmem = 4,  ///< the caller maps before it reads; drivers that hand out addresses refuse it
  movable = 8,  ///< the caller holds no address across calls
  no_warn = 16  ///< a failure is expected; kept for callers of the kernel's interface
};

constexpr Gfp operator|(Gfp a, Gfp b) noexcept {
  return static_cast<Gfp>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

/// Whether `set` contains `flag`.
constexpr bool has(Gfp set, Gfp flag) noexcept {
  return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(flag)) != 0;
}

/// `set` less `flag`.
constexpr Gfp without(Gfp set, Gfp flag) noexcept {
  return static_cast<Gfp>(static_cast<std::uint32_t>(set) & ~static_cast<std::uint32_t>(flag));
}

/// Any node will do.
inline constexpr int kAnyNode = -1;

}  // namespace mmkit
