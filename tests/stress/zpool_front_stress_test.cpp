// SPDX-License-Identifier: MIT
//
// What lies in front of the drivers under threads: the limit of a pool, and the list of live pools.
//
// Loads are in operations, scaled by MMKIT_SCALE.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/sanitized.hpp"
#include "support/scale.hpp"
#include "zpool/limited_page_source.hpp"

namespace mmkit {
namespace {

constexpr unsigned kThreads = 4;

template <class Body>
void run_threads(unsigned count, Body&& body) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t) threads.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : threads) thread.join();
}

// Counts what is held and the most that ever was; has no pages.
class CountingPages final : public PageSource {
 public:
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    const std::size_t held = held_.fetch_add(request.pages) + request.pages;
    std::size_t peak = peak_.load();
    while (held > peak && !peak_.compare_exchange_weak(peak, held)) {
    }
    return PageRun{nullptr, request.pages, Pfn{}};
  }
  void free_pages(PageRun run) noexcept override { held_.fetch_sub(run.pages); }
  PageSourceStats stats() const noexcept override {
    PageSourceStats stats;
    stats.held_pages = held_.load();
    stats.peak_pages = peak_.load();
    return stats;
  }

 private:
  std::atomic<std::size_t> held_{0}, peak_{0};
};

TEST(LimitStress, NeverPassesWhenThreadsGrowAtOnce) {
  constexpr std::size_t kLimit = 2 * kThreads;
  const std::uint64_t rounds = testing::scaled(400'000, 20'000);
  CountingPages pages;
  LimitedPageSource limited(pages, kLimit);
  std::atomic<std::uint64_t> refused{0};
  run_threads(kThreads, [&](unsigned t) {
    // Takes until it is refused, then gives one back: so all are at the limit all the time.
    std::vector<PageRun> mine;
    for (std::uint64_t i = 0; i < rounds && pages.stats().peak_pages <= kLimit; ++i) {
      const Result<PageRun> run = limited.allocate_pages({.pages = 1 + (i + t) % 2});
      if (run) {
        mine.push_back(*run);
        continue;
      }
      refused.fetch_add(1);
      if (mine.empty()) continue;
      limited.free_pages(mine.back());
      mine.pop_back();
    }
    for (const PageRun& run : mine) limited.free_pages(run);
  });
  EXPECT_LE(pages.stats().peak_pages, kLimit);
  EXPECT_EQ(pages.stats().held_pages, 0u);
  EXPECT_EQ(limited.refusals(), refused.load());
  // All of it is there again.
  EXPECT_TRUE(limited.allocate_pages({.pages = kLimit}));
  EXPECT_FALSE(limited.allocate_pages({.pages = 1}));
}

// A fork while another thread looks at a pool. The child uses the stack of that thread for others;
// nothing in the list may lie there.
TEST(LivePoolsStress, AVisitorOfTheParentLeavesNothingInTheChild) {
  // ThreadSanitizer allows no thread in the child of a process with threads.
  if (testing::kSanitized) GTEST_SKIP() << "needs threads in the child";
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  std::array<std::unique_ptr<Zpool>, 3> pools;
  for (auto& pool : pools) pool = Zpool::create("zbud", {.pages = source.get()}).value();
  std::atomic<bool> inside{false}, leave{false};
  std::thread visitor([&] {
    unsigned seen = 0;
    for_each_live_pool([&](const ZpoolInfo&) {
      if (++seen != 2) return;
      inside = true;
      while (!leave) std::this_thread::yield();
    });
    EXPECT_EQ(seen, 3u);
  });
  while (!inside) std::this_thread::yield();
  const int code = testing::run_in_child([&] {
    run_threads(2, [](unsigned) {
      std::byte stack[256 * 1024];
      std::memset(stack, 0x5a, sizeof stack);
      asm volatile("" : : "r"(stack) : "memory");  // or it is not written
    });
    unsigned seen = 0;
    for_each_live_pool([&seen](const ZpoolInfo&) { ++seen; });
    if (seen != 3) return 1;
    for (auto& pool : pools) pool.reset();
    for_each_live_pool([&seen](const ZpoolInfo&) { ++seen; });
    return seen == 3 ? 0 : 2;
  });
  EXPECT_EQ(code, 0);
  leave = true;
  visitor.join();
}

}  // namespace
}  // namespace mmkit
