// SPDX-License-Identifier: MIT
//
// SimPageAllocator: what it refuses, where it places, what it counts, what it retains. Each place
// is named by its frame, since the same calls give the same frames.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <mmkit/page.hpp>
#include <utility>
#include <vector>

#include "support/captured_failure.hpp"
#include "support/page_memory.hpp"

namespace mmkit {
namespace {

using testing::fill_run;
using testing::run_is;

using Options = SimPageAllocatorOptions;

std::unique_ptr<SimPageAllocator> make(const Options& options) {
  return std::move(SimPageAllocator::create(options)).value();
}
Options small(std::size_t pages, std::size_t retain_pages = 0, unsigned nodes = 1) {
  return {.capacity_bytes = pages * kPageSize,
          .retain_bytes = retain_pages * kPageSize,
          .nodes = nodes,
          .shareable = false};
}
std::uint64_t frame(const PageRun& run) {
  return static_cast<std::uint64_t>(run.first);
}
PageRun take(SimPageAllocator& pages, const PageRequest& request = {}) {
  const Result<PageRun> run = pages.allocate_pages(request);
  return run.value();
}
Errc refusal(SimPageAllocator& pages, const PageRequest& request) {
  const Result<PageRun> run = pages.allocate_pages(request);
  return run ? Errc{} : run.error();
}

TEST(SimPageAllocator, CreateRefusesWhatCannotBe) {
  const auto error = [](const Options& options) {
    const auto made = SimPageAllocator::create(options);
    return made ? Errc{} : made.error();
  };
  EXPECT_EQ(error({.capacity_bytes = 0}), Errc::invalid_argument);
  EXPECT_EQ(error({.nodes = 0}), Errc::invalid_argument);
  EXPECT_EQ(error({.nodes = SimPageAllocator::kMaxNodes + 1}), Errc::invalid_argument);
  EXPECT_EQ(error({.capacity_bytes = kPageSize - 1}), Errc::invalid_argument);
  EXPECT_EQ(error({.capacity_bytes = 4 * kPageSize - 1, .nodes = 4}), Errc::invalid_argument);
  EXPECT_EQ(error({.capacity_bytes = ~std::size_t{0}}), Errc::out_of_memory);
  EXPECT_EQ(error({.capacity_bytes = ~std::size_t{0}, .nodes = 1024}), Errc::out_of_memory);
  EXPECT_EQ(error({.capacity_bytes = std::size_t{17} << 40}), Errc::out_of_memory);
}

TEST(SimPageAllocator, CapacityIsRoundedUpToPagesANode) {
  EXPECT_EQ(make({.capacity_bytes = kPageSize})->capacity_pages(), 1u);
  EXPECT_EQ(make({.capacity_bytes = kPageSize + 1})->capacity_pages(), 2u);
  const auto pages = make({.capacity_bytes = 10 * kPageSize, .nodes = 4});
  EXPECT_EQ(pages->capacity_pages(), 12u);
  EXPECT_EQ(pages->nodes(), 4u);
}

TEST(SimPageAllocator, MostNodesAndTheDefaultsWork) {
  const auto most = make(small(1024, 0, 1024));
  const PageRun last = take(*most, {.node = 1023});
  EXPECT_EQ(frame(last), 1023u);
  EXPECT_EQ(most->node_of(last), 1023u);
  most->free_pages(last);
  const auto usual = make({});
  EXPECT_EQ(usual->capacity_pages(), (std::size_t{64} << 30) / kPageSize);
  usual->free_pages(take(*usual));
  EXPECT_TRUE(usual->validate());
}

TEST(SimPageAllocator, RefusesIllegalRequests) {
  const auto pages = make(small(64, 0, 2));
  EXPECT_EQ(refusal(*pages, {.pages = 0}), Errc::invalid_argument);
  EXPECT_EQ(refusal(*pages, {.align_pages = 0}), Errc::invalid_argument);
  EXPECT_EQ(refusal(*pages, {.align_pages = 3}), Errc::invalid_argument);
  EXPECT_EQ(refusal(*pages, {.node = 2}), Errc::invalid_argument);
  EXPECT_EQ(refusal(*pages, {.node = -2}), Errc::invalid_argument);
  EXPECT_EQ(refusal(*pages, {.pages = 33}), Errc::out_of_memory);  // more than a node
  EXPECT_EQ(refusal(*pages, {.pages = ~std::size_t{0}}), Errc::out_of_memory);
  EXPECT_EQ(refusal(*pages, {.pages = ~std::size_t{0}, .gfp = Gfp::nowait}), Errc::out_of_memory);
  EXPECT_EQ(refusal(*pages, {.pages = 0, .gfp = Gfp::nowait}), Errc::invalid_argument);
  EXPECT_EQ(pages->stats().failures, 9u);
  EXPECT_EQ(pages->stats().allocations, 0u);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageAllocator, FramesAndAddressesGoTogether) {
  const auto pages = make(small(4096));
  const PageRun base = take(*pages);
  EXPECT_EQ(frame(base), 0u);
  for (std::size_t align = 1; align <= 1024; align *= 2) {
    const PageRun run = take(*pages, {.pages = 3, .align_pages = align});
    EXPECT_EQ(run.pages, 3u);
    EXPECT_EQ(frame(run) % align, 0u);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(run.data) % (align * kPageSize), 0u);
    EXPECT_EQ(run.data, base.data + frame(run) * kPageSize);
    pages->free_pages(run);
  }
  // Beyond the largest alignment of the range it is the frame's number that counts.
  const PageRun far = take(*pages, {.pages = 1, .align_pages = 2048});
  EXPECT_EQ(frame(far), 2048u);
  EXPECT_EQ(refusal(*pages, {.pages = 1, .align_pages = std::size_t{1} << 63}),
            Errc::out_of_memory);  // frame 0 is held, and there is no other multiple
  pages->free_pages(far);
  pages->free_pages(base);
}

TEST(SimPageAllocator, TheSameCallsGiveTheSameFrames) {
  std::vector<std::uint64_t> first;
  for (int round = 0; round < 2; ++round) {
    const auto pages = make(small(500, 20));
    std::vector<std::uint64_t> frames;
    std::vector<PageRun> held;
    for (std::size_t i = 0; i < 400; ++i) {
      const Result<PageRun> run =
          pages->allocate_pages({.pages = 1 + i * 7 % 11, .align_pages = i % 3 == 0 ? 4u : 1u});
      if (run) {
        frames.push_back(frame(*run));
        held.push_back(*run);
      }
      if (i % 2 == 0 && !held.empty()) {
        pages->free_pages(held[i * 13 % held.size()]);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(i * 13 % held.size()));
      }
    }
    for (const PageRun& run : held) pages->free_pages(run);
    EXPECT_GT(frames.size(), 100u);
    if (round == 0) {
      first = frames;
    } else {
      EXPECT_EQ(frames, first);
    }
  }
}

TEST(SimPageAllocator, ANodeIsAPreference) {
  const auto pages = make(small(12, 12, 3));
  std::vector<PageRun> held;
  const auto next = [&](int node) {
    held.push_back(take(*pages, {.pages = 2, .node = node}));
    return std::pair(frame(held.back()), pages->node_of(held.back()));
  };
  EXPECT_EQ(next(1), std::pair(std::uint64_t{4}, 1u));
  EXPECT_EQ(next(1), std::pair(std::uint64_t{6}, 1u));
  EXPECT_EQ(next(1), std::pair(std::uint64_t{0}, 0u));  // full: the others in their order
  EXPECT_EQ(next(2), std::pair(std::uint64_t{8}, 2u));
  EXPECT_EQ(next(kAnyNode), std::pair(std::uint64_t{2}, 0u));
  EXPECT_EQ(next(0), std::pair(std::uint64_t{10}, 2u));
  EXPECT_EQ(refusal(*pages, {}), Errc::out_of_memory);
  for (const PageRun& run : held) pages->free_pages(run);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageAllocator, ZeroedRunsReadAsZeroWhateverTheyHeld) {
  const auto pages = make(small(64, 64));
  PageRun run = take(*pages, {.pages = 8, .gfp = Gfp::zero});
  EXPECT_TRUE(run_is(run, 0));
  fill_run(run, 0x5a);
  pages->free_pages(run);
  run = take(*pages, {.pages = 8});
  EXPECT_TRUE(run_is(run, 0x5a));  // retained as it was
  pages->free_pages(run);
  const PageRun head = take(*pages, {.pages = 3, .gfp = Gfp::zero});
  EXPECT_TRUE(run_is(head, 0));
  const PageRun tail = take(*pages, {.pages = 5, .gfp = Gfp::zero | Gfp::nowait});
  EXPECT_TRUE(run_is(tail, 0));
  fill_run(head, 0x5a);
  fill_run(tail, 0x5a);
  pages->free_pages(head);
  pages->free_pages(tail);
  // The last resort joins dirty and fresh frames.
  const PageRun all = take(*pages, {.pages = 64, .gfp = Gfp::zero});
  EXPECT_TRUE(run_is(all, 0));
  pages->free_pages(all);
}

TEST(SimPageAllocator, MemoryThatWasGivenBackReadsAsZero) {
  for (const bool shareable : {false, true}) {
    Options options = small(64, 16);
    options.shareable = shareable;
    const auto pages = make(options);
    const PageRun run = take(*pages, {.pages = 16});
    fill_run(run, 0x5a);
    pages->free_pages(run);
    EXPECT_EQ(pages->release(), 16u);
    const PageRun again = take(*pages, {.pages = 16});
    EXPECT_EQ(frame(again), frame(run));
    EXPECT_TRUE(run_is(again, 0));
    pages->free_pages(again);
  }
}

TEST(SimPageAllocator, NowaitTakesRetainedMemoryAlone) {
  const auto pages = make(small(64, 64));
  EXPECT_EQ(refusal(*pages, {.gfp = Gfp::nowait}), Errc::out_of_memory);
  std::vector<PageRun> runs;
  for (int i = 0; i < 8; ++i) runs.push_back(take(*pages, {.pages = 2}));
  for (const int i : {5, 2, 3, 7}) pages->free_pages(runs[static_cast<std::size_t>(i)]);
  EXPECT_EQ(refusal(*pages, {.pages = 5, .gfp = Gfp::nowait}), Errc::out_of_memory);
  const PageRun joined = take(*pages, {.pages = 3, .gfp = Gfp::nowait});
  EXPECT_EQ(frame(joined), 4u);  // the runs at 4 and 6 lie together
  const PageRun exact = take(*pages, {.pages = 2, .gfp = Gfp::nowait});
  EXPECT_EQ(frame(exact), 14u);  // freed last
  EXPECT_TRUE(pages->validate());
  EXPECT_EQ(pages->stats().retained_pages, 3u);
  pages->free_pages(joined);
  pages->free_pages(exact);
  for (const int i : {0, 1, 4, 6}) pages->free_pages(runs[static_cast<std::size_t>(i)]);
}

TEST(SimPageAllocator, RetainsUpToTheLimitThenGivesTheOldestBack) {
  const auto pages = make(small(256, 16));
  std::vector<PageRun> runs;
  for (int i = 0; i < 32; ++i) runs.push_back(take(*pages));
  for (std::size_t i = 0; i < 16; ++i) pages->free_pages(runs[i]);
  EXPECT_EQ(pages->stats().retained_pages, 16u);
  EXPECT_EQ(pages->stats().release_calls, 0u);  // not one call up to the limit
  pages->free_pages(runs[16]);
  PageSourceStats stats = pages->stats();
  EXPECT_EQ(stats.retained_pages, 8u);
  EXPECT_EQ(stats.release_calls, 1u);  // frames 0..8 lie together
  EXPECT_EQ(stats.resident_pages, 15u + 8u);
  EXPECT_EQ(frame(take(*pages)), 16u);
  for (std::uint64_t expected = 15; expected >= 9; --expected) {
    EXPECT_EQ(frame(take(*pages)), expected);  // the young are still here
  }
  EXPECT_EQ(frame(take(*pages)), 0u);  // the old went back
  pages->free_pages(runs[0]);
  for (std::size_t i = 9; i < 32; ++i) pages->free_pages(runs[i]);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageAllocator, BackAndForthAtTheLimitCostsNoCalls) {
  const auto pages = make(small(1024, 32));
  std::vector<PageRun> runs;
  for (int i = 0; i < 100; ++i) runs.push_back(take(*pages));
  for (int i = 0; i < 34; ++i) {
    pages->free_pages(runs.back());
    runs.pop_back();
  }
  const std::uint64_t calls = pages->stats().release_calls;
  EXPECT_GT(calls, 0u);
  for (int round = 0; round < 1000; ++round) {
    for (int i = 0; i < 8; ++i) runs.push_back(take(*pages));
    for (int i = 0; i < 8; ++i) {
      pages->free_pages(runs.back());
      runs.pop_back();
    }
  }
  EXPECT_EQ(pages->stats().release_calls, calls);
  for (const PageRun& run : runs) pages->free_pages(run);
}

TEST(SimPageAllocator, ARunLongerThanTheLimitGoesBackAtOnceAndAlone) {
  const auto pages = make(small(256, 16));
  const PageRun kept = take(*pages, {.pages = 16});
  const PageRun longer = take(*pages, {.pages = 17});
  pages->free_pages(kept);
  pages->free_pages(longer);
  const PageSourceStats stats = pages->stats();
  EXPECT_EQ(stats.retained_pages, 16u);
  EXPECT_EQ(stats.release_calls, 1u);
  EXPECT_EQ(frame(take(*pages, {.pages = 16})), frame(kept));
  pages->free_pages(kept);
}

TEST(SimPageAllocator, RetainingNothingGivesEachRunBack) {
  const auto pages = make(small(64, 0));
  for (int i = 0; i < 3; ++i) {
    const PageRun run = take(*pages, {.pages = 2});
    EXPECT_EQ(frame(run), 0u);
    EXPECT_TRUE(run_is(run, 0));
    fill_run(run, 1);
    pages->free_pages(run);
    EXPECT_EQ(pages->stats().retained_pages, 0u);
  }
  EXPECT_EQ(pages->stats().release_calls, 3u);
  EXPECT_EQ(pages->release(), 0u);
}

TEST(SimPageAllocator, ReleaseGivesAllBackInFewPieces) {
  const auto pages = make(small(256, 256));
  std::vector<PageRun> runs;
  for (int i = 0; i < 60; ++i) runs.push_back(take(*pages));
  // Freed in an order that hides that they lie together: 0..19 and 30..59.
  for (std::size_t i = 0; i < 60; ++i) {
    const std::size_t at = i * 7 % 60;
    if (at < 20 || at >= 30) pages->free_pages(runs[at]);
  }
  EXPECT_EQ(pages->release(), 50u);
  PageSourceStats stats = pages->stats();
  EXPECT_EQ(stats.release_calls, 2u);
  EXPECT_EQ(stats.retained_pages, 0u);
  EXPECT_EQ(stats.resident_pages, 10u);
  EXPECT_EQ(pages->release(), 0u);
  EXPECT_TRUE(pages->validate());
  EXPECT_EQ(frame(take(*pages)), 0u);  // the lowest free frame, found again
  for (std::size_t i = 20; i < 30; ++i) pages->free_pages(runs[i]);
  pages->free_pages(runs[0]);
}

TEST(SimPageAllocator, OutOfMemoryIsTrueAndCostsNothing) {
  const auto pages = make(small(32, 32));
  std::vector<PageRun> runs;
  for (int i = 0; i < 16; ++i) runs.push_back(take(*pages, {.pages = 2}));
  for (std::size_t i = 0; i < 16; i += 2) pages->free_pages(runs[i]);
  // 16 frames are free of holders, but no three lie together.
  EXPECT_EQ(refusal(*pages, {.pages = 3}), Errc::out_of_memory);
  EXPECT_EQ(pages->stats().retained_pages, 16u);
  EXPECT_EQ(pages->stats().release_calls, 0u);
  pages->free_pages(runs[1]);
  const PageRun six = take(*pages, {.pages = 6});
  EXPECT_EQ(frame(six), 0u);
  EXPECT_EQ(pages->stats().release_calls, 0u);  // taken as they are, not given back and asked for
  pages->free_pages(six);
  for (std::size_t i = 3; i < 16; i += 2) pages->free_pages(runs[i]);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageAllocator, CountsWhatHappened) {
  const auto pages = make(small(64, 8));
  const PageRun a = take(*pages, {.pages = 5});
  const PageRun b = take(*pages, {.pages = 9});
  PageSourceStats stats = pages->stats();
  EXPECT_EQ(stats.held_pages, 14u);
  EXPECT_EQ(stats.peak_pages, 14u);
  EXPECT_EQ(stats.resident_pages, 14u);
  EXPECT_EQ(stats.allocations, 2u);
  EXPECT_EQ(stats.frees, 0u);
  EXPECT_EQ(stats.descriptor_bytes, 14u * 20 + 4 * 2);
  pages->free_pages(a);
  stats = pages->stats();
  EXPECT_EQ(stats.held_pages, 9u);
  EXPECT_EQ(stats.peak_pages, 14u);
  EXPECT_EQ(stats.retained_pages, 5u);
  EXPECT_EQ(stats.resident_pages, 14u);
  EXPECT_EQ(stats.frees, 1u);
  pages->free_pages(b);
  stats = pages->stats();
  EXPECT_EQ(stats.held_pages, 0u);
  EXPECT_EQ(stats.peak_pages, 14u);
  EXPECT_EQ(stats.resident_pages, 5u);
  EXPECT_EQ(stats.failures, 0u);
  EXPECT_EQ(stats.descriptor_bytes, 14u * 20 + 4 * 2);
}

TEST(SimPageAllocator, ShareTellsFileAndOffset) {
  Options options = small(64, 64);
  options.shareable = true;
  const auto pages = make(options);
  EXPECT_FALSE(pages->inherited_by_fork());
  take(*pages);  // so that the offset is not the first
  const PageRun run = take(*pages, {.pages = 4});
  fill_run(run, 0x11);
  const SharedRange range = pages->share(run).value();
  ASSERT_EQ(range.offset_bytes % kPageSize, 0u);
  void* const second = ::mmap(nullptr, 4 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, range.fd,
                              static_cast<off_t>(range.offset_bytes));
  ASSERT_NE(second, MAP_FAILED);
  const PageRun twin{static_cast<std::byte*>(second), 4, run.first};
  EXPECT_TRUE(run_is(twin, 0x11));
  fill_run(twin, 0x22);
  EXPECT_TRUE(run_is(run, 0x22));
  ::munmap(second, 4 * kPageSize);

  const auto refused = [&](PageRun wrong) {
    const Result<SharedRange> shared = pages->share(wrong);
    return !shared && shared.error() == Errc::invalid_argument;
  };
  EXPECT_TRUE(refused({run.data, 3, run.first}));
  EXPECT_TRUE(refused({run.data + kPageSize, 3, Pfn{frame(run) + 1}}));
  EXPECT_TRUE(refused({run.data, 4, Pfn{frame(run) + 1}}));
  EXPECT_TRUE(refused({run.data, 4, Pfn{~std::uint64_t{0}}}));
  EXPECT_TRUE(refused({nullptr, 0, Pfn{}}));
  EXPECT_TRUE(refused({run.data, ~std::size_t{0}, run.first}));
  pages->free_pages(run);
  EXPECT_TRUE(refused(run));
  pages->free_pages({run.data - kPageSize, 1, Pfn{frame(run) - 1}});
}

TEST(SimPageAllocator, PrivateMemoryHasNoFile) {
  const auto pages = make(small(8));
  const PageRun run = take(*pages);
  const Result<SharedRange> shared = pages->share(run);
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error(), Errc::not_supported);
  EXPECT_TRUE(pages->inherited_by_fork());
  pages->free_pages(run);
}

TEST(SimPageAllocator, PagesHeldAtTheEndAreReported) {
  testing::CapturedLeaks leaks;
  auto pages = make(small(8));
  take(*pages, {.pages = 3});
  pages.reset();
  ASSERT_EQ(leaks.reports().size(), 1u);
  EXPECT_EQ(leaks.reports()[0],
            (testing::CapturedReport{"page", "", "pages held at destruction", 3}));
  pages = make(small(8, 8));
  pages->free_pages(take(*pages));
  pages.reset();
  EXPECT_EQ(leaks.reports().size(), 1u);
}

TEST(SimPageAllocator, NothingIsLeftMappedOrOpenAfterIt) {
  make({.shareable = true});
  const std::size_t mapped = testing::mapped_bytes();
  const std::size_t files = testing::open_files();
  for (const bool shareable : {false, true}) {
    for (int i = 0; i < 10; ++i) {
      Options options;
      options.capacity_bytes = std::size_t{1} << 30;
      options.shareable = shareable;
      const auto pages = make(options);
      EXPECT_GE(testing::mapped_bytes(), mapped + (std::size_t{1} << 30));
      pages->free_pages(take(*pages, {.pages = 10}));
    }
    EXPECT_LT(testing::mapped_bytes(), mapped + (std::size_t{1} << 30));
    EXPECT_EQ(testing::open_files(), files);
  }
}

TEST(DefaultPageSource, IsOneAndWorks) {
  PageSource& pages = default_page_source();
  EXPECT_EQ(&pages, &default_page_source());
  EXPECT_TRUE(pages.inherited_by_fork());
  const PageRun run = pages.allocate_pages({.pages = 2, .gfp = Gfp::zero}).value();
  EXPECT_TRUE(run_is(run, 0));
  pages.free_pages(run);
}

}  // namespace
}  // namespace mmkit
