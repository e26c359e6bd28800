// SPDX-License-Identifier: MIT
//
// Chunk - one offset space and what is known of its memory.
//
//   map        what is allocated                                      offset_map.hpp
//   populated  blocks that an allocation may use at once (lazy: a mark; mapped: pages are there)
//   reserve    empty blocks set aside for Gfp::nowait; others pass them by
//   busy       blocks whose memory is just being given back; nobody may allocate there
//   held       how many units, from unit 0 on, surely have memory under the block
//   written    in each block, granules below this may have been used since it was last fresh
//
// Invariants: 1 an allocated block is populated, once the call that allocated has returned
//             2 reserve blocks are empty, populated and held
//             3 what lies at or above `written` in a block reads as zero on every CPU
//             4 the chunk is in the list of its slot (chunk_heap.hpp); the reserved one in none
// Locking:    all but `place` is guarded by the heap's short lock. Memory changes (populated, busy)
//             need the heap's pages mutex as well.
#pragma once

#include <array>
#include <memory>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>

#include "percpu/address_space.hpp"
#include "percpu/offset_map.hpp"

namespace mmkit::percpu {

class ChunkHeap;
struct HeldTag;  // the list of chunks that have held blocks

/// What a backing notes of a chunk.
class ChunkMemory {
 public:
  virtual ~ChunkMemory() = default;
};

class Chunk final : public PercpuChunk, public ListNode<>, public ListNode<HeldTag> {
 public:
  Chunk(ChunkHeap& owner, const Place& at) noexcept : heap(owner), place(at) {}

  /// The blocks that an ordinary allocation passes by.
  BlockSet closed() const noexcept { return reserve | busy; }
  /// Blocks that are populated for nothing, the reserve not counted.
  BlockSet idle() const noexcept { return map.empty_blocks() & populated & ~reserve & ~busy; }
  bool is_free() const noexcept { return map.free_granules() == kGranules; }
  std::byte* address(unsigned granule) const noexcept {
    return place.base + granule * kGranuleBytes;
  }

  /// Whether the granules were never used since their memory was fresh.
  bool is_fresh(unsigned start, unsigned count) const noexcept {
    const unsigned first = start / kBlockGranules, last = (start + count - 1) / kBlockGranules;
    if (start % kBlockGranules < written[first]) return false;
    for (unsigned b = first + 1; b <= last; ++b) {
      if (written[b] != 0) return false;
    }
    return true;
  }
  /// Notes that they are used now.
  void mark_written(unsigned start, unsigned count) noexcept {
    const unsigned last = (start + count - 1) / kBlockGranules;
    for (unsigned b = start / kBlockGranules; b < last; ++b) written[b] = kBlockGranules;
    const auto end = static_cast<std::uint16_t>(start + count - last * kBlockGranules);
    if (written[last] < end) written[last] = end;
  }
  /// How many units surely have memory under all of the blocks.
  unsigned held_units(BlockSet blocks) const noexcept {
    unsigned units = ~0u;
    for (; blocks != 0; blocks &= blocks - 1) {
      const unsigned here = held[static_cast<unsigned>(std::countr_zero(blocks))];
      if (here < units) units = here;
    }
    return units;
  }
  /// A place for an allocation that can neither fault nor, if it must zero `open` units, make fault:
  /// all of these have memory there, or it is fresh. OffsetMap::kNone when there is none.
  unsigned find_present(unsigned granules, unsigned align, unsigned open,
                        BlockSet usable = kAllBlocks) const noexcept {
    BlockSet present = 0, somewhere = 0;
    for (unsigned b = 0; b < kBlocks; ++b) {
      present |= BlockSet{held[b] >= open} << b;
      somewhere |= BlockSet{held[b] != 0} << b;
    }
    usable &= populated & ~busy;
    present &= usable;
    somewhere &= usable;
    const unsigned found = map.find(granules, align, ~present & kAllBlocks);
    if (found != OffsetMap::kNone) return found;
    for (unsigned b = 0; b < kBlocks; ++b) {
      if (!has_block(somewhere, b) ||
          MMKIT_MUTATE(MMKIT_MUTANT_percpu_nowait_wants_whole_pages, false, written[b] != 0)) {
        continue;
      }
      const unsigned start = b * kBlockGranules + ((written[b] + align - 1) & ~(align - 1));
      if (start + granules > kGranules) continue;
      const bool all_there = (blocks_under(start, granules) & ~somewhere) == 0;
      if (all_there && is_fresh(start, granules)) return start;
    }
    return OffsetMap::kNone;
  }
  /// The blocks that were never used since their memory was fresh.
  BlockSet fresh_blocks() const noexcept {
    BlockSet set = 0;
    for (unsigned b = 0; b < kBlocks; ++b) set |= BlockSet{written[b] == 0} << b;
    return set;
  }

  ChunkHeap& heap;
  const Place place;
  std::unique_ptr<ChunkMemory> memory;

  OffsetMap map;
  BlockSet populated = 0, reserve = 0, busy = 0;
  std::array<std::uint16_t, kBlocks> held{}, written{};
  unsigned slot = 0;
  unsigned idle_counted = 0;  ///< idle blocks as the heap counts them
  unsigned pins = 0;          ///< visits under way: it must not end
  bool isolated = false;      ///< waiting to be depopulated, or sidelined after it
  bool is_reserved = false;   ///< for allocate_reserved()
};

}  // namespace mmkit::percpu
