// SPDX-License-Identifier: MIT
//
// zsmalloc, the slow half of allocate and free: where objects of zspages come into a caller's hands
// and out of them, under the lock of their class.
#include <mmkit/zpool/zsmalloc.hpp>

#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>

#include "zpool/zsmalloc_closed.hpp"

namespace mmkit {
namespace {

// Of what a class has in use, CPUs may keep one in so many. More makes churn cost density, less
// makes calls slow.
constexpr std::uint32_t kKeptShare = 32;
// Below so many for each that they may keep, everything comes back: far enough from the share above
// that it happens once while a class halves.
constexpr std::uint32_t kWithdrawShare = kKeptShare / 2;

}  // namespace

// ---------------------------------------------------------------- allocate

Result<Handle> ZsmallocPool::add_slowly(std::size_t size_bytes, Gfp gfp,
                                        const std::byte* object) noexcept {
  gfp = gfp | gfp_;
  if (Status fits = check_object_request(size_bytes, gfp, kTraits); !fits) {
    return failed(fits.error());
  }
  const bool ready = !has(gfp, Gfp::nowait) || engine_.stacks().ready_now();
  const unsigned size_class = sizes_.find(size_bytes);
  std::uint32_t index = ready ? engine_.find_kept(heads_[size_class]) : ObjectEngine::kNoSlot;
  if (index == ObjectEngine::kNoSlot) {
    const Result<std::uint32_t> found = find_room(size_class, gfp);
    if (!found) return failed(found.error());
    index = *found;
  }
  if (object != nullptr) {
    fill(index, std::span(object, size_bytes));
  } else if (has(gfp, Gfp::zero)) {
    const Place place(engine_.slot(index).load(std::memory_order_relaxed));
    std::memset(base_of(place.zspage()).cell(place.cell()), 0, size_bytes);
  }
  count_allocation(size_bytes, ready);
  return publish(index, size_bytes);
}

Handle ZsmallocPool::count_and_publish(std::uint32_t index, std::size_t size_bytes) noexcept {
  engine_.stacks().count_allocation(size_bytes);
  return publish(index, size_bytes);
}

// Room for an object of the class, in the caller's hands.
Result<std::uint32_t> ZsmallocPool::find_room(unsigned size_class, Gfp gfp) noexcept {
  Result<std::uint32_t> room = refill(size_class, gfp);
  if (room || room.error() != Errc::out_of_memory || has(gfp, Gfp::nowait) || evict_) return room;
  // Nobody will be asked to make room, so what CPUs keep must not stand in the way.
  std::size_t slots = 0;
  withdraw_all(&slots);
  return slots == 0 ? room : refill(size_class, gfp);
}

// Takes some cells of the fullest zspage: one for the caller, the others to be kept on this CPU.
Result<std::uint32_t> ZsmallocPool::refill(unsigned size_class, Gfp gfp) noexcept {
  const bool nowait = has(gfp, Gfp::nowait);
  Class& home = classes_[size_class];
  std::uint32_t slots[kMostRefill];
  Result<std::size_t> taken = std::size_t{0};
  if (nowait) {
    // The lock first: where it is taken, nothing may have to be given back.
    if (!home.lock.try_lock()) return fail(Errc::try_again);
    taken = engine_.take_slots(std::span(slots, 1), nowait);
  } else {
    CpuStacks& stacks = engine_.stacks();
    const std::uint32_t limit = stacks.limit(stacks.make_ready(), heads_[size_class]);
    const auto wanted = std::clamp<std::size_t>(limit / 2, 1, kMostRefill);
    taken = engine_.take_slots(std::span(slots, wanted), nowait);
    home.lock.lock();
  }
  ShortLockGuard lock(home.lock, ShortLockGuard::Adopt{});
  if (!taken) return fail(taken.error());
  const Numbers hands(slots, *taken);
  Closed closed;
  Result<Zspage*> room = room_in(home, size_class, gfp, closed);
  std::size_t placed = 0;
  if (room) {
    placed = fill_cells(home, **room, hands, closed);
    // The next fullest too, but no new one: that would cost pages.
    while (placed < hands.size()) {
      Zspage* const next = fullest(home);
      if (next == nullptr) break;
      placed += fill_cells(home, *next, hands.subspan(placed), closed);
    }
    if (!nowait) grant(home, size_class, closed);
  }
  lock.unlock();
  close(closed);
  if (!nowait) clock_.count(zspages_.load(std::memory_order_relaxed));
  if (placed < hands.size()) engine_.give_slots(hands.subspan(placed));
  if (!room) return fail(room.error());
  for (std::size_t i = 1; i < placed; ++i) {
    if (engine_.keep(heads_[size_class], slots[i])) continue;
    give_back(size_class, hands.subspan(i, placed - i));
    break;
  }
  return slots[0];
}

// Puts slots that are in the caller's hands into free cells; how many found one.
std::size_t ZsmallocPool::fill_cells(Class& home, Zspage& zspage, Numbers slots,
                                     Closed& closed) noexcept {
  const std::size_t count = std::min<std::size_t>(slots.size(), zspage.free_cells());
  for (const std::uint32_t index : slots.first(count)) {
    const unsigned cell = zspage.take_cell(index);
    ObjectEngine::Slot& slot = engine_.slot(index);
    const std::uint64_t word = slot.load(std::memory_order_relaxed);
    // Relaxed: nobody looks at a cached slot without the class's lock, or by way of this CPU.
    slot.store(slot_word::make(Place(zspage.number(), cell, 0).bits(),
                               slot_word::generation_of(word), slot_word::kCached),
               std::memory_order_relaxed);
  }
  home.used.store(home.used.load(std::memory_order_relaxed) + static_cast<std::uint32_t>(count),
                  std::memory_order_relaxed);
  settle(home, zspage, closed);
  relist(home, zspage);  // upwards at once
  return count;
}

// The zspage to take from: the fullest, or a new one. Lets go of the lock around the page source,
// unless the request must not wait: then nothing below waits either.
Result<Zspage*> ZsmallocPool::room_in(Class& home, unsigned size_class, Gfp gfp,
                                      Closed& closed) noexcept {
  if (Zspage* partial = fullest(home)) return partial;
  if (has(gfp, Gfp::nowait)) {
    const Result<Zspage*> fresh = open(size_class, gfp);
    if (fresh) adopt(home, **fresh);
    return fresh;
  }
  home.lock.unlock();
  const Result<Zspage*> fresh = open(size_class, gfp);
  home.lock.lock();
  // While nobody held the lock, another thread may have made room.
  Zspage* const partial = fullest(home);
  if (fresh && partial != nullptr) closed.push(**fresh);
  if (partial != nullptr) return partial;
  if (fresh) adopt(home, **fresh);
  return fresh;
}

// ---------------------------------------------------------------- free, map

Status ZsmallocPool::free_slowly(Handle handle) noexcept {
  const Result<std::uint64_t> word = take_slowly(handle);
  if (!word) return fail(word.error());
  return count_and_give_back(handle, *word);
}

// What is left of a free once the slot is the caller's.
Status ZsmallocPool::count_and_give_back(Handle handle, std::uint64_t word) noexcept {
  const Place place(word);
  const ZspageBase base = base_of(place.zspage());
  const std::uint32_t index = handle_bits::index(handle);
  engine_.stacks().count_free(base.size_bytes() - place.slack_bytes());
  if (keeps(base, handle) && engine_.keep(heads_[base.size_class()], index)) return {};
  return give_back(base.size_class(), index);
}

Result<std::span<std::byte>> ZsmallocPool::map_slowly(Handle handle) noexcept {
  const Result<std::uint64_t> word = pin_slowly(handle);
  if (!word) return fail(word.error());
  return bytes_of(*word);
}

// One object, and some of those that this CPU has kept, if it was for want of room that it comes here.
Status ZsmallocPool::give_back(unsigned size_class, std::uint32_t index) noexcept {
  std::uint32_t slots[kMostRefill + 1];
  std::size_t count = 0;
  bool wants_room = false;
  slots[count++] = index;
  const Place place(engine_.slot(index).load(std::memory_order_relaxed));
  if (base_of(place.zspage()).keeps()) {
    CpuStacks& stacks = engine_.stacks();
    const std::size_t head = heads_[size_class];
    const std::uint32_t limit = stacks.limit(stacks.make_ready(), head);
    while (count <= std::min<std::size_t>(limit / 2, kMostRefill)) {
      const std::uint32_t kept = engine_.find_kept(head);
      if (kept == ObjectEngine::kNoSlot) break;
      slots[count++] = kept;
    }
    wants_room = limit < capacities_[size_class];
  }
  give_back(size_class, Numbers(slots, count), wants_room);
  return {};
}

// With room on this CPU for others to come, if it wants that. Returns the pages that this freed.
std::size_t ZsmallocPool::give_back(unsigned size_class, Numbers slots, bool wants_room) noexcept {
  Class& home = classes_[size_class];
  Closed closed;
  {
    ShortLockGuard lock(home.lock);
    for (const std::uint32_t slot : slots) take_out(home, slot, closed);
    if (is_overgranted(home)) {
      withdraw(home, size_class, closed);
    } else if (wants_room) {
      grant(home, size_class, closed);
    }
  }
  engine_.give_slots(slots);
  return close(closed);
}

// ---------------------------------------------------------------- what CPUs may keep

// Some more room on this CPU, within what the class allows. Where other CPUs have it all, it is shared
// out anew once one has much more than this: threads move, and what they kept stays behind.
void ZsmallocPool::grant(Class& home, unsigned size_class, Closed& closed) noexcept {
  CpuStacks& stacks = engine_.stacks();
  const unsigned cpu = stacks.make_ready();
  const std::size_t head = heads_[size_class];
  const std::uint32_t allowed =
      std::min<std::uint32_t>(home.used.load(std::memory_order_relaxed) / kKeptShare, 0xffff);
  if (home.granted >= allowed) {
    if (home.evictions != 0 || !is_outdone(home, cpu, head)) return;
    withdraw(home, size_class, closed);
  }
  const std::uint32_t limit = stacks.limit(cpu, head);
  if (limit >= capacities_[size_class] || home.granted >= allowed) return;
  const std::uint32_t more = std::min(
      {capacities_[size_class] - limit, allowed - home.granted, std::max<std::uint32_t>(limit, 2)});
  stacks.set_limit(cpu, head, limit + more);
  home.granted = static_cast<std::uint16_t>(home.granted + more);
}

// Some CPU has more than four times the room of this one, and enough to be worth taking. Two CPUs at
// work double from nothing side by side after that, so neither outdoes the other again.
bool ZsmallocPool::is_outdone(const Class& home, unsigned cpu, std::size_t head) const noexcept {
  const CpuStacks& stacks = engine_.stacks();
  const std::uint32_t least = std::max<std::uint32_t>(stacks.limit(cpu, head) * 4, 7);
  if (home.granted <= least) return false;  // not even if one has it all
  for (unsigned other = 0; other < stacks.cpus(); ++other) {
    if (stacks.limit(other, head) > least) return true;
  }
  return false;
}

// So few in use that CPUs might keep them all: then no free would come here any more, and the pages of
// a class without live objects would stay. A shrink in progress counts pages, and looks by itself.
bool ZsmallocPool::is_overgranted(const Class& home) const noexcept {
  return home.evictions == 0 && home.granted != 0 &&
         MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_never_withdraws,
                      home.used.load(std::memory_order_relaxed) <
                          std::uint32_t{home.granted} * kWithdrawShare,
                      false);
}

// Takes back all that CPUs keep of a class, and their room for it. Returns how many objects.
std::size_t ZsmallocPool::withdraw(Class& home, unsigned size_class, Closed& closed) noexcept {
  if (home.granted == 0) return 0;
  CpuStacks& stacks = engine_.stacks();
  std::size_t withdrawn = 0;
  for (unsigned cpu = 0; cpu < stacks.cpus(); ++cpu) {
    if (stacks.limit(cpu, heads_[size_class]) == 0) continue;
    MMKIT_MUTATE(
        MMKIT_MUTANT_zsmalloc_drains_before_limit, stacks.set_limit(cpu, heads_[size_class], 0);, )
    std::uint32_t slots[CpuStacks::kMostNumbers];
    const unsigned count = stacks.drain(cpu, heads_[size_class], slots);
    MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_drains_before_limit, , detail::hold_window_open();
                 stacks.set_limit(cpu, heads_[size_class], 0);)
    for (unsigned i = 0; i < count; ++i) {
      --slots[i];  // a number is a slot and one
      detail::tsan_acquire(&engine_.slot(slots[i]));
      take_out(home, slots[i], closed);
    }
    engine_.give_slots(Numbers(slots, count));
    withdrawn += count;
  }
  home.granted = 0;
  return withdrawn;
}

// Of every class. Returns the pages that this freed.
std::size_t ZsmallocPool::withdraw_all(std::size_t* slots) noexcept {
  std::size_t freed = 0;
  for (unsigned c = 0; c < sizes_.count(); ++c) {
    Closed closed;
    {
      ShortLockGuard lock(classes_[c].lock);
      *slots += withdraw(classes_[c], c, closed);
    }
    freed += close(closed);
  }
  return freed;
}

// ---------------------------------------------------------------- use

void ZsmallocPool::touch(Handle handle) noexcept {
  const std::uint64_t word = find_live(handle);
  if (word != 0 && clock_.mark(ages_[Place(word).zspage()])) {
    clock_.count(zspages_.load(std::memory_order_relaxed));
  }
}

}  // namespace mmkit
