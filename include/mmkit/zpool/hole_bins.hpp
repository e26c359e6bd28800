// SPDX-License-Identifier: MIT
//
// HoleBins - the holes of a shard's blocks by length, so that the shortest that is long enough is found
// at once.
//
//   bins    | 0 .. 519: of that length in granules | 520..583 | 584..647 | ...    last freed first
//   words   a bit for each bin that is not empty: eleven words are looked through
//
// Objects of up to 4096 bytes need 513 granules at most, so for them the fit is the best there is. Longer
// ones take the first that is long enough of their own bin's, or the best of a longer bin.
//
// The blocks whose holes are listed say themselves which are (HeapBlock). A hole is named by where it
// lies, number of its block and granule, in 39 bits.
// Units:      granules
// Invariants: 1 a bit is set if and only if its bin has a hole  2 neighbours in a bin name each other
//             3 a hole in a bin is marked as listed, and of a length that belongs there
// Locking:    none: caller serialises
// Complexity: O(1); find() also the holes passed over
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <mmkit/zpool/heap_block_table.hpp>

namespace mmkit {

class HoleBins {
 public:
  struct Hole {
    HeapPlace place;
    unsigned length;
  };

  /// Lists a hole of so many granules, if it is long enough to be.
  void link(const HeapBlockTable& blocks, HeapBlock block, HeapPlace hole,
            unsigned length) noexcept {
    if (length < HeapBlock::kFewestListed) return;
    const unsigned bin = bin_of(length);
    const std::uint64_t next = heads_[bin];
    block.links(hole.granule()) = {next, 0};
    block.set_listed(hole.granule(), length, /*listed=*/true);
    heads_[bin] = name_of(hole);
    words_[bin / 64] |= std::uint64_t{1} << bin % 64;
    if (next != 0) links_of(blocks, next).prev = name_of(hole);
  }
  /// Takes a listed hole out of its list, whose length is as it was. Its header goes on to say that it is
  /// listed, until somebody writes it: most are part of something else the next moment.
  void unlink(const HeapBlockTable& blocks, HeapBlock block, HeapPlace hole,
              unsigned length) noexcept {
    const HeapBlock::Links links = block.links(hole.granule());
    if (links.next != 0) links_of(blocks, links.next).prev = links.prev;
    if (links.prev != 0) {
      links_of(blocks, links.prev).next = links.next;
      return;
    }
    const unsigned bin = bin_of(length);
    heads_[bin] = links.next;
    if (links.next == 0) words_[bin / 64] &= ~(std::uint64_t{1} << bin % 64);
  }

  /// Takes a hole out that is long enough, the shortest there is; none: a place that is none. Holes of
  /// the block `not_there` are taken out on the way, and marked as unlisted.
  Hole find(const HeapBlockTable& blocks, unsigned granules, std::uint32_t not_there) noexcept {
    const unsigned bin = first_from(bin_of(granules));
    if (bin >= kExact) [[unlikely]]
      return find_long(blocks, granules, bin, not_there);
    const HeapPlace hole = place_of(heads_[bin]);
    if (hole.block() == not_there) [[unlikely]]
      return find_long(blocks, granules, bin, not_there);
    // The first of a bin of holes that are all of this length.
    const std::uint64_t next = blocks.block(hole.block()).links(hole.granule()).next;
    heads_[bin] = next;
    if (next != 0) {
      links_of(blocks, next).prev = 0;
    } else {
      words_[bin / 64] &= ~(std::uint64_t{1} << bin % 64);
    }
    return {hole, bin};
  }

  /// Whether the invariants hold; how many holes and granules there are. Complexity: O(holes).
  bool validate(const HeapBlockTable& blocks, std::size_t* holes) const noexcept;

 private:
  static constexpr unsigned kExact = 520;
  static constexpr unsigned kStepBits = 6;
  static constexpr unsigned kBins = 640;
  // In a bin of several lengths; then the next one has what is certainly long enough.
  static constexpr unsigned kMostLooks = 16;
  static_assert(kExact + ((HeapBlock::granules_in(HeapBlock::kMostPages) - kExact) >> kStepBits) <
                kBins);

  // The same in bins whose holes differ in length, or may be of that block.
  Hole find_long(const HeapBlockTable& blocks, unsigned granules, unsigned bin,
                 std::uint32_t not_there) noexcept;

  static constexpr unsigned bin_of(unsigned length) noexcept {
    return length < kExact ? length : kExact + ((length - kExact) >> kStepBits);
  }
  static std::uint64_t name_of(HeapPlace hole) noexcept { return hole.where() + 1; }
  static HeapPlace place_of(std::uint64_t name) noexcept { return HeapPlace::from(name - 1); }
  static HeapBlock::Links& links_of(const HeapBlockTable& blocks, std::uint64_t name) noexcept {
    const HeapPlace hole = place_of(name);
    return blocks.block(hole.block()).links(hole.granule());
  }
  // The first bin from here that is not empty; kBins: none.
  unsigned first_from(unsigned bin) const noexcept {
    if (bin >= kBins) return kBins;
    std::size_t at = bin / 64;
    std::uint64_t word = words_[at] & ~low_bits(bin % 64);
    while (word == 0) {
      if (++at == kBins / 64) return kBins;
      word = words_[at];
    }
    return static_cast<unsigned>(at * 64) + static_cast<unsigned>(std::countr_zero(word));
  }

  std::uint64_t words_[kBins / 64] = {};
  std::uint64_t heads_[kBins] = {};
};
static_assert(HeapBlock::kMostPages * kPageSize == 65536);

}  // namespace mmkit
