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
  [[gnu::always_inline]] Staging(ChunkTable<Sync, Chunk<Sync>>& chunks, Slot<Sync>& slot,
                                 Chunk<Sync>& chunk, std::uint32_t number) noexcept
      : chunk_(chunk), slot_(slot) {
    if (slot_.spare_chunk != number + 1) change_chunk(chunks, number);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Prepares `change`: granule and count are set, the buffers will be; `kTake` says its kind.
  template <bool kTake>
  [[gnu::always_inline]] Staged stage(Change* change) noexcept {
    const unsigned begin = static_cast<unsigned>(change->granule % kLeafBits);
    if (begin + change->count > kLeafBits || chunk_.leaves().has_starts()) {
      return stage_many<kTake>(change);
    }
    const unsigned count = static_cast<unsigned>(change->count);
    return stage_leaf<kTake>(change->granule / kLeafBits, begin, count, &change->first_buffer)
               ? Staged::ready
               : Staged::conflict;
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
    while (staged_count_ != 0) let_go();
    replaced_count_ = 0;
  }

 private:
  [[gnu::noinline]] void change_chunk(ChunkTable<Sync, Chunk<Sync>>& chunks,
                                      std::uint32_t number) noexcept {
    while (slot_.spares != 0) {
      chunks.find(slot_.spare_chunk - 1)->leaves().give_buffer(slot_.spare[--slot_.spares]);
    }
    slot_.spare_chunk = number + 1;
  }

  // A run of several leaves, or one whose start is remembered.
  template <bool kTake>
  [[gnu::noinline]] Staged stage_many(Change* change) noexcept {
    const bool starts = chunk_.leaves().has_starts();
    if (!kTake && starts && !matches(*change)) {
      return taken(*change) ? Staged::wrong_size : Staged::conflict;
    }
    const std::size_t first = change->granule / kLeafBits;
    const std::size_t last = (change->granule + change->count - 1) / kLeafBits;
    const unsigned begin = static_cast<unsigned>(change->granule % kLeafBits);
    const unsigned end =
        static_cast<unsigned>((change->granule + change->count - 1) % kLeafBits) + 1;
    if (first == last) {
      return stage_leaf<kTake>(first, begin, end - begin, &change->first_buffer, begin)
                 ? Staged::ready
                 : Staged::conflict;
    }
    if (!starts || kTake) {
      const std::uint32_t inner = kTake ? kAllFree : kAllTaken;
      if (chunk_.leaves().skip(first + 1, last, inner) != last) return Staged::conflict;
    }
    const bool both =
        stage_leaf<kTake>(first, begin, kLeafBits - begin, &change->first_buffer, begin) &&
        stage_leaf<kTake>(last, 0, end, &change->last_buffer, kLeafBits);
    return both ? Staged::ready : Staged::conflict;
  }

  // One leaf: granules [begin, begin + count); an allocation starts at `start` (kLeafBits: none).
  template <bool kTake>
  [[gnu::always_inline]] bool stage_leaf(std::size_t leaf, unsigned begin, unsigned count,
                                         std::uint32_t* out, unsigned start = kLeafBits) noexcept {
    LeafTable<Sync>& leaves = chunk_.leaves();
    const std::uint64_t entry = leaves.entry(leaf);
    const std::uint32_t buffer = hold();
    const Turned turned = leaves.template turn<kTake>(entry, buffer, begin, count);
    if (turned == Turned::conflict) return false;
    const bool any_start =
        leaves.has_starts() && stage_starts(entry, begin, count, /*take=*/kTake, start);
    *out = buffer;
    if (turned == Turned::uniform && !any_start &&
        (kTake || MMKIT_MUTATE(MMKIT_MUTANT_genpool_free_leaf_keeps_buffer, true, false))) {
      *out = kTake ? kAllTaken : kAllFree;
      let_go();
    }
    if (buffer_of(entry) >= kFirstBuffer) replaced_[replaced_count_++] = buffer_of(entry);
    return true;
  }
  // The second half of the buffer held last. Whether an allocation begins in the leaf.
  [[gnu::noinline]] bool stage_starts(std::uint64_t entry, unsigned begin, unsigned count,
                                      bool take, unsigned start) noexcept {
    Word starts[kLeafWords], any = 0;
    for (unsigned i = 0; i < kLeafWords; ++i) {
      starts[i] = chunk_.leaves().start_word(entry, i) & ~range_in_word(i, begin, count);
      if (take && start / 64 == i) starts[i] |= Word{1} << (start % 64);
      any |= starts[i];
    }
    chunk_.leaves().write_starts(staged_[staged_count_ - 1], starts);
    return any != 0;
  }
  [[gnu::always_inline]] std::uint32_t hold() noexcept {
    const std::uint32_t buffer =
        slot_.spares != 0 ? slot_.spare[--slot_.spares] : chunk_.leaves().take_buffer();
    staged_[staged_count_++] = buffer;
    return buffer;
  }
  // The buffer held last is not needed.
  void let_go() noexcept {
    const std::uint32_t buffer = staged_[--staged_count_];
    if (slot_.spares < kSparesPerSlot) {
      slot_.spare[slot_.spares++] = buffer;
    } else {
      chunk_.leaves().give_buffer(buffer);
    }
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
