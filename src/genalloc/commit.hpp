// SPDX-License-Identifier: MIT
//
// Commit - one word per pool that makes an operation happen, all of it at once.
//
//   head   63                     8 7 6      1 0
//         +------------------------+-+--------+--+
//         |         sequence       |a|  slot  |  |   the operation that happened last: its descriptor
//         +------------------------+-+--------+--+   is number <lowest bit> of that slot; a: it asks
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
// Who lost too often because others are quicker asks: he installs a change that only says what he
// wants. The pool then stays as it is until somebody has made the change that is asked for, as a
// change of his own slot; everybody who comes tries, and nothing else can be installed. What came of
// it is written into the asker's slot when the change is carried out, over a number that only this
// request has. So a long search, under a pool that stands still, is not begun again for ever.
//
// That is strict linearizability: the order of the calls is the order of the exchanges; a refusal
// stands where it looked at head for the last time.
// Source:     optimistic reading with one commit word and operations that others finish; the search
//             is not repeated by who helps
// Units:      operations
// Invariants: 1 done == head: leaves and hints are those of exactly the operations up to head
//             2 only the operation that head names changes leaves; the next one begins at rest
//             3 no leaf's new buffer is its old one, so that "it is named" means "it was done"
//             4 a head that asks is followed by its answer
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
  [[gnu::always_inline]] Head rest() noexcept {
    const Head now = head();
    // Acquire: pairs with the release in finish(): the leaves and hints of that operation.
    return done_.load(std::memory_order_acquire) == now ? now : come_to_rest();
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

  /// Whether `head` is the one after `before`.
  static bool follows(Head head, Head before) noexcept {
    return head >> kSequenceShift == (before >> kSequenceShift) + 1;
  }
  static bool asks(Head head) noexcept { return (head & kAsks) != 0; }
  /// The change that head stands for; means nothing when the head moved.
  Change change(Head head) const noexcept {
    return slots_[slot_of(head)].descriptor[parity_of(head)].read();
  }
  static unsigned slot_of(Head head) noexcept { return static_cast<unsigned>(head >> 1) % kSlots; }

  /// What a slot's answer is while its request, installed over `seen`, has none.
  static std::uint64_t pending(Head seen) noexcept {
    return kPending | ((seen >> kSequenceShift) + 1);
  }
  static bool is_pending(std::uint64_t answer) noexcept { return (answer & kPending) != 0; }
  static std::uint64_t refusal(std::uint64_t why) noexcept { return kRefused | why; }
  static bool is_refusal(std::uint64_t answer) noexcept { return (answer & kRefused) != 0; }
  static std::uint32_t chunk_in(std::uint64_t answer) noexcept {
    return static_cast<std::uint32_t>(answer >> kGranuleBits);
  }
  static std::uint64_t granule_in(std::uint64_t answer) noexcept {
    return answer & ((std::uint64_t{1} << kGranuleBits) - 1);
  }
  static std::uint64_t why_in(std::uint64_t answer) noexcept { return answer & ~kRefused; }

  /// Makes the change happen if the head still is `seen`, and carries it out.
  bool install(Head seen, unsigned slot, const Change& change) noexcept {
    return install(seen, slot, change, nullptr);
  }
  /// `chunk` is the change's, when the caller knows it.
  [[gnu::always_inline]] bool install(Head seen, unsigned slot, const Change& change,
                                      Chunk<Sync>* chunk) noexcept {
    const unsigned parity = MMKIT_MUTATE(MMKIT_MUTANT_genpool_descriptor_in_use,
                                         slot_of(seen) == slot ? 1 - parity_of(seen) : 0, 0);
    slots_[slot].descriptor[parity].write(change);
    const Head next = ((seen >> kSequenceShift) + 1) << kSequenceShift | slot << 1 | parity |
                      (change.kind == Change::Kind::ask ? kAsks : 0);
    // Release: the descriptor and the new buffers, for the acquire in head().
    if (!head_.compare_exchange_strong(seen, next, std::memory_order_seq_cst,
                                       std::memory_order_relaxed)) {
      return false;
    }
    finish(next, change, chunk);
    return true;
  }

 private:
  [[gnu::noinline]] Head come_to_rest() noexcept {
    for (unsigned waited = 0;; ++waited) {
      const Head now = head();
      if (done_.load(std::memory_order_acquire) == now) return now;
      // Whoever is at it is nearly through, as a rule; and does not like to be watched.
      if (waited < Sync::kPatience) {
        Sync::pause();
      } else {
        help(now);
      }
    }
  }

  static constexpr unsigned kSequenceShift = 8;
  static constexpr Head kAsks = 0x80;
  static constexpr std::uint64_t kPending = std::uint64_t{1} << 63;
  static constexpr std::uint64_t kRefused = std::uint64_t{1} << 62;
  static constexpr unsigned kGranuleBits = kBufferBits + 9;  // a chunk has no more
  static_assert(kSlots <= 64 && kSlots <= RunBound::kLong - RunBound::kMarks);

  static unsigned parity_of(Head head) noexcept { return static_cast<unsigned>(head & 1); }

  [[gnu::noinline]] void help(Head now) noexcept {
    const Change change = this->change(now);
    if (still(now)) finish(now, change, nullptr);
  }

  [[gnu::always_inline]] void finish(Head now, const Change& change, Chunk<Sync>* chunk) noexcept {
    if (change.kind == Change::Kind::take || change.kind == Change::Kind::give) {
      if (chunk == nullptr) chunk = chunks_.find(change.chunk);
      if (!carry_out(now, change, *chunk)) return;
    }
    if (change.asker != Change::kNobody) answer(now, change);
    // Release: pairs with rest().
    if (still(now)) done_.store(now, std::memory_order_release);
  }

  // The request is the head before this one. Once: when this comes late, the cell is not pending, or
  // a later request is.
  [[gnu::noinline]] void answer(Head now, const Change& change) noexcept {
    const bool taken = change.kind == Change::Kind::take;
    const std::uint64_t found = taken ? std::uint64_t{change.chunk} << kGranuleBits | change.granule
                                      : refusal(change.granule);
    auto& cell = slots_[change.asker - 1].answer;
    std::uint64_t expected = kPending | ((now >> kSequenceShift) - 1);
    if (MMKIT_MUTATE(MMKIT_MUTANT_genpool_answers_anything, false, true)) {
      expected = cell.load(std::memory_order_relaxed);
    }
    // Release: pairs with the acquire of who asked, for the leaves.
    cell.compare_exchange_strong(expected, found, std::memory_order_acq_rel,
                                 std::memory_order_relaxed);
  }

  // False when somebody finished it and the pool has moved on.
  [[gnu::always_inline]] bool carry_out(Head now, const Change& change,
                                        Chunk<Sync>& chunk) noexcept {
    const std::size_t first = change.granule / kLeafBits;
    const std::size_t last = (change.granule + change.count - 1) / kLeafBits;
    const auto current = [&]() noexcept { return still(now); };
    if (!chunk.leaves().replace(first, change.first_buffer, current)) return false;
    if (first != last && !replace_rest(now, change, chunk, first + 1, last)) return false;
    announce(chunk, change);
    return true;
  }
  [[gnu::noinline]] bool replace_rest(Head now, const Change& change, Chunk<Sync>& chunk,
                                      std::size_t leaf, std::size_t last) noexcept {
    const auto current = [&]() noexcept { return still(now); };
    const std::uint32_t inner = change.kind == Change::Kind::take ? kAllTaken : kAllFree;
    for (; leaf < last; ++leaf) {
      if (!chunk.leaves().replace(leaf, inner, current)) return false;
    }
    return chunk.leaves().replace(last, change.last_buffer, current);
  }

  // Raises the hints of the runs that begin somewhere since this change.
  [[gnu::always_inline]] static void announce(Chunk<Sync>& chunk, const Change& change) noexcept {
    if (change.kind == Change::Kind::give) {
      begins(chunk, change, change.granule - change.left,
             change.left + change.count + change.right);
      return;
    }
    if (change.left != 0) begins(chunk, change, change.granule - change.left, change.left);
    if (change.right != 0) begins(chunk, change, change.granule + change.count, change.right);
  }
  [[gnu::always_inline]] static void begins(Chunk<Sync>& chunk, const Change& change,
                                            std::size_t granule, std::size_t length) noexcept {
    const std::size_t leaf = granule / kLeafBits;
    if ((change.after.indexes & kBoundsLive) != 0) {
      chunk.bounds().raise(leaf, RunBound::of(length));
    }
    if ((change.after.indexes & kLengthsLive) != 0) {
      chunk.lengths().begins(leaf, length);
    }
  }

  alignas(64) typename Sync::template Atomic<std::uint64_t> head_{0};
  typename Sync::template Atomic<std::uint64_t> done_{0};
  Slots<Sync> slots_;
  ChunkTable<Sync, Chunk<Sync>> chunks_;
};

}  // namespace mmkit::genalloc
