// SPDX-License-Identifier: MIT
//
// Geometry - the units in which a chunk's offset space is counted.
//
//   offset space  64 KiB   = 16 blocks of a page = 16384 granules of 4 bytes
//   unit          the same, once a CPU, at base + cpu * kPercpuUnitStride
//   entry         a page of the operating system under a unit. A unit that is coloured by c bytes
//                 begins c bytes into its first one, so it lies over 17:
//
//        block      |  0  |  1  |  2  | ...  | 15  |
//        entry    | 0  |  1  |  2  | ...       | 16  |       block b lies over entries b and b + 1
//                 |<c>|
//
// The granule is 4 bytes because counters of 4 bytes are common: at 256 CPUs a granule of 8 would
// waste 1 KiB on each.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/percpu/stride.hpp>

namespace mmkit::percpu {

inline constexpr std::size_t kGranuleBytes = 4;
inline constexpr unsigned kGranules = kPercpuUnitBytes / kGranuleBytes;
inline constexpr unsigned kBlocks = kPercpuUnitBytes / kPageSize;
inline constexpr unsigned kBlockGranules = kGranules / kBlocks;
inline constexpr unsigned kEntries = kBlocks + 1;

/// A set of a chunk's blocks: bit b is block b.
using BlockSet = std::uint32_t;
inline constexpr BlockSet kAllBlocks = (BlockSet{1} << kBlocks) - 1;

/// The blocks [begin, end).
constexpr BlockSet blocks_between(unsigned begin, unsigned end) noexcept {
  return ((BlockSet{1} << end) - 1) & ~((BlockSet{1} << begin) - 1);
}
/// The blocks under the granules [start, start + count), count at least 1.
constexpr BlockSet blocks_under(unsigned start, unsigned count) noexcept {
  return blocks_between(start / kBlockGranules, (start + count - 1) / kBlockGranules + 1);
}
constexpr bool has_block(BlockSet set, unsigned block) noexcept {
  return (set >> block & 1) != 0;
}
constexpr unsigned count_blocks(BlockSet set) noexcept {
  return static_cast<unsigned>(std::popcount(set));
}

/// Adjacent blocks.
struct BlockRun {
  unsigned begin = 0, end = 0;
};
/// Takes the lowest run out of a set that is not empty.
constexpr BlockRun pop_run(BlockSet& set) noexcept {
  BlockRun run;
  run.begin = static_cast<unsigned>(std::countr_zero(set));
  run.end = run.begin + static_cast<unsigned>(std::countr_one(set >> run.begin));
  set &= ~blocks_between(run.begin, run.end);
  return run;
}

/// How far unit `unit` begins inside of its first entry.
constexpr std::size_t colour_bytes(unsigned unit) noexcept {
  return unit * kPercpuUnitStride % kPageSize;
}

}  // namespace mmkit::percpu
