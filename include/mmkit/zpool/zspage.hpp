// SPDX-License-Identifier: MIT
//
// Zspage - a run of adjacent pages that holds objects of one size class, and what describes it.
//
//   pages       | object 0 | object 1 | ... | object cells-1 | waste |      nothing of ours inside
//
//   Zspage      28 bytes, outside, followed by an owner word for each cell:
//   owners      | slot of the object | 1, next free cell | slot | ...
//
// The owner word says whose cell it is, so that a mover finds the handle of an object; of a free
// cell it links the list of free cells. A zspage is known by its number; the pool has what must be
// found by that number: a ZspageBase (read by every mapping, hence apart from what changes), and when
// it was used.
// Units:      cells: places for an object
// Invariants: 1 in_use cells are not free, and the free list holds the others, once
// Locking:    the lock of its size class guards all of it. Owner words are atomic since a mover writes
//             those of cells that it has claimed without the lock
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/page/page_source.hpp>
#include <new>

namespace mmkit {

class Zspage {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;
  static constexpr std::uint8_t kInNoList = 15;
  /// The owner of a cell that a mover has claimed and not filled yet.
  static constexpr std::uint32_t kClaimed = 0x7fffffff;

  /// Describes pages with so many cells, all free. `memory` has bytes_for(cells).
  static Zspage* make(void* memory, std::uint32_t number, PageRun run, unsigned size_class,
                      unsigned cells) noexcept {
    return ::new (memory) Zspage(number, run, size_class, cells);
  }
  static constexpr std::size_t bytes_for(unsigned cells) noexcept {
    return kHeadBytes + sizeof(std::uint32_t) * std::size_t{cells};
  }
  Zspage(const Zspage&) = delete;
  Zspage& operator=(const Zspage&) = delete;

  std::uint32_t number() const noexcept { return number_; }
  unsigned size_class() const noexcept { return size_class_; }
  unsigned cells() const noexcept { return cells_; }
  unsigned in_use() const noexcept { return in_use_; }
  unsigned free_cells() const noexcept { return cells_ - in_use_; }
  unsigned pages() const noexcept { return pages_; }
  PageRun run(std::byte* data) const noexcept {
    return {data, pages_, Pfn{std::uint64_t{first_high_} << 32 | first_low_}};
  }
  /// How full it is in tenths, rounded down: 0 to 9, and 10 when no cell is free.
  unsigned group() const noexcept { return in_use_ * 10U / cells_; }

  /// Takes a free cell for a slot, or for kClaimed.
  unsigned take_cell(std::uint32_t slot) noexcept {
    MMKIT_ASSERT(in_use_ < cells_);
    const unsigned cell = first_free_;
    first_free_ = static_cast<std::uint16_t>(owner(cell) & ~kFreeBit);
    ++in_use_;
    set_owner(cell, slot);
    return cell;
  }
  void give_cell(unsigned cell) noexcept {
    MMKIT_ASSERT(!is_free(cell));
    set_owner(cell, kFreeBit | first_free_);
    first_free_ = static_cast<std::uint16_t>(cell);
    --in_use_;
  }
  bool is_free(unsigned cell) const noexcept { return (owner(cell) & kFreeBit) != 0; }
  /// The slot of the object in a cell that is not free; kClaimed: none yet.
  std::uint32_t owner(unsigned cell) const noexcept {
    // Relaxed: the class's lock orders, or the slot that a mover publishes after it.
    return owners()[cell].load(std::memory_order_relaxed);
  }
  void set_owner(unsigned cell, std::uint32_t slot) noexcept {
    owners()[cell].store(slot, std::memory_order_relaxed);
  }
  /// Whether invariant 1 holds. Complexity: O(cells).
  bool validate() const noexcept;

  // Neighbours in the list of its group, by number.
  std::uint32_t next = kNone, prev = kNone;
  /// Another one behind this, for a chain of zspages that are in no list any more.
  void chain(Zspage* behind) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(behind);
    next = static_cast<std::uint32_t>(address);
    prev = static_cast<std::uint32_t>(address >> 32);
  }
  Zspage* chained() const noexcept {
    return reinterpret_cast<Zspage*>(std::uintptr_t{prev} << 32 | next);
  }

 private:
  static constexpr std::uint32_t kFreeBit = 0x80000000;
  static constexpr std::size_t kHeadBytes = 28;

  Zspage(std::uint32_t number, PageRun run, unsigned size_class, unsigned cells) noexcept
      : number_(number),
        first_low_(static_cast<std::uint32_t>(run.first)),
        first_high_(static_cast<std::uint16_t>(static_cast<std::uint64_t>(run.first) >> 32)),
        cells_(static_cast<std::uint16_t>(cells)),
        size_class_(static_cast<std::uint8_t>(size_class)),
        pages_(static_cast<std::uint8_t>(run.pages)) {
    for (unsigned cell = 0; cell < cells; ++cell) {
      ::new (static_cast<void*>(owners() + cell)) std::atomic<std::uint32_t>(kFreeBit | (cell + 1));
    }
  }

  std::atomic<std::uint32_t>* owners() noexcept {
    return std::launder(reinterpret_cast<std::atomic<std::uint32_t>*>(
        reinterpret_cast<std::byte*>(this) + kHeadBytes));
  }
  const std::atomic<std::uint32_t>* owners() const noexcept {
    return std::launder(reinterpret_cast<const std::atomic<std::uint32_t>*>(
        reinterpret_cast<const std::byte*>(this) + kHeadBytes));
  }

  std::uint32_t number_;
  std::uint32_t first_low_;  // the number of the first frame, 48 bits of it
  std::uint16_t first_high_;
  std::uint16_t cells_;
  std::uint16_t in_use_ = 0;
  std::uint16_t first_free_ = 0;
  std::uint8_t size_class_;
  std::uint8_t pages_;

 public:
  std::uint8_t listed : 4 = kInNoList;  ///< the list it is in: its group, or one that it was in
  bool isolated : 1 = false;            ///< in no list: somebody empties it
  bool passed_over : 1 = false;         ///< by the compaction that is under way, or the last
  std::uint8_t block = 0;               ///< what its memory is: the pool's business
};
static_assert(sizeof(Zspage) == 28);

/// Where the pages of a zspage are, of which class and size its objects: what a mapping reads.
class ZspageBase {
 public:
  constexpr ZspageBase() noexcept = default;
  ZspageBase(const std::byte* data, unsigned size_class, std::size_t size_bytes) noexcept
      : word_(reinterpret_cast<std::uintptr_t>(data) >> kPageShift << kPageNumberShift |
              (size_bytes / kSizeUnit - 1) << kSizeShift | size_class) {}
  /// Of a number that is free: what the next free one is.
  static ZspageBase link(std::uint32_t next) noexcept {
    ZspageBase base;
    base.word_ = next;
    return base;
  }
  std::uint32_t next() const noexcept { return static_cast<std::uint32_t>(word_); }
  /// Whether pages that end at this address can be described.
  static bool can_describe(const std::byte* end) noexcept {
    return reinterpret_cast<std::uintptr_t>(end) >> 48 == 0;
  }

  /// Whether an object of it that is freed may be kept for the next to come, and whether somebody
  /// empties it: the two things that change in a zspage's life, both seldom.
  bool keeps() const noexcept { return (word_ & kKeeps) != 0; }
  bool isolated() const noexcept { return (word_ & kIsolated) != 0; }
  ZspageBase with(bool keeps, bool isolated) const noexcept {
    ZspageBase changed = *this;
    changed.word_ &= ~(kKeeps | kIsolated);
    changed.word_ |= (keeps ? kKeeps : 0) | (isolated ? kIsolated : 0);
    return changed;
  }
  friend bool operator==(ZspageBase a, ZspageBase b) noexcept { return a.word_ == b.word_; }

  unsigned size_class() const noexcept { return word_ & 0xff; }
  std::size_t size_bytes() const noexcept { return ((word_ >> kSizeShift & 0xff) + 1) * kSizeUnit; }
  std::byte* data() const noexcept {
    return reinterpret_cast<std::byte*>(word_ >> kPageNumberShift << kPageShift);
  }
  std::byte* cell(std::uint64_t number) const noexcept { return data() + number * size_bytes(); }

 private:
  static constexpr std::size_t kSizeUnit = 16;
  static constexpr unsigned kSizeShift = 8, kPageNumberShift = 28;
  static constexpr std::uint64_t kKeeps = std::uint64_t{1} << 16,
                                 kIsolated = std::uint64_t{1} << 17;
  std::uint64_t word_ = 0;
};

}  // namespace mmkit
