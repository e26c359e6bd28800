// SPDX-License-Identifier: MIT
//
// PoolCore, chunks - how they come and go, and hints that come to life.
//
// Both are operations like any other, with no run: the chunk added last and the live hints are part
// of what the head stands for. So an allocation that was refused was refused before the chunk was
// added, by anybody's order.
#pragma once

#include "genalloc/pool_core_runs.hpp"
#include "genalloc/pool_walk.hpp"

namespace mmkit::genalloc {

template <class Sync>
Status PoolCore<Sync>::add_chunk(const ChunkGeometry& geometry) noexcept {
  if (overlaps(state(), geometry)) return fail(Errc::already_exists);
  ChunkGeometry complete = geometry;
  complete.order = options_.order;
  complete.starts = options_.starts;
  complete.indexes = state().indexes;
  complete.spare_buffers = kSlots * kSparesPerSlot + 1;
  ChunkType* const chunk = ChunkType::create(complete);
  if (chunk == nullptr) return fail(Errc::out_of_memory);
  const std::uint32_t number = commit_.chunks().claim(chunk);
  if (number == ChunkTable<Sync, ChunkType>::kNone) {
    delete chunk;
    return fail(Errc::out_of_memory);
  }
  Lease lease(commit_.slots(), /*may_fail=*/false);
  for (;; ++lease.retries) {
    const Head head = rest(lease);
    const PoolState before = commit_.state(head);
    if (overlaps(before, geometry)) {
      if (!commit_.still(head)) continue;
      commit_.chunks().release(number);
      delete chunk;
      return fail(Errc::already_exists);
    }
    const ChunkType* const last = newest(before);
    chunk->older = before.newest;
    chunk->total_bytes = geometry.size_bytes + (last == nullptr ? 0 : last->total_bytes);
    chunk->total_chunks = 1 + (last == nullptr ? 0 : last->total_chunks);
    Change change;
    change.after = before;
    change.after.newest = number + 1;
    if (options_.host && commit_.still(head))
      mmkit::detail::poison(geometry.start, geometry.size_bytes);
    if (commit_.install(head, lease.number(), change)) return {};
  }
}

template <class Sync>
bool PoolCore<Sync>::overlaps(const PoolState& state,
                              const ChunkGeometry& geometry) const noexcept {
  for (const ChunkType* chunk = newest(state); chunk != nullptr; chunk = older(*chunk)) {
    const ChunkGeometry& other = chunk->geometry();
    const bool apart = geometry.start > other.start
                           ? geometry.start - other.start >= other.size_bytes
                           : other.start - geometry.start >= geometry.size_bytes;
    if (!apart) return true;
  }
  return false;
}

template <class Sync>
Status PoolCore<Sync>::remove_chunk(std::uintptr_t start) noexcept {
  const PoolState before = state();
  std::uint32_t* link = nullptr;  // what names the chunk, when that is another chunk
  std::uint32_t at = before.newest;
  ChunkType* chunk = find(at);
  while (chunk != nullptr && chunk->start() != start) {
    link = &chunk->older;
    at = chunk->older;
    chunk = find(at);
  }
  if (chunk == nullptr) return fail(Errc::not_found);
  if (free_granules(*chunk) != chunk->granules()) return fail(Errc::busy);

  for (ChunkType* newer = find(before.newest); newer != chunk; newer = find(newer->older)) {
    newer->total_bytes -= chunk->geometry().size_bytes;
    newer->total_chunks -= 1;
  }
  if (link != nullptr) *link = chunk->older;
  {
    Lease lease(commit_.slots(), /*may_fail=*/false);
    Change change;
    bool done = false;
    while (!done) {  // nobody is there to lose against, but for what finishes late
      const Head head = rest(lease);
      change.after = commit_.state(head);
      if (change.after.newest == at) change.after.newest = chunk->older;
      done = commit_.install(head, lease.number(), change);
    }
  }
  for (unsigned i = 0; i < kSlots; ++i) {
    Slot<Sync>& slot = commit_.slots()[i];
    if (slot.spare_chunk == at) slot.spare_chunk = slot.spares = 0;
  }
  if (options_.host) mmkit::detail::unpoison(start, chunk->geometry().size_bytes);
  commit_.chunks().release(at - 1);
  delete chunk;
  return {};
}

// Until now every chunk's hints of that kind admit everything, and so they are true.
template <class Sync>
void PoolCore<Sync>::enliven(std::uint32_t indexes, Lease& lease) noexcept {
  const Head head = rest(lease);
  Change change;
  change.after = commit_.state(head);
  change.after.indexes |= indexes;
  commit_.install(head, lease.number(), change);
}

template <class Sync>
std::size_t PoolCore<Sync>::longest_run() noexcept {
  Lease lease(commit_.slots(), /*may_fail=*/false);
  constexpr unsigned kRounds = 64;
  for (unsigned round = 0;; ++round) {
    const Head head = rest(lease);
    const PoolState now = commit_.state(head);
    if ((now.indexes & kBoundsLive) == 0) {
      enliven(kBoundsLive, lease);
      continue;
    }
    const auto still = [this, head]() noexcept { return commit_.still(head); };
    std::size_t longest = 0;
    for (std::uint32_t at = now.newest; at != 0; at = find(at)->older) {
      Search<Sync, decltype(still)> look(*find(at), lease.number(), still, &lease.touched);
      const std::size_t here = look.longest();
      if (here > longest) longest = here;
    }
    if (commit_.still(head) || round == kRounds) return longest;
  }
}

}  // namespace mmkit::genalloc
