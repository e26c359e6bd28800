// SPDX-License-Identifier: MIT
//
// zheap, its validation: shards, then slots against extents.
#include <mmkit/zpool/zheap.hpp>

namespace mmkit {

Status ZheapPool::validate() const noexcept {
  auto& self = const_cast<ZheapPool&>(*this);
  MutexLock one_at_a_time(waiting_);
  self.lock_shards();
  bool sound = true;
  std::size_t pages = 0, owned = 0;
  {
    const CpuStacks::Stopped stopped(engine_.stacks());
    for (unsigned s = 0; sound && s < locked_shards_; ++s) {
      sound = shard(s).validate(static_cast<std::uint8_t>(s));
      for (std::uint32_t i = 0; i < shard(s).blocks(); ++i) {
        pages += blocks_[shard(s).number(i)].pages;
        sound = sound && validate_owners(shard(s).number(i), &owned);
      }
    }
    for (std::uint32_t n = 0; n < blocks_.size(); ++n) {
      if (blocks_[n].is(HeapBlockInfo::State::none) || !blocks_.is_whole(n)) continue;
      pages += blocks_[n].pages;
      owned += find_owner(HeapPlace(n, 0)).slot == ObjectEngine::kNoSlot ? 0U : 1U;
    }
    sound = sound && pages == total_pages() && validate_slots(stopped, owned) &&
            self.engine_.validate(stopped, owned);
  }
  self.unlock_shards();
  return sound ? Status{} : fail(Errc::bad_format);
}

// Each extent in use belongs to one live slot at most; counts those that do.
bool ZheapPool::validate_owners(std::uint32_t number, std::size_t* owned) const noexcept {
  const HeapBlock block = blocks_.block(number);
  for (unsigned at = 0; !block.is_end(at); at = block.next(at)) {
    if (!block.is_used(at)) continue;
    const std::uint32_t slot = find_owner(HeapPlace(number, at)).slot;
    if (slot == ObjectEngine::kNoSlot) continue;
    const HeapPlace place(engine_.slot(slot).load(std::memory_order_relaxed));
    if (place.slack_bytes() >= HeapBlock::bytes_in(block.length(at))) return false;
    ++*owned;
  }
  return true;
}

// As many slots are live as extents have an owner, and what waits names an extent.
bool ZheapPool::validate_slots(const CpuStacks::Stopped& stopped,
                               std::size_t owned) const noexcept {
  std::size_t live = 0;
  for (std::uint32_t i = 0; i < engine_.slots(); ++i) {
    const std::uint64_t word = engine_.slot(i).load(std::memory_order_relaxed);
    if (slot_word::state_of(word) < slot_word::kLive) continue;
    ++live;
    if (!is_extent_of(i, HeapPlace(word))) return false;
  }
  for (unsigned cpu = 0; cpu < engine_.stacks().cpus(); ++cpu) {
    for (const std::uint32_t number : stopped.numbers(cpu, kWaiting)) {
      if (number == 0 || number > engine_.slots()) return false;
      const std::uint64_t word = engine_.slot(number - 1).load(std::memory_order_relaxed);
      if (slot_word::state_of(word) != slot_word::kCached) return false;
      if (!is_extent_of(number - 1, HeapPlace(word))) return false;
    }
  }
  // Others may publish an object or free one while we look.
  return live >= owned || live + engine_.stacks().cpus() * kMostWaiting >= owned;
}

bool ZheapPool::is_extent_of(std::uint32_t slot, HeapPlace place) const noexcept {
  if (place.block() >= blocks_.size()) return false;
  const HeapBlockInfo& info = blocks_[place.block()];
  if (info.is(HeapBlockInfo::State::none)) return false;
  if (blocks_.is_whole(place.block())) {
    return info.at == slot && info.used == 1 && place.whole_bytes() <= info.pages * kPageSize;
  }
  if (place.granule() >= info.granules()) return false;
  const HeapBlock block = blocks_.block(place.block());
  return block.is_used(place.granule()) &&
         block.owner_bits_of(place.granule()) == HeapBlock::owner_bits(slot);
}

}  // namespace mmkit
