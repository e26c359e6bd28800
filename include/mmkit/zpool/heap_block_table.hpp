// SPDX-License-Identifier: MIT
//
// HeapBlockTable - the blocks of a heap pool by number: where they lie, and what is known of each.
//
//   number --> bases_    where its pages are, and whether they are one object's    read by every mapping
//              infos_    the same, shard, granules in use, state, when it was used     by whoever has the
//                        shard's lock; the last by whoever uses it
//
// A number is given again once its block is gone. Some are kept ready for callers that must not wait.
// Units:      granules, pages
// Locking:    take_number(), give_number(): a lock of their own, of rank zpool_slots. An info: the lock of
//             its shard; `shard` and `pages` alone do not change while an object is in the block, so who
//             has one in its hands may read them without
// Complexity: O(1)
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/page/page_source.hpp>
#include <mmkit/zpool/eviction_order.hpp>
#include <mmkit/zpool/heap_block.hpp>
#include <mmkit/zpool/slot_word.hpp>
#include <span>

namespace mmkit {

/// Where an object lies: the 42 bits that its slot keeps, or 39 of them for a hole. Of an object that has
/// pages of its own: number of block and size.
class HeapPlace {
 public:
  static constexpr unsigned kBlockBits = 26;
  static constexpr std::uint32_t kMostBlocks = 1U << kBlockBits;

  /// Of a slot's word.
  explicit HeapPlace(std::uint64_t word) noexcept : bits_(slot_word::place_of(word)) {}
  HeapPlace(std::uint32_t block, unsigned granule, std::size_t slack_bytes = 0) noexcept
      : bits_(std::uint64_t{slack_bytes} << kSlackShift |
              std::uint64_t{block} << HeapBlock::kGranuleBits | granule) {}
  static HeapPlace from(std::uint64_t where) noexcept {
    return HeapPlace(where << slot_word::kPlaceShift);
  }
  static HeapPlace none() noexcept { return from(kWhere); }

  std::uint64_t bits() const noexcept { return bits_; }
  std::uint64_t where() const noexcept { return bits_ & kWhere; }
  bool is_none() const noexcept { return where() == kWhere; }
  std::uint32_t block() const noexcept {
    return static_cast<std::uint32_t>(where() >> HeapBlock::kGranuleBits);
  }
  unsigned granule() const noexcept {
    return static_cast<unsigned>(bits_) & ((1U << HeapBlock::kGranuleBits) - 1);
  }
  /// The place of an object that has pages of its own.
  static HeapPlace whole(std::uint32_t block, std::size_t size_bytes) noexcept {
    const std::size_t size = size_bytes - 1;
    constexpr std::size_t kGranules = std::size_t{1} << HeapBlock::kGranuleBits;
    return HeapPlace(block, static_cast<unsigned>(size % kGranules), size / kGranules);
  }
  std::size_t whole_bytes() const noexcept {
    return (slack_bytes() << HeapBlock::kGranuleBits) + granule() + 1;
  }
  /// Bytes of its extent that an object does not use: less than a granule.
  std::size_t slack_bytes() const noexcept { return bits_ >> kSlackShift; }

 private:
  static constexpr unsigned kSlackShift = kBlockBits + HeapBlock::kGranuleBits;
  static constexpr std::uint64_t kWhere = (std::uint64_t{1} << kSlackShift) - 1;
  static_assert(kSlackShift + 3 == slot_word::kPlaceBits);

  std::uint64_t bits_;
};

/// What is known of one block.
struct HeapBlockInfo {
  enum class State : std::uint8_t {
    none,     ///< the number is free, or its block is not open yet
    open,     ///< its holes are listed; or it is one object's
    emptied,  ///< its objects are being moved elsewhere; some of its holes are listed
    evicted   ///< its objects are being evicted; none of its holes is listed
  };

  std::byte* data = nullptr;       ///< where its pages are
  std::uint64_t first_frame = 0;   ///< of its pages
  std::uint32_t at = 0;            ///< in the list of its shard; of one object, its slot
  std::uint32_t passed_until = 0;  ///< no victim before so many elections
  std::uint16_t used = 0;          ///< granules in use; of one object, whether it is there
  std::uint8_t pages = 0;
  bool is_whole = false;       ///< the pages are one object's
  std::uint8_t key_shift = 0;  ///< makes `used` that of a block of the greatest length
  std::atomic<std::uint8_t> shard{0};
  std::atomic<State> state{State::none};
  UseAge age{0};  ///< a hint

  // Relaxed: under the shard's lock, or a hint, or known from a slot.
  bool is(State which) const noexcept { return state.load(std::memory_order_relaxed) == which; }
  void become(State which) noexcept { state.store(which, std::memory_order_relaxed); }
  unsigned granules() const noexcept { return HeapBlock::granules_in(pages); }
};

class HeapBlockTable {
 public:
  static constexpr std::uint32_t kNone = HeapPlace::kMostBlocks;

  HeapBlock block(std::uint32_t number) const noexcept { return HeapBlock(data(number)); }
  std::byte* data(std::uint32_t number) const noexcept {
    return reinterpret_cast<std::byte*>(base(number) & ~kWhole);
  }
  /// Whether the pages are one object's, which then begins where they do.
  bool is_whole(std::uint32_t number) const noexcept { return (base(number) & kWhole) != 0; }
  /// The bytes of the object at a place.
  std::span<std::byte> object(HeapPlace place) const noexcept {
    const std::uintptr_t where = base(place.block());
    if ((where & kWhole) != 0) [[unlikely]]
      return {reinterpret_cast<std::byte*>(where & ~kWhole), place.whole_bytes()};
    const HeapBlock block(reinterpret_cast<std::byte*>(where));
    return {block.object(place.granule()),
            HeapBlock::bytes_in(block.length(place.granule())) - place.slack_bytes()};
  }
  HeapBlockInfo& operator[](std::uint32_t number) const noexcept { return infos_[number]; }

  /// Numbers there are, in use or free.
  std::uint32_t size() const noexcept { return bases_.size(); }
  std::size_t bytes() const noexcept { return bases_.bytes() + infos_.bytes(); }

  /// A number for a block. nowait: makes no system call, waits for nobody. Errors: out_of_memory,
  /// try_again (nowait: the lock is taken).
  Result<std::uint32_t> take_number(bool nowait) noexcept;
  void give_number(std::uint32_t number) noexcept;
  /// Gives a number its pages: then it may be told to others.
  void set_data(std::uint32_t number, std::byte* data, bool is_whole) noexcept {
    infos_[number].data = data;
    infos_[number].is_whole = is_whole;
    bases_[number].store(reinterpret_cast<std::uintptr_t>(data) | (is_whole ? kWhole : 0),
                         std::memory_order_relaxed);
  }

  void lock_for_fork() noexcept MMKIT_ACQUIRE(lock_) { lock_.lock_for_fork(); }
  void unlock_after_fork() noexcept MMKIT_RELEASE(lock_) { lock_.unlock(); }

 private:
  // Kept for callers that must not wait.
  static constexpr std::uint32_t kKeptNumbers = 16;

  static constexpr std::uintptr_t kWhole = 1;  // pages are aligned, so the bit is free

  std::uintptr_t base(std::uint32_t number) const noexcept {
    // Relaxed: who knows the number knows it from a slot or under a lock, which orders.
    return bases_[number].load(std::memory_order_relaxed);
  }

  GrowingArray<std::atomic<std::uintptr_t>> bases_;
  GrowingArray<HeapBlockInfo> infos_;
  ShortLock lock_{LockRank::zpool_slots};
  std::uint32_t first_ MMKIT_GUARDED_BY(lock_) = kNone;  // free numbers, linked by `at`
  std::uint32_t free_ MMKIT_GUARDED_BY(lock_) = 0;
};

inline Result<std::uint32_t> HeapBlockTable::take_number(bool nowait) noexcept {
  if (nowait) {
    if (!lock_.try_lock()) return fail(Errc::try_again);
  } else {
    lock_.lock();
  }
  ShortLockGuard lock(lock_, ShortLockGuard::Adopt{});
  if (!nowait && free_ < kKeptNumbers) {
    const std::uint32_t from = bases_.size();
    const std::uint32_t to = std::min(from + kKeptNumbers, HeapPlace::kMostBlocks - 1);
    const bool grown = infos_.grow(to) && bases_.grow(to);
    for (std::uint32_t n = grown ? to : from; n-- > from;) {
      infos_[n].at = first_;
      first_ = n;
      ++free_;
    }
  }
  if (free_ == 0) return fail(Errc::out_of_memory);
  const std::uint32_t number = first_;
  first_ = infos_[number].at;
  --free_;
  return number;
}

inline void HeapBlockTable::give_number(std::uint32_t number) noexcept {
  ShortLockGuard lock(lock_);
  infos_[number].become(HeapBlockInfo::State::none);
  infos_[number].at = first_;
  first_ = number;
  ++free_;
}

}  // namespace mmkit
