// SPDX-License-Identifier: MIT
//
// FailingPageSource: which calls fail, and that everything else goes through.
#include <gtest/gtest.h>

#include <memory>
#include <mmkit/page.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <string>
#include <thread>
#include <vector>

namespace mmkit {
namespace {

using Repeat = FailingPageSource::Repeat;

std::unique_ptr<SimPageAllocator> make_inner(bool shareable = false) {
  SimPageAllocatorOptions options;
  options.capacity_bytes = 64 * kPageSize;
  options.shareable = shareable;
  return std::move(SimPageAllocator::create(options)).value();
}

// One letter an allocation: '.' for success, 'x' for the code asked for, '?' for another.
std::string outcomes(FailingPageSource& pages, int calls, Errc code = Errc::out_of_memory) {
  std::string letters;
  for (int i = 0; i < calls; ++i) {
    const Result<PageRun> run = pages.allocate_pages({});
    letters += run ? '.' : run.error() == code ? 'x' : '?';
    if (run) pages.free_pages(*run);
  }
  return letters;
}

TEST(FailingPageSource, LetsEverythingThroughUntilTold) {
  const auto inner = make_inner();
  FailingPageSource pages(*inner);
  EXPECT_EQ(outcomes(pages, 5), ".....");
  EXPECT_EQ(pages.allocate_calls(), 5u);
  EXPECT_EQ(pages.free_calls(), 5u);
  EXPECT_EQ(pages.failed_calls(), 0u);
}

TEST(FailingPageSource, FailsTheNthOnceCountedFromNow) {
  const auto inner = make_inner();
  FailingPageSource pages(*inner);
  EXPECT_EQ(outcomes(pages, 3), "...");
  pages.fail_nth(1, Repeat::once);
  EXPECT_EQ(outcomes(pages, 4), "x...");
  pages.fail_nth(3, Repeat::once);
  EXPECT_EQ(outcomes(pages, 6), "..x...");
  EXPECT_EQ(pages.failed_calls(), 1u);
  EXPECT_EQ(inner->stats().failures, 0u);  // the inner source never heard of them
}

TEST(FailingPageSource, FailsFromTheNthOnForEverUntilItMaySucceed) {
  const auto inner = make_inner();
  FailingPageSource pages(*inner);
  pages.fail_nth(3, Repeat::for_ever, Errc::try_again);
  EXPECT_EQ(outcomes(pages, 6, Errc::try_again), "..xxxx");
  EXPECT_EQ(pages.failed_calls(), 4u);
  pages.succeed();
  EXPECT_EQ(outcomes(pages, 3), "...");
  pages.fail_nth(2, Repeat::once);
  EXPECT_EQ(pages.failed_calls(), 0u);
  EXPECT_EQ(outcomes(pages, 3), ".x.");
}

TEST(FailingPageSource, ForwardsTheRest) {
  const auto inner = make_inner(/*shareable=*/true);
  FailingPageSource pages(*inner);
  const PageRun run = pages.allocate_pages({.pages = 3}).value();
  EXPECT_EQ(pages.stats().held_pages, 3u);
  EXPECT_EQ(pages.share(run).value().offset_bytes, inner->share(run).value().offset_bytes);
  EXPECT_FALSE(pages.inherited_by_fork());
  pages.free_pages(run);
  EXPECT_EQ(inner->stats().held_pages, 0u);
}

TEST(FailingPageSource, FailsAsManyAsAskedWhenThreadsRace) {
  const auto inner = make_inner();
  FailingPageSource pages(*inner);
  pages.fail_nth(501, Repeat::for_ever);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { outcomes(pages, 250); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pages.allocate_calls(), 1000u);
  EXPECT_EQ(pages.failed_calls(), 500u);
  EXPECT_EQ(pages.free_calls(), 500u);
}

}  // namespace
}  // namespace mmkit
