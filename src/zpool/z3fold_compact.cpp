// SPDX-License-Identifier: MIT
//
// z3fold's compaction: what is moved, when, and where to.
#include <mmkit/zpool/z3fold.hpp>

#include <algorithm>
#include <cstring>
#include <mmkit/base/mutant.hpp>

#include "zpool/z3fold_internal.hpp"

namespace mmkit {

bool Z3foldPool::has_work(const ChunkedPage& page) const noexcept {
  if (!page.is_open() || page.is_evicted || page.empty() || page.is_whole()) return false;
  return page.objects() == 1 || page.can_slide();
}

// ---------------------------------------------------------------- the queue

PageRun Z3foldPool::defer(PageIndex index) noexcept {
  const bool is_deferred =
      MMKIT_MUTATE(MMKIT_MUTANT_z3fold_deferred_twice, pages_[index].is_deferred != 0, false);
  if (is_deferred || !has_work(pages_[index])) return {};
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
  const PageIndex source = room_.lone_of_at_most(pages_, pages_[index].free_chunks(), index);
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
  if (!MMKIT_MUTATE(MMKIT_MUTANT_z3fold_slides_what_is_mapped, handles_.begin_move(slot), true)) {
    return false;  // mapped
  }
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
  const PageIndex target = room_.best_besides(pages_, page.chunks(page.lone_buddy()), index);
  return target != kNoPage && move_lone_object(index, target);
}

bool Z3foldPool::move_lone_object(PageIndex source_index, PageIndex target_index) noexcept {
  ChunkedPage& source = pages_[source_index];
  const Buddy buddy = source.lone_buddy();
  const std::uint32_t slot = pages_.slot(source_index, buddy);
  if (!handles_.begin_move(slot)) return false;  // mapped
  delist(source_index);
  MMKIT_MUTATE(MMKIT_MUTANT_z3fold_page_in_two_lists, delist(target_index);, )
  ChunkedPage& target = pages_[target_index];
  const std::size_t size_bytes = source.size_bytes[buddy];
  const Buddy new_buddy = target.choose(source.chunks(buddy));
  target.put(new_buddy, size_bytes);
  pages_.slot(target_index, new_buddy) = slot;
  MMKIT_MUTATE(MMKIT_MUTANT_z3fold_publishes_before_the_copy, ,
               handles_.end_move(slot, Place(target_index, new_buddy).word());
               detail::hold_window_open();)
  std::memcpy(target.place(new_buddy), source.place(buddy), size_bytes);
  const Place moved = MMKIT_MUTATE(MMKIT_MUTANT_z3fold_move_not_published,
                                   Place(target_index, new_buddy), Place(source_index, buddy));
  MMKIT_MUTATE(MMKIT_MUTANT_z3fold_publishes_before_the_copy, handles_.end_move(slot, moved.word());
               , static_cast<void>(moved);)
  source.take_out(buddy);
  ++moved_;
  enlist(target_index);
  return true;
}

// ---------------------------------------------------------------- all of it

// Of every page, some at a time.
void Z3foldPool::slide_all() noexcept {
  constexpr PageIndex kPagesAtOnce = 64;
  for (PageIndex begin = 0;; begin += kPagesAtOnce) {
    ShortLockGuard lock(mutex_);
    if (begin >= pages_.size()) return;
    for (PageIndex index = begin; index < begin + kPagesAtOnce; ++index) slide_middle(index);
  }
}

// A page whose lone object leaves so much room and can be moved, and is: then kept for the caller to
// retire. kNoPage: there is none. Where one does not fit, none of its size does.
PageIndex Z3foldPool::move_lone_object_leaving(unsigned room) noexcept {
  for (unsigned cpu = 0; cpu < room_.cpu_end(); ++cpu) {
    PageIndex at = room_.first_lone(cpu, room);
    while (at != kNoPage) {
      const PageIndex next = pages_[at].fit.next;
      if (!handles_.is_pinned_slot(pages_.slot(at, pages_[at].lone_buddy()))) {
        if (move_lone_object(at)) return at;
        if (!handles_.is_pinned_slot(pages_.slot(at, pages_[at].lone_buddy()))) return kNoPage;
      }
      at = next;
    }
  }
  return kNoPage;
}

// The largest objects first, so that small ones do not take the room that only those need.
std::size_t Z3foldPool::move_all_lone_objects() noexcept {
  constexpr std::size_t kMovesAtOnce = 16;
  std::size_t freed = 0;
  for (unsigned room = 1; room < ChunkedPage::kUsableChunks;) {
    PageRun runs[kMovesAtOnce];
    std::size_t count = 0;
    ShortLockGuard lock(mutex_);
    while (count < kMovesAtOnce && room < ChunkedPage::kUsableChunks) {
      const PageIndex emptied = move_lone_object_leaving(room);
      if (emptied == kNoPage) {
        ++room;
      } else {
        runs[count++] = retire(emptied);
      }
    }
    lock.unlock();
    for (std::size_t i = 0; i < count; ++i) source_.free_pages(runs[i]);
    freed += count;
  }
  return freed;
}

Result<std::size_t> Z3foldPool::compact() noexcept {
  // First all that makes room, so that then nothing is left behind for want of it.
  MMKIT_MUTATE(MMKIT_MUTANT_z3fold_compact_slides_nothing_first, slide_all();, )
  const std::size_t freed = move_all_lone_objects();
  // What was noted is done, but for what is mapped: another free will note that.
  ShortLockGuard lock(mutex_);
  while (deferred_count_ != 0) pop_deferred(0);
  return freed;
}

}  // namespace mmkit
