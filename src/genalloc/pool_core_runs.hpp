// SPDX-License-Identifier: MIT
//
// PoolCore, runs - how they are taken; and what becomes of a change that was not quick enough.
#pragma once

#include "genalloc/pool_core.hpp"
#include "genalloc/pool_core_requests.hpp"

namespace mmkit::genalloc {

template <class Sync>
inline Result<typename PoolCore<Sync>::Taken> PoolCore<Sync>::take(std::size_t size_bytes,
                                                                   const Fit& fit,
                                                                   bool needs_phys) noexcept {
  Lease lease(commit_.slots(), /*may_fail=*/true);
  if (!lease.held()) return fail(Errc::try_again);
  const Request request{size_bytes, fit, needs_phys};
  Taken taken;
  Outcome outcome = Outcome::again;
  constexpr std::uint64_t kPatience =
      MMKIT_MUTATE(MMKIT_MUTANT_genpool_never_asks, Sync::kLostBeforeAsking, ~std::uint64_t{0});
  const bool asks = mmkit::detail::FitAccess::kind(fit) != FitKind::custom;
  for (; lease.retries < kPatience || !asks; ++lease.retries) {
    outcome = try_take(rest(lease), request, Change::kNobody, lease, &taken);
    if (outcome != Outcome::again) break;
  }
  if (outcome == Outcome::again) outcome = ask(request, lease, &taken);
  return outcome_of(outcome, taken, request, lease);
}

template <class Sync>
inline Result<typename PoolCore<Sync>::Taken> PoolCore<Sync>::outcome_of(Outcome outcome,
                                                                         const Taken& taken,
                                                                         const Request& request,
                                                                         Lease& lease) noexcept {
  if (outcome == Outcome::taken) {
    const std::size_t run = granules_for(request.size_bytes);
    if (options_.host) mmkit::detail::unpoison(taken.start, run << options_.order);
    lease.slot().add(Count::allocations, 1);
    return taken;
  }
  if (outcome == Outcome::no_phys) return fail(Errc::not_supported);
  const bool room = outcome == Outcome::fragmented;
  lease.slot().add(room ? Count::failed_fragmented : Count::failed_no_space, 1);
  return fail(Errc::no_space);
}

template <class Sync>
inline typename PoolCore<Sync>::Outcome PoolCore<Sync>::try_take(Head head, const Request& request,
                                                                 std::uint32_t asker, Lease& lease,
                                                                 Taken* taken) noexcept {
  const PoolState state = commit_.state(head);
  const std::uint32_t indexes = indexes_for(mmkit::detail::FitAccess::kind(request.fit));
  if ((indexes & ~state.indexes) != 0) {
    enliven(indexes, lease);
    return Outcome::again;
  }
  const std::size_t run = granules_for(request.size_bytes);
  Place place;
  Verdict verdict = Verdict::none;
  std::uint32_t at = state.newest;
  ChunkType* chunk = nullptr;
  for (; at != 0; at = chunk->older) {
    chunk = find(at);
    verdict = search(*chunk, head, run, request.fit, lease, &place);
    if (verdict != Verdict::none) break;
  }
  if (verdict == Verdict::moved) return Outcome::again;
  if (verdict == Verdict::none) {
    if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_refuses_unasked, !commit_.still(head), false)) {
      return Outcome::again;
    }
    const std::size_t room = size_bytes(state) - (state.used_granules << options_.order);
    return room >= request.size_bytes ? Outcome::fragmented : Outcome::no_space;
  }
  if (request.needs_phys && !chunk->geometry().phys) {
    return commit_.still(head) ? Outcome::no_phys : Outcome::again;
  }
  const Keeps keeps = asker != Change::kNobody
                          ? Keeps::never
                          : keeps_for(mmkit::detail::FitAccess::kind(request.fit));
  if (!taken_from(head, state, *chunk, at - 1, place, run, asker, keeps, lease)) {
    return Outcome::again;
  }
  *taken = {chunk->address(place.granule), place.granule << options_.order, &chunk->geometry()};
  return Outcome::taken;
}

template <class Sync>
Status PoolCore<Sync>::take_at(std::uintptr_t start, std::size_t size_bytes) noexcept {
  Lease lease(commit_.slots(), /*may_fail=*/true);
  if (!lease.held()) return fail(Errc::try_again);
  for (;; ++lease.retries) {
    const Head head = rest(lease);
    const PoolState state = commit_.state(head);
    std::uint32_t at = state.newest;
    while (at != 0 && !find(at)->contains(start, size_bytes)) at = find(at)->older;
    ChunkType* const chunk = find(at);
    const std::size_t offset = chunk == nullptr ? 0 : start - chunk->start();
    if (chunk == nullptr || !chunk->geometry().is_granule(offset)) {
      if (!commit_.still(head)) continue;
      return fail(Errc::invalid_argument);
    }
    Place place{offset >> options_.order};
    const std::size_t run = granules_for(size_bytes);
    const bool inside = run <= chunk->granules() && place.granule <= chunk->granules() - run;
    if (!inside || chunk->run_after(place.granule, run, &lease.touched) < run) {
      if (!commit_.still(head)) continue;
      lease.slot().add(Count::failed_fragmented, 1);
      return fail(Errc::no_space);
    }
    if (!taken_from(head, state, *chunk, at - 1, place, run, Change::kNobody, Keeps::never, lease))
      continue;
    if (options_.host) mmkit::detail::unpoison(start, run << options_.order);
    lease.slot().add(Count::allocations, 1);
    return {};
  }
}

template <class Sync>
inline Verdict PoolCore<Sync>::search(ChunkType& chunk, Head head, std::size_t run, const Fit& fit,
                                      Lease& lease, Place* place) noexcept {
  using Access = mmkit::detail::FitAccess;
  const auto still = [this, head]() noexcept { return commit_.still(head); };
  Search<Sync, decltype(still)> look(chunk, lease.number(), still, &lease.touched);
  switch (Access::kind(fit)) {
    case FitKind::first:
      return look.first(run, 0, kNoLeaf, place);
    case FitKind::best:
      return look.best(run, place);
    case FitKind::align: {
      const std::size_t align_bytes = Access::param(fit);
      const std::size_t align = divide_up(align_bytes, chunk.geometry().granule_bytes());
      const std::size_t offset = (chunk.start() & (align_bytes - 1)) >> options_.order;
      return look.aligned(run, align, offset, place);
    }
    case FitKind::order_align: {
      constexpr std::size_t kHighest = std::size_t{1} << 63;
      return run > kHighest ? Verdict::none : look.aligned(run, std::bit_ceil(run), 0, place);
    }
    case FitKind::fixed:
      return look.fixed(run, Access::param(fit) >> options_.order, place);
    case FitKind::relaxed: {
      const unsigned cpu = Sync::cpu() % options_.cpus;
      const std::size_t from = chunk.leaves().leaves() * cpu / options_.cpus;
      const Verdict verdict = look.first(run, from, kNoLeaf, place);
      return verdict == Verdict::none && from != 0 ? look.first(run, 0, from, place) : verdict;
    }
    case FitKind::custom:
      return look.custom(run, Access::search(fit), Access::data(fit), place);
  }
  return Verdict::none;
}

template <class Sync>
inline bool PoolCore<Sync>::taken_from(Head head, const PoolState& state, ChunkType& chunk,
                                       std::uint32_t number, const Place& place, std::size_t run,
                                       std::uint32_t asker, Keeps keeps, Lease& lease) noexcept {
  Change change;
  change.kind = Change::Kind::take;
  change.asker = asker;
  change.chunk = number;
  change.granule = place.granule;
  change.count = run;
  change.after = state;
  change.after.used_granules += run;
  Staging<Sync> staging(commit_.chunks(), lease.slot(), chunk, number);
  if (staging.template stage</*kTake=*/true>(&change) != Staged::ready) {
    staging.dropped();
    return false;
  }
  beside_taken(chunk, place, &change, &lease.touched);
  if (!exchange(head, lease, staging, &change, chunk, keeps)) return false;
  lease.slot().raise(Count::peak_used, change.after.used_granules);
  return true;
}

// `keeps` says when a change that lost may still be right.
template <class Sync>
inline bool PoolCore<Sync>::exchange(Head head, Lease& lease, Staging<Sync>& staging,
                                     Change* change, ChunkType& chunk, Keeps keeps) noexcept {
  staging.trim();
  while (!commit_.install(head, lease.number(), *change, &chunk)) {
    if (keeps == Keeps::never || !still_right(&head, change, keeps)) {
      staging.dropped();
      return false;
    }
  }
  staging.committed();
  return true;
}

// Whether a change made ready under *head is what would be made now: if one operation came between,
// in leaves that we did not look at. A lower place for a first fit it can only have made if it gave
// something back below.
template <class Sync>
bool PoolCore<Sync>::still_right(Head* head, Change* change, Keeps keeps) noexcept {
  const Head now = commit_.rest();
  if (Commit<Sync>::asks(now) || !Commit<Sync>::follows(now, *head)) return false;
  const Change other = commit_.change(now);
  if (!commit_.still(now) || other.chunk != change->chunk) return false;
  if (other.kind != Change::Kind::take && other.kind != Change::Kind::give) return false;
  if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_keeps_a_higher_place,
                   keeps == Keeps::unless_given_below && other.kind == Change::Kind::give &&
                       other.granule < change->granule,
                   false)) {
    return false;
  }
  const std::size_t first = (change->granule - change->left) / kLeafBits;
  const std::size_t last = (change->granule + change->count + change->right) / kLeafBits;
  const std::size_t other_first = other.granule / kLeafBits;
  const std::size_t other_last = (other.granule + other.count - 1) / kLeafBits;
  if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_keeps_what_was_changed,
                   other_last + 1 >= first && other_first <= last + 1, false)) {
    return false;
  }
  const bool take = change->kind == Change::Kind::take;
  change->after = other.after;
  change->after.used_granules += take ? change->count : 0 - change->count;
  *head = now;
  return true;
}

// What a taken run leaves of the one it was part of. First fit asks only which runs may begin in a
// leaf: what is left behind the run matters when it begins in another leaf than the whole did.
template <class Sync>
inline void PoolCore<Sync>::beside_taken(const ChunkType& chunk, const Place& place, Change* change,
                                         std::uint64_t* touched) const noexcept {
  const std::uint32_t indexes = change->after.indexes;
  if (indexes == 0) return;
  const std::size_t left =
      place.left != Place::kUnknown ? place.left : chunk.run_before(change->granule, touched);
  const std::size_t end = change->granule + change->count;
  const bool lengths = (indexes & kLengthsLive) != 0;
  if (!lengths && end / kLeafBits == (change->granule - left) / kLeafBits) return;
  change->right = place.right != Place::kUnknown
                      ? place.right
                      : chunk.run_after(end, chunk.long_run(indexes), touched);
  if (lengths) change->left = left;
}

}  // namespace mmkit::genalloc
