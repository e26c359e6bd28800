// SPDX-License-Identifier: MIT
//
// The std::pmr resource over a pool, and ranges that free themselves.
#include <mmkit/genalloc/pool_resource.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <memory_resource>
#include <mmkit/genalloc.hpp>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

constexpr std::size_t kBytes = 1 << 16;

/// Memory of this process and a pool over it, from an odd start on when asked for.
class HostPool {
 public:
  explicit HostPool(std::size_t skip_bytes = 0, unsigned order = 4)
      : pool_(GenPool::create({.min_alloc_order = order, .kind = AddressKind::host}).value()) {
    start_ = reinterpret_cast<std::uintptr_t>(memory_.get()) + skip_bytes;
    EXPECT_TRUE(pool_->add_chunk({.start = start_, .size_bytes = kBytes}));
  }
  GenPool& pool() { return *pool_; }
  std::uintptr_t start() const { return start_; }

 private:
  struct alignas(8192) Memory {
    unsigned char bytes[kBytes + 64];
  };
  std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();
  std::unique_ptr<GenPool> pool_;
  std::uintptr_t start_ = 0;
};

TEST(GenPoolResource, KeepsEveryAlignment) {
  HostPool host;
  GenPoolResource resource(host.pool());
  for (std::size_t align = 1; align <= 4096; align *= 2) {
    void* const odd = resource.allocate(17, 1);  // so that the next place is not aligned by chance
    void* const block = resource.allocate(100, align);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % align, 0u) << align;
    static_cast<unsigned char*>(block)[99] = 1;
    resource.deallocate(block, 100, align);
    resource.deallocate(odd, 17, 1);
  }
  EXPECT_EQ(host.pool().available_bytes(), kBytes);
}

TEST(GenPoolResource, AChunkThatStartsAskewServesWhatItCan) {
  HostPool host(/*skip_bytes=*/8);
  GenPoolResource resource(host.pool());
  // Granules of 16 bytes from an address that is 8 beyond a multiple: none is a multiple of 16.
  void* const block = resource.allocate(100, 8);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 16, 8u);
  for (const std::size_t align : {16u, 64u, 4096u}) {
    EXPECT_THROW(static_cast<void>(resource.allocate(100, align)), std::bad_alloc) << align;
  }
  EXPECT_EQ(host.pool().available_bytes(), kBytes - 112) << "nothing of the refused ones is left";
  resource.deallocate(block, 100, 8);
}

TEST(GenPoolResource, ExhaustionThrowsAndIsOverWhenSomethingIsFreed) {
  HostPool host;
  GenPoolResource resource(host.pool());
  std::vector<void*> blocks;
  for (std::size_t i = 0; i < kBytes / 1024; ++i) blocks.push_back(resource.allocate(1024, 16));
  EXPECT_THROW(static_cast<void>(resource.allocate(1, 1)), std::bad_alloc);
  resource.deallocate(blocks.back(), 1024, 16);
  blocks.back() = resource.allocate(1000, 16);
  EXPECT_THROW(static_cast<void>(resource.allocate(17, 1)), std::bad_alloc);
  for (void* const block : blocks) {
    resource.deallocate(block, block == blocks.back() ? 1000 : 1024, 16);
  }
  EXPECT_EQ(host.pool().available_bytes(), kBytes);
}

TEST(GenPoolResource, SizesThatCannotBeThrow) {
  HostPool host;
  GenPoolResource resource(host.pool());
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  for (const std::size_t size : {kMost, kMost - 15, kMost / 2 + 1, kBytes + 1}) {
    EXPECT_THROW(static_cast<void>(resource.allocate(size, 1)), std::bad_alloc) << size;
  }
  EXPECT_EQ(host.pool().available_bytes(), kBytes);
}

TEST(GenPoolResource, EmptyBlocksHaveAddressesOfTheirOwn) {
  HostPool host;
  GenPoolResource resource(host.pool());
  void* const first = resource.allocate(0, 1);
  void* const second = resource.allocate(0, 1);
  EXPECT_NE(first, second);
  resource.deallocate(first, 0, 1);
  resource.deallocate(second, 0, 1);
  EXPECT_EQ(host.pool().available_bytes(), kBytes);
}

TEST(GenPoolResource, IsEqualToThoseOfTheSamePoolAlone) {
  HostPool host, other;
  const GenPoolResource one(host.pool()), same(host.pool()), foreign(other.pool());
  EXPECT_EQ(one, same);
  EXPECT_NE(one, foreign);
  EXPECT_NE(one, *std::pmr::null_memory_resource());
  EXPECT_EQ(&one.pool(), &host.pool());
}

TEST(GenPoolResource, IsUpstreamOfOtherResourcesAndNodesOfMaps) {
  HostPool host;
  {
    GenPoolResource resource(host.pool());
    std::pmr::monotonic_buffer_resource arena(256, &resource);
    std::pmr::map<int, std::pmr::string> words(&arena);
    std::pmr::map<int, std::pmr::string> others(&resource);
    for (int i = 0; i < 200; ++i) {
      words[i] = std::pmr::string(40, static_cast<char>('a' + i % 26));
      others[i] = words[i];
      if (i % 3 == 0) others.erase(i / 2);
    }
    for (const auto& [number, text] : others) EXPECT_EQ(text, words[number]);
  }
  EXPECT_EQ(host.pool().available_bytes(), kBytes);
  EXPECT_TRUE(host.pool().validate());
}

TEST(GenPoolAllocation, IsMovedAndNeverCopied) {
  static_assert(!std::is_copy_constructible_v<GenPoolAllocation>);
  static_assert(!std::is_copy_assignable_v<GenPoolAllocation>);
  static_assert(std::is_nothrow_move_constructible_v<GenPoolAllocation>);
  static_assert(std::is_nothrow_move_assignable_v<GenPoolAllocation>);
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 1000}));
  {
    std::vector<GenPoolAllocation> all;
    for (std::size_t i = 1; i <= 20; ++i) {
      all.push_back(GenPoolAllocation::make(*pool, i).value());
    }
    EXPECT_EQ(pool->available_bytes(), 1000u - 210);
    all.erase(all.begin() + 5, all.begin() + 10);
    EXPECT_EQ(pool->available_bytes(), 1000u - 210 + 6 + 7 + 8 + 9 + 10);
    for (const GenPoolAllocation& one : all) EXPECT_TRUE(one);
    std::swap(all.front(), all.back());
    EXPECT_EQ(all.front().size_bytes(), 20u);
  }
  EXPECT_EQ(pool->available_bytes(), 1000u);
}

TEST(GenPoolAllocation, SurvivesAMoveToItself) {
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 40, .size_bytes = 100}));
  GenPoolAllocation one = GenPoolAllocation::make(*pool, 10).value();
  GenPoolAllocation& same = one;
  one = std::move(same);
  EXPECT_TRUE(one);
  EXPECT_EQ(one.start(), 40u);
  EXPECT_EQ(one.size_bytes(), 10u);
  EXPECT_EQ(pool->available_bytes(), 90u);
}

TEST(GenPoolAllocation, HoldsAddressZero) {
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 100}));
  GenPoolAllocation one = GenPoolAllocation::make(*pool, 10).value();
  EXPECT_TRUE(one) << "an address of 0 is an address";
  EXPECT_EQ(one.start(), 0u);
  one.reset();
  EXPECT_FALSE(one);
  one.reset();
  EXPECT_EQ(one.size_bytes(), 0u);
  EXPECT_EQ(pool->available_bytes(), 100u);
}

TEST(GenPoolAllocation, HandsOnEachErrorAndHoldsNothing) {
  const auto pool = GenPool::create({.min_alloc_order = 4}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 160}));
  EXPECT_EQ(GenPoolAllocation::make(*pool, 0).error(), Errc::invalid_argument);
  EXPECT_EQ(GenPoolAllocation::make(*pool, 161).error(), Errc::no_space);
  EXPECT_EQ(GenPoolAllocation::make(*pool, 16, FixedFit{8}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->available_bytes(), 160u);
}

}  // namespace
}  // namespace mmkit
