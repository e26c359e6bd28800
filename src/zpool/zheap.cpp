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

// Objects of up to so many bytes never fill pages.
constexpr std::size_t kMostPlain = kPageSize - kPageSize / kUnusedShare - 1;

constexpr bool fills_pages(std::size_t size_bytes) noexcept {
  const std::size_t pages_bytes = divide_up(size_bytes, kPageSize) * kPageSize;
  return pages_bytes - size_bytes <= pages_bytes / kUnusedShare;
}
static_assert(!fills_pages(kMostPlain) && fills_pages(kMostPlain + 1));

}  // namespace

// ---------------------------------------------------------------- allocate

Result<Handle> ZheapPool::add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept {
  // Nothing special about the request: a slot that this CPU has, a hole of its shard.
  const bool is_plain = size_bytes - 1 < kMostPlain && !has(gfp | gfp_, Gfp::zero | Gfp::nowait);
  const std::uint32_t index = is_plain ? engine_.try_take_slot() : ObjectEngine::kNoSlot;
  if (index == ObjectEngine::kNoSlot) [[unlikely]]
    return add_slowly(size_bytes, gfp, object);
  const unsigned granules = HeapBlock::granules_for(size_bytes);
  HeapShard& home = shard(shard_here());
  Closed closed;
  home.lock.lock();
  const HeapPlace room = home.take(granules, index);
  keep_floor(home, closed);
  home.lock.unlock();
  give_pages(closed);
  if (room.is_none()) [[unlikely]] {
    engine_.give_slots(std::span(&index, 1));
    return add_slowly(size_bytes, gfp, object);
  }
  const HeapPlace place(room.block(), room.granule(), HeapBlock::bytes_in(granules) - size_bytes);
  if (object != nullptr) std::memcpy(blocks_.object(place).data(), object, size_bytes);
  if (!engine_.stacks().try_count_allocation(size_bytes)) [[unlikely]]
    engine_.stacks().count_allocation(size_bytes);
  return publish(index, place);
}

// Now it is everybody's. Until now no mover found its owner, and left it where it is.
Handle ZheapPool::publish(std::uint32_t index, HeapPlace place) noexcept {
  note_use(blocks_[place.block()]);
  return engine_.publish(index, place.bits());
}

Result<Handle> ZheapPool::add_slowly(std::size_t size_bytes, Gfp gfp,
                                     const std::byte* object) noexcept {
  gfp = gfp | gfp_;
  if (size_bytes == 0) return failed(Errc::invalid_argument);
  if (size_bytes > params_.max_object_bytes) return failed(Errc::no_space);
  const bool nowait = has(gfp, Gfp::nowait);
  std::uint32_t index;
  const Result<std::size_t> taken = engine_.take_slots(std::span(&index, 1), nowait);
  if (!taken) return failed(taken.error());
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
  count_allocation(size_bytes, !nowait || engine_.stacks().ready_now());
  return publish(index, *place);
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
  const std::size_t pages = divide_up(size_bytes, kPageSize);
  const unsigned mine = shard_here();
  HeapShard& home = shard(mine);
  if (has(gfp, Gfp::nowait)) {
    // The lock first: where it is taken, nothing may have to be given back.
    if (!home.lock.try_lock()) return fail(Errc::try_again);
    ShortLockGuard lock(home.lock, ShortLockGuard::Adopt{});
    const Result<std::uint32_t> number = open_whole(mine, pages, gfp);
    if (!number) return fail(number.error());
    add_whole(home, *number, slot);
    return HeapPlace::whole(*number, size_bytes);
  }
  const Result<std::uint32_t> number = open_whole(mine, pages, gfp);
  if (!number) return fail(number.error());
  ShortLockGuard lock(home.lock);
  add_whole(home, *number, slot);
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
  if (const Result<std::uint64_t> word = take_slowly(handle); !word) return fail(word.error());
  engine_.stacks().count_free(0);
  return give_back(handle_bits::index(handle));
}

// Lets the extent wait on this CPU; if it may not, gives it back with those that do. Pages that are one
// object's never wait.
Status ZheapPool::give_back(std::uint32_t index) noexcept {
  const HeapPlace place(engine_.slot(index).load(std::memory_order_relaxed));
  const bool may_wait =
      behind_.load(std::memory_order_relaxed) == 0 && !blocks_.is_whole(place.block());
  if (may_wait && engine_.keep(kWaiting, index)) return {};
  std::uint32_t slots[kMostWaiting + 1];
  std::size_t count = 0;
  slots[count++] = index;
  while (count < std::size(slots)) {
    const std::uint32_t waiting = engine_.find_kept(kWaiting);
    if (waiting == ObjectEngine::kNoSlot) break;
    slots[count++] = waiting;
  }
  give_back(Slots(slots, count));
  if (count == 1 && behind_.load(std::memory_order_relaxed) != 0) {
    pay_elsewhere(blocks_[place.block()].shard.load(std::memory_order_relaxed));
  }
  fit_waiting_to_size();
  return {};
}

// Grown or shrunk, the pool lets more wait on this CPU, or none on any.
void ZheapPool::fit_waiting_to_size() noexcept {
  const unsigned allowed = waiting_allowed();
  const unsigned granted = granted_.load(std::memory_order_seq_cst);
  if (allowed < granted / 2 || (allowed == 0 && granted != 0)) {
    withdraw_all();
    return;
  }
  if (allowed == 0) return;
  CpuStacks& stacks = engine_.stacks();
  const unsigned cpu = stacks.make_ready();
  if (stacks.limit(cpu, kWaiting) == allowed) return;
  {
    MutexLock lock(waiting_);
    MMKIT_MUTATE(MMKIT_MUTANT_zheap_grants_what_is_gone, , detail::hold_window_open();)
    // Not beside a withdrawal: what is granted now must be known to the next. Sequentially consistent, as
    // are the loads here and what takes pages away: either who empties the pool sees that something is
    // granted, or this thread how small the pool is by now.
    granted_.store(std::max(allowed, granted_.load(std::memory_order_relaxed)),
                   std::memory_order_seq_cst);
    stacks.set_limit(cpu, kWaiting, allowed);
  }
  if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_grants_what_is_gone, waiting_allowed() == 0, false)) {
    withdraw_all();
  }
}

unsigned ZheapPool::waiting_allowed() const noexcept {
  return static_cast<unsigned>(std::min<std::size_t>(
      pages_.load(std::memory_order_seq_cst) / kPagesPerWaiting, kMostWaiting));
}

// Extents of whatever shards, in the caller's hands: each shard's under one lock. Returns the pages that
// this freed.
std::size_t ZheapPool::give_back(Slots slots) noexcept {
  Released released[CpuStacks::kMostNumbers];
  std::size_t left = 0;
  for (const std::uint32_t slot : slots) {
    const HeapPlace place(engine_.slot(slot).load(std::memory_order_relaxed));
    HeapBlockInfo& info = blocks_[place.block()];
    released[left++] = {slot, place, &info, info.shard.load(std::memory_order_relaxed)};
  }
  std::size_t freed = 0, bytes = 0;
  while (left != 0) {
    const unsigned number = released[0].shard;
    // Its extents to the end.
    Released* const here = std::partition(
        released, released + left, [number](const Released& one) { return one.shard != number; });
    HeapShard& home = shard(number);
    Closed closed;
    {
      ShortLockGuard lock(home.lock);
      // What the first waits for comes while the others ask for theirs.
      for (Released* one = here; one != released + left; ++one) fetch_neighbours(*one);
      for (Released* one = here; one != released + left; ++one) {
        bytes += release(home, *one, closed);
      }
      keep_floor(home, closed);
    }
    left = static_cast<std::size_t>(here - released);
    freed += give_pages(closed);
  }
  bytes_released_.fetch_add(bytes, std::memory_order_relaxed);
  engine_.give_slots(slots);
  return freed;
}

void ZheapPool::fetch_neighbours(const Released& one) noexcept {
  if (one.info->is_whole) return;
  HeapShard::fetch_neighbours(HeapBlock(one.info->data), one.place.granule());
}

// Returns the bytes of the object that was there.
std::size_t ZheapPool::release(HeapShard& shard, const Released& one, Closed& closed) noexcept {
  // An object that wrote beyond its end is noticed here, before anything is built on what it wrote.
  MMKIT_CHECK(is_extent_of(one.slot, one.place));
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    unsigned used = 0;
    const bool block_is_whole =
        one.info->is_whole ||
        (HeapBlock(one.info->data).validate(one.info->granules(), &used) && used == one.info->used);
    MMKIT_CHECK(block_is_whole);
  }
  const bool is_evicted = one.info->is(HeapBlockInfo::State::evicted);
  if (one.info->is_whole) [[unlikely]] {
    one.info->used = 0;
    if (!is_evicted) close_whole(one.place.block(), closed);
    return one.place.whole_bytes();
  }
  const unsigned granules = HeapBlock(one.info->data).length(one.place.granule());
  if (shard.give(one.place) &&
      MMKIT_MUTATE(MMKIT_MUTANT_zheap_closes_what_is_evicted, !is_evicted, true)) {
    close(shard, one.place.block(), closed);
  }
  return HeapBlock::bytes_in(granules) - one.place.slack_bytes();
}

// Takes back all that waits on CPUs, and their room for it. Returns the pages that this freed, and one
// for each extent.
std::size_t ZheapPool::withdraw_all() noexcept {
  CpuStacks& stacks = engine_.stacks();
  MutexLock lock(waiting_);
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
  const Result<std::uint64_t> word = pin_slowly(handle);
  if (!word) return fail(word.error());
  return bytes_of(*word);
}

// ---------------------------------------------------------------- use

void ZheapPool::touch(Handle handle) noexcept {
  if (const std::uint64_t word = find_live(handle); word != 0) {
    note_use(blocks_[HeapPlace(word).block()]);
  }
}

}  // namespace mmkit
