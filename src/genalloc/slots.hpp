// SPDX-License-Identifier: MIT
//
// Slots - what an operation in flight owns: two descriptors, two spare buffers, its counts.
//
// An operation claims a slot and gives it back at its end. A signal handler that runs in the middle
// of one claims another; a thread that is stopped for ever keeps its own. So nothing belongs to a
// thread, and there is no registration and no thread-local memory.
//
//   slot      +--------------+--------------+------+--------+--------+--------+
//             | descriptor 0 | descriptor 1 | busy | spares | counts | answer |
//             +--------------+--------------+------+--------+--------+--------+
//
// Two descriptors, because the pool's head may still name one when the next operation of the slot
// writes its own. Some slots are kept for frees, which must not fail.
// Units:      slots by number, below kSlots
// Invariants: 1 a descriptor that the head names is not written  2 a slot holds at most two buffers
//             at the moment its operation is committed
// Locking:    `busy` guards what is not atomic
// Complexity: claim() O(1) while few are in flight
#pragma once

#include <cstddef>
#include <cstdint>

#include "genalloc/chunk.hpp"

namespace mmkit::genalloc {

inline constexpr unsigned kSlots = 64;
inline constexpr unsigned kSlotsForFrees = 16;
inline constexpr unsigned kSparesPerSlot = 2;

/// What the pool is between two operations, besides the bitmaps: part of every descriptor, so that
/// it is exact at the very instant an operation happens.
struct PoolState {
  std::uint64_t used_granules = 0;
  std::uint32_t newest = 0;   ///< number + 1 of the chunk added last; 0: none
  std::uint32_t indexes = 0;  ///< which hints are live
};

/// A change of the pool, complete: anybody can carry it out, any number of times.
struct Change {
  /// `none` changes what the pool is, no bitmap. `ask` changes nothing: the next change will be the
  /// take that it asks for (Request), whoever makes it.
  enum class Kind : std::uint32_t { none, take, give, ask };
  static constexpr std::uint32_t kNobody = 0;
  Kind kind = Kind::none;
  std::uint32_t asker = kNobody;  ///< number + 1 of the slot that asked for this
  std::uint32_t chunk = 0;
  std::uint64_t granule = 0;
  std::uint64_t count = 0;
  std::uint32_t first_buffer = 0;  ///< the new contents of the first leaf, and of the last if it is
  std::uint32_t last_buffer = 0;   ///< another one
  std::uint64_t left = 0;          ///< free granules beside the run, as far as hints must know
  std::uint64_t right = 0;
  PoolState after;
};

template <class Sync>
class Descriptor {
  using Cell = typename Sync::template Atomic<std::uint64_t>;

 public:
  // Release here and acquire in read(): who reads words of a later operation has seen the head
  // move on by the time he asks.
  [[gnu::always_inline]] void write(const Change& change) noexcept {
    const std::uint64_t words[kWords] = {
        std::uint64_t{change.chunk} << 32 | change.asker << kAskerShift |
            change.after.indexes << 2 | static_cast<std::uint64_t>(change.kind),
        change.granule,
        change.count,
        std::uint64_t{change.last_buffer} << 32 | change.first_buffer,
        change.left,
        change.right,
        change.after.used_granules,
        change.after.newest};
#pragma GCC unroll 8
    for (unsigned i = 0; i < kWords; ++i) word_[i].store(words[i], std::memory_order_release);
  }
  Change read() const noexcept {
    std::uint64_t words[kWords];
    for (unsigned i = 0; i < kWords; ++i) words[i] = word_[i].load(std::memory_order_acquire);
    Change change;
    change.kind = static_cast<Change::Kind>(words[0] & 3);
    change.asker = static_cast<std::uint32_t>(words[0]) >> kAskerShift;
    change.chunk = static_cast<std::uint32_t>(words[0] >> 32);
    change.granule = words[1];
    change.count = words[2];
    change.first_buffer = static_cast<std::uint32_t>(words[3]);
    change.last_buffer = static_cast<std::uint32_t>(words[3] >> 32);
    change.left = words[4];
    change.right = words[5];
    change.after = state_of(words[0], words[6], words[7]);
    return change;
  }
  PoolState state() const noexcept {
    const std::uint64_t first = word_[0].load(std::memory_order_acquire);
    const std::uint64_t used = word_[6].load(std::memory_order_acquire);
    return state_of(first, used, word_[7].load(std::memory_order_acquire));
  }

 private:
  static constexpr unsigned kWords = 8;
  static constexpr unsigned kAskerShift = 8;
  static PoolState state_of(std::uint64_t first, std::uint64_t used,
                            std::uint64_t newest) noexcept {
    return {used, static_cast<std::uint32_t>(newest),
            static_cast<std::uint32_t>(first) >> 2 & (kBoundsLive | kLengthsLive)};
  }

  Cell word_[kWords] = {};
};

/// What is counted; only the slot's owner writes, anybody reads.
enum class Count : unsigned {
  allocations,
  frees,
  failed_no_space,
  failed_fragmented,
  retries,
  words_touched,
  most_touched,
  peak_used,
  kinds
};

template <class Sync>
struct alignas(64) Slot {
  using Cell = typename Sync::template Atomic<std::uint64_t>;

  Descriptor<Sync> descriptor[2];
  typename Sync::template Atomic<std::uint32_t> busy{0};

  // Buffers of one chunk, kept from one operation to the next: most need one and free one.
  std::uint32_t spare_chunk = 0;  // number + 1
  std::uint32_t spares = 0;
  std::uint32_t spare[kSparesPerSlot] = {};

  void add(Count what, std::uint64_t amount) noexcept {
    Cell& cell = counts[static_cast<unsigned>(what)];
    cell.store(cell.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void raise(Count what, std::uint64_t value) noexcept {
    Cell& cell = counts[static_cast<unsigned>(what)];
    if (cell.load(std::memory_order_relaxed) < value) {
      cell.store(value, std::memory_order_relaxed);
    }
  }
  std::uint64_t count(Count what) const noexcept {
    return counts[static_cast<unsigned>(what)].load(std::memory_order_relaxed);
  }

  Cell counts[static_cast<unsigned>(Count::kinds)] = {};

  // What became of a request (commit.hpp).
  Cell answer{0};
};

/// All slots of a pool.
template <class Sync>
class Slots {
 public:
  static constexpr unsigned kNone = kSlots;

  Slot<Sync>& operator[](unsigned number) noexcept { return slot_[number]; }
  const Slot<Sync>& operator[](unsigned number) const noexcept { return slot_[number]; }

  /// A free slot; kNone when too many operations are in flight. One that may not fail waits, but
  /// has slots of its own kind first.
  [[gnu::always_inline]] unsigned claim(bool may_fail) noexcept {
    const unsigned home = home_of_thread(kShared);
    return take(home) ? home : claim_other(home, may_fail);
  }
  [[gnu::noinline]] unsigned claim_other(unsigned home, bool may_fail) noexcept {
    while (true) {
      for (unsigned i = 0; i < kShared; ++i) {
        const unsigned number = home + i < kShared ? home + i : home + i - kShared;
        if (take(number)) return number;
      }
      if (may_fail) return kNone;
      for (unsigned number = kShared; number < kSlots; ++number) {
        if (take(number)) return number;
      }
      Sync::pause();
    }
  }
  void release(unsigned number) noexcept {
    slot_[number].busy.store(0, std::memory_order_release);  // pairs with the acquire in take()
  }
  bool in_flight(unsigned number) const noexcept {
    return slot_[number].busy.load(std::memory_order_acquire) != 0;
  }
  std::uint64_t sum(Count what) const noexcept {
    std::uint64_t total = 0;
    for (const Slot<Sync>& slot : slot_) total += slot.count(what);
    return total;
  }
  std::uint64_t largest(Count what) const noexcept {
    std::uint64_t most = 0;
    for (const Slot<Sync>& slot : slot_) most = slot.count(what) > most ? slot.count(what) : most;
    return most;
  }

 private:
  static constexpr unsigned kShared = kSlots - kSlotsForFrees;

  // Stacks of different threads are megabytes apart: where a local variable lies tells them apart
  // well enough to begin with different slots, without asking anybody.
  static unsigned home_of_thread(unsigned homes) noexcept {
    const auto stack = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) >> 20;
    return static_cast<unsigned>(((stack * 0x9e3779b97f4a7c15u) >> 40) * homes >> 24);
  }
  bool take(unsigned number) noexcept {
    std::uint32_t idle = 0;
    auto& busy = slot_[number].busy;
    if (busy.load(std::memory_order_relaxed) != 0) return false;
    if (Sync::alone()) {
      // Only a handler can come between, and it has given the slot back before we go on.
      busy.store(1, std::memory_order_relaxed);
      return true;
    }
    return busy.compare_exchange_strong(idle, 1, std::memory_order_acquire,
                                        std::memory_order_relaxed);
  }

  Slot<Sync> slot_[kSlots];
};

}  // namespace mmkit::genalloc
