// SPDX-License-Identifier: MIT
//
// zsmalloc where a caller must not wait: what serves it when nothing is ready but pages that the source
// has retained, and when not even those.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/page/sim_page_allocator.hpp>
#include <set>
#include <vector>

#include "support/zsmalloc_fixture.hpp"

namespace mmkit {
namespace {

// Descriptors that a pool without zspages keeps ready: small ones, and some of any size.
constexpr std::size_t kSmallSpares = 8, kSpares = 10;
constexpr std::size_t kHuge = 4096;

class ZsmallocNowait : public testing::ZsmallocTest {
 protected:
  ZsmallocNowait() {
    source_ = SimPageAllocator::create(
                  {.capacity_bytes = std::size_t{64} << 20, .retain_bytes = std::size_t{32} << 20})
                  .value();
  }
  // Runs that were touched and came back.
  void retain_runs(std::size_t count, std::size_t pages) {
    std::vector<PageRun> runs;
    for (std::size_t i = 0; i < count; ++i) {
      runs.push_back(source_->allocate_pages({.pages = pages, .gfp = Gfp::kernel}).value());
      std::fill_n(runs.back().data, pages * kPageSize, std::byte{0xa5});
    }
    for (const PageRun& run : runs) source_->free_pages(run);
  }
  // Handles that were used and are free.
  void retain_handles(std::size_t count) {
    add(count, 32);
    free_if([this, count](std::size_t i) { return i >= handles_.size() - count; });
  }
};

TEST_F(ZsmallocNowait, TakesNoPageThatNobodyTouched) {
  make("");
  EXPECT_EQ(add_nowait(100).error(), Errc::out_of_memory);
  EXPECT_EQ(pool_->total_pages(), 0u);
  const ZpoolStats stats = pool_->stats();
  EXPECT_EQ(stats.failures, 1u);
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_TRUE(pool_->validate());
}

TEST_F(ZsmallocNowait, FindsRoomInZspagesThatAreThere) {
  make("cache=0");
  add(1, 1000);
  const std::size_t cells = class_of(1000).cells;
  for (std::size_t i = 1; i < cells; ++i) EXPECT_TRUE(add_nowait(1000)) << i;
  EXPECT_EQ(add_nowait(1000).error(), Errc::out_of_memory);
  EXPECT_EQ(class_of(1000).objects, cells);
  expect_intact();
}

TEST_F(ZsmallocNowait, FindsWhatThisCpuKeeps) {
  make("");
  add(2000, 1000);
  free_if([](std::size_t i) { return i >= 990 && i < 1000; });
  const std::size_t kept = class_of(1000).kept;
  ASSERT_GT(kept, 0u);
  EXPECT_TRUE(add_nowait(1000));
  EXPECT_EQ(class_of(1000).kept, kept - 1);
  const Handle zeroed = pool_->allocate(1000, Gfp::nowait | Gfp::zero).value();
  const auto bytes = pool_->map(zeroed, MapMode::read_only).value();
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{}), 1000);
  pool_->unmap(zeroed);
  handles_.push_back(zeroed);
  EXPECT_EQ(class_of(1000).kept, kept - 2);
  EXPECT_TRUE(pool_->validate());
}

// Descriptors are ready for some zspages. For more, a page of the run itself serves, behind the objects,
// so that a run is a page longer: never shorter than what its objects need.
TEST_F(ZsmallocNowait, DescribesMoreZspagesThanItHasMemoryReadyFor) {
  make("cache=0");
  retain_runs(200, 2);
  for (std::size_t i = 0; i < kSpares; ++i) ASSERT_TRUE(add_nowait(kHuge));
  EXPECT_EQ(pool_->total_pages(), kSpares);
  for (std::size_t i = 0; i < 5; ++i) ASSERT_TRUE(add_nowait(kHuge));
  EXPECT_EQ(pool_->total_pages(), kSpares + 2 * 5);
  EXPECT_EQ(class_of(kHuge).pages, pool_->total_pages());
  expect_intact();

  // One who may wait has some made ready for the next.
  add(1, kHuge);
  EXPECT_EQ(pool_->total_pages(), kSpares + 2 * 5 + 1);
  for (std::size_t i = 0; i < kSmallSpares; ++i) ASSERT_TRUE(add_nowait(kHuge));
  EXPECT_EQ(pool_->total_pages(), kSpares + 2 * 5 + 1 + kSmallSpares);
  expect_intact();
  const std::size_t metadata = pool_->stats().metadata_bytes;
  free_if([](std::size_t) { return true; });
  EXPECT_EQ(pool_->total_pages(), 0u);
  EXPECT_LE(pool_->stats().metadata_bytes, metadata);
}

TEST_F(ZsmallocNowait, CompactsAndEvictsZspagesThatDescribeThemselves) {
  std::set<Handle> gone;
  make("cache=0", [&](Handle handle) {
    gone.insert(handle);
    return pool_->free(handle);
  });
  retain_handles(400);
  retain_runs(40, 17);
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(add_nowait(1500));
  free_if([](std::size_t i) { return i % 4 != 0; });
  const std::size_t before = pool_->total_pages();
  const std::size_t freed = pool_->compact().value();
  EXPECT_GT(freed, 0u);
  EXPECT_EQ(pool_->total_pages(), before - freed);
  EXPECT_EQ(pool_->stats().compactable_pages, 0u);
  expect_intact();
  const ShrinkOutcome done = pool_->shrink(before - freed);
  EXPECT_TRUE(done.status);
  EXPECT_EQ(done.reclaimed_pages, before - freed);
  forget(gone);
  EXPECT_TRUE(handles_.empty());
}

// The longest zspages of all, with their descriptors inside, still are no longer than the driver says.
TEST_F(ZsmallocNowait, TakesNoRunLongerThanThereMayBe) {
  // Of classes with sixteen pages a zspage, and so many objects that shorter ones would waste more.
  constexpr std::size_t kSize = 3120, kOld = 2100, kCells = 21;
  std::set<Handle> gone;
  make("chain_pages=16,cache=0", [&](Handle handle) {
    gone.insert(handle);
    return pool_->free(handle);
  });
  ASSERT_EQ(pool_->size_classes()[pool_->size_classes().find(kSize)].pages, 16u);
  ASSERT_EQ(pool_->size_classes()[pool_->size_classes().find(kSize)].objects, kCells);
  add(kOld, kSize);
  retain_handles(16 * kCells);
  retain_runs(60, 17);
  for (std::size_t i = 0; i < 16 * kCells; ++i) ASSERT_TRUE(add_nowait(kSize)) << i;
  expect_intact();
  free_if([](std::size_t i) { return i < kOld; });
  while (pool_->total_pages() != 0) {
    const ShrinkOutcome done = pool_->shrink(1);
    ASSERT_TRUE(done.status);
    EXPECT_LE(done.reclaimed_pages, ZsmallocPool::kTraits.most_run_pages);
  }
  forget(gone);
}

// A pool that was never used has handles for some, and says so when they are used up.
TEST_F(ZsmallocNowait, HasHandlesReadyForSome) {
  make("cache=0");
  retain_runs(10, 2);
  std::size_t added = 0;
  while (add_nowait(32)) ++added;
  EXPECT_GE(added, 64u);
  EXPECT_LT(class_of(32).objects, class_of(32).cells) << "there was room";
  const ZpoolStats before = pool_->stats();
  EXPECT_EQ(add_nowait(32).error(), Errc::out_of_memory);
  EXPECT_EQ(add_nowait(2000).error(), Errc::out_of_memory);
  EXPECT_EQ(pool_->stats().pages, before.pages) << "no zspage for an object without a handle";
  EXPECT_EQ(pool_->stats().failures, before.failures + 2);
  expect_intact();
  add(1, 32);
  EXPECT_TRUE(add_nowait(32)) << "who may wait has made more";
}

}  // namespace
}  // namespace mmkit
