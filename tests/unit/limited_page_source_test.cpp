// SPDX-License-Identifier: MIT
#include "zpool/limited_page_source.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <thread>
#include <vector>

#include "support/scale.hpp"

namespace mmkit {
namespace {

class LimitedPages : public ::testing::Test {
 protected:
  std::unique_ptr<SimPageAllocator> source_ =
      SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20, .shareable = true}).value();
};

TEST_F(LimitedPages, AreCountedUpToTheLimit) {
  LimitedPageSource limited(*source_, 5);
  EXPECT_TRUE(limited.limited());
  EXPECT_EQ(limited.limit_pages(), 5u);
  const PageRun three = limited.allocate_pages({.pages = 3}).value();
  EXPECT_EQ(limited.allocate_pages({.pages = 3}).error(), Errc::out_of_memory);
  const PageRun two = limited.allocate_pages({.pages = 2}).value();
  EXPECT_EQ(limited.allocate_pages({}).error(), Errc::out_of_memory);
  EXPECT_EQ(limited.refusals(), 2u);
  limited.free_pages(three);
  EXPECT_EQ(limited.allocate_pages({.pages = 4}).error(), Errc::out_of_memory);
  limited.free_pages(limited.allocate_pages({.pages = 3}).value());
  limited.free_pages(two);
  limited.free_pages(limited.allocate_pages({.pages = 5}).value());
  EXPECT_EQ(limited.refusals(), 3u);
  EXPECT_EQ(source_->stats().held_pages, 0u);
  EXPECT_EQ(source_->stats().failures, 0u) << "what the limit refuses is not asked for below";
}

TEST_F(LimitedPages, AreRefusedInAnyAmountBeyondTheLimit) {
  LimitedPageSource limited(*source_, 5);
  const PageRun one = limited.allocate_pages({}).value();
  for (const std::size_t pages : {std::size_t{5}, std::size_t{1} << 40, ~std::size_t{0}}) {
    EXPECT_EQ(limited.allocate_pages({.pages = pages}).error(), Errc::out_of_memory) << pages;
  }
  limited.free_pages(one);
}

TEST_F(LimitedPages, WithoutALimitAreOnlyCounted) {
  LimitedPageSource unlimited(*source_, LimitedPageSource::kNoLimit);
  EXPECT_FALSE(unlimited.limited());
  const PageRun run = unlimited.allocate_pages({.pages = 100}).value();
  // The source says no, and that is no refusal of the limit's.
  EXPECT_EQ(unlimited.allocate_pages({.pages = 1000}).error(), Errc::out_of_memory);
  EXPECT_EQ(unlimited.refusals(), 0u);
  unlimited.free_pages(run);
}

TEST_F(LimitedPages, GiveTheirPlaceBackWhenTheSourceHasNone) {
  FailingPageSource failing(*source_);
  LimitedPageSource limited(failing, 2);
  for (int i = 0; i < 10; ++i) {
    failing.fail_nth(1, FailingPageSource::Repeat::once);
    EXPECT_EQ(limited.allocate_pages({.pages = 2}).error(), Errc::out_of_memory);
  }
  EXPECT_EQ(limited.refusals(), 0u);
  limited.free_pages(limited.allocate_pages({.pages = 2}).value());
}

TEST_F(LimitedPages, AreThoseOfTheSourceInAllElse) {
  LimitedPageSource limited(*source_, 5);
  const PageRun run = limited.allocate_pages({.pages = 2}).value();
  EXPECT_EQ(limited.share(run)->fd, source_->share(run)->fd);
  EXPECT_EQ(limited.share(run)->offset_bytes, source_->share(run)->offset_bytes);
  EXPECT_EQ(limited.stats().held_pages, 2u);
  EXPECT_FALSE(limited.inherited_by_fork());
  EXPECT_EQ(limited.allocate_pages({.pages = 0}).error(), Errc::invalid_argument);
  limited.free_pages(run);

  const auto plain = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  EXPECT_TRUE(LimitedPageSource(*plain, 5).inherited_by_fork());
}

TEST_F(LimitedPages, NeverExceedTheLimitForManyThreads) {
  LimitedPageSource limited(*source_, 7);
  std::atomic<std::size_t> held{0};
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      const std::size_t pages = 1 + id;
      for (std::uint64_t i = 0; i < testing::scaled(1000); ++i) {
        const Result<PageRun> run = limited.allocate_pages({.pages = pages});
        if (!run) continue;
        EXPECT_LE(held.fetch_add(pages) + pages, 7u);
        held.fetch_sub(pages);
        limited.free_pages(*run);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  limited.free_pages(limited.allocate_pages({.pages = 7}).value());
}

}  // namespace
}  // namespace mmkit
