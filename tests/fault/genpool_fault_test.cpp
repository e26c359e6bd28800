// SPDX-License-Identifier: MIT
//
// Each allocation of metadata fails in turn: the call says out_of_memory and changes nothing.
#include <gtest/gtest.h>

#include <memory>
#include <mmkit/genalloc.hpp>

#include "fault/zpool_failing_heap.hpp"

namespace mmkit {
namespace {

using testing::FailingHeap;

TEST(GenPoolFault, CreateFailsAtEachAllocationAndLeavesNothing) {
  for (const auto how : {FailingHeap::Failing::once, FailingHeap::Failing::for_ever}) {
    std::uint64_t n = 1;
    for (;; ++n) {
      const std::size_t blocks = FailingHeap::live_blocks();
      FailingHeap::fail_nth(n, how);
      {
        const auto pool = GenPool::create();
        FailingHeap::succeed();
        if (FailingHeap::failed() == 0) {
          EXPECT_TRUE(pool);
          break;
        }
        ASSERT_FALSE(pool);
        EXPECT_EQ(pool.error(), Errc::out_of_memory);
      }
      EXPECT_EQ(FailingHeap::live_blocks(), blocks);
    }
    EXPECT_GE(n, 3u);
  }
}

TEST(GenPoolFault, AddChunkFailsAtEachAllocationAndLeavesThePoolAsItWas) {
  const auto pool = GenPool::create().value();
  // Enough chunks that the table of chunks has to grow at the next.
  for (std::uintptr_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(pool->add_chunk({.start = i * 1000, .size_bytes = 1000}));
  }
  std::uint64_t n = 1;
  for (;; ++n) {
    const std::size_t blocks = FailingHeap::live_blocks();
    FailingHeap::fail_nth(n, FailingHeap::Failing::once);
    const Status added = pool->add_chunk({.start = 100'000, .size_bytes = 10'000});
    FailingHeap::succeed();
    if (FailingHeap::failed() == 0) {
      EXPECT_TRUE(added);
      break;
    }
    ASSERT_EQ(added.error(), Errc::out_of_memory);
    EXPECT_EQ(FailingHeap::live_blocks(), blocks);
    EXPECT_EQ(pool->size_bytes(), 8000u);
    EXPECT_TRUE(pool->validate());
  }
  EXPECT_GE(n, 4u);
  EXPECT_EQ(pool->allocate(10'000).value(), 100'000u);
  pool->free(100'000, 10'000);
}

TEST(GenPoolFault, AllocationNeedsNoMemory) {
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 100'000}));
  FailingHeap::fail_nth(1, FailingHeap::Failing::for_ever);
  bool well = true;
  for (std::size_t i = 1; i < 400; ++i) well = well && pool->allocate(i).has_value();
  well = well && pool->allocate(30, BestFit{}).has_value();
  FailingHeap::succeed();
  EXPECT_TRUE(well);
  EXPECT_EQ(FailingHeap::failed(), 0u);
  EXPECT_TRUE(pool->validate());
  pool->free(0, 399 * 200 + 30);
}

}  // namespace
}  // namespace mmkit
