// SPDX-License-Identifier: MIT
//
// ChunkedPage - what lies where in a page of up to three objects, and the table of such pages.
//
// It knows places and sizes, and nothing of handles, lists or memory. A page is described outside of
// itself and named by its index in the table: 32 bits instead of a pointer, which is what makes a
// description small. The part that every operation reads is half a cache line; the rest lies apart.
//
//   page   0        128                                                      4096
//         +--------+--------------+---------+--------------+-------+-----------+
//         |  red   | FIRST, grows |  free   | MIDDLE, from |  free | LAST, ends|   chunks of 64
//         |  zone  | upward       |         | start_middle |       | with page |   bytes: 2 + 62
//         +--------+--------------+---------+--------------+-------+-----------+
//
// An object of more than 3904 bytes has a page of its own and lies at its start: it is FIRST there,
// and told by its size.
// Units:      sizes in bytes; room, starts and ends in chunks of the page, the red zone counted
// Invariants: 1 objects do not overlap: FIRST ends before MIDDLE starts, MIDDLE ends before LAST does
//             start  2 an object of more than 3904 bytes is FIRST and alone
// Locking:    none: caller serialises. Who keeps an object from moving and ending, and has seen its
//             place in the slot of its handle, may ask where it lies without a lock
// Complexity: O(1)
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/growing_table.hpp>
#include <mmkit/page/page_source.hpp>

namespace mmkit {

/// Names a page in a ChunkedPageTable.
using PageIndex = std::uint32_t;
inline constexpr PageIndex kNoPage = 0xffffffff;

/// Neighbours in a list of pages (chunked_page_lists.hpp).
struct PageLinks {
  PageIndex prev = kNoPage;
  PageIndex next = kNoPage;
};

/// What is in one page.
class alignas(32) ChunkedPage {
 public:
  static constexpr std::size_t kChunkBytes = 64;
  static constexpr unsigned kPageChunks = kPageSize / kChunkBytes;
  static constexpr unsigned kRedZoneChunks = 2;  ///< what the header of the kernel's takes
  static constexpr unsigned kUsableChunks = kPageChunks - kRedZoneChunks;
  static constexpr unsigned kMaxChunks = kUsableChunks - 1;  ///< of an object that shares its page
  static constexpr std::size_t kMostSharedBytes = kMaxChunks * kChunkBytes;
  static constexpr std::size_t kRedZoneBytes = kRedZoneChunks * kChunkBytes;
  /// A gap beside MIDDLE that is worth a copy.
  static constexpr unsigned kWorthwhileGap = 3;

  enum Buddy : unsigned { kFirst, kMiddle, kLast };
  static constexpr unsigned kBuddies = 3;
  static constexpr Buddy kInOrder[kBuddies] = {kFirst, kMiddle, kLast};

  static constexpr unsigned chunks_for(std::size_t size_bytes) noexcept {
    return static_cast<unsigned>(divide_up(size_bytes, kChunkBytes));
  }
  static constexpr bool needs_whole_page(std::size_t size_bytes) noexcept {
    return size_bytes > kMostSharedBytes;
  }

  bool holds(Buddy buddy) const noexcept { return size_bytes[buddy] != 0; }
  bool empty() const noexcept { return !holds(kFirst) && !holds(kMiddle) && !holds(kLast); }
  /// Whether one object has all of the page, for want of room for a red zone beside it.
  bool is_whole() const noexcept { return needs_whole_page(size_bytes[kFirst]); }
  /// Whether there is one object, which another page may take.
  bool is_lone() const noexcept { return objects() == 1 && !is_whole(); }
  unsigned objects() const noexcept {
    return unsigned{holds(kFirst)} + unsigned{holds(kMiddle)} + unsigned{holds(kLast)};
  }
  /// Of a page with one object.
  Buddy lone_buddy() const noexcept {
    return holds(kFirst) ? kFirst : holds(kMiddle) ? kMiddle : kLast;
  }
  unsigned chunks(Buddy buddy) const noexcept { return chunks_for(size_bytes[buddy]); }

  /// The largest object that another place of this page takes; 0: none. Not of a whole page.
  unsigned free_chunks() const noexcept {
    if (!holds(kMiddle)) return kUsableChunks - chunks(kFirst) - chunks(kLast);
    const unsigned before = holds(kFirst) ? 0 : start_middle - kRedZoneChunks;
    const unsigned after = holds(kLast) ? 0 : kPageChunks - start_middle - chunks(kMiddle);
    return std::max(before, after);
  }
  /// The place that an object of at most free_chunks() takes: without MIDDLE the first that is not
  /// taken of FIRST, LAST, MIDDLE; beside MIDDLE, FIRST where it fits, else LAST.
  Buddy choose(unsigned chunks_needed) const noexcept {
    if (!holds(kMiddle)) return !holds(kFirst) ? kFirst : !holds(kLast) ? kLast : kMiddle;
    const bool fits_before =
        !holds(kFirst) && chunks_needed <= unsigned{start_middle} - kRedZoneChunks;
    return fits_before ? kFirst : kLast;
  }
  /// Puts an object into a place that is free. MIDDLE goes right behind what is FIRST by now.
  void put(Buddy buddy, std::size_t size) noexcept {
    if (buddy == kMiddle) start_middle = static_cast<std::uint8_t>(end_of_first());
    size_bytes[buddy] = static_cast<std::uint16_t>(size);
  }
  void take_out(Buddy buddy) noexcept { size_bytes[buddy] = 0; }

  /// Where MIDDLE would be slid to: against FIRST or LAST, if it has one of them beside it and the
  /// gap is worth it; to FIRST's place when it is alone. Else where it is. Of a page with MIDDLE.
  unsigned best_start_middle() const noexcept {
    if (holds(kFirst) && holds(kLast)) return start_middle;
    if (!holds(kFirst) && !holds(kLast)) return kRedZoneChunks;
    const unsigned best = holds(kFirst) ? end_of_first() : start_of_last() - chunks(kMiddle);
    const unsigned gap = holds(kFirst) ? start_middle - best : best - start_middle;
    return gap >= kWorthwhileGap ? best : start_middle;
  }
  /// Whether MIDDLE should be slid: also when it stays where it is and only becomes FIRST.
  bool can_slide() const noexcept {
    if (!holds(kMiddle)) return false;
    return objects() == 1 || best_start_middle() != start_middle;
  }

  /// The room that sliding MIDDLE makes, if it can be slid.
  unsigned room_after_slide() const noexcept {
    return kUsableChunks - chunks(kFirst) - chunks(kMiddle) - chunks(kLast);
  }

  /// The largest object that another place takes once MIDDLE was slid, where it can be. Not of a whole
  /// page.
  unsigned free_chunks_when_slid() const noexcept {
    return can_slide() ? room_after_slide() : free_chunks();
  }

  /// Invariants 1 and 2.
  bool is_sound() const noexcept {
    if (is_whole()) return objects() == 1 && size_bytes[kFirst] <= kPageSize;
    if (chunks(kFirst) + chunks(kLast) > kUsableChunks) return false;
    if (!holds(kMiddle)) return true;
    return start_middle >= end_of_first() && start_middle + chunks(kMiddle) <= start_of_last();
  }

  /// The first byte of a buddy's object.
  std::byte* place(Buddy buddy) const noexcept {
    switch (buddy) {
      case kFirst:
        return data() + (is_whole() ? 0 : kRedZoneBytes);
      case kMiddle:
        return data() + start_middle * kChunkBytes;
      default:
        return data() + start_of_last() * kChunkBytes;
    }
  }
  bool is_open() const noexcept { return frame != 0; }
  std::byte* data() const noexcept {
    return reinterpret_cast<std::byte*>(frame >> kFrameBits << kPageShift);
  }

  static constexpr unsigned kPageShift = log2_floor(kPageSize);
  static constexpr unsigned kFrameBits = 28;

  std::uint64_t frame = 0;  ///< number in virtual memory, and how far off its Pfn is; 0: none
  PageLinks fit, lru;
  std::uint16_t size_bytes[kBuddies] = {};  ///< as asked for; 0: no object
  std::uint8_t start_middle = 0;            ///< chunk where MIDDLE starts
  std::uint8_t is_deferred : 1 = 0;         ///< waits for compaction
  std::uint8_t is_evicted : 1 = 0;          ///< its objects are being evicted

 private:
  unsigned end_of_first() const noexcept { return kRedZoneChunks + chunks(kFirst); }
  unsigned start_of_last() const noexcept { return kPageChunks - chunks(kLast); }
};
static_assert(sizeof(ChunkedPage) == 32, "two to a cache line, and none in two");

/// The descriptions of a pool's pages: grows, and keeps its size.
class ChunkedPageTable {
 public:
  /// More pages than this have no names left: the bit above marks the head of a list.
  static constexpr std::size_t kMaxPages = std::size_t{1} << 31;

  ChunkedPage& operator[](PageIndex index) const noexcept {
    return chunk(index).page[index % kChunkPages];
  }
  /// The slot of the handle of a page's object.
  std::uint32_t& slot(PageIndex index, ChunkedPage::Buddy buddy) const noexcept {
    return chunk(index).rest[index % kChunkPages].slot[buddy];
  }

  /// Adds closed pages. Errors: out_of_memory.
  Status grow() noexcept {
    const std::size_t base = size();
    if (base + kChunkPages > kMaxPages) return fail(Errc::out_of_memory);
    if (const Result<Chunk*> added = chunks_.append(); !added) return fail(added.error());
    for (std::uint32_t i = kChunkPages; i-- != 0;) give_back(static_cast<PageIndex>(base + i));
    return {};
  }
  /// A closed page; kNoPage when there is none.
  PageIndex take() noexcept {
    const PageIndex index = first_free_;
    if (index == kNoPage) return kNoPage;
    first_free_ = (*this)[index].fit.next;
    (*this)[index].fit.next = kNoPage;
    --free_count_;
    return index;
  }
  void give_back(PageIndex index) noexcept {
    (*this)[index].fit.next = first_free_;
    first_free_ = index;
    ++free_count_;
  }

  /// Whether a page can be described that lies here and has this number: all that lie as far from
  /// their number as the first page did, give or take half a terabyte. The first is always.
  bool can_describe(const PageRun& run) const noexcept {
    if (number_of(run) >> (64 - ChunkedPage::kFrameBits) != 0) return false;
    const std::uint64_t off = offset_of(run);
    return !has_origin_ || off - origin_ <= low_bits(ChunkedPage::kFrameBits);
  }
  void open(PageIndex index, const PageRun& run) noexcept {
    if (!has_origin_) {
      has_origin_ = true;
      origin_ = offset_of(run) - low_bits(ChunkedPage::kFrameBits) / 2;
    }
    (*this)[index].frame = number_of(run) << ChunkedPage::kFrameBits | (offset_of(run) - origin_);
  }
  /// Gives the run back that the page was opened with.
  PageRun close(PageIndex index) noexcept {
    ChunkedPage& page = (*this)[index];
    PageRun run{page.data(), 1, Pfn{}};
    run.first = Pfn{number_of(run) + origin_ + (page.frame & low_bits(ChunkedPage::kFrameBits))};
    page.frame = 0;
    return run;
  }

  std::size_t size() const noexcept { return chunks_.count() * kChunkPages; }
  std::size_t free_count() const noexcept { return free_count_; }
  std::size_t bytes() const noexcept { return chunks_.bytes(); }

  /// Whether the free list holds so many pages, all closed. Complexity: O(free pages).
  bool validate() const noexcept {
    std::size_t listed = 0;
    for (PageIndex at = first_free_; at != kNoPage; at = (*this)[at].fit.next) {
      if (at >= size() || (*this)[at].is_open() || listed++ == free_count_) return false;
    }
    return listed == free_count_;
  }

 private:
  static constexpr std::uint32_t kChunkPages = 128;  // 5.5 KiB are added together

  struct Rest {
    std::uint32_t slot[ChunkedPage::kBuddies] = {};
  };
  struct alignas(64) Chunk {
    ChunkedPage page[kChunkPages];
    Rest rest[kChunkPages];
  };

  Chunk& chunk(PageIndex index) const noexcept { return *chunks_.find(index / kChunkPages); }
  // Of the page in virtual memory.
  static std::uint64_t number_of(const PageRun& run) noexcept {
    return reinterpret_cast<std::uintptr_t>(run.data) >> ChunkedPage::kPageShift;
  }
  // From there to the number of its frame; wraps around.
  static std::uint64_t offset_of(const PageRun& run) noexcept {
    return static_cast<std::uint64_t>(run.first) - number_of(run);
  }

  GrowingTable<Chunk> chunks_;
  PageIndex first_free_ = kNoPage;
  std::size_t free_count_ = 0;
  bool has_origin_ = false;
  std::uint64_t origin_ = 0;  // the least offset that can be described
};

}  // namespace mmkit
