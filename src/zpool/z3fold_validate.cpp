// SPDX-License-Identifier: MIT
//
// z3fold seen from outside: statistics, validation, and what is said of misuse.
#include <mmkit/zpool/z3fold.hpp>

#include <algorithm>

#include "zpool/z3fold_internal.hpp"

namespace mmkit {

// ---------------------------------------------------------------- statistics

std::size_t Z3foldPool::metadata_bytes() const noexcept {
  return sizeof(*this) + name_bytes_ + 1 + handles_.metadata_bytes() + pages_.bytes() +
         room_.bytes();
}

ZpoolStats Z3foldPool::stats() const noexcept {
  ShortLockGuard lock(mutex_);
  ZpoolStats stats{.objects = allocations_ - frees_,
                   .payload_bytes = payload_bytes_,
                   .pages = page_count_.load(std::memory_order_relaxed),
                   .metadata_bytes = metadata_bytes(),
                   .compactable_pages = 0,
                   .allocations = allocations_,
                   .frees = frees_,
                   .failures = failures_.load(std::memory_order_relaxed),
                   .evicted = evicted_,
                   .moved = moved_};
  const RoomLists::Census census = room_.census();
  lock.unlock();
  stats.compactable_pages = census.movable_pages();  // takes longer than a lock is held for
  return stats;
}

// ---------------------------------------------------------------- misuse

// Misuse or a leak, told without the lock: a handler may look at the pool.
void Z3foldPool::report_leftovers() const noexcept {
  const std::size_t objects = stats().objects;
  if (objects == 0) return;
  const std::string_view name(name_.get(), name_bytes_);
  // In the child of a fork a mapping may be that of a thread which is not there.
  const Handle mapped = inherited_ ? Handle::none : handles_.first_pinned();
  if (mapped != Handle::none) {
    report_failure({kType, name, "pool destroyed with live mapping", handle_bits::raw(mapped)});
  }
  report_leak({kType, name, "objects left at destruction", objects});
}

void Z3foldPool::report_not_mapped(Handle handle) const noexcept {
  report_failure(
      {kType, {name_.get(), name_bytes_}, "handle not mapped", handle_bits::raw(handle)});
}

// ---------------------------------------------------------------- validation

Status Z3foldPool::validate() const noexcept {
  const Status broken = fail(Errc::bad_format);
  ShortLockGuard lock(mutex_);
  std::size_t used = 0, objects = 0, payload = 0, in_flight = 0, with_room = 0, deferred = 0;
  for (PageIndex index = 0; index < pages_.size(); ++index) {
    const ChunkedPage& page = pages_[index];
    deferred += page.is_deferred;
    if (!page.is_open()) continue;
    if (Status sound = validate_page(index); !sound) return sound;
    ++used;
    in_flight += page.is_evicted;
    if (RoomLists::is_listed(page)) ++with_room;
    objects += page.objects();
    for (const Buddy buddy : ChunkedPage::kInOrder) payload += page.size_bytes[buddy];
  }
  // 2, 3
  if (!room_.validate(pages_, with_room)) return broken;
  if (used < in_flight || !lru_.validate(pages_, used - in_flight)) return broken;
  if (!evictions_.validate(in_flight) || evictions_.size() != in_flight) return broken;
  // 5: as many as say so, and each of them says so
  if (deferred != deferred_count_ || deferred_count_ > kMostDeferred) return broken;
  const bool all_know = std::all_of(deferred_, deferred_ + deferred_count_, [this](PageIndex at) {
    return at < pages_.size() && pages_[at].is_deferred != 0;
  });
  if (!all_know) return broken;
  // 6
  if (used != page_count_.load(std::memory_order_relaxed) || !pages_.validate()) return broken;
  if (used + pages_.free_count() > pages_.size()) return broken;
  if (objects != allocations_ - frees_ || payload != payload_bytes_) return broken;
  return handles_.validate(objects) ? Status{} : broken;
}

// Invariants 1, 2, 4 and 7 of one page.
Status Z3foldPool::validate_page(PageIndex index) const noexcept {
  const Status broken = fail(Errc::bad_format);
  const ChunkedPage& page = pages_[index];
  if (page.empty() && page.is_evicted == 0) return broken;
  if (!page.is_sound()) return broken;
  const bool has_room = page.is_evicted == 0 && !page.is_whole() && RoomLists::has_room(page);
  if (RoomLists::is_listed(page) != has_room) return broken;
  if (!red_zone_is_whole(index)) return broken;
  for (const Buddy buddy : ChunkedPage::kInOrder) {
    if (!page.holds(buddy)) continue;
    const std::uint32_t slot = pages_.slot(index, buddy);
    if (!handles_.is_live_slot(slot)) return broken;
    if (handles_.place_of_slot(slot) != Place(index, buddy).word()) return broken;
  }
  return {};
}

bool Z3foldPool::red_zone_is_whole(PageIndex index) const noexcept {
  if constexpr (!kZ3foldRedZones) return true;
  const ChunkedPage& page = pages_[index];
  if (page.is_whole() || page.empty()) return true;  // an empty one may have been whole
  return std::all_of(page.data(), page.data() + ChunkedPage::kRedZoneBytes,
                     [](std::byte b) { return b == std::byte{kZ3foldRedZoneByte}; });
}

}  // namespace mmkit
