// SPDX-License-Identifier: MIT
//
// The allocating half of ChunkHeap: lists, search, release. The other half, where memory comes and
// goes, is chunk_heap_memory.cpp.
#include "percpu/chunk_heap.hpp"

#include <algorithm>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/tsan.hpp>

namespace mmkit::percpu {
namespace {

constexpr std::size_t kLargestBatch = 32;

Location location_of(AddressSpace& space, void* object) noexcept {
  Location where;
  [[maybe_unused]] const bool ours = space.locate_canonical(object, where);
  MMKIT_ASSERT(ours);
  return where;
}

// Blocks that the reserved part has not.
BlockSet beyond_end(const Chunk& chunk) noexcept {
  return chunk.is_reserved ? chunk.busy : 0;
}

}  // namespace

ChunkHeap::ChunkHeap(unsigned units, AddressSpace& space, Backing& backing) noexcept
    : units_(units), space_(space), backing_(backing) {}

// ---------------------------------------------------------------- lists

unsigned ChunkHeap::slot_for(unsigned granules) noexcept {
  return granules == 0 ? 0 : log2_floor(granules) + 1;
}

void ChunkHeap::move_to(Chunk& chunk, unsigned slot) noexcept {
  const bool was_listed = chunk.ListNode<>::is_linked();
  if (was_listed && slot == chunk.slot) return;
  if (was_listed) slots_[chunk.slot].remove(chunk);
  // What has just become emptier is used first, so that it fills again and others become free.
  if (was_listed && slot > chunk.slot) {
    slots_[slot].push_front(chunk);
  } else {
    slots_[slot].push_back(chunk);
  }
  chunk.slot = slot;
}

void ChunkHeap::update(Chunk& chunk) noexcept {
  if (!is_listed(chunk)) return;
  const bool waits = chunk.isolated && chunk.slot == kDepopulate;
  if (!waits && chunk.is_free()) chunk.isolated = false;
  const unsigned idle = chunk.isolated ? 0 : count_blocks(chunk.idle());
  idle_ = idle_ - chunk.idle_counted + idle;
  chunk.idle_counted = idle;
  if (waits) return;
  move_to(chunk, chunk.is_free()  ? kFree
                 : chunk.isolated ? kSidelined
                                  : slot_for(chunk.map.longest(chunk.closed())));
}

void ChunkHeap::set_held(Chunk& chunk, BlockSet blocks, unsigned units) noexcept {
  bool any = false;
  for (unsigned b = 0; b < kBlocks; ++b) {
    if (has_block(blocks, b)) chunk.held[b] = static_cast<std::uint16_t>(units);
    any = any || chunk.held[b] != 0;
  }
  const bool listed = chunk.ListNode<HeldTag>::is_linked();
  if (any && !listed) held_.push_back(chunk);
  if (!any && listed) held_.remove(chunk);
}

// ---------------------------------------------------------------- allocating

BlockSet ChunkHeap::closed_to(const Chunk& chunk, Room room) const noexcept {
  if (room == Room::ordinary) return chunk.closed();
  // When there is no memory to be had: whatever has some.
  return chunk.busy | (backing_.populates_by_itself() ? 0 : ~chunk.populated & kAllBlocks);
}

Chunk* ChunkHeap::find_chunk(unsigned granules, unsigned align, Room room) noexcept {
  // Slots know nothing of the reserve, so a last resort looks everywhere.
  const unsigned first = room == Room::ordinary ? slot_for(granules) : 0;
  for (unsigned slot = first; slot < kDepopulate; ++slot) {
    for (Chunk* at = slots_[slot].front(); at != nullptr; at = slots_[slot].next(*at)) {
      if (at->map.find(granules, align, closed_to(*at, room)) != OffsetMap::kNone) return at;
    }
  }
  return nullptr;
}

ChunkHeap::Found ChunkHeap::search(unsigned granules, unsigned align, Room room,
                                   std::span<Taken> out) noexcept {
  Chunk* const chunk = find_chunk(granules, align, room);
  if (chunk == nullptr) return {};
  return take_from(*chunk, granules, align, closed_to(*chunk, room), out);
}

ChunkHeap::Found ChunkHeap::take_from(Chunk& chunk, unsigned granules, unsigned align,
                                      BlockSet closed, std::span<Taken> out) noexcept {
  std::array<unsigned, kLargestBatch> starts;
  const std::size_t most = std::min(out.size(), kLargestBatch);
  const unsigned count =
      chunk.map.take_many(granules, align, closed, std::span(starts).first(most));
  return note_taken(chunk, granules, std::span(starts).first(count), out);
}

ChunkHeap::Found ChunkHeap::note_taken(Chunk& chunk, unsigned granules,
                                       std::span<const unsigned> starts,
                                       std::span<Taken> out) noexcept {
  Found found;
  found.chunk = &chunk;
  found.count = starts.size();
  const unsigned open = std::min(units_, detail::open_units());
  for (std::size_t i = 0; i < found.count; ++i) {
    const BlockSet blocks = blocks_under(starts[i], granules);
    out[i] = {chunk.address(starts[i]), chunk.is_fresh(starts[i], granules),
              chunk.held_units(blocks) >= open};
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_use_not_noted, chunk.mark_written(starts[i], granules),
                 static_cast<void>(0));
    found.blocks |= blocks;
  }
  if (found.count == 0) return found;
  const BlockSet used_up = chunk.reserve & found.blocks;
  if (used_up != 0) {
    chunk.reserve &= ~used_up;
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_reserve_used_unnoticed, reserve_ -= count_blocks(used_up),
                 static_cast<void>(0));
    due_.store(true, std::memory_order_relaxed);
  }
  if (backing_.populates_by_itself()) {
    chunk.populated |= found.blocks;
  } else {
    ++in_flight_;
  }
  if (chunk.slot != kDepopulate) chunk.isolated = false;  // it is wanted again
  const std::size_t bytes = granules * kGranuleBytes;
  taken_bytes_ += found.count * bytes;
  min_bytes_ = min_bytes_ == 0 ? bytes : std::min(min_bytes_, bytes);
  max_bytes_ = std::max(max_bytes_, bytes);
  update(chunk);
  return found;
}

Status ChunkHeap::make_usable(const Found& found) noexcept {
  if (backing_.populates_by_itself()) return {};
  MutexLock pages(pages_);
  BlockSet missing;
  {
    ShortLockGuard lock(lock_);
    missing = found.blocks & ~found.chunk->populated;
  }
  const Status status = missing != 0 ? populate_blocks(*found.chunk, missing) : Status();
  ShortLockGuard lock(lock_);
  --in_flight_;
  return status;
}

Result<std::size_t> ChunkHeap::take(unsigned granules, unsigned align, Gfp gfp,
                                    std::span<Taken> out) noexcept {
  if (has(gfp, Gfp::nowait)) return take_now(granules, align, out);
  Room room = Room::ordinary;
  while (true) {
    Found found;
    {
      ShortLockGuard lock(lock_);
      found = search(granules, align, room, out);
    }
    if (found.count == 0) {
      if (room == Room::last_resort) return fail(Errc::out_of_memory);
      if (!add_room(granules, align)) room = Room::last_resort;
      continue;
    }
    if (make_usable(found)) {
      tend();
      return found.count;
    }
    // Nobody else can name these yet.
    ShortLockGuard lock(lock_);
    for (const Taken& taken : out.first(found.count)) {
      const Location where = location_of(space_, taken.address);
      release_granule(**where.chunk, where.offset / kGranuleBytes);
    }
    if (room == Room::last_resort) return fail(Errc::out_of_memory);
    room = Room::last_resort;
  }
}

Result<std::size_t> ChunkHeap::take_now(unsigned granules, unsigned align,
                                        std::span<Taken> out) noexcept {
  if (!lock_.try_lock()) return fail(Errc::try_again);
  ShortLockGuard lock(lock_, ShortLockGuard::Adopt{});
  const unsigned open = std::min(units_, detail::open_units());
  for (Chunk* at = held_.front(); at != nullptr; at = held_.next(*at)) {
    if (!is_listed(*at) || at->slot == kDepopulate) continue;
    const BlockSet usable =
        MMKIT_MUTATE(MMKIT_MUTANT_percpu_nowait_passes_reserve_by, kAllBlocks, ~at->reserve);
    const unsigned start = at->find_present(granules, align, open, usable);
    if (start == OffsetMap::kNone) continue;
    at->map.take(start, granules);
    const Found found = note_taken(*at, granules, {&start, 1}, out);
    if (!backing_.populates_by_itself()) --in_flight_;
    return found.count;
  }
  reserve_target_ = kReserveHigh;
  due_.store(true, std::memory_order_relaxed);
  return fail(Errc::out_of_memory);
}

Result<ChunkHeap::Taken> ChunkHeap::take_reserved(unsigned granules, unsigned align) noexcept {
  ShortLockGuard lock(lock_);
  if (reserved_chunk_ == nullptr) return fail(Errc::no_space);
  Taken taken;
  const Found found =
      take_from(*reserved_chunk_, granules, align, reserved_chunk_->busy, {&taken, 1});
  if (found.count == 0) return fail(Errc::no_space);
  if (!backing_.populates_by_itself()) --in_flight_;
  return taken;
}

// ---------------------------------------------------------------- freeing

std::size_t ChunkHeap::release_granule(Chunk& chunk, unsigned granule) noexcept {
  const std::size_t bytes = chunk.map.release(granule) * kGranuleBytes;
  taken_bytes_ -= bytes;
  if (!is_listed(chunk)) return bytes;
  update(chunk);
  const unsigned idle = count_blocks(chunk.idle());
  const bool many = idle >= kBlocks / 4 && idle_ >= kIdleHigh + idle;
  if (chunk.slot != kDepopulate && (chunk.isolated ? idle != 0 : many)) {
    chunk.isolated = true;
    move_to(chunk, kDepopulate);
    update(chunk);
    due_.store(true, std::memory_order_relaxed);
  }
  if (chunk.slot == kFree && slots_[kFree].front() != slots_[kFree].back()) {
    due_.store(true, std::memory_order_relaxed);
  }
  return bytes;
}

Result<std::size_t> ChunkHeap::release(const Location& where) noexcept {
  std::size_t bytes = 0;
  {
    ShortLockGuard lock(lock_);
    Chunk* const chunk = *where.chunk;
    const unsigned granule = where.offset / kGranuleBytes;
    if (chunk == nullptr || where.offset % kGranuleBytes != 0 ||
        MMKIT_MUTATE(MMKIT_MUTANT_percpu_free_trusts_address, !chunk->map.is_start(granule),
                     false)) {
      return fail(Errc::invalid_argument);
    }
    bytes = release_granule(*chunk, granule);
  }
  tend();
  return bytes;
}

void ChunkHeap::release_many(std::span<void* const> objects) noexcept {
  ShortLockGuard lock(lock_);
  for (void* const object : objects) {
    // A CPU kept it, in a sequence that ThreadSanitizer does not see.
    detail::tsan_acquire(object);
    const Location where = location_of(space_, object);
    release_granule(**where.chunk, where.offset / kGranuleBytes);
  }
}

// ---------------------------------------------------------------- looking

bool ChunkHeap::contains(const Location& where) const noexcept {
  ShortLockGuard lock(lock_);
  return *where.chunk != nullptr;
}

ChunkHeap::Totals ChunkHeap::totals() const noexcept {
  ShortLockGuard lock(lock_);
  Totals totals;
  totals.chunks = chunks_;
  totals.max_chunks = max_chunks_;
  totals.taken_bytes = taken_bytes_;
  totals.min_bytes = min_bytes_;
  totals.max_bytes = max_bytes_;
  totals.metadata_bytes = chunks_ * (sizeof(Chunk) + AddressSpace::kPlaceNotes);
  for (const Chunk* at = chunk_after(0, 0); at != nullptr;
       at = chunk_after(at->place.region, at->place.index + 1)) {
    totals.populated_blocks += count_blocks(at->populated);
    totals.empty_populated_blocks += count_blocks(at->populated & at->map.empty_blocks());
  }
  return totals;
}

std::size_t ChunkHeap::free_bytes(const Chunk& chunk) const noexcept {
  ShortLockGuard lock(lock_);
  std::size_t granules = chunk.map.free_granules();
  for (BlockSet none = beyond_end(chunk); none != 0; none &= none - 1) granules -= kBlockGranules;
  return granules * kGranuleBytes;
}
std::size_t ChunkHeap::free_bytes(const Chunk& chunk, unsigned block) const noexcept {
  ShortLockGuard lock(lock_);
  return has_block(beyond_end(chunk), block) ? 0 : chunk.map.free_granules(block) * kGranuleBytes;
}
std::size_t ChunkHeap::longest_bytes(const Chunk& chunk) const noexcept {
  ShortLockGuard lock(lock_);
  return chunk.map.longest(beyond_end(chunk)) * kGranuleBytes;
}
bool ChunkHeap::populated(const Chunk& chunk, unsigned block) const noexcept {
  ShortLockGuard lock(lock_);
  return has_block(chunk.populated, block);
}

Chunk* ChunkHeap::chunk_after(unsigned region, unsigned index) const noexcept {
  const Place place = space_.next_place(region, index);
  return place.chunk != nullptr ? *place.chunk : nullptr;
}

Chunk* ChunkHeap::pin_next(unsigned& region, unsigned& index) noexcept {
  ShortLockGuard lock(lock_);
  for (Chunk* at = chunk_after(region, index); at != nullptr; at = chunk_after(region, index)) {
    region = at->place.region;
    index = at->place.index + 1;
    if (is_listed(*at) && !at->ListNode<>::is_linked()) continue;  // just ending
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_visit_without_pin, ++at->pins, static_cast<void>(0));
    return at;
  }
  return nullptr;
}

void ChunkHeap::unpin(Chunk& chunk) noexcept {
  ShortLockGuard lock(lock_);
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_visit_without_pin, --chunk.pins, static_cast<void>(chunk));
}

bool ChunkHeap::validate_chunk(const Chunk& chunk) const noexcept {
  if (!chunk.map.validate()) return false;
  const BlockSet used = ~chunk.map.empty_blocks() & kAllBlocks;
  if (in_flight_ == 0 && (used & ~chunk.populated) != 0) return false;
  const BlockSet may_be_reserve = chunk.map.empty_blocks() & chunk.populated;
  if ((chunk.reserve & ~may_be_reserve) != 0) return false;
  for (unsigned b = 0; b < kBlocks; ++b) {
    if (has_block(chunk.reserve, b) && chunk.held[b] == 0) return false;
    if (chunk.held[b] != 0 && !has_block(chunk.populated, b)) return false;
  }
  if (!is_listed(chunk)) return true;
  if (chunk.busy != 0 || !chunk.ListNode<>::is_linked()) return false;
  if (chunk.idle_counted != (chunk.isolated ? 0 : count_blocks(chunk.idle()))) return false;
  if (chunk.isolated) return chunk.slot == kSidelined || chunk.slot == kDepopulate;
  if (chunk.is_free()) return chunk.slot == kFree;
  return chunk.slot == slot_for(chunk.map.longest(chunk.closed()));
}

bool ChunkHeap::validate_lists() const noexcept {
  std::size_t listed = 0, held = 0;
  unsigned idle = 0, reserve = 0;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    if (!slots_[slot].validate(chunks_)) return false;
    for (const Chunk* at = slots_[slot].front(); at != nullptr; at = slots_[slot].next(*at)) {
      if (at->slot != slot) return false;
      ++listed;
      idle += at->idle_counted;
      reserve += count_blocks(at->reserve);
      held += at->ListNode<HeldTag>::is_linked() ? 1u : 0u;
    }
  }
  if (reserved_chunk_ != nullptr) {
    ++listed;
    held += reserved_chunk_->ListNode<HeldTag>::is_linked() ? 1u : 0u;
  }
  return listed == chunks_ && idle == idle_ && reserve == reserve_ && held == held_.size();
}

}  // namespace mmkit::percpu
