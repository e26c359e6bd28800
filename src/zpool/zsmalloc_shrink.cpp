// SPDX-License-Identifier: MIT
//
// zsmalloc, its eviction: whole zspages, the least recently used generation first.
//
// A zspage that is being evicted is isolated: nobody gets room in it, and who frees in it leaves it be.
// Its objects are asked for one by one, with no lock held, up to the first that stays. One with a
// mapped object is passed over; that, and one that was not emptied, counts as used just now.
#include <algorithm>
#include <mmkit/base/mutant.hpp>

#include "zpool/zsmalloc_closed.hpp"
#include "zpool/zsmalloc_eviction.hpp"

namespace mmkit {

ShrinkOutcome ZsmallocPool::shrink(std::size_t pages) noexcept {
  if (!evict_ || pages == 0) return {0, fail(Errc::invalid_argument)};
  std::size_t reclaimed = 0;
  while (reclaimed < pages) {
    if (Status freed = reclaim(&reclaimed); !freed) return {reclaimed, freed};
  }
  return {reclaimed, {}};
}

// Frees the oldest zspage whose objects can be evicted, asking for those of so many at the most.
Status ZsmallocPool::reclaim(std::size_t* freed_pages) noexcept {
  // One that is passed over is no try; how many there are bounds how often.
  std::size_t looks = zspages_.load(std::memory_order_relaxed) + kReclaimRetries;
  for (unsigned tries = 0; tries < kReclaimRetries && looks != 0; --looks) {
    const std::uint32_t number = oldest();
    if (number == kNone) {
      return fail(is_empty_for_now() ? Errc::invalid_argument : Errc::try_again);
    }
    ZspageEviction eviction(number);
    if (!begin_eviction(eviction)) continue;
    ++tries;
    evicted_.fetch_add(evict_objects(eviction), std::memory_order_relaxed);
    *freed_pages += end_eviction(eviction);
    if (eviction.is_gone) return {};
  }
  return fail(Errc::try_again);
}

bool ZsmallocPool::is_empty_for_now() noexcept {
  MutexLock lock(evictions_mutex_);
  return evictions_.empty() && zspages_.load(std::memory_order_relaxed) == 0;
}

// ---------------------------------------------------------------- which one

std::uint32_t ZsmallocPool::oldest() noexcept {
  MutexLock lock(evictions_mutex_);
  return oldest_.next(
      clock_, descriptors_.size(),
      [this](std::uint32_t n) { return find_zspage(n) != nullptr && !base_of(n).isolated(); },
      [this](std::uint32_t n) { return ages_[n].load(std::memory_order_relaxed); });
}

// ---------------------------------------------------------------- one zspage

// Isolates the zspage and notes the handles of its objects; false when it cannot be evicted now.
bool ZsmallocPool::begin_eviction(ZspageEviction& eviction) noexcept {
  const std::uint32_t number = eviction.number;
  if (find_zspage(number) == nullptr) return false;
  const unsigned size_class = base_of(number).size_class();
  if (size_class >= sizes_.count()) return false;  // gone meanwhile: that was no base
  eviction.size_class = size_class;
  Class& home = classes_[size_class];
  // Around the other: a fork finds the zspage isolated and its eviction in the list, or neither.
  MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_lists_evictions_late, MutexLock listing(evictions_mutex_);, )
  MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_evicts_what_is_gone, static_cast<void>(0),
               detail::hold_window_open());
  {
    ShortLockGuard lock(home.lock);
    // Now that it can no longer go: is it still one, and of the class whose lock this is?
    Zspage* const found = find_zspage(number);
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_evicts_what_is_gone,
                     found == nullptr || base_of(number).size_class() != size_class, false)) {
      return false;
    }
    Zspage& zspage = *found;
    if (zspage.isolated || home.evictions == 0xff) return false;
    bool mapped = false;
    for (unsigned cell = 0; cell < zspage.cells(); ++cell) {
      if (zspage.is_free(cell) || zspage.owner(cell) == Zspage::kClaimed) continue;
      const std::uint32_t slot = zspage.owner(cell);
      const std::uint64_t word = engine_.slot(slot).load(std::memory_order_relaxed);
      if (slot_word::state_of(word) == slot_word::kCached) continue;
      mapped |= slot_word::state_of(word) > slot_word::kLive;
      // With the generation of now: later the slot may be another object's.
      eviction.handles[eviction.count++] = handle_bits::make(
          engine_.tag(), static_cast<std::uint32_t>(slot_word::generation_of(word)), slot);
    }
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_evicts_what_is_mapped, mapped, false)) {
      ages_[number].store(clock_.now(), std::memory_order_relaxed);
      return false;
    }
    isolate(home, zspage);
    ++home.evictions;
  }
  MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_lists_evictions_late, , detail::hold_window_open();
               MutexLock listing(evictions_mutex_);)
  evictions_.push_back(eviction);
  return true;
}

// Asks for each object, and stops at the first that stays. Returns how many went by this. One that is
// dead already is not asked for; a callback that reports success while the object lives has refused.
std::uint64_t ZsmallocPool::evict_objects(const ZspageEviction& eviction) noexcept {
  std::uint64_t evicted = 0;
  for (unsigned i = 0; i < eviction.count; ++i) {
    const Handle handle = eviction.handles[i];
    if (!engine_.is_live(handle)) continue;
    const Status given_up = evict_(handle);
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_trusts_a_liar, engine_.is_live(handle), !given_up))
      break;
    if (given_up) ++evicted;
  }
  return evicted;
}

// Back into the lists, as used just now; or it is gone. Returns the pages that left the pool.
std::size_t ZsmallocPool::end_eviction(ZspageEviction& eviction) noexcept {
  Class& home = classes_[eviction.size_class];
  Closed closed;
  {
    MutexLock listing(evictions_mutex_);  // for a fork, see begin_eviction()
    evictions_.remove(eviction);
    ShortLockGuard lock(home.lock);
    Zspage& zspage = *find_zspage(eviction.number);
    --home.evictions;
    // What is left may be kept by CPUs, and pages must not wait for that.
    if (zspage.in_use() != 0 || is_overgranted(home)) withdraw(home, eviction.size_class, closed);
    eviction.is_gone = zspage.in_use() == 0;
    ages_[eviction.number].store(
        MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_survivor_is_old, clock_.now(),
                     ages_[eviction.number].load(std::memory_order_relaxed)),
        std::memory_order_relaxed);
    rejoin(home, zspage, closed);
  }
  return close(closed);
}

}  // namespace mmkit
