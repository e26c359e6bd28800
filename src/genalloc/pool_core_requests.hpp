// SPDX-License-Identifier: MIT
//
// PoolCore, requests - a take that lost too often is made by all together.
//
//   asker      answer = pending;  install "I want this"         the pool stands still
//   anybody    under that head: search;  stage;  exchange       one of them wins
//              carry out: leaves, hints, the asker's answer;  done
//   asker      reads the answer
//
// The asker is one of those who try. To install a request takes no search, so others are hardly
// ever quicker; and what it waits for is one search under a pool that nobody can change meanwhile.
// A search of the caller's own is not asked for: others might still be in his function, and at his
// data, when his call has returned.
#pragma once

#include "genalloc/pool_core.hpp"

namespace mmkit::genalloc {

template <class Sync>
typename PoolCore<Sync>::Outcome PoolCore<Sync>::ask(const Request& request, Lease& lease,
                                                     Taken* taken) noexcept {
  using Access = mmkit::detail::FitAccess;
  Change change;
  change.kind = Change::Kind::ask;
  change.first_buffer = static_cast<std::uint32_t>(Access::kind(request.fit));
  change.last_buffer = request.needs_phys ? 1 : 0;
  change.granule = request.size_bytes;
  change.count = Access::param(request.fit);
  auto& cell = lease.slot().answer;
  while (true) {
    const Head head = rest(lease);
    change.after = commit_.state(head);
    const std::uint32_t indexes = indexes_for(Access::kind(request.fit));
    if ((indexes & ~change.after.indexes) != 0) {
      enliven(indexes, lease);  // nothing but the answer can be installed once we have asked
      continue;
    }
    // Relaxed: who answers has seen the exchange that installs the request, after this.
    cell.store(Commit<Sync>::pending(head), std::memory_order_relaxed);
    if (commit_.install(head, lease.number(), change)) break;
    ++lease.retries;
  }
  std::uint64_t answer = 0;
  // Acquire: pairs with the exchange in Commit::answer().
  while (Commit<Sync>::is_pending(answer = cell.load(std::memory_order_acquire))) {
    const Head head = commit_.rest();
    if (Commit<Sync>::asks(head)) fulfil(head, lease);
  }
  if (Commit<Sync>::is_refusal(answer)) return static_cast<Outcome>(Commit<Sync>::why_in(answer));
  const ChunkType& chunk = *commit_.chunks().find(Commit<Sync>::chunk_in(answer));
  const std::size_t granule = Commit<Sync>::granule_in(answer);
  *taken = {chunk.address(granule), granule << options_.order, &chunk.geometry()};
  return Outcome::taken;
}

template <class Sync>
void PoolCore<Sync>::fulfil(Head head, Lease& lease) noexcept {
  using Access = mmkit::detail::FitAccess;
  const Change asked = commit_.change(head);
  if (!commit_.still(head)) return;
  const Fit fit = Access::make(static_cast<FitKind>(asked.first_buffer), asked.count);
  const Request request{asked.granule, fit, asked.last_buffer != 0};
  const std::uint32_t asker = Commit<Sync>::slot_of(head) + 1;
  Taken taken;
  const Outcome outcome = try_take(head, request, asker, lease, &taken);
  if (outcome == Outcome::taken || outcome == Outcome::again) return;
  Change refusal;
  refusal.asker = asker;
  refusal.granule = static_cast<std::uint64_t>(outcome);
  refusal.after = asked.after;
  commit_.install(head, lease.number(), refusal);
}

}  // namespace mmkit::genalloc
