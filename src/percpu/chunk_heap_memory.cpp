// SPDX-License-Identifier: MIT
//
// The other half of ChunkHeap: chunks and pages come and go. All of it under pages_, so there is one
// at a time; what may be slow (the backing) without lock_, so that allocations go on meanwhile.
#include <algorithm>
#include <cstring>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/mutant.hpp>
#include <new>

#include "base/probe.hpp"
#include "percpu/chunk_heap.hpp"

namespace mmkit::percpu {

Status ChunkHeap::start(std::size_t reserved_bytes) noexcept {
  MutexLock pages(pages_);
  const Result<Chunk*> first = add_chunk(/*is_reserved=*/false);
  if (!first) return fail(first.error());
  {
    ShortLockGuard lock(lock_);
    first_chunk_ = *first;
  }
  if (reserved_bytes != 0) {
    const Result<Chunk*> reserved = add_chunk(/*is_reserved=*/true);
    if (!reserved) return fail(reserved.error());
    const auto blocks = static_cast<unsigned>((reserved_bytes + kPageSize - 1) / kPageSize);
    if (const Status status = populate_blocks(**reserved, blocks_between(0, blocks)); !status) {
      return status;
    }
    ShortLockGuard lock(lock_);
    (*reserved)->busy = blocks_between(blocks, kBlocks);  // for ever: they do not exist
    reserved_chunk_ = *reserved;
  }
  fill_reserve();
  ShortLockGuard lock(lock_);
  return reserve_ == reserve_target_ ? Status() : Status(fail(Errc::out_of_memory));
}

ChunkHeap::~ChunkHeap() {
  MutexLock pages(pages_);
  // All addresses in one go; chunk by chunk only where the system refuses that.
  space_.unmap();
  ShortLockGuard lock(lock_);
  while (Chunk* const chunk = chunk_after(0, 0)) {
    lock.unlock();
    if (!space_.has_addresses(chunk->place)) {
      backing_.forget(*chunk);
    } else {
      static_cast<void>(backing_.close(*chunk));  // what stays mapped must not go to somebody else
    }
    lock.lock();
    if (is_listed(*chunk)) slots_[chunk->slot].remove(*chunk);
    destroy(*chunk);
  }
}

// ---------------------------------------------------------------- chunks

Result<Chunk*> ChunkHeap::add_chunk(bool is_reserved) noexcept {
  const Result<Place> place = space_.take_place();
  if (!place) return fail(place.error());
  std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk(*this, *place));
  if (chunk != nullptr) chunk->is_reserved = is_reserved;
  if (chunk == nullptr || !backing_.open(*chunk)) {
    space_.give_place(*place);
    return fail(Errc::out_of_memory);
  }
  // Tags are present from now on: a nowait allocation writes them.
  for (std::size_t at = 0; at < kChunkTags; at += kPageSize) place->tags[at].store(Tag{});
  ShortLockGuard lock(lock_);
  *place->chunk = chunk.get();
  max_chunks_ = std::max(max_chunks_, ++chunks_);
  update(*chunk);
  MMKIT_PROBE(percpu_chunk_create, this, chunk.get(), chunks_);
  return chunk.release();
}

void ChunkHeap::destroy(Chunk& chunk) noexcept {
  set_held(chunk, kAllBlocks, 0);
  reserve_ -= count_blocks(chunk.reserve);
  idle_ -= chunk.idle_counted;
  --chunks_;
  MMKIT_PROBE(percpu_chunk_destroy, this, &chunk, chunks_);
  space_.give_place(chunk.place);
  delete &chunk;
}

bool ChunkHeap::end_chunk(Chunk& chunk) noexcept {
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_ends_what_is_in_use, static_cast<void>(0),
               detail::hold_window_open());
  {
    ShortLockGuard lock(lock_);
    if (MMKIT_MUTATE(MMKIT_MUTANT_percpu_ends_what_is_in_use, !chunk.is_free(), false) ||
        chunk.pins != 0 || &chunk == first_chunk_)
      return true;
    slots_[chunk.slot].remove(chunk);  // nobody allocates there from now on
    set_held(chunk, kAllBlocks, 0);
  }
  const bool closed = backing_.close(chunk);
  ShortLockGuard lock(lock_);
  if (closed) {
    destroy(chunk);
  } else {
    reserve_ -= count_blocks(chunk.reserve);
    chunk.reserve = 0;  // what it held may be gone
    update(chunk);
  }
  return closed;
}

void ChunkHeap::end_free_chunks() noexcept {
  Chunk *kept = nullptr, *at = nullptr;
  {
    ShortLockGuard lock(lock_);
    at = slots_[kFree].front();
    kept = first_chunk_->slot == kFree ? first_chunk_ : at;
  }
  // A chunk leaves its list when somebody allocates from it; then the next call sees to the rest.
  while (at != nullptr) {
    Chunk* next = nullptr;
    {
      ShortLockGuard lock(lock_);
      if (at->slot != kFree) return;
      next = slots_[kFree].next(*at);
    }
    // One that the system refuses is at the end of the list again: the next call tries again.
    if (at != kept && !end_chunk(*at)) return;
    at = next;
  }
}

Status ChunkHeap::add_room(unsigned granules, unsigned align) noexcept {
  MutexLock pages(pages_);
  {
    ShortLockGuard lock(lock_);
    if (find_chunk(granules, align, Room::ordinary) != nullptr) return {};  // somebody was faster
  }
  const Result<Chunk*> chunk = add_chunk(/*is_reserved=*/false);
  return chunk ? Status() : Status(fail(chunk.error()));
}

// ---------------------------------------------------------------- pages

Status ChunkHeap::populate_blocks(Chunk& chunk, BlockSet blocks) noexcept {
  BlockSet done = 0;
  Status status;
  for (BlockSet rest = blocks; rest != 0 && status;) {
    const BlockRun run = pop_run(rest);
    status = backing_.populate(chunk, run);
    if (status) done |= blocks_between(run.begin, run.end);
  }
  // All or none. Nobody has seen the blocks yet, so nothing in them has to be kept.
  for (BlockSet rest = status ? 0 : done; rest != 0;) {
    done &= ~backing_.depopulate(chunk, pop_run(rest), chunk.populated).blocks;
  }
  ShortLockGuard lock(lock_);
  chunk.populated |= done;
  if (!backing_.populates_by_itself()) set_held(chunk, done, units_);
  update(chunk);
  return status;
}

unsigned ChunkHeap::depopulate_blocks(Chunk& chunk, BlockSet blocks) noexcept {
  BlockSet kept, closed;
  {
    ShortLockGuard lock(lock_);
    blocks &= chunk.map.empty_blocks() & chunk.populated & ~chunk.busy;
    kept = chunk.populated & ~blocks;
    // A neighbour without memory shares a page with the run: nobody may begin to use it now.
    const BlockSet beside = (blocks << 1 | blocks >> 1) & kAllBlocks & ~chunk.populated;
    closed = (blocks | MMKIT_MUTATE(MMKIT_MUTANT_percpu_neighbour_stays_open, beside,
                                    BlockSet{0} & beside)) &
             ~chunk.busy;
    chunk.busy |= closed;
    update(chunk);
  }
  Backing::Given given;
  for (BlockSet rest = blocks; rest != 0;) {
    const Backing::Given part = backing_.depopulate(chunk, pop_run(rest), kept);
    given.blocks |= part.blocks;
    given.fresh |= part.fresh;
  }
  ShortLockGuard lock(lock_);
  chunk.busy &= ~closed;
  chunk.populated &= ~given.blocks;
  set_held(chunk, given.blocks, 0);
  for (unsigned b = 0; b < kBlocks; ++b) {
    if (has_block(
            MMKIT_MUTATE(MMKIT_MUTANT_percpu_edges_taken_for_fresh, given.fresh, given.blocks),
            b)) {
      chunk.written[b] = 0;
    }
  }
  const BlockSet lost = chunk.reserve & given.blocks;
  chunk.reserve &= ~lost;
  reserve_ -= count_blocks(lost);
  if (lost != 0) due_.store(true, std::memory_order_relaxed);
  update(chunk);
  return count_blocks(given.blocks);
}

void ChunkHeap::reclaim(bool everything) noexcept {
  unsigned region = 0, index = 0;
  while (true) {
    Chunk* chunk = nullptr;
    BlockSet blocks = 0;
    {
      ShortLockGuard lock(lock_);
      chunk = everything ? chunk_after(region, index) : slots_[kDepopulate].front();
      if (chunk == nullptr) return;
      region = chunk->place.region;
      index = chunk->place.index + 1;
      if (is_listed(*chunk)) blocks = chunk->idle();
    }
    if (blocks != 0) static_cast<void>(depopulate_blocks(*chunk, blocks));
    ShortLockGuard lock(lock_);
    if (chunk->isolated && chunk->slot == kDepopulate) {
      move_to(*chunk, chunk->is_free() ? kFree : kSidelined);
      update(*chunk);
    }
  }
}

// ---------------------------------------------------------------- the reserve

namespace {

BlockSet empty_candidates(const Chunk& chunk) noexcept {
  return chunk.map.empty_blocks() & ~chunk.closed();
}
BlockSet fresh_candidates(const Chunk& chunk) noexcept {
  return empty_candidates(chunk) & chunk.fresh_blocks();
}

// Makes the beginning of a block zero in `units` units. Looks before it writes: what is absent reads
// as zero, and stays absent.
void wipe(const Chunk& chunk, unsigned block, unsigned granules, unsigned units) noexcept {
  constexpr std::size_t kLine = 64;
  static constexpr std::byte kZero[kLine] = {};
  const std::size_t size_bytes = align_up<std::size_t>(granules * kGranuleBytes, kLine);
  for (unsigned unit = 0; unit < units; ++unit) {
    std::byte* const begin = chunk.place.base + unit * kPercpuUnitStride + block * kPageSize;
    for (std::size_t at = 0; at < size_bytes; at += kLine) {
      if (std::memcmp(begin + at, kZero, kLine) != 0) std::memset(begin + at, 0, kLine);
    }
  }
}

}  // namespace

Chunk* ChunkHeap::chunk_for_reserve(BlockSet (*candidates)(const Chunk&) noexcept) noexcept {
  // The first chunk never ends; after it, whatever is emptiest.
  if (candidates(*first_chunk_) != 0 && first_chunk_->slot != kDepopulate) return first_chunk_;
  for (unsigned slot = kDepopulate; slot-- != 0;) {
    for (Chunk* at = slots_[slot].front(); at != nullptr; at = slots_[slot].next(*at)) {
      if (candidates(*at) != 0) return at;
    }
  }
  return nullptr;
}

ChunkHeap::ReserveBlock ChunkHeap::close_one_for_reserve(bool prefer_fresh) noexcept {
  ShortLockGuard lock(lock_);
  auto* candidates = prefer_fresh ? fresh_candidates : empty_candidates;
  ReserveBlock found;
  found.chunk = chunk_for_reserve(candidates);
  if (found.chunk == nullptr) {
    candidates = empty_candidates;
    found.chunk = chunk_for_reserve(candidates);
  }
  if (found.chunk == nullptr) return found;
  // From the end, where ordinary allocations come last.
  found.block = log2_floor(candidates(*found.chunk));
  found.written_granules = found.chunk->written[found.block];
  found.chunk->busy |= BlockSet{1} << found.block;
  update(*found.chunk);
  return found;
}

bool ChunkHeap::set_one_aside(unsigned units) noexcept {
  if (!backing_.populates_by_itself()) units = units_;
  // Where not all open units are held, nothing can be zeroed without a fault: it must be fresh.
  const unsigned open = std::min(units_, detail::open_units());
  const bool must_be_fresh = units < open;
  ReserveBlock one = close_one_for_reserve(must_be_fresh);
  if (one.chunk == nullptr) {
    if (!add_chunk(/*is_reserved=*/false)) return false;
    one = close_one_for_reserve(must_be_fresh);
    if (one.chunk == nullptr) return false;  // used up already
  }
  Chunk& chunk = *one.chunk;
  const BlockRun run{one.block, one.block + 1};
  const bool good = backing_.populate(chunk, run) && backing_.hold(chunk, run, units);
  const bool wiped = good && must_be_fresh && one.written_granules != 0;
  if (wiped) {
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_reserve_not_wiped,
                 wipe(chunk, one.block, one.written_granules, open), static_cast<void>(wipe));
  }
  const BlockSet bit = BlockSet{1} << one.block;
  ShortLockGuard lock(lock_);
  chunk.busy &= ~bit;
  if (good) {
    chunk.populated |= bit;
    set_held(chunk, bit, units);
    chunk.reserve |= bit;
    ++reserve_;
  }
  if (wiped) chunk.written[one.block] = 0;
  update(chunk);
  return good;
}

void ChunkHeap::fill_reserve() noexcept {
  const unsigned units = std::min(units_, os::allowed_cpus_end());
  while (true) {
    {
      ShortLockGuard lock(lock_);
      if (reserve_ >= reserve_target_) return;
    }
    if (!set_one_aside(units)) return;
  }
}

// ---------------------------------------------------------------- when

void ChunkHeap::tend_now() noexcept {
  if (!pages_.try_lock()) return;  // whoever is at it does it
  due_.store(false, std::memory_order_relaxed);
  reclaim(/*everything=*/false);
  end_free_chunks();
  fill_reserve();
  pages_.unlock();
}

void ChunkHeap::balance() noexcept {
  if (kept_ != nullptr) kept_->return_all();
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_balance_without_pages, MutexLock pages(pages_),
               static_cast<void>(0));
  due_.store(false, std::memory_order_relaxed);
  reclaim(/*everything=*/true);
  end_free_chunks();
  fill_reserve();  // last: a chunk that ended may have had some of it
}

Status ChunkHeap::populate(Chunk& chunk, unsigned begin, unsigned end) noexcept {
  if (begin > end || end > kBlocks) return fail(Errc::invalid_argument);
  MutexLock pages(pages_);
  BlockSet missing;
  {
    ShortLockGuard lock(lock_);
    missing = blocks_between(begin, end) & ~chunk.populated;
    if ((missing & chunk.busy) != 0)
      return fail(Errc::invalid_argument);  // beyond the reserved part
  }
  return missing != 0 ? populate_blocks(chunk, missing) : Status();
}

unsigned ChunkHeap::depopulate(Chunk& chunk, unsigned begin, unsigned end) noexcept {
  end = std::min(end, kBlocks);
  if (begin >= end || chunk.is_reserved) return 0;
  if (kept_ != nullptr) kept_->return_all();
  MutexLock pages(pages_);
  return depopulate_blocks(chunk, blocks_between(begin, end));
}

}  // namespace mmkit::percpu
