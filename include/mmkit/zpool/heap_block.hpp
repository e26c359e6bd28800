// SPDX-License-Identifier: MIT
//
// HeapBlock - what lies where in a block of pages that holds objects of any size, end to end.
//
//   0    4      8                                                        end - 4
//   +----+------+-----------------+------+----------------------+--...--+------+
//   |    |header| object          |header| links       | length |       |header|
//   +----+------+-----------------+------+----------------------+--...--+------+
//          extent in use, 8n bytes  hole, 8n bytes                        end mark
//
//   header  31    30         29      17 16          0
//           | used | left is  | length  | owner       |    in use: `left` says whether the extent before
//           |      | a hole   | granules| low 17 bits |    is a hole, whose length is its last word
//           | 0    | listed   | length  | 0           |    a hole
//
// Extents tile a block: the next one begins where this one ends, and from an extent in use the hole
// before it is found by its length. So a freed extent joins its neighbours in constant time, and nothing
// is kept about them elsewhere. Headers lie four bytes before a multiple of eight, objects at one.
//
// The owner is the slot of the object's handle, as much of it as there is room for: who needs all of it
// asks the few slots with these low bits which of them has its place here.
//
// A hole of three granules or more has room for links; a smaller one waits for a neighbour.
// Units:      granules of eight bytes; extents by the granule where their header lies
// Invariants: 1 extents tile the block up to the end mark  2 no two holes are neighbours  3 `left` is
//             set if and only if the extent before is a hole, whose last word is its length
// Locking:    that of the shard which has the block. Headers are atomic, since who maps an object reads
//             the length in its header while a neighbour sets `left`
// Complexity: O(1)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/page/page_size.hpp>

namespace mmkit {

class HeapBlock {
 public:
  static constexpr std::size_t kGranuleBytes = 8;
  static constexpr std::size_t kHeaderBytes = 4;
  static constexpr unsigned kMostPages = 16;
  static constexpr unsigned kGranuleBits = 13;  ///< tell a granule of a block
  static constexpr unsigned kOwnerBits = 17;
  /// The shortest hole that has room for links.
  static constexpr unsigned kFewestListed = 3;

  explicit HeapBlock(std::byte* data) noexcept : data_(data) {}

  static constexpr unsigned granules_in(std::size_t pages) noexcept {
    return static_cast<unsigned>(pages * kPageSize / kGranuleBytes) - 1;
  }
  /// Of an extent that holds so many bytes.
  static constexpr unsigned granules_for(std::size_t size_bytes) noexcept {
    return static_cast<unsigned>((size_bytes + kHeaderBytes + kGranuleBytes - 1) / kGranuleBytes);
  }
  static constexpr std::size_t bytes_in(unsigned granules) noexcept {
    return granules * kGranuleBytes - kHeaderBytes;
  }
  static constexpr std::uint32_t owner_bits(std::uint32_t slot) noexcept {
    return slot & ((1U << kOwnerBits) - 1);
  }

  /// Makes it one hole, not listed.
  void format(unsigned granules) noexcept {
    set(granules, kUsed | kLeft);  // the end mark: in use, and no granule long
    write_hole(0, granules);
  }

  // ------------------------------------------------------------------ one extent

  bool is_used(unsigned at) const noexcept { return (header(at) & kUsed) != 0; }
  bool is_end(unsigned at) const noexcept { return (header(at) & ~kLeft) == kUsed; }
  unsigned length(unsigned at) const noexcept {
    return header(at) >> kOwnerBits & ((1U << kGranuleBits) - 1);
  }
  unsigned next(unsigned at) const noexcept { return at + length(at); }
  std::byte* object(unsigned at) const noexcept { return data_ + (at + 1) * kGranuleBytes; }
  /// Where its header is: to fetch it.
  const void* header_of(unsigned at) const noexcept { return &word(at).header; }
  /// Of an extent in use.
  std::uint32_t owner_bits_of(unsigned at) const noexcept { return owner_bits(header(at)); }
  void set_owner(unsigned at, std::uint32_t slot) noexcept {
    set(at, (header(at) & ~owner_bits(~0U)) | owner_bits(slot));
  }
  bool follows_hole(unsigned at) const noexcept { return (header(at) & kLeft) != 0; }
  /// The hole before an extent that follows one.
  unsigned hole_before(unsigned at) const noexcept { return at - word(at).last; }
  bool is_listed(unsigned hole) const noexcept { return (header(hole) & kLeft) != 0; }
  /// Of a hole of so many granules.
  void set_listed(unsigned hole, unsigned length, bool listed) noexcept {
    set(hole, length << kOwnerBits | (listed ? kLeft : 0));
  }

  // ------------------------------------------------------------------ taken and given back

  /// Makes the start of a hole of so many granules, in no list any more, an extent in use; what is left
  /// of it is a hole, not listed. Returns how long that is.
  unsigned take(unsigned hole, unsigned length, unsigned granules, std::uint32_t slot) noexcept {
    const unsigned rest = length - granules;
    MMKIT_ASSERT(length >= granules && length == this->length(hole) && !is_used(hole));
    set(hole, kUsed | granules << kOwnerBits | owner_bits(slot));
    if (rest != 0) {
      write_hole(hole + granules, rest);
    } else {
      MMKIT_MUTATE(MMKIT_MUTANT_zheap_left_stays_set,
                   set(hole + granules, header(hole + granules) & ~kLeft);
                   , )
    }
    return rest;
  }
  /// Makes what lies between two extents one hole, not listed: an extent in use and its neighbours that
  /// are holes, in no list any more.
  void give(unsigned begin, unsigned end) noexcept {
    write_hole(begin, end - begin);
    set(end, header(end) | kLeft);
  }

  // ------------------------------------------------------------------ links of a listed hole

  struct Links {
    std::uint64_t next, prev;
  };
  Links& links(unsigned hole) const noexcept { return *reinterpret_cast<Links*>(object(hole)); }

  /// Whether the invariants hold for a block of so many granules; the sum of what is in use.
  /// Complexity: O(extents).
  bool validate(unsigned granules, unsigned* used) const noexcept {
    bool after_hole = false;
    *used = 0;
    for (unsigned at = 0; at != granules;) {
      const unsigned here = length(at);
      if (here == 0 || here > granules - at) return false;
      if (is_used(at)) {
        if (follows_hole(at) != after_hole) return false;
        *used += here;
      } else if (after_hole || word(at + here).last != here) {
        return false;
      }
      after_hole = !is_used(at);
      at += here;
    }
    return is_end(granules) && follows_hole(granules) == after_hole;
  }

 private:
  static constexpr std::uint32_t kUsed = 1U << 31, kLeft = 1U << 30;

  // What lies before a multiple of eight: the last word of the extent before, and a header.
  struct Word {
    std::uint32_t last;
    std::uint32_t header;
  };
  Word& word(unsigned at) const noexcept {
    return *reinterpret_cast<Word*>(data_ + at * kGranuleBytes);
  }
  // Relaxed: the shard's lock orders; a length alone is read without it, and does not change while
  // the object is mapped.
  std::uint32_t header(unsigned at) const noexcept {
    return std::atomic_ref<std::uint32_t>(word(at).header).load(std::memory_order_relaxed);
  }
  void set(unsigned at, std::uint32_t header) noexcept {
    std::atomic_ref<std::uint32_t>(word(at).header).store(header, std::memory_order_relaxed);
  }
  void write_hole(unsigned at, unsigned granules) noexcept {
    set(at, granules << kOwnerBits);
    word(at + granules).last = granules;
  }

  std::byte* data_;
};
static_assert(HeapBlock::granules_in(HeapBlock::kMostPages) < (1U << HeapBlock::kGranuleBits));

}  // namespace mmkit
