// SPDX-License-Identifier: MIT
//
// zsmalloc, its compaction: objects of the emptiest zspages move into the fullest, slice by slice.
//
//   begin_slice  under the class's lock: isolates the emptiest zspage, claims cells in the fullest
//   move_objects without it: each object busy while it is copied, so only its own users wait
//   end_slice    under it again: gives the emptied cells and unused claims back, closes or rejoins
//
// An object that is mapped, or freed meanwhile, stays where it is. A zspage of which nothing can move
// is passed over for the rest of the compaction.
#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/step.hpp>
#include <mmkit/zpool/zsmalloc.hpp>

#include "zpool/zsmalloc_closed.hpp"

namespace mmkit {

// Some tens of objects: ten microseconds, of which the lock is held for one.
struct ZsmallocPool::Slice {
  static constexpr unsigned kMoves = 32;
  struct Move {
    std::uint32_t slot;
    std::uint16_t from, to;  // cells
    bool done;
  };

  unsigned size_class;
  Zspage* source = nullptr;
  Zspage* target = nullptr;
  std::uint32_t target_number = kNone;
  unsigned count = 0;
  Move move[kMoves];
};

Result<std::size_t> ZsmallocPool::compact() noexcept {
  // Acquire and release: one compaction after another.
  if (!begin_compaction()) return std::size_t{0};
  std::size_t slots = 0;
  std::size_t freed = withdraw_all(&slots);
  for (unsigned c = sizes_.count(); c-- != 0;) freed += compact_class(c);
  end_compaction();
  return freed;
}

std::size_t ZsmallocPool::compact_class(unsigned size_class) noexcept {
  Class& home = classes_[size_class];
  // Others may go on making holes as fast as we fill them.
  std::size_t slices = home.cells.load(std::memory_order_relaxed) + std::size_t{1};
  std::size_t freed = 0;
  {
    ShortLockGuard lock(home.lock);
    relist_all(home);
  }
  for (bool more = true; more && slices != 0; --slices) {
    MutexLock lock(slices_);
    Slice slice;
    slice.size_class = size_class;
    more = begin_slice(slice);
    if (!more) break;
    move_objects(slice);
    freed += end_slice(slice);
  }
  return freed;
}

// Each into the list of its group, none passed over: the compaction before may have ended in a fork.
void ZsmallocPool::relist_all(Class& home) noexcept {
  for (unsigned group = 0; group < kFullGroup; ++group) {
    for (std::uint32_t n = home.groups[group]; n != kNone;) {
      Zspage& zspage = zspage_at(n);
      n = zspage.next;
      zspage.passed_over = false;
      relist(home, zspage);
    }
  }
}

Zspage* ZsmallocPool::emptiest(const Class& home) const noexcept {
  for (const std::uint32_t first : home.groups) {
    for (std::uint32_t n = first; n != kNone; n = zspage_at(n).next) {
      if (!zspage_at(n).passed_over) return &zspage_at(n);
    }
  }
  return nullptr;
}

// False when there is nothing to gain: the free cells of a class must be a zspage's at least.
bool ZsmallocPool::begin_slice(Slice& slice) noexcept {
  Class& home = classes_[slice.size_class];
  ShortLockGuard lock(home.lock);
  Zspage* const source = emptiest(home);
  const std::uint32_t free_cells =
      home.cells.load(std::memory_order_relaxed) - home.used.load(std::memory_order_relaxed);
  if (source == nullptr || free_cells < source->cells()) return false;
  isolate(home, *source);
  slice.source = source;
  slice.target = fullest(home);
  if (slice.target == nullptr) return true;  // all others are isolated: end_slice() passes it over
  slice.target_number = slice.target->number();
  collect(slice);
  for (unsigned i = 0; i < slice.count; ++i) {
    slice.move[i].to = static_cast<std::uint16_t>(slice.target->take_cell(Zspage::kClaimed));
  }
  home.used.store(home.used.load(std::memory_order_relaxed) + slice.count,
                  std::memory_order_relaxed);
  Closed none;
  settle(home, *slice.target, none);
  relist(home, *slice.target);  // upwards at once
  return true;
}

// What may move: live objects that nobody maps at this moment.
void ZsmallocPool::collect(Slice& slice) noexcept {
  const Zspage& source = *slice.source;
  const unsigned most = std::min(Slice::kMoves, slice.target->free_cells());
  for (unsigned cell = 0; cell < source.cells() && slice.count < most; ++cell) {
    if (source.is_free(cell)) continue;
    const std::uint32_t slot = source.owner(cell);
    const std::uint64_t word = engine_.slot(slot).load(std::memory_order_relaxed);
    const bool pinned = slot_word::state_of(word) > slot_word::kLive;
    if (slot_word::state_of(word) < slot_word::kLive) continue;
    if (MMKIT_MUTATE(MMKIT_MUTANT_slot_moves_what_is_mapped_too, pinned, false)) continue;
    slice.move[slice.count++] = {slot, static_cast<std::uint16_t>(cell), 0, false};
  }
}

void ZsmallocPool::move_objects(Slice& slice) noexcept {
  const Zspage& source = *slice.source;
  for (unsigned i = 0; i < slice.count; ++i) {
    Slice::Move& move = slice.move[i];
    ObjectEngine::Slot& slot = engine_.slot(move.slot);
    detail::step();
    const std::uint64_t word = slot.load(std::memory_order_relaxed);
    const Place from(word);
    // By now it may be dead, and its slot another object's.
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_moves_what_is_elsewhere,
                     !from.is_at(source.number(), move.from), false)) {
      continue;
    }
    if (!SlotPins::begin_move(slot, from.bits())) continue;
    Zspage& target = *slice.target;
    const ZspageBase base = base_of(target.number());
    const Place to(target.number(), move.to, from.slack_bytes());
    MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_publishes_before_copy, , SlotPins::end_move(slot, to.bits());
                 detail::hold_window_open();)
    std::memcpy(base.cell(move.to), base_of(source.number()).cell(move.from),
                base.size_bytes() - from.slack_bytes());
    target.set_owner(move.to, move.slot);
    MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_publishes_before_copy, SlotPins::end_move(slot, to.bits());
                 , )
    move.done = true;
  }
}

// Returns the pages that this freed.
std::size_t ZsmallocPool::end_slice(Slice& slice) noexcept {
  Class& home = classes_[slice.size_class];
  Closed closed;
  unsigned moved = 0;
  MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_settles_what_is_gone, static_cast<void>(0),
               detail::hold_window_open());
  {
    ShortLockGuard lock(home.lock);
    for (unsigned i = 0; i < slice.count; ++i) {
      const Slice::Move& move = slice.move[i];
      if (move.done) {
        slice.source->give_cell(move.from);
        ++moved;
      } else {
        slice.target->give_cell(move.to);
      }
    }
    home.used.store(home.used.load(std::memory_order_relaxed) - slice.count,
                    std::memory_order_relaxed);
    // Held by the claims that were not used: without one it may be gone by now.
    if (MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_settles_what_is_gone, moved != slice.count, moved != 0))
      settle(home, *slice.target, closed);
    if (moved != 0) clock_.take_over(ages_[slice.target_number], ages_[slice.source->number()]);
    rejoin(home, *slice.source, closed);
    slice.source->passed_over = moved == 0;
  }
  moved_.fetch_add(moved, std::memory_order_relaxed);  // a number on its own
  return close(closed);
}

// ---------------------------------------------------------------- what there is to gain

// Objects of a class that CPUs keep: about, while they work.
std::size_t ZsmallocPool::kept(unsigned size_class) const noexcept {
  const CpuStacks& stacks = engine_.stacks();
  std::size_t sum = 0;
  for (unsigned cpu = 0; cpu < stacks.cpus(); ++cpu) sum += stacks.count(cpu, heads_[size_class]);
  return sum;
}

std::size_t ZsmallocPool::freeable_pages(unsigned size_class, std::size_t kept) const noexcept {
  const Class& home = classes_[size_class];
  const std::size_t cells = home.cells.load(std::memory_order_relaxed);
  const std::size_t used = home.used.load(std::memory_order_relaxed);
  if (cells < used) return 0;  // in between two numbers
  return (cells - used + kept) / sizes_[size_class].objects * sizes_[size_class].pages;
}

}  // namespace mmkit
