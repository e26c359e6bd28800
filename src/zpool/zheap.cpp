// SPDX-License-Identifier: MIT
//
// zheap, allocate and free: objects find room in a shard, and extents come back to the shards.
#include <mmkit/zpool/zheap.hpp>

#include <algorithm>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/mutant.hpp>

namespace mmkit {
namespace {

// A pool of so many pages lets one extent more wait on each CPU: less than a thousandth of it.
constexpr std::size_t kPagesPerWaiting = 384;
// A shard asks others for room, rather than open a block, while they have more free than one part in so
// many.
constexpr std::size_t kFreeShare = 64;
// Blocks that a shard can add without asking for memory.
constexpr std::uint32_t kReserved = 8;
// An object that leaves at most so great a part of its pages unused has them for itself.
constexpr std::size_t kUnusedShare = 64;

constexpr bool fills_pages(std::size_t size_bytes) noexcept {
  const std::size_t pages_bytes = divide_up(size_bytes, kPageSize) * kPageSize;
  return pages_bytes - size_bytes <= pages_bytes / kUnusedShare;
}

// A generation ends when so great a part of the blocks was used in it.
constexpr std::size_t kGenerationShare = 8;

}  // namespace

// ---------------------------------------------------------------- allocate

Failure ZheapPool::failed(Errc why) noexcept {
  failures_.fetch_add(1, std::memory_order_relaxed);  // a number on its own
  return fail(why);
}

Result<Handle> ZheapPool::add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept {
  gfp = gfp | gfp_;
  if (size_bytes == 0) return failed(Errc::invalid_argument);
  if (size_bytes > params_.max_object_bytes) return failed(Errc::no_space);
  const bool nowait = has(gfp, Gfp::nowait);
  std::uint32_t index;
  if (const Result<std::size_t> taken = engine_.take_slots(std::span(&index, 1), nowait); !taken) {
    return failed(taken.error());
  }
  const Result<HeapPlace> place = find_place(size_bytes, index, gfp);
  if (!place) {
    engine_.give_slots(std::span(&index, 1));
    return failed(place.error());
  }
  if (object != nullptr) {
    std::memcpy(blocks_.object(*place).data(), object, size_bytes);
  } else if (has(gfp, Gfp::zero)) {
    std::memset(blocks_.object(*place).data(), 0, size_bytes);
  }
  if (!nowait || engine_.stacks().ready_now()) {
    engine_.stacks().count_allocation(size_bytes);
  } else {  // this CPU's counts may not be in memory
    allocations_aside_.fetch_add(1, std::memory_order_relaxed);
    bytes_aside_.fetch_add(size_bytes, std::memory_order_relaxed);
  }
  if (note_use(place->block())) note_new_use();
  // Now it is everybody's. Until now no mover found its owner, and left it where it is.
  return engine_.publish(index, place->bits());
}

Result<HeapPlace> ZheapPool::find_place(std::size_t size_bytes, std::uint32_t slot,
                                        Gfp gfp) noexcept {
  if (fills_pages(size_bytes)) {
    Result<HeapPlace> place = find_pages(size_bytes, slot, gfp);
    if (place || place.error() != Errc::out_of_memory || has(gfp, Gfp::nowait) || evict_) {
      return place;
    }
    return withdraw_all() == 0 ? place : find_pages(size_bytes, slot, gfp);
  }
  const unsigned granules = HeapBlock::granules_for(size_bytes);
  const Result<HeapPlace> room = find_room(granules, slot, gfp);
  if (!room) return room;
  return HeapPlace(room->block(), room->granule(), HeapBlock::bytes_in(granules) - size_bytes);
}

// Pages for one object alone.
Result<HeapPlace> ZheapPool::find_pages(std::size_t size_bytes, std::uint32_t slot,
                                        Gfp gfp) noexcept {
  const Result<std::uint32_t> number = open_whole(divide_up(size_bytes, kPageSize), slot, gfp);
  if (!number) return fail(number.error());
  return HeapPlace::whole(*number, size_bytes);
}

// Room for an extent: in this CPU's shard, in others, in a new block.
Result<HeapPlace> ZheapPool::find_room(unsigned granules, std::uint32_t slot, Gfp gfp) noexcept {
  const bool nowait = has(gfp, Gfp::nowait);
  const unsigned mine = shard_here();
  HeapShard& home = shard(mine);
  Closed closed;
  if (nowait) {
    if (!home.lock.try_lock()) return fail(Errc::try_again);
  } else {
    home.lock.lock();
  }
  ShortLockGuard lock(home.lock, ShortLockGuard::Adopt{});
  const HeapPlace room = home.take(granules, slot);
  // A call that must not wait gives no pages back either.
  if (!nowait) keep_floor(home, closed);
  lock.unlock();
  give_pages(closed);
  if (!room.is_none()) return room;
  if (const Result<HeapPlace> found = find_room_elsewhere(mine, granules, slot); found)
    return found;
  const Result<HeapPlace> fresh = find_room_in_new_block(mine, granules, slot, gfp);
  if (fresh || fresh.error() != Errc::out_of_memory || nowait || evict_) return fresh;
  // Nobody will be asked to make room, so what waits on CPUs must not stand in the way.
  if (withdraw_all() == 0) return fresh;
  lock.lock();
  if (const HeapPlace again = home.take(granules, slot); !again.is_none()) return again;
  lock.unlock();
  if (const Result<HeapPlace> found = find_room_elsewhere(mine, granules, slot); found)
    return found;
  return find_room_in_new_block(mine, granules, slot, gfp);
}

// In a shard that has much to spare, if its lock is to be had.
Result<HeapPlace> ZheapPool::find_room_elsewhere(unsigned mine, unsigned granules,
                                                 std::uint32_t slot) noexcept {
  const unsigned shards = active_.load(std::memory_order_acquire);  // pairs with activate_shards()
  for (unsigned i = 1; i < shards; ++i) {
    HeapShard& other = shard((mine + i) % shards);
    if ((other.held() - other.used()) < other.held() / kFreeShare) continue;
    if (!other.lock.try_lock()) continue;
    ShortLockGuard lock(other.lock, ShortLockGuard::Adopt{});
    if (const HeapPlace room = other.take(granules, slot); !room.is_none()) return room;
  }
  return fail(Errc::no_space);
}

Result<HeapPlace> ZheapPool::find_room_in_new_block(unsigned mine, unsigned granules,
                                                    std::uint32_t slot, Gfp gfp) noexcept {
  HeapShard& home = shard(mine);
  if (has(gfp, Gfp::nowait)) {
    // The lock first: where it is taken, nothing may have to be given back.
    if (!home.lock.try_lock()) return fail(Errc::try_again);
    ShortLockGuard lock(home.lock, ShortLockGuard::Adopt{});
    if (!home.has_reserve()) return fail(Errc::out_of_memory);
    const Result<std::uint32_t> opened = open(mine, granules, gfp);
    if (!opened) return fail(opened.error());
    return take_in(home, *opened, granules, slot);
  }
  activate_shards();
  // Without the lock, so that others go on.
  const Result<std::uint32_t> opened = open(mine, granules, gfp);
  Closed closed;
  Result<HeapPlace> room = fail(opened ? Errc::out_of_memory : opened.error());
  {
    ShortLockGuard lock(home.lock);
    // While nobody held the lock, another thread may have made room.
    const HeapPlace found = home.take(granules, slot);
    if (!found.is_none()) room = found;
    // Some ahead, for calls that must not ask for memory: a failure to is none of this one's.
    if (opened && !room && (home.reserve(kReserved) || home.has_reserve())) {
      room = take_in(home, *opened, granules, slot);
    } else if (opened) {
      closed.push(blocks_, *opened);
    }
  }
  give_pages(closed);
  return room;
}

// The first extent of a block that becomes the shard's.
HeapPlace ZheapPool::take_in(HeapShard& home, std::uint32_t number, unsigned granules,
                             std::uint32_t slot) noexcept {
  home.add(number);
  pages_.fetch_add(blocks_[number].pages, std::memory_order_relaxed);
  return home.take(granules, slot);
}

// ---------------------------------------------------------------- free

Status ZheapPool::free_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return fail(Errc::invalid_argument);
  const Result<std::uint64_t> word = engine_.pins().take(handle, *slot, slot_word::kCached);
  if (!word) return fail(word.error());
  engine_.stacks().count_free(0);
  return give_back(handle_bits::index(handle));
}

// An extent, and those that wait on this CPU.
Status ZheapPool::give_back(std::uint32_t index) noexcept {
  std::uint32_t slots[kMostWaiting + 1];
  std::size_t count = 0;
  slots[count++] = index;
  while (count < std::size(slots)) {
    const std::uint32_t waiting = engine_.find_kept(kWaiting);
    if (waiting == ObjectEngine::kNoSlot) break;
    slots[count++] = waiting;
  }
  give_back(Slots(slots, count));
  // Grown or shrunk, the pool lets others wait on this CPU.
  const unsigned allowed = waiting_allowed();
  const unsigned granted = granted_.load(std::memory_order_seq_cst);
  if (allowed < granted / 2 || (allowed == 0 && granted != 0)) {
    withdraw_all();
  } else if (allowed != 0) {
    CpuStacks& stacks = engine_.stacks();
    const unsigned cpu = stacks.make_ready();
    if (stacks.limit(cpu, kWaiting) != allowed) {
      MMKIT_MUTATE(MMKIT_MUTANT_zheap_grants_what_is_gone, , detail::hold_window_open();)
      // The limit first: who takes all back meanwhile finds it, or leaves it to be noted here.
      stacks.set_limit(cpu, kWaiting, allowed);
      // Sequentially consistent, as are the loads here and what takes pages away: either who empties
      // the pool sees that something is granted, or this thread how small the pool is by now.
      granted_.store(std::max(allowed, granted), std::memory_order_seq_cst);
      if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_grants_what_is_gone, waiting_allowed() == 0, false)) {
        withdraw_all();
      }
    }
  }
  return {};
}

unsigned ZheapPool::waiting_allowed() const noexcept {
  return static_cast<unsigned>(std::min<std::size_t>(
      pages_.load(std::memory_order_seq_cst) / kPagesPerWaiting, kMostWaiting));
}

// Extents of whatever shards, in the caller's hands. Returns the pages that this freed.
std::size_t ZheapPool::give_back(Slots slots) noexcept {
  std::uint32_t left[kMostWaiting + 1];
  std::size_t count = 0;
  const auto shard_of = [this](std::uint32_t slot) {
    const HeapPlace place(engine_.slot(slot).load(std::memory_order_relaxed));
    return blocks_[place.block()].shard.load(std::memory_order_relaxed);
  };
  for (const std::uint32_t slot : slots) left[count++] = slot;
  std::size_t freed = 0, bytes = 0;
  MMKIT_MUTATE(MMKIT_MUTANT_zheap_slot_goes_before_its_extent, , engine_.give_slots(slots);)
  while (count != 0) {
    Closed closed;
    const unsigned number = shard_of(left[0]);
    HeapShard& home = shard(number);
    std::size_t kept = 0;
    std::uint32_t mine[kMostWaiting + 1];
    std::size_t here = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (shard_of(left[i]) == number) {
        mine[here++] = left[i];
      } else {
        left[kept++] = left[i];
      }
    }
    {
      ShortLockGuard lock(home.lock);
      // Each step for all of them, so that what one waits for comes while others ask for theirs.
      for (std::size_t i = 0; i < here; ++i) fetch_neighbours(mine[i]);
      for (std::size_t i = 0; i < here; ++i) bytes += release(home, mine[i], closed);
      keep_floor(home, closed);
    }
    count = kept;
    freed += give_pages(closed);
  }
  bytes_released_.fetch_add(bytes, std::memory_order_relaxed);
  MMKIT_MUTATE(MMKIT_MUTANT_zheap_slot_goes_before_its_extent, engine_.give_slots(slots);, )
  return freed;
}

void ZheapPool::fetch_neighbours(std::uint32_t slot) const noexcept {
  const HeapPlace place(engine_.slot(slot).load(std::memory_order_relaxed));
  if (!blocks_.is_whole(place.block())) HeapShard::fetch_neighbours(blocks_, place);
}

// Returns the bytes of the object that was there.
std::size_t ZheapPool::release(HeapShard& shard, std::uint32_t slot, Closed& closed) noexcept {
  const HeapPlace place(engine_.slot(slot).load(std::memory_order_relaxed));
  const std::uint32_t number = place.block();
  // An object that wrote beyond its end is noticed here, before anything is built on what it wrote.
  MMKIT_CHECK(is_extent_of(slot, place));
  const std::size_t bytes = blocks_.object(place).size();
  const bool is_evicted = blocks_[number].is(HeapBlockInfo::State::evicted);
  if (blocks_.is_whole(number)) {
    blocks_[number].used = 0;
    if (!is_evicted) close_whole(number, closed);
  } else if (shard.give(place) &&
             MMKIT_MUTATE(MMKIT_MUTANT_zheap_closes_what_is_evicted, !is_evicted, true)) {
    close(shard, number, closed);
  }
  return bytes;
}

// Takes back all that waits on CPUs, and their room for it. Returns the pages that this freed, and one
// for each extent.
std::size_t ZheapPool::withdraw_all() noexcept {
  CpuStacks& stacks = engine_.stacks();
  granted_.store(0, std::memory_order_relaxed);
  std::size_t found = 0;
  for (unsigned cpu = 0; cpu < stacks.cpus(); ++cpu) {
    if (stacks.limit(cpu, kWaiting) == 0) continue;
    MMKIT_MUTATE(MMKIT_MUTANT_zheap_drains_before_limit, stacks.set_limit(cpu, kWaiting, 0);, )
    std::uint32_t slots[CpuStacks::kMostNumbers];
    const unsigned count = stacks.drain(cpu, kWaiting, slots);
    MMKIT_MUTATE(MMKIT_MUTANT_zheap_drains_before_limit, , detail::hold_window_open();
                 stacks.set_limit(cpu, kWaiting, 0);)
    for (unsigned i = 0; i < count; ++i) {
      --slots[i];  // a number is a slot and one
      detail::tsan_acquire(&engine_.slot(slots[i]));
    }
    if (count != 0) found += count + give_back(Slots(slots, count));
  }
  return found;
}

// ---------------------------------------------------------------- map

Result<std::span<std::byte>> ZheapPool::map_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return fail(Errc::not_found);
  const Result<std::uint64_t> word = engine_.pins().pin(handle, *slot);
  if (!word) return fail(word.error());
  return bytes_of(*word);
}

void ZheapPool::unmap_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr || !engine_.pins().unpin(handle, *slot)) report_not_mapped(handle);
}

// ---------------------------------------------------------------- use

bool ZheapPool::note_use(std::uint32_t block) noexcept {
  // Relaxed: numbers on their own, and a hint at that.
  const std::uint16_t now = generation_.load(std::memory_order_relaxed);
  std::atomic<std::uint16_t>& age = blocks_.age(block);
  if (age.load(std::memory_order_relaxed) == now) return false;
  age.store(now, std::memory_order_relaxed);
  return true;
}

// Counts blocks as they are first used in a generation: enough of them end it.
void ZheapPool::note_new_use() noexcept {
  // Relaxed, all of it: a clock that is a little off is as good.
  const std::uint32_t uses = new_uses_.load(std::memory_order_relaxed) + 1;
  if (uses <= total_pages() / HeapBlock::kMostPages / kGenerationShare) {
    new_uses_.store(uses, std::memory_order_relaxed);
    return;
  }
  new_uses_.store(0, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_relaxed);
}

void ZheapPool::touch(Handle handle) noexcept {
  const ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return;
  const std::uint64_t word = slot->load(std::memory_order_relaxed);
  const bool lives = slot_word::has_name(engine_.tag(), handle, word) &&
                     slot_word::state_of(word) >= slot_word::kBusy;
  if (lives && note_use(HeapPlace(word).block())) note_new_use();
}

}  // namespace mmkit
