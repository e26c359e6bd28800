// SPDX-License-Identifier: MIT
#include <mmkit/zpool/heap_shard.hpp>

#include <algorithm>
#include <mmkit/base/mutant.hpp>

namespace mmkit {

// ---------------------------------------------------------------- holes

HoleBins::Hole HoleBins::find_long(const HeapBlockTable& blocks, unsigned granules, unsigned bin,
                                   std::uint32_t not_there) noexcept {
  for (; bin < kBins; bin = first_from(bin + 1)) {
    unsigned looks = kMostLooks;
    for (std::uint64_t name = heads_[bin]; name != 0 && looks != 0;) {
      const HeapPlace hole = place_of(name);
      HeapBlock block = blocks.block(hole.block());
      name = block.links(hole.granule()).next;
      const unsigned length = block.length(hole.granule());
      if (hole.block() == not_there) {
        unlink(blocks, block, hole, length);
        block.set_listed(hole.granule(), length, /*listed=*/false);
      } else if (length >= granules) {
        unlink(blocks, block, hole, length);
        return {hole, length};
      } else {
        --looks;
      }
    }
  }
  return {HeapPlace::none(), 0};
}

// ---------------------------------------------------------------- objects

HeapPlace HeapShard::take(unsigned granules, std::uint32_t slot) noexcept {
  const auto [hole, length] = bins_.find(blocks_, granules, victim_);
  if (hole.is_none()) return hole;
  HeapBlockInfo& info = blocks_[hole.block()];
  HeapBlock block(info.data);
  const unsigned rest = block.take(hole.granule(), length, granules, slot);
  const unsigned right = hole.granule() + granules;
  if (rest != 0) bins_.link(blocks_, block, HeapPlace(hole.block(), right), rest);
  note_used(info, info.used + granules);
  return hole;
}

bool HeapShard::give(HeapPlace extent) noexcept {
  HeapBlockInfo& info = blocks_[extent.block()];
  HeapBlock block(info.data);
  const unsigned at = extent.granule();
  const unsigned length = block.length(at);
  unsigned begin = at, end = at + length;
  if (!block.is_used(end)) {
    const unsigned right = block.length(end);
    unlink_hole(block, HeapPlace(extent.block(), end), right);
    end += right;
  }
  if (block.follows_hole(at)) {
    begin = block.hole_before(at);
    unlink_hole(block, HeapPlace(extent.block(), begin), at - begin);
  }
  block.give(begin, end);
  note_used(info, info.used - length);
  if (extent.block() == victim_) [[unlikely]] {
    // The cursor stays at the start of an extent.
    MMKIT_MUTATE(MMKIT_MUTANT_zheap_cursor_stays_in_a_hole,
                 if (cursor_ > begin && cursor_ < end) cursor_ = end;
                 , )
    MMKIT_MUTATE(MMKIT_MUTANT_zheap_lists_holes_of_the_victim, ,
                 bins_.link(blocks_, block, HeapPlace(extent.block(), begin), end - begin);)
  } else if (info.used != 0 && info.is(HeapBlockInfo::State::open)) {
    bins_.link(blocks_, block, HeapPlace(extent.block(), begin), end - begin);
  }
  return info.used == 0;
}

void HeapShard::fetch_neighbours(HeapBlock block, unsigned at) noexcept {
  __builtin_prefetch(block.header_of(block.next(at)), /*for writing=*/1);
  if (block.follows_hole(at)) {
    __builtin_prefetch(block.header_of(block.hole_before(at)), /*for writing=*/1);
  }
}

// ---------------------------------------------------------------- blocks

void HeapShard::add(std::uint32_t number) noexcept {
  HeapBlockInfo& info = blocks_[number];
  info.at = count_;
  info.used = 0;
  info.passed_until = 0;
  numbers_[count_] = number;
  keys_[count_] = 0;
  ++count_;
  held_.store(held() + info.granules(), std::memory_order_relaxed);
  info.become(HeapBlockInfo::State::open);
  newest_ = number;
  bins_.link(blocks_, blocks_.block(number), HeapPlace(number, 0), info.granules());
}

void HeapShard::remove(std::uint32_t number) noexcept {
  HeapBlockInfo& info = blocks_[number];
  MMKIT_ASSERT(info.used == 0);
  --count_;
  numbers_[info.at] = numbers_[count_];
  keys_[info.at] = keys_[count_];
  blocks_[numbers_[info.at]].at = info.at;
  held_.store(held() - info.granules(), std::memory_order_relaxed);
  info.become(HeapBlockInfo::State::none);
  if (newest_ == number) newest_ = kNone;
  if (victim_ == number) victim_ = kNone;
}

void HeapShard::unlist(std::uint32_t number) noexcept {
  const HeapBlock block = blocks_.block(number);
  for (unsigned at = 0; !block.is_end(at); at = block.next(at)) {
    if (!block.is_used(at)) unlist_hole(block, HeapPlace(number, at));
  }
}

void HeapShard::relist(std::uint32_t number) noexcept {
  const HeapBlock block = blocks_.block(number);
  for (unsigned at = 0; !block.is_end(at); at = block.next(at)) {
    if (block.is_used(at) || block.is_listed(at)) continue;
    bins_.link(blocks_, block, HeapPlace(number, at), block.length(at));
  }
}

std::size_t HeapShard::spoiled() const noexcept {
  const std::size_t unfilled = newest_ == kNone || count_ > kFewBlocks
                                   ? 0
                                   : blocks_[newest_].granules() - blocks_[newest_].used;
  return held() - used() - unfilled;
}

// ---------------------------------------------------------------- the victim

bool HeapShard::elect(bool at_once) noexcept {
  if (count_ < 2) return false;
  const bool is_as_before = held() == held_in_vain_ && used() + kWorthALook > used_in_vain_;
  if (!at_once && is_as_before) return false;
  held_in_vain_ = held();
  used_in_vain_ = used();
  if (scan_ >= count_) scan_ = 0;
  std::uint32_t best = kNone;
  std::uint16_t least = 0xffff;
  // From where the last one ended, and around: of few blocks each is looked at.
  std::uint32_t i = scan_;
  for (std::uint32_t looks = std::min(count_, kWindow); looks != 0;
       --looks, i = i + 1 == count_ ? 0 : i + 1) {
    if (keys_[i] >= least) continue;
    const HeapBlockInfo& info = blocks_[numbers_[i]];
    if (MMKIT_MUTATE(MMKIT_MUTANT_zheap_empties_the_newest, numbers_[i] == newest_, false))
      continue;
    if (!info.is(HeapBlockInfo::State::open) || info.passed_until > elections_) continue;
    least = keys_[i];
    best = numbers_[i];
  }
  scan_ = i;
  ++elections_;
  if (best == kNone) return false;
  HeapBlockInfo& info = blocks_[best];
  const std::size_t free_elsewhere = held() - used() - (info.granules() - info.used);
  if (free_elsewhere < info.used) return false;
  held_in_vain_ = 0;
  victim_ = best;
  cursor_ = 0;
  info.become(HeapBlockInfo::State::emptied);
  return true;
}

void HeapShard::pass_hole() noexcept {
  unlist_hole(blocks_.block(victim_), cursor());
  pass();
}

void HeapShard::release_victim() noexcept {
  HeapBlockInfo& info = blocks_[victim_];
  info.become(HeapBlockInfo::State::open);
  info.passed_until = elections_ + kPassedFor;
  relist(victim_);
  victim_ = kNone;
}

// ---------------------------------------------------------------- validation

bool HoleBins::validate(const HeapBlockTable& blocks, std::size_t* holes) const noexcept {
  *holes = 0;
  for (unsigned bin = 0; bin < kBins; ++bin) {
    if ((heads_[bin] != 0) != ((words_[bin / 64] >> bin % 64 & 1) != 0)) return false;
    std::uint64_t before = 0;
    for (std::uint64_t name = heads_[bin]; name != 0; ++*holes) {
      const HeapPlace hole = place_of(name);
      if (hole.block() >= blocks.size()) return false;
      const HeapBlock block = blocks.block(hole.block());
      if (block.is_used(hole.granule()) || !block.is_listed(hole.granule())) return false;
      if (bin_of(block.length(hole.granule())) != bin) return false;
      if (block.links(hole.granule()).prev != before) return false;
      before = name;
      name = block.links(hole.granule()).next;
    }
  }
  return true;
}

bool HeapShard::validate(std::uint8_t number_of_shard) const noexcept {
  std::size_t used_sum = 0, held_sum = 0, listed = 0, holes = 0;
  for (std::uint32_t i = 0; i < count_; ++i) {
    const std::uint32_t number = numbers_[i];
    if (number >= blocks_.size()) return false;
    const HeapBlockInfo& info = blocks_[number];
    if (info.at != i || info.shard.load(std::memory_order_relaxed) != number_of_shard) return false;
    if (keys_[i] != key_of(info) || info.is(HeapBlockInfo::State::none)) return false;
    if (info.is(HeapBlockInfo::State::emptied) != (number == victim_)) return false;
    const HeapBlock block = blocks_.block(number);
    unsigned used_here = 0;
    if (!block.validate(info.granules(), &used_here) || used_here != info.used) return false;
    used_sum += used_here;
    held_sum += info.granules();
    for (unsigned at = 0; !block.is_end(at); at = block.next(at)) {
      if (block.is_used(at)) continue;
      const bool is_listed = block.is_listed(at);
      const bool is_long = block.length(at) >= HeapBlock::kFewestListed;
      listed += is_listed ? 1U : 0U;
      if (info.is(HeapBlockInfo::State::open) && is_listed != is_long) return false;
      if (info.is(HeapBlockInfo::State::evicted) && is_listed) return false;
    }
  }
  return bins_.validate(blocks_, &holes) && holes == listed && used_sum == used() &&
         held_sum == held();
}

}  // namespace mmkit
