// SPDX-License-Identifier: MIT
//
// How freed pages go back to the operating system: in batches, outside the lock of the table.
//
//   under mutex_     collect: the oldest runs leave the lists; their frames are departing, nobody's
//   under release_   sort, join neighbours, one system call a piece
//   under mutex_     settle: free, or retained again when the system would not take them
#include <algorithm>

#include "page/sim_page_state.hpp"

namespace mmkit {

using page_detail::DepartingRuns;
using page_detail::FrameIndex;
using page_detail::FrameSpan;
using page_detail::make_resident;
using page_detail::RunKind;

namespace {

// After the system refused to take pages back, this many are freed at least before it is asked
// again.
constexpr std::size_t kShortestRetryPages = 64;

}  // namespace

// A run that is longer than all that may be retained goes back by itself, and nothing else for it.
void SimPageAllocator::State::free_long(FrameIndex first, FrameIndex pages) noexcept {
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  const RunKind kind = table_.kind_of(first, pages);
  if (kind != RunKind::held) {
    lock.unlock();
    release.unlock();
    refuse(kind, first);
  }
  table_.depart(first, pages);
  MMKIT_AUDIT(sound());
  lock.unlock();
  detail::poison(address(first), std::size_t{pages} * kPageSize);
  if (!give_back(FrameSpan{first, pages})) return;
  // What the system refused earlier may be due again.
  lock.lock();
  const bool trims = should_trim(pages);
  lock.unlock();
  release.unlock();
  if (trims) trim();
}

// ---------------------------------------------------------------- back to the operating system

bool SimPageAllocator::State::should_trim(std::size_t freed_pages) noexcept {
  if (table_.counts().retained_pages <= retain_pages_) return false;
  retry_in_pages_ -= std::min(retry_in_pages_, freed_pages);
  if (trimming_ || retry_in_pages_ != 0) return false;
  trimming_ = true;
  return true;
}

void SimPageAllocator::State::trim() noexcept {
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  while (table_.counts().retained_pages > retain_pages_ && retry_in_pages_ == 0) {
    const DepartingRuns runs = table_.collect_oldest(retain_pages_ / 2);
    MMKIT_AUDIT(sound());
    lock.unlock();
    give_back(runs);
    lock.lock();
  }
  trimming_ = false;
}

std::size_t SimPageAllocator::State::give_back(DepartingRuns runs) noexcept {
  std::size_t given = 0;
  runs.sort();
  while (!runs.empty()) {
    const FrameSpan span = runs.pop_joined();
    if (give_back(span)) given += span.pages;
  }
  return given;
}

bool SimPageAllocator::State::give_back(FrameSpan span) noexcept {
#ifdef MMKIT_MUTANT_page_free_before_discard
  {
    ShortLockGuard early(mutex_);
    table_.settle_free(span);
  }
  return memory_.discard(address(span.first), std::size_t{span.pages} * kPageSize).has_value();
#endif
  const bool taken =
      memory_.discard(address(span.first), std::size_t{span.pages} * kPageSize).has_value();
  // What stays is retained memory again, which must be present.
  if (!taken) make_resident(address(span.first), span.pages);
  ShortLockGuard lock(mutex_);
  ++release_calls_;
  if (taken) {
    table_.settle_free(span);
  } else {
    table_.settle_retained(span);
    ++release_failures_;
    retry_in_pages_ = std::max(retain_pages_ / 2, kShortestRetryPages);
  }
  MMKIT_AUDIT(sound());
  return taken;
}

std::size_t SimPageAllocator::State::release() noexcept {
  check_not_forked();
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  retry_in_pages_ = 0;
  const DepartingRuns runs = table_.collect_oldest(0);
  lock.unlock();
  return give_back(runs);
}

}  // namespace mmkit
