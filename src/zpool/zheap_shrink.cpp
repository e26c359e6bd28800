// SPDX-License-Identifier: MIT
//
// zheap, its eviction: whole blocks, the least recently used generation first.
//
// A block that is being evicted belongs to the thread that does it: none of its holes is listed, and who
// frees in it leaves it be. Its objects are asked for a batch at a time, with no lock held, up to the
// first that stays. One with a mapped object is passed over; that, and one that was not emptied, counts
// as used just now.
#include <algorithm>
#include <mmkit/base/mutant.hpp>

#include "zpool/zheap_eviction.hpp"

namespace mmkit {

ShrinkOutcome ZheapPool::shrink(std::size_t pages) noexcept {
  if (!evict_ || pages == 0) return {0, fail(Errc::invalid_argument)};
  // What is thin now may be gone soon: nobody moves objects while somebody evicts.
  evicting_.fetch_add(1, std::memory_order_relaxed);
  std::size_t reclaimed = 0;
  Status status;
  while (reclaimed < pages && status) status = reclaim(&reclaimed);
  std::uint32_t evicting = evicting_.load(std::memory_order_relaxed);
  // None: the child of a fork that this thread made in between began to count anew.
  while (evicting != 0 &&
         !evicting_.compare_exchange_weak(evicting, evicting - 1, std::memory_order_relaxed)) {
  }
  return {reclaimed, status};
}

// Frees the oldest block whose objects can be evicted, asking for those of so many at the most.
Status ZheapPool::reclaim(std::size_t* freed_pages) noexcept {
  // One that is passed over is no try; how many there are bounds how often.
  std::size_t looks = total_pages() + kReclaimRetries;
  for (unsigned tries = 0; tries < kReclaimRetries && looks != 0; --looks) {
    std::uint32_t number = oldest();
    if (number == OldestUnits::kNone && release_victims()) number = oldest();
    if (number == OldestUnits::kNone) {
      MutexLock lock(evictions_mutex_);
      const bool is_empty = evictions_.empty() && total_pages() == 0;
      return fail(is_empty ? Errc::invalid_argument : Errc::try_again);
    }
    BlockEviction eviction(number);
    if (!begin_eviction(eviction)) continue;
    ++tries;
    while (evict_objects(eviction)) {
    }
    *freed_pages += end_eviction(eviction);
    if (eviction.is_gone) return {};
  }
  return fail(Errc::try_again);
}

// Blocks that are being emptied are nobody's to evict, unless there are no others.
bool ZheapPool::release_victims() noexcept {
  bool found = false;
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) {
    HeapShard& each = shard(s);
    ShortLockGuard lock(each.lock);
    if (each.victim() == kNone) continue;
    each.release_victim();
    found = true;
  }
  return found;
}

std::uint32_t ZheapPool::oldest() noexcept {
  MutexLock lock(evictions_mutex_);
  return oldest_.next(
      clock_, blocks_.size(),
      [this](std::uint32_t n) { return blocks_[n].is(HeapBlockInfo::State::open); },
      [this](std::uint32_t n) { return blocks_[n].age.load(std::memory_order_relaxed); });
}

// ---------------------------------------------------------------- one block

// Takes the block out of use, and notes that; false when it cannot be evicted now.
bool ZheapPool::begin_eviction(BlockEviction& eviction) noexcept {
  HeapBlockInfo& info = blocks_[eviction.number];
  const unsigned number_of_shard = info.shard.load(std::memory_order_relaxed);
  HeapShard& home = shard(number_of_shard);
  // Around the other: a fork finds the block evicted and its eviction in the list, or neither.
  MutexLock listing(evictions_mutex_);
  {
    ShortLockGuard lock(home.lock);
    // Now that it can no longer go: is it still one, and of the shard whose lock this is?
    if (!info.is(HeapBlockInfo::State::open)) return false;
    if (info.shard.load(std::memory_order_relaxed) != number_of_shard) return false;
    if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_evicts_what_is_mapped, has_mapped(eviction.number),
                     false)) {
      blocks_[eviction.number].age.store(clock_.now(), std::memory_order_relaxed);
      return false;
    }
    if (!blocks_.is_whole(eviction.number)) home.unlist(eviction.number);
    info.become(HeapBlockInfo::State::evicted);
  }
  evictions_.push_back(eviction);
  return true;
}

// Calls with the slot of each live object of a block, until told to stop by false.
template <class F>
void ZheapPool::for_each_owner(std::uint32_t number, unsigned from, F&& visit) const noexcept {
  const auto visit_one = [&](unsigned at) {
    const Owner owner = find_owner(HeapPlace(number, at));
    return owner.slot == ObjectEngine::kNoSlot || visit(at, owner);
  };
  if (blocks_.is_whole(number)) {
    if (from == 0) visit_one(0);
    return;
  }
  const HeapBlock block = blocks_.block(number);
  for (unsigned at = 0; !block.is_end(at); at = block.next(at)) {
    if (at >= from && block.is_used(at) && !visit_one(at)) return;
  }
}

bool ZheapPool::has_mapped(std::uint32_t number) const noexcept {
  bool found = false;
  for_each_owner(number, 0, [&](unsigned, const Owner& owner) {
    found = slot_word::state_of(owner.word) > slot_word::kLive;
    return !found;
  });
  return found;
}

// Asks for some objects more; false at the end, or at the first that stays. One that is dead already is
// not asked for; a callback that reports success while the object lives has refused.
bool ZheapPool::evict_objects(BlockEviction& eviction) noexcept {
  Handle handles[BlockEviction::kBatch];
  unsigned count = 0;
  {
    HeapShard& home = shard(blocks_[eviction.number].shard.load(std::memory_order_relaxed));
    ShortLockGuard lock(home.lock);
    for_each_owner(eviction.number, eviction.cursor, [&](unsigned at, const Owner& owner) {
      eviction.cursor = at + 1;
      // With the generation that it had here: by now the slot may be another object's, elsewhere.
      handles[count++] = handle_bits::make(
          engine_.tag(), static_cast<std::uint32_t>(slot_word::generation_of(owner.word)),
          owner.slot);
      return count < BlockEviction::kBatch;
    });
  }
  std::uint64_t evicted = 0;
  bool goes_on = count != 0;
  for (unsigned i = 0; i < count; ++i) {
    const Handle handle = MMKIT_MUTATE(MMKIT_MUTANT_zheap_asks_for_another, handles[i],
                                       engine_.handle_of(handle_bits::index(handles[i])));
    if (!engine_.is_live(handle)) continue;
    const Status given_up = evict_(handle);
    if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_trusts_a_liar, engine_.is_live(handle), !given_up)) {
      goes_on = false;
      break;
    }
    if (given_up) ++evicted;
  }
  evicted_.fetch_add(evicted, std::memory_order_relaxed);
  return goes_on;
}

// Back into use, as used just now; or it is gone. Returns its pages, if they are.
std::size_t ZheapPool::end_eviction(BlockEviction& eviction) noexcept {
  // What is left may wait on a CPU, and pages must not wait for that.
  withdraw_all();
  HeapBlockInfo& info = blocks_[eviction.number];
  HeapShard& home = shard(info.shard.load(std::memory_order_relaxed));
  Closed closed;
  {
    MutexLock listing(evictions_mutex_);  // for a fork, see begin_eviction()
    evictions_.remove(eviction);
    ShortLockGuard lock(home.lock);
    eviction.is_gone = info.used == 0;
    const bool is_whole = blocks_.is_whole(eviction.number);
    if (eviction.is_gone && is_whole) {
      close_whole(eviction.number, closed);
    } else if (eviction.is_gone) {
      close(home, eviction.number, closed);
    } else {
      info.become(HeapBlockInfo::State::open);
      if (!is_whole) home.relist(eviction.number);
      blocks_[eviction.number].age.store(clock_.now(), std::memory_order_relaxed);
    }
  }
  return give_pages(closed);
}

}  // namespace mmkit
