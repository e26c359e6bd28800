// SPDX-License-Identifier: MIT
//
// PoolCore, frees - how runs are given back.
#pragma once

#include "genalloc/pool_core.hpp"
#include "genalloc/pool_core_runs.hpp"

namespace mmkit::genalloc {

template <class Sync>
Fault PoolCore<Sync>::give(std::uintptr_t start, std::size_t size_bytes,
                           const ChunkGeometry** geometry) noexcept {
  Lease lease(commit_.slots(), /*may_fail=*/false);
  for (;; ++lease.retries) {
    const Head head = rest(lease);
    const PoolState state = commit_.state(head);
    std::uint32_t at = state.newest;
    ChunkType* chunk = find(at);
    while (chunk != nullptr && !chunk->contains(start, 0)) {
      at = chunk->older;
      chunk = find(at);
    }
    Fault fault = fault_of(chunk, start, size_bytes);
    if (fault == Fault::none) {
      *geometry = &chunk->geometry();
      if (size_bytes == 0) {
        if (commit_.still(head)) return Fault::none;
        continue;
      }
      Change change;
      change.kind = Change::Kind::give;
      change.chunk = at - 1;
      change.granule = (start - chunk->start()) >> options_.order;
      change.count = granules_for(size_bytes);
      change.after = state;
      change.after.used_granules -= change.count;
      Staging<Sync> staging(commit_.chunks(), lease.slot(), *chunk, change.chunk);
      const Staged staged = staging.template stage</*kTake=*/false>(&change);
      if (staged == Staged::ready) {
        beside_given(*chunk, &change, &lease.touched);
        // Before others can have it; while it is not free yet nobody but the caller may touch it.
        if (options_.host && commit_.still(head))
          mmkit::detail::poison(start, change.count << options_.order);
        // What is poisoned only if the head stands must not be given under another one.
        const Keeps keeps = mmkit::detail::kPoisons && options_.host ? Keeps::never : Keeps::always;
        if (!exchange(head, lease, staging, &change, *chunk, keeps)) continue;
        lease.slot().add(Count::frees, 1);
        return Fault::none;
      }
      staging.dropped();
      fault = staged == Staged::conflict ? Fault::not_taken : Fault::wrong_size;
    }
    if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_blames_unasked, commit_.still(head), true)) return fault;
  }
}

// What is wrong before any granule is looked at.
template <class Sync>
inline Fault PoolCore<Sync>::fault_of(const ChunkType* chunk, std::uintptr_t start,
                                      std::size_t size_bytes) const noexcept {
  if (chunk == nullptr) return Fault::no_chunk;
  const std::size_t offset = start - chunk->start();
  if (!chunk->geometry().is_granule(offset)) return Fault::misaligned;
  if (!chunk->contains(start, size_bytes)) return Fault::past_end;
  // The tail that is smaller than a granule was never handed out.
  const std::size_t granule = offset >> options_.order;
  const bool tail = granules_for(size_bytes) > chunk->granules() - granule;
  return tail ? Fault::not_taken : Fault::none;
}

// The free run that a run becomes part of. Where first fit's hint says "long" already, there is
// nothing to learn about how long it is.
template <class Sync>
inline void PoolCore<Sync>::beside_given(const ChunkType& chunk, Change* change,
                                         std::uint64_t* touched) const noexcept {
  const std::uint32_t indexes = change->after.indexes;
  if (indexes == 0) return;
  change->left = chunk.run_before(change->granule, touched);
  const std::size_t leaf = (change->granule - change->left) / kLeafBits;
  if (indexes == kBoundsLive && chunk.bounds().hint(0, leaf) == RunBound::kLong) {
    change->right = RunBound::kMarks;
    return;
  }
  const std::size_t end = change->granule + change->count;
  change->right = chunk.run_after(end, chunk.long_run(indexes), touched);
}

}  // namespace mmkit::genalloc
