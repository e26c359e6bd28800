// SPDX-License-Identifier: MIT
//
// Staging - the new contents of the leaves in which a run begins and ends, in buffers nobody sees.
//
// The leaves between them become all taken or all free, which needs no buffer. The buffers come
// from the slot's spares, then from the chunk; those that the change replaces become spares.
//
//   a slot may hold two buffers at the moment of the exchange, the replaced ones counted and the
//   published ones not: so a chunk of n leaves needs n + 2 * slots, and never has none to give.
// Units:      granules
// Invariants: 1 of a slot's buffers, those not staged and those to be replaced are at most two
// Locking:    the slot is the caller's
// Complexity: O(1); checking a run that is freed O(leaves)
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/mutant.hpp>

#include "genalloc/chunk_table.hpp"
#include "genalloc/slots.hpp"

namespace mmkit::genalloc {

/// What was found where a run is to be changed.
enum class Staged {
  ready,
  conflict,    ///< a granule is taken that should be free, or free that should be taken
  wrong_size,  ///< taken, but not as one allocation (only with starts)
};

template <class Sync>
class Staging {
 public:
  using Kind = Change::Kind;

  /// Spares of another chunk go back to it.
  Staging(ChunkTable<Sync, Chunk<Sync>>& chunks, Slot<Sync>& slot, std::uint32_t number) noexcept
      : chunk_(*chunks.find(number)), slot_(slot) {
    if (slot_.spare_chunk == number + 1) return;
    while (slot_.spares != 0) {
      chunks.find(slot_.spare_chunk - 1)->leaves().give_buffer(slot_.spare[--slot_.spares]);
    }
    slot_.spare_chunk = number + 1;
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Prepares `change`: kind, granule and count are set, the buffers will be.
  Staged stage(Change* change) noexcept {
    const std::size_t first = change->granule / kLeafBits;
    const std::size_t last = (change->granule + change->count - 1) / kLeafBits;
    const unsigned begin = static_cast<unsigned>(change->granule % kLeafBits);
    const bool give = change->kind == Kind::give;
    if (give && chunk_.leaves().has_starts() && !matches(*change)) {
      return taken(*change) ? Staged::wrong_size : Staged::conflict;
    }
    if (first == last) {
      const unsigned count = static_cast<unsigned>(change->count);
      return stage_leaf(first, begin, count, change->kind, begin, &change->first_buffer)
                 ? Staged::ready
                 : Staged::conflict;
    }
    const unsigned end =
        static_cast<unsigned>((change->granule + change->count - 1) % kLeafBits) + 1;
    const std::uint32_t inner = give ? kAllTaken : kAllFree;
    if (!chunk_.leaves().has_starts() || !give) {
      if (chunk_.leaves().skip(first + 1, last, inner) != last) return Staged::conflict;
    }
    const bool both =
        stage_leaf(first, begin, kLeafBits - begin, change->kind, begin, &change->first_buffer) &&
        stage_leaf(last, 0, end, change->kind, kLeafBits, &change->last_buffer);
    return both ? Staged::ready : Staged::conflict;
  }

  /// Before the exchange: no more spares than there will be room for.
  void trim() noexcept {
    while (slot_.spares + replaced_count_ > kSparesPerSlot) {
      chunk_.leaves().give_buffer(slot_.spare[--slot_.spares]);
    }
  }
  /// The exchange succeeded: what was replaced is ours.
  void committed() noexcept {
    for (unsigned i = 0; i < replaced_count_; ++i) slot_.spare[slot_.spares++] = replaced_[i];
  }
  /// It did not, or was not tried: what was staged stays ours.
  void dropped() noexcept {
    while (staged_count_ != 0) {
      const std::uint32_t buffer = staged_[--staged_count_];
      if (slot_.spares < kSparesPerSlot) {
        slot_.spare[slot_.spares++] = buffer;
      } else {
        chunk_.leaves().give_buffer(buffer);
      }
    }
    replaced_count_ = 0;
  }

 private:
  // One leaf: granules [begin, begin + count); an allocation starts at `start` (kLeafBits: none).
  bool stage_leaf(std::size_t leaf, unsigned begin, unsigned count, Kind kind, unsigned start,
                  std::uint32_t* out) noexcept {
    LeafTable<Sync>& leaves = chunk_.leaves();
    const std::uint64_t entry = leaves.entry(leaf);
    const bool take = kind == Kind::take;
    Leaf now;
    leaves.copy(entry, &now);
    // Most runs lie within a word or two; the others are only looked at to see whether all are the
    // same now.
    const unsigned first = begin / 64, last = (begin + count - 1) / 64;
    Word conflict = 0;
    for (unsigned i = first; i <= last; ++i) {
      const Word range = range_in_word(i, begin, count);
      conflict |= (take ? ~now.free[i] : now.free[i]) & range;
      now.free[i] ^= range;
    }
    if (conflict != 0) return false;
    Word any_free = 0, all_free = ~Word{0};
#pragma GCC unroll 8
    for (const Word word : now.free) {
      any_free |= word;
      all_free &= word;
    }
    Word starts[kLeafWords], any_start = 0;
    if (leaves.has_starts()) {
      for (unsigned i = 0; i < kLeafWords; ++i) {
        starts[i] = leaves.start_word(entry, i) & ~range_in_word(i, begin, count);
        if (take && start / 64 == i) starts[i] |= Word{1} << (start % 64);
        any_start |= starts[i];
      }
    }
    if (~all_free == 0 && MMKIT_MUTATE(MMKIT_MUTANT_genpool_free_leaf_keeps_buffer, true, false)) {
      *out = kAllFree;
    } else if (any_free == 0 && any_start == 0) {
      *out = kAllTaken;
    } else {
      *out = slot_.spares != 0 ? slot_.spare[--slot_.spares] : leaves.take_buffer();
      staged_[staged_count_++] = *out;
      leaves.write(*out, now);
      if (leaves.has_starts()) leaves.write_starts(*out, starts);
    }
    if (buffer_of(entry) >= kFirstBuffer) replaced_[replaced_count_++] = buffer_of(entry);
    return true;
  }

  // Whether all granules of the run are taken.
  bool taken(const Change& change) const noexcept {
    std::size_t granule = change.granule;
    const std::size_t end = granule + change.count;
    while (granule < end) {
      const unsigned bit = static_cast<unsigned>(granule % kLeafBits);
      const std::size_t here = end - granule < kLeafBits - bit ? end - granule : kLeafBits - bit;
      const std::uint64_t entry = chunk_.leaves().entry(granule / kLeafBits);
      for (unsigned i = 0; i < kLeafWords; ++i) {
        const Word range = range_in_word(i, bit, static_cast<unsigned>(here));
        if ((chunk_.leaves().free_word(entry, i) & range) != 0) return false;
      }
      granule += here;
    }
    return true;
  }
  // Whether an allocation begins at the run's first granule, none within it, and it ends where the
  // run does.
  bool matches(const Change& change) const noexcept {
    const LeafTable<Sync>& leaves = chunk_.leaves();
    const std::size_t end = change.granule + change.count;
    if (!taken(change) || !starts_at(change.granule)) return false;
    if (end < chunk_.granules() && !starts_at(end)) {
      const std::uint64_t entry = leaves.entry(end / kLeafBits);
      const unsigned bit = static_cast<unsigned>(end % kLeafBits);
      if ((leaves.free_word(entry, bit / 64) >> (bit % 64) & 1) == 0) return false;
    }
    for (std::size_t granule = change.granule + 1; granule < end;) {
      const unsigned bit = static_cast<unsigned>(granule % 64);
      const std::size_t here = end - granule < 64 - bit ? end - granule : 64 - bit;
      const std::uint64_t entry = leaves.entry(granule / kLeafBits);
      const unsigned index = static_cast<unsigned>(granule % kLeafBits / 64);
      const Word range = low_bits(static_cast<unsigned>(here)) << bit;
      if ((leaves.start_word(entry, index) & range) != 0) return false;
      granule += here;
    }
    return true;
  }
  bool starts_at(std::size_t granule) const noexcept {
    const std::uint64_t entry = chunk_.leaves().entry(granule / kLeafBits);
    const unsigned bit = static_cast<unsigned>(granule % kLeafBits);
    return (chunk_.leaves().start_word(entry, bit / 64) >> (bit % 64) & 1) != 0;
  }

  Chunk<Sync>& chunk_;
  Slot<Sync>& slot_;
  std::uint32_t staged_[2] = {};
  std::uint32_t replaced_[2] = {};
  unsigned staged_count_ = 0;
  unsigned replaced_count_ = 0;
};

}  // namespace mmkit::genalloc
