// SPDX-License-Identifier: MIT
#include <mmkit/zpool/object_engine.hpp>

#include <algorithm>
#include <mmkit/base/mutant.hpp>
#include <new>

namespace mmkit {

using namespace slot_word;

Status ObjectEngine::start(std::size_t record_bytes) noexcept {
  if (Status made = stacks_.create(record_bytes); !made) return made;
  homes_count_ = std::min(stacks_.cpus(), kMostHomes);
  homes_.reset(new (std::nothrow) Home[homes_count_]);
  if (homes_ == nullptr) return fail(Errc::out_of_memory);
  ShortLockGuard lock(lock_);
  return grow(home_here());
}

// ---------------------------------------------------------------- free slots

// From this CPU's stack.
std::size_t ObjectEngine::pop_here(std::span<std::uint32_t> out) noexcept {
  std::size_t taken = 0;
  while (taken < out.size()) {
    const std::uint32_t index = find_kept(kFreeSlots);
    if (index == kNoSlot) break;
    out[taken++] = index;
  }
  return taken;
}

std::size_t ObjectEngine::take_listed(Home& home, std::span<std::uint32_t> out) noexcept {
  std::size_t taken = 0;
  while (taken < out.size() && home.count != 0) {
    const std::uint32_t index = home.first;
    // Relaxed, here and in list(): under the lock.
    home.first =
        static_cast<std::uint32_t>(place_of(slot(index).load(std::memory_order_relaxed))) - 1;
    --home.count;
    --listed_;
    out[taken++] = index;
  }
  return taken;
}

// Into the list of its home.
void ObjectEngine::list(std::uint32_t index) noexcept {
  Home& home = homes_[home_of_chunk_[index / kChunkSlots]];
  const std::uint64_t next = (std::uint64_t{home.first} + 1) & 0xffffffff;
  const std::uint64_t generation = generation_of(slot(index).load(std::memory_order_relaxed));
  slot(index).store(make(next, generation, kFree), std::memory_order_relaxed);
  home.first = index;
  ++home.count;
  ++listed_;
}

// A chunk more, at home there.
Status ObjectEngine::grow(unsigned home) noexcept {
  const std::uint32_t base = slots_.size();
  const std::uint32_t chunk = base / kChunkSlots;
  if (Status grown = home_of_chunk_.grow(chunk + 1); !grown) return grown;
  if (Status grown = slots_.grow(base + kChunkSlots); !grown) return grown;
  home_of_chunk_[chunk] = static_cast<std::uint8_t>(home);
  for (std::uint32_t i = kChunkSlots; i-- != 0;) {
    slot(base + i).store(make(0, /*generation=*/1, kFree), std::memory_order_relaxed);
    list(base + i);
  }
  return {};
}

Result<std::size_t> ObjectEngine::take_slots(std::span<std::uint32_t> out, bool nowait) noexcept {
  if (!nowait || stacks_.ready_now()) {
    if (const std::size_t taken = pop_here(out); taken != 0) return taken;
  }
  return take_slots_slowly(out, nowait);
}

// In this order: its own home, a home that has many, new slots, any home.
Result<std::size_t> ObjectEngine::take_slots_slowly(std::span<std::uint32_t> out,
                                                    bool nowait) noexcept {
  constexpr std::size_t kForTheStack = CpuStacks::kMostNumbers / 2;
  std::uint32_t spare[kForTheStack];
  std::size_t spares = 0;
  if (nowait) {
    if (!lock_.try_lock()) return fail(Errc::try_again);
  } else {
    lock_.lock();
  }
  ShortLockGuard lock(lock_, ShortLockGuard::Adopt{});
  Home& mine = homes_[home_here()];
  std::size_t taken = take_listed(mine, out);
  for (unsigned h = 0; taken == 0 && h < homes_count_; ++h) {
    if (homes_[h].count > kManyFree || nowait) taken = take_listed(homes_[h], out);
  }
  if (!nowait && (taken == 0 || listed_ < kKeptFree)) {
    // A failure to keep some ahead is none while there is one.
    static_cast<void>(grow(home_here()));
    if (taken == 0) taken = take_listed(mine, out);
  }
  for (unsigned h = 0; taken == 0 && h < homes_count_; ++h) taken = take_listed(homes_[h], out);
  if (taken == 0) return fail(Errc::out_of_memory);
  if (!nowait && listed_ > kKeptFree + kForTheStack) spares = take_listed(mine, spare);
  lock.unlock();
  for (std::size_t i = 0; i < spares; ++i) {
    if (keep(kFreeSlots, spare[i])) continue;
    give_slots(std::span(spare).subspan(i, spares - i));
    break;
  }
  return taken;
}

// A slot without a generation left is never used again.
bool ObjectEngine::retire_if_used_up(std::uint32_t index) noexcept {
  const std::uint64_t word = slot(index).load(std::memory_order_relaxed);
  if (MMKIT_MUTATE(MMKIT_MUTANT_engine_generation_not_retired, generation_of(word) != 0, true)) {
    return false;
  }
  slot(index).store(make(0, 0, kFree), std::memory_order_relaxed);
  retired_.fetch_add(1, std::memory_order_relaxed);  // a number on its own
  return true;
}

void ObjectEngine::give_slots(std::span<const std::uint32_t> slots) noexcept {
  constexpr std::size_t kBatch = CpuStacks::kMostNumbers;
  while (!slots.empty()) {
    std::uint32_t elsewhere[kBatch + kBatch / 2];
    std::size_t count = 0;
    bool is_full = false;
    const unsigned home = home_here();
    const auto batch = slots.first(std::min(slots.size(), kBatch));
    slots = slots.subspan(batch.size());
    for (const std::uint32_t index : batch) {
      if (retire_if_used_up(index)) continue;
      const std::uint64_t word = slot(index).load(std::memory_order_relaxed);
      slot(index).store(make(0, generation_of(word), kFree), std::memory_order_relaxed);
      if (home_of_chunk_[index / kChunkSlots] == home && !is_full) {
        if (keep(kFreeSlots, index)) continue;
        is_full = true;
      }
      elsewhere[count++] = index;
    }
    if (count == 0) continue;
    if (is_full) {
      // Some of what the stack holds goes along, so that the next ones find room.
      count += pop_here(
          std::span(elsewhere).subspan(count, std::min(kBatch / 2, std::size(elsewhere) - count)));
      const unsigned cpu = stacks_.make_ready();
      if (stacks_.limit(cpu, kFreeSlots) == 0) {
        stacks_.set_limit(cpu, kFreeSlots, CpuStacks::kMostNumbers);
      }
    }
    ShortLockGuard lock(lock_);
    for (std::size_t i = 0; i < count; ++i) list(elsewhere[i]);
  }
}

// ---------------------------------------------------------------- the whole

Handle ObjectEngine::first_pinned() const noexcept {
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    if (state_of(slot(i).load(std::memory_order_relaxed)) > kLive) return handle_of(i);
  }
  return Handle::none;
}

std::size_t ObjectEngine::metadata_bytes() const noexcept {
  return slots_.bytes() + home_of_chunk_.bytes() + homes_count_ * sizeof(Home) +
         stacks_.metadata_bytes();
}

bool ObjectEngine::validate(const CpuStacks::Stopped& stopped, std::size_t placed) noexcept {
  ShortLockGuard lock(lock_);
  std::size_t occupied = 0, free = 0, retired = 0, kept = 0, listed = 0;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    const std::uint64_t word = slot(i).load(std::memory_order_relaxed);
    const std::uint64_t state = state_of(word);
    if (state >= kLive) {
      ++occupied;
      if (generation_of(word) == 0) return false;
    } else if (state == kCached) {
      ++occupied;
    } else if (state == kBusy) {
      return false;  // moves are stopped
    } else {
      ++(generation_of(word) == 0 ? retired : free);
    }
  }
  for (unsigned cpu = 0; cpu < stacks_.cpus(); ++cpu) {
    for (const std::uint32_t number : stopped.numbers(cpu, kFreeSlots)) {
      if (number == 0 || number > slots_.size()) return false;
      if (state_of(slot(number - 1).load(std::memory_order_relaxed)) != kFree) return false;
      ++kept;
    }
  }
  for (unsigned h = 0; h < homes_count_; ++h) {
    std::uint32_t at = homes_[h].first;
    for (std::uint32_t n = 0; n < homes_[h].count; ++n, ++listed) {
      if (at >= slots_.size() || home_of_chunk_[at / kChunkSlots] != h) return false;
      const std::uint64_t word = slot(at).load(std::memory_order_relaxed);
      if (state_of(word) != kFree || generation_of(word) == 0) return false;
      at = static_cast<std::uint32_t>(place_of(word)) - 1;
    }
    if (at != kNoSlot) return false;
  }
  // What other threads hold in their hands is free, or cached, and found nowhere.
  return listed == listed_ && kept + listed <= free && occupied >= placed &&
         retired >= retired_.load(std::memory_order_relaxed);
}

void ObjectEngine::lock_for_fork() noexcept {
  lock_.lock_for_fork();
  pins_.lock_for_fork();
}
void ObjectEngine::unlock_after_fork() noexcept {
  pins_.unlock_after_fork();
  lock_.unlock();
}

}  // namespace mmkit
