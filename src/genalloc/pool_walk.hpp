// SPDX-License-Identifier: MIT
//
// PoolWalk - everything that looks at a whole pool: free runs, counts, invariants.
//
// Reads leaf by leaf while others may go on. Who needs the truth about an instant asks before and
// after whether the head is the same.
// Units:      granules
// Complexity: O(granules / 64)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/result.hpp>
#include <new>

#include "genalloc/pool_core.hpp"

namespace mmkit::genalloc {

/// Calls visit(first granule, granules) for each free run, upwards.
template <class Sync, class Visit>
void for_each_free_run(const Chunk<Sync>& chunk, Visit&& visit) noexcept {
  const LeafTable<Sync>& leaves = chunk.leaves();
  std::size_t begin = 0, length = 0;
  for (std::size_t leaf = 0; leaf < leaves.leaves(); ++leaf) {
    Leaf copy;
    leaves.copy(leaves.entry(leaf), &copy);
    for (unsigned bit = 0; bit < kLeafBits;) {
      const unsigned here = copy.run_from(bit);
      if (here != 0) {
        if (length == 0) begin = leaf * kLeafBits + bit;
        length += here;
        bit += here;
      }
      if (bit == kLeafBits) break;
      if (length != 0) visit(begin, length);
      length = 0;
      const Word taken = ~copy.free[bit / 64] >> (bit % 64);
      const unsigned skip = static_cast<unsigned>(std::countr_one(taken));
      bit = skip == 64 - bit % 64 ? (bit / 64 + 1) * 64 : bit + skip;
    }
  }
  if (length != 0) visit(begin, length);
}

template <class Sync>
std::size_t free_granules(const Chunk<Sync>& chunk) noexcept {
  std::size_t total = 0;
  for (std::size_t leaf = 0; leaf < chunk.leaves().leaves(); ++leaf) {
    Leaf copy;
    chunk.leaves().copy(chunk.leaves().entry(leaf), &copy);
    total += copy.count();
  }
  return total;
}

/// The invariants of a chunk in a pool that rests; the numbers are those of the files' openings.
template <class Sync>
class ChunkCheck {
 public:
  explicit ChunkCheck(Chunk<Sync>& chunk) noexcept : chunk_(chunk) {}

  /// `spares` are what slots hold of this chunk. Errors: bad_format, out_of_memory.
  Status run(const Slots<Sync>& slots, std::uint32_t number) noexcept {
    const std::uint32_t buffers = chunk_.leaves().buffer_count();
    owned_.reset(new (std::nothrow) std::uint8_t[buffers]());
    if (owned_ == nullptr) return fail(Errc::out_of_memory);
    if (!leaves() || !spares(slots, number) || !hints()) return fail(Errc::bad_format);
    return {};
  }

 private:
  bool own(std::uint32_t buffer) noexcept {
    if (buffer < kFirstBuffer || buffer >= chunk_.leaves().fresh()) return false;
    return owned_[buffer]++ == 0;
  }

  // LeafTable 1, 2, 3.
  bool leaves() noexcept {
    const LeafTable<Sync>& table = chunk_.leaves();
    for (std::size_t leaf = 0; leaf < table.leaves(); ++leaf) {
      const std::uint64_t entry = table.entry(leaf);
      const std::uint32_t buffer = buffer_of(entry);
      if (buffer <= kAllTaken) continue;
      if (!own(buffer)) return false;
      Leaf copy;
      table.copy(entry, &copy);
      Word starts = 0;
      for (unsigned i = 0; table.has_starts() && i < kLeafWords; ++i) {
        const Word word = table.start_word(entry, i);
        if ((word & copy.free[i]) != 0) return false;  // nothing begins where it is free
        starts |= word;
      }
      if (copy.count() == kLeafBits || (copy.count() == 0 && starts == 0)) return false;
    }
    if (buffer_of(table.entry(table.leaves())) != kAllTaken) return false;
    const unsigned tail = static_cast<unsigned>(chunk_.granules() % kLeafBits);
    if (tail == 0) return true;
    Leaf last;
    table.copy(table.entry(table.leaves() - 1), &last);
    for (unsigned bit = tail; bit < kLeafBits; ++bit) {
      if (last.free_at(bit)) return false;
    }
    return true;
  }
  // Each buffer is named by an entry, or spare in the stack or a slot, or was never used.
  bool spares(const Slots<Sync>& slots, std::uint32_t number) noexcept {
    bool sound = true;
    const LeafTable<Sync>& table = chunk_.leaves();
    table.for_each_spare(table.buffer_count(),
                         [&](std::uint32_t buffer) noexcept { sound = own(buffer) && sound; });
    for (unsigned i = 0; i < kSlots; ++i) {
      if (slots[i].spare_chunk != number + 1) continue;
      if (slots[i].spares > kSparesPerSlot) return false;
      for (std::uint32_t s = 0; s < slots[i].spares; ++s) sound = own(slots[i].spare[s]) && sound;
    }
    for (std::uint32_t buffer = kFirstBuffer; buffer < table.fresh(); ++buffer) {
      sound = owned_[buffer] == 1 && sound;
    }
    return sound;
  }
  // HintTree 1, BitTree 1.
  bool hints() noexcept {
    bool sound = true;
    for_each_free_run(chunk_, [&](std::size_t begin, std::size_t length) noexcept {
      const std::size_t leaf = begin / kLeafBits;
      sound = admits(chunk_.bounds(), leaf, RunBound::of(length)) && sound;
      sound = chunk_.lengths().admits(leaf, length) && sound;
    });
    return sound;
  }
  template <class Kind>
  static bool admits(const HintTree<Sync, Kind>& tree, std::size_t leaf,
                     std::uint64_t hint) noexcept {
    for (unsigned level = 0; level <= tree.top(); ++level, leaf /= Kind::kFan) {
      const std::uint64_t here = tree.hint(level, leaf);
      if (Kind::join(here, hint) != here) return false;
    }
    return true;
  }

  Chunk<Sync>& chunk_;
  std::unique_ptr<std::uint8_t[]> owned_;
};

/// Errors: bad_format, out_of_memory, busy (the pool did not rest).
template <class Sync>
Status validate(PoolCore<Sync>& core) noexcept {
  const auto head = core.commit().rest();
  const PoolState state = core.commit().state(head);
  Status status;
  std::size_t used = 0, total = 0, count = 0;
  for (std::uint32_t at = state.newest; at != 0 && status;) {
    Chunk<Sync>& chunk = *core.commit().chunks().find(at - 1);
    status = ChunkCheck<Sync>(chunk).run(core.commit().slots(), at - 1);
    used += chunk.granules() - free_granules(chunk);
    total += chunk.geometry().size_bytes;
    ++count;
    at = chunk.older;
  }
  const Chunk<Sync>* const newest = core.newest(state);
  if (used != state.used_granules || total != core.size_bytes(state) ||
      count != (newest == nullptr ? 0 : newest->total_chunks)) {
    if (status) status = fail(Errc::bad_format);
  }
  if (status || status.error() == Errc::out_of_memory) return status;
  // Something looked broken: it may be that others were at it.
  bool busy = !core.commit().still(head);
  for (unsigned i = 0; i < kSlots; ++i) busy = core.commit().slots().in_flight(i) || busy;
  return busy ? fail(Errc::busy) : status;
}

}  // namespace mmkit::genalloc
