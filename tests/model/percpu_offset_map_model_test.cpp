// SPDX-License-Identifier: MIT
//
// OffsetMap beside a plain array with a number a granule: always the lowest place, exact answers to
// "none", exact sizes and longest runs, whatever the alignment and whichever blocks are closed.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "percpu/offset_map.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit::percpu {
namespace {

// Who owns each granule: 0 nobody.
class NaiveMap {
 public:
  unsigned find(unsigned count, unsigned align, BlockSet closed) const {
    // One granule at a time: the run that ends here, as far as it is open.
    unsigned run = 0;
    for (unsigned at = 0; at < kGranules; ++at) {
      const bool open = owners_[at] == 0 && !has_block(closed, at / kBlockGranules);
      run = open ? run + 1 : 0;
      if (run < count) continue;
      const unsigned start = at + 1 - count;
      if (start % align == 0) return start;
    }
    return OffsetMap::kNone;
  }
  unsigned longest(BlockSet closed) const {
    unsigned longest = 0, run = 0;
    for (unsigned at = 0; at < kGranules; ++at) {
      run = owners_[at] == 0 && !has_block(closed, at / kBlockGranules) ? run + 1 : 0;
      longest = std::max(longest, run);
    }
    return longest;
  }
  void take(unsigned start, unsigned count) {
    std::fill_n(owners_.begin() + start, count, ++owner_);
  }
  unsigned release(unsigned start) {
    const unsigned size = size_at(start);
    std::fill_n(owners_.begin() + start, size, 0u);
    return size;
  }
  unsigned size_at(unsigned start) const {
    unsigned end = start;
    while (end < kGranules && owners_[end] == owners_[start]) ++end;
    return end - start;
  }
  bool is_start(unsigned at) const {
    return owners_[at] != 0 && (at == 0 || owners_[at - 1] != owners_[at]);
  }
  unsigned free_granules(unsigned begin, unsigned end) const {
    return static_cast<unsigned>(std::count(owners_.begin() + begin, owners_.begin() + end, 0u));
  }

 private:
  std::array<unsigned, kGranules> owners_{};
  unsigned owner_ = 0;
};

class Pair {
 public:
  explicit Pair(std::uint64_t seed) : random_(seed) {}

  std::uint64_t number(std::uint64_t below) { return random_() % below; }
  std::size_t live() const { return starts_.size(); }

  void find_and_take() {
    const unsigned count = any_count(), align = 1u << number(11);
    const BlockSet closed = any_closed();
    const unsigned expected = naive_.find(count, align, closed);
    ASSERT_EQ(map_.find(count, align, closed), expected) << count << " aligned to " << align;
    if (expected == OffsetMap::kNone) return;
    map_.take(expected, count);
    note(expected, count);
  }
  void take_many() {
    std::array<unsigned, 32> out;
    const unsigned count = any_count(), align = 1u << number(11);
    const BlockSet closed = any_closed();
    const auto wanted = static_cast<unsigned>(1 + number(out.size()));
    const unsigned taken = map_.take_many(count, align, closed, std::span(out).first(wanted));
    ASSERT_LE(taken, wanted);
    for (unsigned i = 0; i < taken; ++i) {
      ASSERT_EQ(out[i], naive_.find(count, align, closed)) << "the " << i << "th of " << taken;
      note(out[i], count);
    }
    if (taken < wanted) {
      ASSERT_EQ(naive_.find(count, align, closed), OffsetMap::kNone);
    }
  }
  void release() {
    if (starts_.empty()) return;
    const std::size_t index = number(starts_.size());
    const unsigned start = starts_[index];
    starts_[index] = starts_.back();
    starts_.pop_back();
    ASSERT_TRUE(map_.is_start(start));
    ASSERT_EQ(map_.size_at(start), naive_.size_at(start));
    ASSERT_EQ(map_.release(start), naive_.release(start));
    ASSERT_FALSE(map_.is_start(start));
  }
  void look() {
    const auto at = static_cast<unsigned>(number(kGranules));
    ASSERT_EQ(map_.is_start(at), naive_.is_start(at)) << at;
    unsigned next = at;
    while (next < kGranules && !naive_.is_start(next)) ++next;
    ASSERT_EQ(map_.next_start(at), next);
    const BlockSet closed = any_closed();
    ASSERT_EQ(map_.longest(closed), naive_.longest(closed));
    ASSERT_EQ(map_.free_granules(), naive_.free_granules(0, kGranules));
    for (unsigned b = 0; b < kBlocks; ++b) {
      const unsigned free = naive_.free_granules(b * kBlockGranules, (b + 1) * kBlockGranules);
      ASSERT_EQ(map_.free_granules(b), free);
      ASSERT_EQ(has_block(map_.empty_blocks(), b), free == kBlockGranules);
    }
  }
  const OffsetMap& map() const { return map_; }

 private:
  // From single granules to half of the space; now and then all of it.
  unsigned any_count() {
    const std::uint64_t kind = number(64);
    if (kind < 40) return static_cast<unsigned>(1 + number(16));
    if (kind < 56) return static_cast<unsigned>(1 + number(256));
    if (kind < 63) return static_cast<unsigned>(1 + number(2 * kBlockGranules));
    return static_cast<unsigned>(1 + number(kGranules));
  }
  BlockSet any_closed() {
    const std::uint64_t kind = number(4);
    if (kind < 2) return 0;
    const auto some = static_cast<BlockSet>(random_()) & kAllBlocks;
    return kind == 2 ? some & static_cast<BlockSet>(random_()) : some;
  }
  void note(unsigned start, unsigned count) {
    naive_.take(start, count);
    starts_.push_back(start);
  }

  std::mt19937_64 random_;
  OffsetMap map_;
  NaiveMap naive_;
  std::vector<unsigned> starts_;
};

TEST(PercpuOffsetMapModel, IsWhatANaiveArraySays) {
  // The naive half costs some microseconds an operation: millions take MMKIT_SCALE=10 and more.
  const std::uint64_t operations = testing::scaled(200'000, 10'000);
  const auto pair = std::make_unique<Pair>(testing::test_seed(1));
  bool filling = true;
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (pair->number(3000) == 0) filling = !filling;
    const std::uint64_t kind = pair->number(16);
    if (kind == 0) {
      pair->take_many();
    } else if (kind == 1) {
      pair->look();
    } else if (kind < (filling ? 10u : 6u)) {
      pair->find_and_take();
    } else {
      pair->release();
    }
    if (::testing::Test::HasFatalFailure()) FAIL() << "operation " << i;
    if (i < 10'000 || i % 10'000 == 0) {
      ASSERT_TRUE(pair->map().validate()) << i;
    }
  }
  while (pair->live() != 0) pair->release();
  ASSERT_TRUE(pair->map().validate());
  ASSERT_EQ(pair->map().longest(0), kGranules);
}

// A run that reaches over the edges of blocks, in every position and length around them.
TEST(PercpuOffsetMapModel, FindsEveryRunAcrossTheEdgesOfBlocks) {
  for (unsigned blocks = 1; blocks <= 3; ++blocks) {
    for (const unsigned before : {0u, 1u, 5u, 64u, 1023u, 1024u}) {
      for (const unsigned after : {0u, 1u, 6u, 63u, 1023u, 1024u}) {
        const unsigned begin = 4 * kBlockGranules - before;
        const unsigned end = (3 + blocks) * kBlockGranules + after;
        if (begin == end) continue;
        OffsetMap map;
        map.take(0, begin);
        map.take(end, kGranules - end);
        ASSERT_EQ(map.longest(0), end - begin);
        ASSERT_EQ(map.find(end - begin, 1, 0), begin);
        ASSERT_EQ(map.find(end - begin + 1, 1, 0), OffsetMap::kNone);
        for (unsigned align = 1; align <= kBlockGranules; align *= 2) {
          const unsigned start = (begin + align - 1) / align * align;
          const unsigned fits = start < end ? end - start : 0;
          ASSERT_EQ(fits == 0 ? start : map.find(fits, align, 0), start) << align;
          ASSERT_EQ(map.find(fits + 1, align, 0), OffsetMap::kNone) << align;
        }
        if (before != 0) {
          // Closed on the left: only what lies beyond counts.
          ASSERT_EQ(map.find(end - begin, 1, blocks_between(3, 4)), OffsetMap::kNone);
        }
        ASSERT_TRUE(map.validate());
      }
    }
  }
}

}  // namespace
}  // namespace mmkit::percpu
