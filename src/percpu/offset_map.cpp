// SPDX-License-Identifier: MIT
#include "percpu/offset_map.hpp"

#include <algorithm>
#include <mmkit/base/bitmap.hpp>
#include <mmkit/base/mutant.hpp>

namespace mmkit::percpu {
namespace {

constexpr unsigned align_granule(unsigned granule, unsigned align) noexcept {
  return (granule + align - 1) & ~(align - 1);
}

// The longest run of set bits: each step shortens every run by what is known to be there.
unsigned longest_run(std::uint64_t bits) noexcept {
  unsigned longest = 0;
  for (; bits != 0; bits &= bits << 1) ++longest;
  return longest;
}

}  // namespace

OffsetMap::OffsetMap() noexcept {
  blocks_.fill({kBlockGranules, kBlockGranules, kBlockGranules, kBlockGranules});
}

unsigned OffsetMap::find(unsigned count, unsigned align, BlockSet closed) const noexcept {
  unsigned carried = 0;  // free granules right before this block
  for (unsigned b = 0; b < kBlocks; ++b) {
    if (has_block(closed, b)) {
      carried = 0;
      continue;
    }
    const Block& block = blocks_[b];
    const unsigned begin = b * kBlockGranules;
    // A run that began before, or at the left edge.
    if (carried + block.left >= count) {
      const unsigned start = align_granule(begin - carried, align);
      if (start + count <= begin + block.left) return start;
      MMKIT_MUTATE(MMKIT_MUTANT_percpu_fit_skips_a_block, static_cast<void>(0),
                   carried = block.right;
                   continue);
    }
    if (block.longest >= count) {
      const unsigned end = begin + kBlockGranules;
      const std::size_t start = bitmap::find_clear_run(taken_.data(), begin, end, count, align);
      if (start < end) return static_cast<unsigned>(start);
    }
    carried = block.left == kBlockGranules ? carried + kBlockGranules : block.right;
  }
  return kNone;
}

void OffsetMap::mark(unsigned start, unsigned count) noexcept {
  MMKIT_ASSERT(bitmap::all_clear(taken_.data(), start, count));
  bitmap::set_range(taken_.data(), start, count);
  bitmap::set(starts_.data(), start);
  free_ -= count;
}

void OffsetMap::take(unsigned start, unsigned count) noexcept {
  mark(start, count);
  refresh(start, start + count - 1);
}

unsigned OffsetMap::take_many(unsigned count, unsigned align, BlockSet closed,
                              std::span<unsigned> out) noexcept {
  unsigned taken = 0;
  while (taken < out.size()) {
    const unsigned first = find(count, align, closed);
    if (first == kNone) break;
    const unsigned block_end = align_granule(first + 1, kBlockGranules);
    unsigned start = first;
    do {
      mark(start, count);
      out[taken++] = start;
      if (taken == out.size() || start + count >= block_end) break;
      start = static_cast<unsigned>(
          bitmap::find_clear_run(taken_.data(), start + count, block_end, count, align));
    } while (start < block_end);
    refresh(first, out[taken - 1] + count - 1);
  }
  return taken;
}

unsigned OffsetMap::release(unsigned start) noexcept {
  MMKIT_ASSERT(is_start(start));
  const unsigned count = size_at(start);
  bitmap::clear_range(taken_.data(), start, count);
  bitmap::clear(starts_.data(), start);
  free_ += count;
  refresh(start, start + count - 1);
  return count;
}

bool OffsetMap::is_start(unsigned granule) const noexcept {
  return granule < kGranules && bitmap::test(starts_.data(), granule);
}

unsigned OffsetMap::size_at(unsigned start) const noexcept {
  // The first granule after `start` that is free, or that another allocation starts at.
  unsigned word = (start + 1) / 64;
  unsigned shift = (start + 1) % 64;
  for (; word < kWords; ++word, shift = 0) {
    const std::uint64_t stops = (~taken_[word] | starts_[word]) & (~std::uint64_t{0} << shift);
    if (stops != 0) return word * 64 + static_cast<unsigned>(std::countr_zero(stops)) - start;
  }
  return kGranules - start;
}

unsigned OffsetMap::next_start(unsigned from) const noexcept {
  return static_cast<unsigned>(bitmap::next_set(starts_.data(), from, kGranules));
}

unsigned OffsetMap::longest(BlockSet closed) const noexcept {
  unsigned longest = 0;
  unsigned carried = 0;
  for (unsigned b = 0; b < kBlocks; ++b) {
    if (has_block(closed, b)) {
      carried = 0;
      continue;
    }
    const Block& block = blocks_[b];
    longest = std::max({longest, carried + block.left, unsigned{block.longest}});
    carried = block.left == kBlockGranules ? carried + kBlockGranules : block.right;
  }
  return longest;
}

OffsetMap::Block OffsetMap::summarise(unsigned block) const noexcept {
  const std::uint64_t* const words = &taken_[block * kBlockWords];
  unsigned left = kBlockGranules, longest = 0, run = 0, free = 0;
  for (unsigned i = 0; i < kBlockWords; ++i) {
    const std::uint64_t clear = ~words[i];
    free += static_cast<unsigned>(std::popcount(clear));
    if (clear == ~std::uint64_t{0}) {
      run += 64;
      continue;
    }
    run += static_cast<unsigned>(std::countr_one(clear));
    if (left == kBlockGranules) left = run;  // the first granule that is taken
    longest = std::max(longest, run);
    // Inside the word only a word with enough free granules can hold a longer run.
    if (static_cast<unsigned>(std::popcount(clear)) > longest) {
      longest = std::max(longest, longest_run(clear));
    }
    run = static_cast<unsigned>(std::countl_one(clear));
  }
  return {static_cast<std::uint16_t>(left), static_cast<std::uint16_t>(run),
          static_cast<std::uint16_t>(std::max(longest, run)), static_cast<std::uint16_t>(free)};
}

void OffsetMap::refresh(unsigned first_granule, unsigned last_granule) noexcept {
  for (unsigned b = first_granule / kBlockGranules; b <= last_granule / kBlockGranules; ++b) {
    blocks_[b] = summarise(b);
    const BlockSet bit = BlockSet{1} << b;
    empty_ = blocks_[b].free == kBlockGranules ? empty_ | bit : empty_ & ~bit;
  }
}

bool OffsetMap::validate() const noexcept {
  unsigned free_in_all = 0;
  for (unsigned b = 0; b < kBlocks; ++b) {
    Block naive{};
    unsigned run = 0;
    for (unsigned i = 0; i < kBlockGranules; ++i) {
      const unsigned granule = b * kBlockGranules + i;
      const bool taken = bitmap::test(taken_.data(), granule);
      const bool start = bitmap::test(starts_.data(), granule);
      const bool after_free = granule == 0 || !bitmap::test(taken_.data(), granule - 1);
      if (start && !taken) return false;
      if (taken && after_free && !start) return false;
      run = taken ? 0 : run + 1;
      if (run == i + 1) naive.left = static_cast<std::uint16_t>(run);
      naive.longest = static_cast<std::uint16_t>(std::max<unsigned>(naive.longest, run));
      naive.free = static_cast<std::uint16_t>(naive.free + (taken ? 0 : 1));
    }
    naive.right = static_cast<std::uint16_t>(run);
    if (!(naive == blocks_[b])) return false;
    if (has_block(empty_, b) != (naive.free == kBlockGranules)) return false;
    free_in_all += naive.free;
  }
  return free_in_all == free_;
}

}  // namespace mmkit::percpu
