// SPDX-License-Identifier: MIT
//
// z3fold's eviction: whole pages from the old end, their objects asked for one after the other.
#include <mmkit/zpool/z3fold.hpp>

#include <mmkit/base/mutant.hpp>

#include "zpool/z3fold_internal.hpp"

namespace mmkit {
namespace {

constexpr ChunkedPage::Buddy kEvictionOrder[] = {
    MMKIT_MUTATE(MMKIT_MUTANT_z3fold_first_before_middle, ChunkedPage::kMiddle,
                 ChunkedPage::kFirst),
    MMKIT_MUTATE(MMKIT_MUTANT_z3fold_first_before_middle, ChunkedPage::kFirst,
                 ChunkedPage::kMiddle),
    ChunkedPage::kLast};

}  // namespace

ShrinkOutcome Z3foldPool::shrink(std::size_t pages) noexcept {
  if (!evict_ || pages == 0) return {0, fail(Errc::invalid_argument)};
  std::size_t reclaimed = 0;
  while (reclaimed < pages) {
    if (Status freed = reclaim_page(); !freed) return {reclaimed, freed};
    ++reclaimed;
  }
  return {reclaimed, {}};
}

// Frees the oldest page whose objects can be evicted, looking at so many pages at the most. A page
// that could not be freed goes to the young end, so that the next try meets another. A page that is
// being evicted is in no list, whole or shared: two shrinks never meet in one.
Status Z3foldPool::reclaim_page() noexcept {
  ShortLockGuard lock(mutex_);
  // A mapped page is passed over and is no try; the number of pages bounds how many are.
  std::size_t looks = total_pages();
  for (unsigned tries = 0; tries < reclaim_retries_; --looks) {
    const PageIndex index =
        MMKIT_MUTATE(MMKIT_MUTANT_z3fold_evicts_claimed_page, lru_.oldest(),
                     (lru_.oldest() == kNoPage && !evictions_.empty() ? evictions_.back()->page
                                                                      : lru_.oldest()));
    if (index == kNoPage) {
      // Nothing to evict, unless other threads are at it.
      return fail(evictions_.empty() ? Errc::invalid_argument : Errc::try_again);
    }
    if (looks == 0) break;
    delist(index);
    lru_.remove(pages_, index);
    pages_[index].is_evicted = 1;
    Eviction eviction(index);
    evictions_.push_back(eviction);
    if (MMKIT_MUTATE(MMKIT_MUTANT_z3fold_evicts_what_is_mapped, !is_mapped(index), true)) {
      // The handles are computed under the lock: later the slots may belong to others.
      Handle handles[ChunkedPage::kBuddies] = {};
      for (const Buddy buddy : ChunkedPage::kInOrder) {
        if (!pages_[index].holds(buddy)) continue;
        handles[buddy] = handles_.handle_of(pages_.slot(index, buddy));
      }
      ++tries;
      lock.unlock();
      const std::uint64_t evicted = evict_objects(handles);
      lock.lock();
      evicted_ += evicted;
    }
    if (end_eviction(eviction)) {
      const PageRun run = retire(index);
      lock.unlock();
      source_.free_pages(run);
      return {};
    }
  }
  return fail(Errc::try_again);
}

bool Z3foldPool::end_eviction(Eviction& eviction) noexcept {
  const PageIndex index = eviction.page;
  evictions_.remove(eviction);
  pages_[index].is_evicted = 0;
  MMKIT_MUTATE(MMKIT_MUTANT_z3fold_survivor_is_old, lru_.add_youngest, lru_.add_oldest)
  (pages_, index);
  if (pages_[index].empty()) return true;
  enlist(index);
  // What it lost is worth a look; where the queue is full, the next free of it will ask again.
  if (deferred_count_ < kMostDeferred) static_cast<void>(defer(index));
  return false;
}

// Threads that were evicting are not in the child: their pages go back. Their mappings cannot end.
void Z3foldPool::on_child() noexcept {
  ShortLockGuard lock(mutex_);
  inherited_ = true;
  for (Eviction* at = evictions_.front(); at != nullptr;) {
    Eviction& eviction = *at;
    at = evictions_.next(eviction);
    if (::pthread_equal(eviction.thread, ::pthread_self()) != 0) continue;
    if (MMKIT_MUTATE(MMKIT_MUTANT_z3fold_evictions_stay_in_child, false, true)) continue;
    const PageIndex index = eviction.page;
    if (end_eviction(eviction)) source_.free_pages(retire(index));
  }
}

bool Z3foldPool::is_mapped(PageIndex index) const noexcept {
  for (const Buddy buddy : ChunkedPage::kInOrder) {
    if (pages_[index].holds(buddy) && handles_.is_pinned_slot(pages_.slot(index, buddy))) {
      return true;
    }
  }
  return false;
}

// Asks for each object of a page, and stops at the first that stays. Returns how many went by this.
// One that is dead already (freed by another thread, or by the callback for its buddy) is not asked
// for; a callback that reports success while the object lives has refused.
std::uint64_t Z3foldPool::evict_objects(const Handle* handles) noexcept {
  std::uint64_t evicted = 0;
  for (const Buddy buddy : kEvictionOrder) {
    const Handle handle = handles[buddy];
    if (handle == Handle::none || !handles_.is_live(handle)) continue;
    const Status given_up = evict_(handle);
    if (!given_up) break;
    if (MMKIT_MUTATE(MMKIT_MUTANT_z3fold_trusts_a_liar, handles_.is_live(handle), false)) break;
    ++evicted;
  }
  return evicted;
}

}  // namespace mmkit
