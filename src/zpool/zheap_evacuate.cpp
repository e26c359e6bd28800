// SPDX-License-Identifier: MIT
//
// zheap, its moves: the emptiest block of a shard is emptied, an object or two at a time.
//
//   empty_one   under the shard's lock: the extent at the cursor goes into the best hole of another
//               block. Its slot is busy while it is copied, so only its own users wait.
//
// What cannot be moved is passed over: mapped, freed and waiting on a CPU, or not published yet. At its
// end the block is given back, if nothing is left in it; else it becomes an ordinary one again, and is
// no victim before some others were. Where an object finds no room, the rest would not either.
#include <mmkit/zpool/zheap.hpp>

#include <cstring>
#include <mmkit/base/mutant.hpp>

namespace mmkit {
namespace {

// Extents that one call looks at, at most: passed over ones cost little, but not nothing.
constexpr unsigned kLooksACall = 16;
// Moves of a compaction under one lock.
constexpr unsigned kMovesASlice = 8;
// Blocks of which a compaction tries to move objects for which there is no room.
constexpr unsigned kMostWithoutRoom = 4;

}  // namespace

// While the shard owes more, frees come by as well.
void ZheapPool::pay(HeapShard& shard, Closed& closed) noexcept {
  // A victim of a compaction is no debt.
  if (params_.floor == 0) return;
  // While somebody evicts, what is owed waits.
  if (evicting_.load(std::memory_order_relaxed) != 0) return;
  bool owes = false;
  if (is_behind(shard)) {
    owes = evacuate(shard, kMovesACall, Goal::floor, closed) != Progress::none && is_behind(shard);
  }
  if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_owes_for_ever, owes == shard.owes, !owes || shard.owes))
    return;
  shard.owes = owes;
  // Relaxed: a hint.
  behind_.fetch_add(owes ? 1U : ~0U, std::memory_order_relaxed);
}

// What another shard owes, by which nobody comes any more.
void ZheapPool::pay_elsewhere(unsigned mine) noexcept {
  const unsigned shards = active_.load(std::memory_order_acquire);  // pairs with activate_shards()
  for (unsigned s = 0; s < shards; ++s) {
    HeapShard& each = shard(s);
    if (s == mine || !each.lock.try_lock()) continue;
    Closed closed;
    bool is_paid = false;
    {
      ShortLockGuard lock(each.lock, ShortLockGuard::Adopt{});
      is_paid = each.owes;
      if (is_paid) pay(each, closed);
    }
    give_pages(closed);
    if (is_paid) return;
  }
}

ZheapPool::Progress ZheapPool::evacuate(HeapShard& shard, unsigned moves, Goal goal,
                                        Closed& closed) noexcept {
  for (unsigned looks = 0; moves != 0 && looks < kLooksACall; ++looks) {
    if (shard.victim() == kNone) {
      if (goal == Goal::floor && !is_behind(shard)) return Progress::some;
      if (!shard.elect(/*at_once=*/goal == Goal::everything)) return Progress::none;
    }
    const HeapPlace at = shard.cursor();
    const HeapBlock block = blocks_.block(at.block());
    if (block.is_end(at.granule())) {
      shard.release_victim();
      return Progress::left_some;
    }
    if (!block.is_used(at.granule())) {
      shard.pass_hole();
      continue;
    }
    const Step step = empty_one(shard, closed);
    if (step == Step::no_room) {
      shard.release_victim();
      return Progress::no_room;
    }
    if (step == Step::moved) {
      --moves;
    } else {
      passed_.fetch_add(1, std::memory_order_relaxed);
      shard.pass();
    }
  }
  return Progress::some;
}

ZheapPool::Step ZheapPool::empty_one(HeapShard& shard, Closed& closed) noexcept {
  const HeapPlace from = shard.cursor();
  const HeapBlock source = blocks_.block(from.block());
  const unsigned granules = source.length(from.granule());
  const std::uint32_t index = find_owner(from).slot;
  if (index == ObjectEngine::kNoSlot) return Step::passed;
  ObjectEngine::Slot& slot = engine_.slot(index);
  const HeapPlace here(slot.load(std::memory_order_relaxed));
  if (here.where() != from.where()) return Step::passed;
  if (!SlotPins::begin_move(slot, here.bits())) return Step::passed;
  const HeapPlace room = shard.take(granules, index);
  if (room.is_none()) {
    SlotPins::end_move(slot, here.bits());
    return Step::no_room;
  }
  const HeapPlace there(room.block(), room.granule(), here.slack_bytes());
  MMKIT_MUTATE(MMKIT_MUTANT_zheap_publishes_before_copy, , SlotPins::end_move(slot, there.bits());
               detail::hold_window_open();)
  detail::step();
  std::memcpy(blocks_.block(room.block()).object(room.granule()), source.object(from.granule()),
              HeapBlock::bytes_in(granules) - here.slack_bytes());
  clock_.take_over(blocks_[room.block()].age, blocks_[from.block()].age);
  MMKIT_MUTATE(MMKIT_MUTANT_zheap_publishes_before_copy, SlotPins::end_move(slot, there.bits());, )
  moved_.fetch_add(1, std::memory_order_relaxed);
  if (shard.give(from)) close(shard, from.block(), closed);
  return Step::moved;
}

// The slot of the live object there. Of the slots with the bits that its header has one at most has its
// place there.
ZheapPool::Owner ZheapPool::find_owner(HeapPlace place) const noexcept {
  if (blocks_.is_whole(place.block())) {
    const std::uint32_t slot = blocks_[place.block()].at;
    const std::uint64_t word = engine_.slot(slot).load(std::memory_order_relaxed);
    const bool is_it =
        slot_word::state_of(word) >= slot_word::kLive && HeapPlace(word).block() == place.block();
    return is_it ? Owner{slot, word} : Owner{};
  }
  const std::uint32_t bits = blocks_.block(place.block()).owner_bits_of(place.granule());
  constexpr std::uint32_t kStep = 1U << HeapBlock::kOwnerBits;
  const std::size_t slots = engine_.slots();
  for (std::size_t index = bits; index < slots; index += kStep) {
    detail::step();
    const std::uint64_t word =
        engine_.slot(static_cast<std::uint32_t>(index)).load(std::memory_order_relaxed);
    if (slot_word::state_of(word) < slot_word::kLive) continue;
    if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_trusts_headers, HeapPlace(word).where() == place.where(),
                     true)) {
      return {static_cast<std::uint32_t>(index), word};
    }
  }
  return {};
}

// ---------------------------------------------------------------- all of it

Result<std::size_t> ZheapPool::compact() noexcept {
  // Acquire and release: one compaction after another.
  if (!begin_compaction()) return std::size_t{0};
  const std::size_t before = total_pages();
  withdraw_all();
  for (unsigned s = 0; s < active_.load(std::memory_order_acquire); ++s) compact_shard(shard(s));
  end_compaction();
  const std::size_t after = total_pages();
  return before > after ? before - after : 0;
}

// Until nothing is to be gained, or objects find no room, or as many blocks as there are could not be
// emptied.
void ZheapPool::compact_shard(HeapShard& shard) noexcept {
  unsigned without_room = 0;
  std::size_t left = 0;
  // Others may go on making holes as fast as we fill them.
  std::size_t slices = shard.held() / HeapBlock::kFewestListed + 1;
  for (Progress progress = Progress::some; progress != Progress::none && slices != 0; --slices) {
    Closed closed;
    bool is_over = false;
    {
      ShortLockGuard lock(shard.lock);
      progress = evacuate(shard, kMovesASlice, Goal::everything, closed);
      if (progress == Progress::no_room) ++without_room;
      if (progress == Progress::left_some) ++left;
      is_over = without_room == kMostWithoutRoom || left > shard.blocks();
    }
    give_pages(closed);
    if (is_over) return;
    shard.lock.give_way();
  }
}

}  // namespace mmkit
