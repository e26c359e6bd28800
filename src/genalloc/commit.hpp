// SPDX-License-Identifier: MIT
//
// Commit - one word per pool that makes an operation happen, all of it at once.
//
//   head   63                       8 7      1 0
//         +--------------------------+--------+--+
//         |         sequence         |  slot  |  |   the operation that happened last: its descriptor
//         +--------------------------+--------+--+   is number <lowest bit> of that slot
//   done  the head whose operation is carried out; done == head: the pool rests
//
//   1 wait until the pool rests under a head h, or help it to
//   2 read whatever is needed, write the change into a descriptor: everything it does, ready made
//   3 exchange head: h -> h + 1. Here it happened: what was read was true until now, because nothing
//     changes but by the operation that head names. Lost: somebody else's happened; back to 1
//   4 carry it out: name new leaves, raise hints, then done = head
//
// Anybody may do step 4, at any time, twice, or too late: a leaf is exchanged under its version, a
// hint that is raised too late is too high, and a `done` that is set too late makes others finish
// again what is finished. So a thread that is stopped anywhere holds nobody up. "There is no place"
// and "this is not allocated" are true when head still is h at the end.
//
// That is strict linearizability: the order of the calls is the order of the exchanges; a refusal
// stands where it looked at head for the last time.
// Source:     optimistic reading with one commit word and operations that others finish; the search
//             is not repeated by who helps
// Units:      operations
// Invariants: 1 done == head: leaves and hints are those of exactly the operations up to head
//             2 only the operation that head names changes leaves; the next one begins at rest
//             3 no leaf's new buffer is its old one, so that "it is named" means "it was done"
// Locking:    none; lock-free: when an exchange fails, another one succeeded
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/mutant.hpp>

#include "genalloc/chunk_table.hpp"
#include "genalloc/slots.hpp"

namespace mmkit::genalloc {

template <class Sync>
class Commit {
 public:
  using Head = std::uint64_t;

  explicit Commit(std::uint32_t indexes) noexcept {
    Change nothing;
    nothing.after.indexes = indexes;
    slots_[0].descriptor[0].write(nothing);
  }

  Slots<Sync>& slots() noexcept { return slots_; }
  const Slots<Sync>& slots() const noexcept { return slots_; }
  ChunkTable<Sync, Chunk<Sync>>& chunks() noexcept { return chunks_; }
  const ChunkTable<Sync, Chunk<Sync>>& chunks() const noexcept { return chunks_; }

  Head head() const noexcept { return head_.load(std::memory_order_acquire); }
  /// Whether nothing happened since `head` was read. Sequentially consistent: a lowered hint
  /// depends on it (hint_tree.hpp).
  bool still(Head head) const noexcept { return head_.load(std::memory_order_seq_cst) == head; }

  /// A head under which the pool rests; helps it to come to rest.
  Head rest() noexcept {
    for (unsigned waited = 0;; ++waited) {
      const Head now = head();
      // Acquire: pairs with the release in finish(): the leaves and hints of that operation.
      if (done_.load(std::memory_order_acquire) == now) return now;
      // Whoever is at it is nearly through, as a rule; and does not like to be watched.
      if (waited < Sync::kPatience) {
        Sync::pause();
      } else {
        help(now);
      }
    }
  }
  /// What the pool is under that head; means nothing when the head moved.
  PoolState state(Head head) const noexcept {
    return slots_[slot_of(head)].descriptor[parity_of(head)].state();
  }
  /// What it is now.
  PoolState state() const noexcept {
    while (true) {
      const Head now = head();
      const PoolState found = state(now);
      if (still(now)) return found;
    }
  }

  /// Makes the change happen if the head still is `seen`, and carries it out.
  bool install(Head seen, unsigned slot, const Change& change) noexcept {
    const unsigned parity = MMKIT_MUTATE(MMKIT_MUTANT_genpool_descriptor_in_use,
                                         slot_of(seen) == slot ? 1 - parity_of(seen) : 0, 0);
    slots_[slot].descriptor[parity].write(change);
    const Head next = ((seen >> kSequenceShift) + 1) << kSequenceShift | slot << 1 | parity;
    // Release: the descriptor and the new buffers, for the acquire in head().
    if (!head_.compare_exchange_strong(seen, next, std::memory_order_seq_cst,
                                       std::memory_order_relaxed)) {
      return false;
    }
    finish(next, change);
    return true;
  }

 private:
  static constexpr unsigned kSequenceShift = 8;
  static_assert(kSlots <= 128 && kSlots <= RunBound::kLong - RunBound::kMarks);

  static unsigned slot_of(Head head) noexcept { return static_cast<unsigned>(head >> 1) % kSlots; }
  static unsigned parity_of(Head head) noexcept { return static_cast<unsigned>(head & 1); }

  void help(Head now) noexcept {
    const Change change = slots_[slot_of(now)].descriptor[parity_of(now)].read();
    if (still(now)) finish(now, change);
  }

  void finish(Head now, const Change& change) noexcept {
    if (change.kind != Change::Kind::none && !carry_out(now, change)) return;
    // Release: pairs with rest().
    if (still(now)) done_.store(now, std::memory_order_release);
  }

  // False when somebody finished it and the pool has moved on.
  bool carry_out(Head now, const Change& change) noexcept {
    Chunk<Sync>& chunk = *chunks_.find(change.chunk);
    const std::size_t first = change.granule / kLeafBits;
    const std::size_t last = (change.granule + change.count - 1) / kLeafBits;
    const bool take = change.kind == Change::Kind::take;
    const auto current = [&]() noexcept { return still(now); };
    for (std::size_t leaf = first; leaf <= last; ++leaf) {
      const std::uint32_t inner = take ? kAllTaken : kAllFree;
      const std::uint32_t buffer = leaf == first  ? change.first_buffer
                                   : leaf == last ? change.last_buffer
                                                  : inner;
      if (!chunk.leaves().replace(leaf, buffer, current)) return false;
    }
    announce(chunk, change);
    return true;
  }

  // Raises the hints of the runs that begin somewhere since this change.
  static void announce(Chunk<Sync>& chunk, const Change& change) noexcept {
    if (change.kind == Change::Kind::give) {
      begins(chunk, change, change.granule - change.left,
             change.left + change.count + change.right);
      return;
    }
    if (change.left != 0) begins(chunk, change, change.granule - change.left, change.left);
    if (change.right != 0) begins(chunk, change, change.granule + change.count, change.right);
  }
  static void begins(Chunk<Sync>& chunk, const Change& change, std::size_t granule,
                     std::size_t length) noexcept {
    const std::size_t leaf = granule / kLeafBits;
    if ((change.after.indexes & kBoundsLive) != 0) {
      chunk.bounds().raise(leaf, RunBound::of(length));
    }
    if ((change.after.indexes & kClassesLive) != 0) {
      chunk.classes().raise(leaf, RunClasses::of(length));
    }
  }

  alignas(64) typename Sync::template Atomic<std::uint64_t> head_{0};
  typename Sync::template Atomic<std::uint64_t> done_{0};
  Slots<Sync> slots_;
  ChunkTable<Sync, Chunk<Sync>> chunks_;
};

}  // namespace mmkit::genalloc
