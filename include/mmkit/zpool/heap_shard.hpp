// SPDX-License-Identifier: MIT
//
// HeapShard - some blocks of a heap pool and the holes in them: where an object goes, and which block is
// to be emptied.
//
//   bins_  --> holes of the blocks, by length (hole_bins.hpp)
//   keys_  | fullness of block 0 | of block 1 | ...     dense, so that the emptiest is found in one pass
//   numbers_ | number of block 0 | ...
//   victim_ --> the block that is being emptied: everything before cursor_ is a hole, or was passed over
//
// An object goes into the shortest hole that is long enough, at its start. Holes of the victim are taken
// out of the bins when they are met, by who looks for a hole or by the cursor; none is added. So to
// choose a victim costs nothing but the choice.
// Units:      granules
// Invariants: 1 each block is sound (heap_block.hpp)  2 holes of an open block are in the bins if they
//             are long enough, those of the victim may be, no others are  3 used_ and held_ are the
//             sums over the blocks  4 a block knows its index in keys_ and numbers_
// Locking:    lock, taken by the caller; used() and held() are read as they are
// Complexity: take(), give() O(1) and holes of the victim; elect() O(blocks), at most 4096 of them
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/zpool/heap_block_table.hpp>
#include <mmkit/zpool/hole_bins.hpp>

namespace mmkit {

class HeapShard {
 public:
  static constexpr std::uint32_t kNone = HeapBlockTable::kNone;

  explicit HeapShard(HeapBlockTable& blocks) noexcept : blocks_(blocks) {}
  HeapShard(const HeapShard&) = delete;
  HeapShard& operator=(const HeapShard&) = delete;

  ShortLock lock{LockRank::zpool_class};
  /// Whether the pool counts this shard among those that owe moves.
  bool owes MMKIT_GUARDED_BY(lock) = false;

  // ------------------------------------------------------------------ objects

  /// Room for an extent of so many granules that belongs to a slot; none.
  HeapPlace take(unsigned granules, std::uint32_t slot) noexcept MMKIT_REQUIRES(lock);
  /// Makes an extent a hole. True when its block is empty now, and then none of its holes is listed.
  bool give(HeapPlace extent) noexcept MMKIT_REQUIRES(lock);

  /// Fetches what give() will look at and write, the extents beside this one: for several extents
  /// before the first of them is given.
  static void fetch_neighbours(HeapBlock block, unsigned at) noexcept;

  // ------------------------------------------------------------------ blocks

  /// Makes sure that so many blocks more can be added. Errors: out_of_memory.
  Status reserve(std::uint32_t more) noexcept MMKIT_REQUIRES(lock) {
    return reserve_for(count_ + more);
  }
  /// Whether add() may be called.
  bool has_reserve() const noexcept MMKIT_REQUIRES(lock) { return count_ < numbers_.size(); }
  /// Adds a block that is one hole, not listed. It is the newest.
  void add(std::uint32_t number) noexcept MMKIT_REQUIRES(lock);
  /// Takes a block out that is empty.
  void remove(std::uint32_t number) noexcept MMKIT_REQUIRES(lock);
  std::uint32_t blocks() const noexcept { return count_; }
  /// The block of an index below blocks().
  std::uint32_t number(std::uint32_t index) const noexcept { return numbers_[index]; }
  /// Takes all holes of a block out of the bins.
  void unlist(std::uint32_t number) noexcept MMKIT_REQUIRES(lock);
  /// Lists all its holes, as of an open block.
  void relist(std::uint32_t number) noexcept MMKIT_REQUIRES(lock);

  // Relaxed: written under the lock; who reads without it wants a hint.
  std::size_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  std::size_t held() const noexcept { return held_.load(std::memory_order_relaxed); }
  /// What is free; of few blocks without the newest one, which waits to be filled.
  std::size_t spoiled() const noexcept MMKIT_REQUIRES(lock);

  // ------------------------------------------------------------------ the victim

  std::uint32_t victim() const noexcept { return victim_; }
  /// Chooses the emptiest block that is neither the newest nor passed over, if what it holds may find
  /// room elsewhere. False: there is none, and unless it must be `at_once` the next calls do not look.
  bool elect(bool at_once) noexcept MMKIT_REQUIRES(lock);
  /// The extent to be looked at next; the end mark at last.
  HeapPlace cursor() const noexcept { return HeapPlace(victim_, cursor_); }
  void pass_hole() noexcept MMKIT_REQUIRES(lock);
  void pass() noexcept MMKIT_REQUIRES(lock) { cursor_ = blocks_.block(victim_).next(cursor_); }
  /// The victim is an ordinary block again, and no victim for some elections.
  void release_victim() noexcept MMKIT_REQUIRES(lock);

  std::size_t bytes() const noexcept { return sizeof(*this) + keys_.bytes() + numbers_.bytes(); }
  /// Whether the invariants hold. Complexity: O(extents).
  bool validate(std::uint8_t number_of_shard) const noexcept;

 private:
  static constexpr std::uint32_t kWindow = 4096;
  // In so few blocks, a block is more than what a floor lets go.
  static constexpr std::uint32_t kFewBlocks = 64;
  // How many others come first before a block is tried again that could not be emptied.
  static constexpr std::uint32_t kPassedFor = 8;
  // After an election that found nobody there is none until so much was freed, or a block came or went.
  static constexpr std::size_t kWorthALook = 512;

  Status reserve_for(std::uint32_t count) noexcept {
    if (Status grown = keys_.grow(count); !grown) return grown;
    return numbers_.grow(count);
  }
  // Granules in use, as if the block were of the greatest length.
  static std::uint16_t key_of(const HeapBlockInfo& info) noexcept {
    return static_cast<std::uint16_t>(info.used << info.key_shift);
  }
  void note_used(HeapBlockInfo& info, unsigned used) noexcept {
    const std::size_t sum = used_.load(std::memory_order_relaxed) + used - info.used;
    used_.store(sum, std::memory_order_relaxed);
    info.used = static_cast<std::uint16_t>(used);
    keys_[info.at] = key_of(info);
  }
  // A hole that is about to be part of another extent.
  void unlink_hole(HeapBlock block, HeapPlace hole, unsigned length) noexcept {
    if (block.is_listed(hole.granule())) bins_.unlink(blocks_, block, hole, length);
  }
  // A hole that stays.
  void unlist_hole(HeapBlock block, HeapPlace hole) noexcept {
    const unsigned length = block.length(hole.granule());
    unlink_hole(block, hole, length);
    block.set_listed(hole.granule(), length, /*listed=*/false);
  }

  std::uint32_t victim_ = kNone, cursor_ = 0;
  std::uint32_t newest_ = kNone;
  std::uint32_t count_ = 0, scan_ = 0, elections_ = 0;
  std::size_t held_in_vain_ = 0, used_in_vain_ = 0;
  std::atomic<std::size_t> used_{0}, held_{0};
  HeapBlockTable& blocks_;
  GrowingArray<std::uint16_t> keys_;
  GrowingArray<std::uint32_t> numbers_;
  HoleBins bins_;
};

}  // namespace mmkit
