// SPDX-License-Identifier: MIT
//
// z3fold's compaction: what is moved, when, and where to.
#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/zpool/z3fold.hpp>

#include "zpool/z3fold_internal.hpp"

namespace mmkit {

bool Z3foldPool::has_work(const ChunkedPage& page) const noexcept {
  if (!page.is_open() || page.is_evicted || page.empty() || page.is_whole()) return false;
  return page.objects() == 1 || page.can_slide();
}

// ---------------------------------------------------------------- the queue

PageRun Z3foldPool::defer(PageIndex index) noexcept {
  if (pages_[index].is_deferred || !has_work(pages_[index])) return {};
  PageRun run;
  if (deferred_count_ == kMostDeferred) {
    const PageIndex oldest = pop_deferred(0);
    if (lone_objects_abound()) run = compact_around(oldest);
  }
  if (has_work(pages_[index])) {  // it may have got an object just now, or lost its last
    pages_[index].is_deferred = 1;
    deferred_[deferred_count_++] = index;
  }
  return run;
}

// Whether to move lone objects. From many until few: in between, what comes next fills their pages
// at no cost.
bool Z3foldPool::lone_objects_abound() noexcept {
  const std::size_t lone = room_.lone_pages();
  const std::size_t pages_per_lone = is_compacting_ ? kPagesPerLoneAtLast : kPagesPerLoneAtFirst;
  is_compacting_ = lone * pages_per_lone > total_pages();
  return is_compacting_;
}

PageIndex Z3foldPool::pop_deferred(std::size_t at) noexcept {
  const PageIndex index = deferred_[at];
  std::copy(deferred_ + at + 1, deferred_ + deferred_count_, deferred_ + at);
  --deferred_count_;
  pages_[index].is_deferred = 0;
  return index;
}

// Does the work of one page only if that gives the room: an allocation that fails has moved nothing.
PageIndex Z3foldPool::compact_for(std::size_t size_bytes) noexcept {
  const unsigned needed = ChunkedPage::chunks_for(size_bytes);
  for (std::size_t at = 0; at < deferred_count_; ++at) {
    const PageIndex index = deferred_[at];
    const ChunkedPage& page = pages_[index];
    if (!has_work(page)) continue;
    if (page.is_lone() && move_lone_object(index)) return pop_deferred(at);
    if (!page.can_slide() || ChunkedPage::needs_whole_page(size_bytes)) continue;
    if (page.room_after_slide() >= needed && slide_middle(index)) return pop_deferred(at);
  }
  return kNoPage;
}

// A lone object goes where it fits; else its page takes in another. The run of the page that was
// emptied is for the caller to give back.
PageRun Z3foldPool::compact_around(PageIndex index) noexcept {
  if (!has_work(pages_[index])) return {};
  if (compact_page(index)) return retire(index);
  delist(index);  // it is no answer itself
  const PageIndex source = room_.lone_of_at_most(pages_[index].free_chunks());
  enlist(index);
  if (source == kNoPage || !move_lone_object(source, index)) return {};
  return retire(source);
}

bool Z3foldPool::compact_page(PageIndex index) noexcept {
  const ChunkedPage& page = pages_[index];
  if (!has_work(page)) return false;
  if (page.is_lone() && move_lone_object(index)) return true;
  slide_middle(index);
  return false;
}

// ---------------------------------------------------------------- moves

bool Z3foldPool::slide_middle(PageIndex index) noexcept {
  ChunkedPage& page = pages_[index];
  if (!has_work(page) || !page.can_slide()) return false;
  const std::uint32_t slot = pages_.slot(index, ChunkedPage::kMiddle);
  if (!handles_.begin_move(slot)) return false;  // mapped
  delist(index);
  const std::byte* const from = page.place(ChunkedPage::kMiddle);
  const std::size_t size_bytes = page.size_bytes[ChunkedPage::kMiddle];
  Buddy buddy = ChunkedPage::kMiddle;
  if (page.objects() == 1) {
    buddy = ChunkedPage::kFirst;
    page.take_out(ChunkedPage::kMiddle);
    page.put(buddy, size_bytes);
    pages_.slot(index, buddy) = slot;
  } else {
    page.start_middle = static_cast<std::uint8_t>(page.best_start_middle());
  }
  std::memmove(page.place(buddy), from, size_bytes);
  handles_.end_move(slot, Place(index, buddy).word());
  ++moved_;
  enlist(index);
  return true;
}

bool Z3foldPool::move_lone_object(PageIndex index) noexcept {
  const ChunkedPage& page = pages_[index];
  delist(index);  // it is no answer itself
  const PageIndex target = room_.best(page.chunks(page.lone_buddy()));
  enlist(index);
  return target != kNoPage && move_lone_object(index, target);
}

bool Z3foldPool::move_lone_object(PageIndex source_index, PageIndex target_index) noexcept {
  ChunkedPage& source = pages_[source_index];
  const Buddy buddy = source.lone_buddy();
  const std::uint32_t slot = pages_.slot(source_index, buddy);
  if (!handles_.begin_move(slot)) return false;  // mapped
  delist(source_index);
  delist(target_index);
  ChunkedPage& target = pages_[target_index];
  const std::size_t size_bytes = source.size_bytes[buddy];
  const Buddy new_buddy = target.choose(source.chunks(buddy));
  target.put(new_buddy, size_bytes);
  pages_.slot(target_index, new_buddy) = slot;
  std::memcpy(target.place(new_buddy), source.place(buddy), size_bytes);
  handles_.end_move(slot, Place(target_index, new_buddy).word());
  source.take_out(buddy);
  ++moved_;
  enlist(target_index);
  return true;
}

// ---------------------------------------------------------------- all of it

// Does this work on every page, some at a time, and gives back the pages that it empties; how many.
std::size_t Z3foldPool::visit_pages(bool (Z3foldPool::*work)(PageIndex) noexcept) noexcept {
  constexpr PageIndex kPagesAtOnce = 32;
  std::size_t freed = 0;
  for (PageIndex begin = 0;; begin += kPagesAtOnce) {
    PageRun runs[kPagesAtOnce];
    std::size_t count = 0;
    ShortLockGuard lock(mutex_);
    if (begin >= pages_.size()) return freed;
    for (PageIndex index = begin; index < begin + kPagesAtOnce; ++index) {
      if (has_work(pages_[index]) && (this->*work)(index) && pages_[index].empty()) {
        runs[count++] = retire(index);
      }
    }
    lock.unlock();
    for (std::size_t i = 0; i < count; ++i) source_.free_pages(runs[i]);
    freed += count;
  }
}

Result<std::size_t> Z3foldPool::compact() noexcept {
  // First all that makes room, so that then nothing is left behind for want of it.
  std::size_t freed = visit_pages(&Z3foldPool::slide_middle);
  freed += visit_pages(&Z3foldPool::compact_page);
  PageRun runs[kMostDeferred];
  std::size_t count = 0;
  ShortLockGuard lock(mutex_);
  while (deferred_count_ != 0) {
    const PageIndex index = pop_deferred(0);
    if (compact_page(index)) runs[count++] = retire(index);
  }
  lock.unlock();
  for (std::size_t i = 0; i < count; ++i) source_.free_pages(runs[i]);
  return freed + count;
}

}  // namespace mmkit
