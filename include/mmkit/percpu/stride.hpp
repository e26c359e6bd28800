// SPDX-License-Identifier: MIT
//
// Stride - where the copies of a per-CPU variable lie.
//
// A chunk is one offset space of 64 KiB, replicated once a CPU as a unit. The distance of two
// neighbouring units is the same constant in every chunk of every allocator, so that one
// multiplication finds a CPU's copy of anything:
//
//   chunk  |<- unit 0: 64 KiB ->| 4 KiB + 64 B |<- unit 1: 64 KiB ->| 4 KiB + 64 B |<- unit 2 ...
//          ^ p                                 ^ p + kPercpuUnitStride
//
// The 64 bytes are the colour: at a power-of-two stride the copies of a variable would all fall
// into the same sets of the caches, and summing 256 of them would cost five times as much. The
// page in between is there because a coloured unit starts inside of a page: it lies over 17 pages
// of the operating system, and no two units share one. The price of the colour is the alignment:
// no more than 64 bytes.
// Units: bytes
#pragma once

#include <cstddef>
#include <mmkit/page/page_size.hpp>

namespace mmkit {

/// Bytes of a unit: one CPU's copy of a chunk's offset space.
inline constexpr std::size_t kPercpuUnitBytes = std::size_t{64} * 1024;
/// Bytes from a variable's copy on one CPU to that on the next.
inline constexpr std::size_t kPercpuUnitStride = kPercpuUnitBytes + kPageSize + 64;
/// The largest allocation and the largest alignment, in bytes.
inline constexpr std::size_t kPercpuMaxBytes = std::size_t{32} * 1024, kPercpuMaxAlign = 64;

static_assert(kPercpuUnitStride % kPercpuMaxAlign == 0, "alignment holds in every unit");

}  // namespace mmkit
