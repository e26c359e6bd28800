// SPDX-License-Identifier: MIT
//
// Every call to the system and every allocation of metadata fails in turn, once and for ever. After
// each failure the structures are whole, nothing is lost or left behind, and the same again works.
// Also the work done: how many calls it takes to give pages back.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mmkit/page.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <thread>
#include <vector>

#include "fault/failing_atfork.hpp"
#include "fault/page_failing_system.hpp"
#include "support/child_process.hpp"
#include "support/page_memory.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

using testing::Failing;
using testing::FailingSystem;
using testing::SystemCall;

constexpr Failing kBoth[] = {Failing::once, Failing::for_ever};

SimPageAllocatorOptions options_of(std::size_t pages, std::size_t retain_pages, bool shareable) {
  SimPageAllocatorOptions options;
  options.capacity_bytes = pages * kPageSize;
  options.retain_bytes = retain_pages * kPageSize;
  options.shareable = shareable;
  return options;
}

// Tells apart what is left behind: bytes of addresses and files. Large, so that it shows.
struct Footprint {
  std::size_t mapped = testing::mapped_bytes();
  std::size_t files = testing::open_files();

  bool grew(std::size_t by_bytes) const {
    return testing::mapped_bytes() >= mapped + by_bytes || testing::open_files() != files;
  }
};

TEST(SimPageFault, CreateLeavesNothingBehindWhereverItFails) {
  constexpr std::size_t kCapacityBytes = std::size_t{1} << 30;
  for (const bool shareable : {false, true}) {
    for (const Failing how : kBoth) {
      std::uint64_t points = 0;
      for (std::uint64_t n = 1;; ++n) {
        FailingSystem system;
        const Footprint before;
        system.fail_nth(n, how);
        auto made = SimPageAllocator::create(options_of(kCapacityBytes / kPageSize, 8, shareable));
        if (system.failed() == 0) {
          ASSERT_TRUE(made);
          break;
        }
        ASSERT_FALSE(made) << "call " << n;
        EXPECT_EQ(made.error(), Errc::out_of_memory) << "call " << n;
        system.succeed();
        EXPECT_EQ(Footprint().files, before.files) << "call " << n;
        // For ever means that munmap fails too: then the addresses cannot but stay.
        const bool may_stay = how == Failing::for_ever;
        EXPECT_TRUE(may_stay || !before.grew(kCapacityBytes / 64)) << "call " << n;
        made = SimPageAllocator::create(options_of(kCapacityBytes / kPageSize, 8, shareable));
        ASSERT_TRUE(made);
        (*made)->free_pages((*made)->allocate_pages({}).value());
        EXPECT_TRUE((*made)->validate());
        ++points;
      }
      // mmap, madvise, mmap, madvise, three objects; a file's creation, size and fork advice.
      EXPECT_EQ(points, shareable ? 10u : 7u);
    }
  }
}

// Handlers are registered once a process, so this one has a process of its own.
[[noreturn]] void create_when_no_fork_handler_is_taken() {
  const Footprint before;
  testing::fail_registrations(1);
  const auto refused = SimPageAllocator::create(options_of(1 << 18, 8, true));
  const bool clean = !refused && refused.error() == Errc::out_of_memory && !before.grew(1 << 24);
  const auto made = SimPageAllocator::create(options_of(1 << 18, 8, true));
  ::_exit(clean && made ? 0 : 1);
}

TEST(SimPageFault, CreateLeavesNothingBehindWhenNoForkHandlerIsTaken) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(create_when_no_fork_handler_is_taken(), ::testing::ExitedWithCode(0), "^$");
}

TEST(SimPageFault, UnmappingThatFailsGivesTheMemoryBackAtLeast) {
  FailingSystem system;
  auto pages = SimPageAllocator::create(options_of(64, 64, false)).value();
  PageRun run = pages->allocate_pages({.pages = 64}).value();
  testing::fill_run(run, 1);
  pages->free_pages(run);
  EXPECT_EQ(testing::present_pages(run), 64u);
  system.fail_nth(SystemCall::munmap, 1, Failing::once);
  pages.reset();
  EXPECT_EQ(system.failed(), 1u);
  EXPECT_EQ(testing::present_pages(run), 0u);
  EXPECT_EQ(::munmap(run.data, 64 * kPageSize), 0);
}

// A scenario that gives pages back in every way there is; every madvise in it fails in turn.
class ReleaseScenario {
 public:
  explicit ReleaseScenario(bool shareable)
      : pages_(SimPageAllocator::create(options_of(512, 32, shareable)).value()) {}

  // Which frames were given out, in order: the same whether or not the system takes pages back.
  std::vector<std::uint64_t> run() {
    frames_.clear();
    std::vector<PageRun> runs;
    for (std::size_t i = 0; i < 100; ++i) {
      runs.push_back(take({.pages = 1 + i % 3}));
      testing::fill_run(runs.back(), static_cast<unsigned char>(i + 1));
    }
    // Every other one, so that no two lie together, beyond the limit several times.
    for (std::size_t i = 0; i < 100; i += 2) give(runs[i]);
    for (std::size_t i = 1; i < 100; i += 2) {
      EXPECT_TRUE(testing::run_is(runs[i], static_cast<unsigned char>(i + 1)));
    }
    const PageRun longer = take({.pages = 50, .gfp = Gfp::zero});  // than may be retained
    EXPECT_TRUE(testing::run_is(longer, 0));
    testing::fill_run(longer, 0xee);
    give(longer);
    pages_->release();
    EXPECT_TRUE(pages_->validate());
    for (std::size_t i = 1; i < 100; i += 2) give(runs[i]);
    pages_->release();
    EXPECT_TRUE(pages_->validate());
    // Nothing is lost: all frames can be had at once, and read as zero where that was asked for.
    const PageRun all = take({.pages = 512, .gfp = Gfp::zero});
    EXPECT_TRUE(testing::run_is(all, 0));
    testing::fill_run(all, 0xee);
    give(all);
    return frames_;
  }
  SimPageAllocator& pages() { return *pages_; }

 private:
  PageRun take(const PageRequest& request) {
    const PageRun run = pages_->allocate_pages(request).value();
    frames_.push_back(static_cast<std::uint64_t>(run.first));
    return run;
  }
  void give(const PageRun& run) {
    pages_->free_pages(run);
    EXPECT_TRUE(pages_->validate());
  }

  std::unique_ptr<SimPageAllocator> pages_;
  std::vector<std::uint64_t> frames_;
};

TEST(SimPageFault, PagesTheSystemWillNotTakeStayRetained) {
  for (const bool shareable : {false, true}) {
    for (const Failing how : kBoth) {
      std::uint64_t points = 0;
      for (std::uint64_t n = 1;; ++n) {
        SCOPED_TRACE(n);
        ReleaseScenario scenario(shareable);
        FailingSystem system;
        system.fail_nth(SystemCall::madvise, n, how);
        scenario.run();
        const std::uint64_t failed = system.failed();
        PageSourceStats stats = scenario.pages().stats();
        ASSERT_EQ(stats.release_failures, failed);
        ASSERT_EQ(stats.held_pages, 0u);
        ASSERT_EQ(stats.failures, 0u);
        // The system takes them when it can again.
        system.succeed();
        const std::size_t retained = stats.retained_pages;
        ASSERT_EQ(scenario.pages().release(), retained);
        stats = scenario.pages().stats();
        ASSERT_EQ(stats.resident_pages, 0u);
        ASSERT_TRUE(scenario.pages().validate());
        if (failed == 0) break;
        ++points;
      }
      EXPECT_GT(points, 50u);
    }
  }
}

TEST(SimPageFault, TheSameFramesComeAfterReleaseFailedForEver) {
  FailingSystem system;
  system.fail_nth(SystemCall::madvise, 3, Failing::for_ever);  // two are create's
  ReleaseScenario scenario(false);
  scenario.run();
  EXPECT_GT(system.failed(), 0u);
  EXPECT_EQ(scenario.pages().stats().retained_pages, 512u);
  system.succeed();
  EXPECT_EQ(scenario.pages().release(), 512u);
  // All free again: from here on it is like a new one.
  EXPECT_EQ(scenario.run(), ReleaseScenario(false).run());
}

TEST(SimPageFault, ARefusalIsNotRepeatedBeforeAnotherBatchWasFreed) {
  const auto pages = SimPageAllocator::create(options_of(4096, 256, false)).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 2000; ++i) runs.push_back(pages->allocate_pages({}).value());
  FailingSystem system;
  system.fail_nth(SystemCall::madvise, 1, Failing::for_ever);
  std::size_t freed = 0;
  for (; freed < 257; ++freed) pages->free_pages(runs[freed]);
  EXPECT_EQ(system.failed(), 1u);
  for (; freed < 257 + 127; ++freed) pages->free_pages(runs[freed]);
  EXPECT_EQ(system.failed(), 1u);
  pages->free_pages(runs[freed++]);  // half the limit since: one batch
  EXPECT_EQ(system.failed(), 2u);
  for (; freed < 2000; ++freed) pages->free_pages(runs[freed]);
  EXPECT_LE(system.failed(), 2 + (2000 - 257 - 128) / 128u);
  EXPECT_EQ(pages->stats().retained_pages, 2000u);
  system.succeed();
  // Back to the limit as soon as the next attempt goes well.
  for (int i = 0; i < 200; ++i) {
    const PageRun run = pages->allocate_pages({}).value();
    pages->free_pages(run);
  }
  EXPECT_LE(pages->stats().retained_pages, 256u);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageFault, OperationsThatNeedNoMemoryWorkWhileTheSystemFails) {
  for (const bool shareable : {false, true}) {
    const auto pages = SimPageAllocator::create(options_of(512, 64, shareable)).value();
    FailingSystem system;
    system.fail_nth(1, Failing::for_ever);
    std::vector<PageRun> runs;
    for (int i = 0; i < 64; ++i) runs.push_back(pages->allocate_pages({}).value());
    const Result<SharedRange> shared = pages->share(runs[5]);
    EXPECT_EQ(shared.has_value(), shareable);
    for (const PageRun& run : runs) pages->free_pages(run);
    EXPECT_EQ(pages->stats().held_pages, 0u);
    EXPECT_TRUE(pages->validate());
    EXPECT_EQ(system.failed(), 0u);  // none was even asked for
  }
}

TEST(SimPageFault, DestructionEndsWhateverFails) {
  for (const bool shareable : {false, true}) {
    auto pages = SimPageAllocator::create(options_of(64, 64, shareable)).value();
    const PageRun run = pages->allocate_pages({.pages = 8}).value();
    testing::fill_run(run, 1);
    pages->free_pages(run);
    const std::size_t files = testing::open_files();
    FailingSystem system;
    system.fail_nth(1, Failing::for_ever);
    pages.reset();
    EXPECT_GE(system.failed(), 2u);
    EXPECT_EQ(testing::open_files(), files - (shareable ? 1u : 0u));
  }
}

// ---------------------------------------------------------------- while a batch is on its way

TEST(SimPageBatch, FramesOnTheirWayAreNobodys) {
  for (const bool shareable : {false, true}) {
    const auto pages = SimPageAllocator::create(options_of(128, 64, shareable)).value();
    pages->free_pages(pages->allocate_pages({.pages = 64}).value());
    FailingSystem system;
    int hooks = 0;
    system.on_taking_back([&] {
      ++hooks;
      const PageSourceStats stats = pages->stats();
      EXPECT_EQ(stats.retained_pages, 0u);
      EXPECT_EQ(stats.resident_pages, 64u);
      const Result<PageRun> nowait = pages->allocate_pages({.gfp = Gfp::nowait});
      EXPECT_FALSE(nowait);
      const PageRun fresh = pages->allocate_pages({}).value();
      EXPECT_EQ(static_cast<std::uint64_t>(fresh.first), 64u);  // the first behind the batch
      testing::fill_run(fresh, 0x11);
      pages->free_pages(fresh);
    });
    EXPECT_EQ(pages->release(), 64u);
    system.on_taking_back(nullptr);
    EXPECT_EQ(hooks, 1);
    EXPECT_EQ(pages->stats().resident_pages, 1u);
    EXPECT_TRUE(pages->validate());
  }
}

// Whether a thread of this process sleeps, as one does that waits for a mutex.
bool sleeps(pid_t thread) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/stat", static_cast<int>(thread));
  char state = '?';
  if (std::FILE* file = std::fopen(path, "r")) {
    if (std::fscanf(file, "%*d %*s %c", &state) != 1) state = '?';
    std::fclose(file);
  }
  return state == 'S';
}

// Nobody holds anything, so a request for all frames can be had: refused it would be a lie, and given
// out at once it would lose its bytes, and itself, to the batch.
TEST(SimPageBatch, ARequestForEverythingWaitsForIt) {
  const auto pages = SimPageAllocator::create(options_of(64, 64, false)).value();
  pages->free_pages(pages->allocate_pages({.pages = 64}).value());
  std::atomic<pid_t> thread_id{0};
  std::atomic<bool> done{false};
  Result<PageRun> all = fail(Errc::busy);
  std::thread other;
  FailingSystem system;
  system.on_taking_back([&] {
    other = std::thread([&] {
      thread_id = ::gettid();
      all = pages->allocate_pages({.pages = 64, .gfp = Gfp::zero});
      done = true;
    });
    while (!done && (thread_id == 0 || !sleeps(thread_id))) std::this_thread::yield();
    EXPECT_FALSE(done);
  });
  EXPECT_EQ(pages->release(), 64u);
  other.join();
  system.on_taking_back(nullptr);
  ASSERT_TRUE(all);
  EXPECT_TRUE(testing::run_is(*all, 0));
  EXPECT_TRUE(pages->validate());
  pages->free_pages(*all);
}

// One trims; another that exceeds the limit meanwhile goes on, and the first does its work too.
TEST(SimPageBatch, ATrimDoesTheWorkOfThoseWhoComeMeanwhile) {
  const auto pages = SimPageAllocator::create(options_of(256, 16, false)).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 60; ++i) runs.push_back(pages->allocate_pages({}).value());
  FailingSystem system;
  int depth = 0;
  std::size_t freed = 17;
  system.on_taking_back([&] {
    ASSERT_EQ(++depth, 1);  // a free in here starts no second trim, nor waits
    if (freed == 17) {
      while (freed < 60) pages->free_pages(runs[freed++]);
      EXPECT_GT(pages->stats().retained_pages, 16u);
    }
    --depth;
  });
  for (std::size_t i = 0; i < 17; ++i) pages->free_pages(runs[i]);
  system.on_taking_back(nullptr);
  EXPECT_EQ(freed, 60u);
  EXPECT_LE(pages->stats().retained_pages, 16u);
  EXPECT_TRUE(pages->validate());
}

// A thread that has said it will trim, and waits for a batch of another's to be gone, has said so in the
// child of a fork too, where it is not. It is kept from going on by a signal, so that the fork comes first.
std::atomic<bool> stopped{false}, goes_on{false};

TEST(SimPageBatch, ATrimThatWaitsWhenAForkComesKeepsNobodyFromTrimmingInTheChild) {
  if (!testing::kHeapSurvivesForks) GTEST_SKIP() << "ThreadSanitizer keeps signals from who waits";
  const auto pages = SimPageAllocator::create(options_of(256, 16, false)).value();
  const PageRun large = pages->allocate_pages({.pages = 100}).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 17; ++i) runs.push_back(pages->allocate_pages({}).value());
  stopped = goes_on = false;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    stopped = true;
    while (!goes_on) ::usleep(1000);
  };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const pid_t forker = ::gettid();
  std::atomic<bool> begun{false}, ready{false};
  std::atomic<pid_t> waiter{0};
  std::thread trims;
  FailingSystem system;
  system.on_taking_back([&] {
    if (begun.exchange(true)) return;
    trims = std::thread([&] {
      waiter = ::gettid();
      for (const PageRun& run : runs) pages->free_pages(run);
    });
    while (waiter == 0 || !sleeps(waiter) || pages->stats().retained_pages < 17) {
      std::this_thread::yield();
    }
    ::pthread_kill(trims.native_handle(), SIGUSR1);
    while (!stopped) std::this_thread::yield();
    ready = true;
    while (!sleeps(forker)) std::this_thread::yield();  // in fork(), behind our batch
  });
  std::thread gives_back([&] { pages->free_pages(large); });
  while (!ready) std::this_thread::yield();
  EXPECT_EQ(testing::run_in_child([&] {
              if (pages->stats().retained_pages != 17) return 1;  // the waiter was quicker
              pages->free_pages(pages->allocate_pages({}).value());
              return pages->stats().retained_pages <= 16 ? 0 : 2;
            }),
            0);
  goes_on = true;
  gives_back.join();
  trims.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  system.on_taking_back(nullptr);
  EXPECT_LE(pages->stats().retained_pages, 16u);
  EXPECT_TRUE(pages->validate());
}

// ---------------------------------------------------------------- work, instead of time

TEST(SimPageWork, NoSystemCallUpToTheLimit) {
  const auto pages = SimPageAllocator::create(options_of(4096, 256, false)).value();
  FailingSystem system;
  std::vector<PageRun> runs;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 256; ++i) runs.push_back(pages->allocate_pages({}).value());
    for (const PageRun& run : runs) pages->free_pages(run);
    runs.clear();
  }
  for (const SystemCall call : {SystemCall::mmap, SystemCall::munmap, SystemCall::madvise}) {
    EXPECT_EQ(system.calls(call), 0u);
  }
}

TEST(SimPageWork, PagesThatLieTogetherGoBackInOneCall) {
  const auto pages = SimPageAllocator::create(options_of(4096, 1024, false)).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 1024; ++i) runs.push_back(pages->allocate_pages({}).value());
  for (std::size_t i = 0; i < 1024; ++i) pages->free_pages(runs[i * 389 % 1024]);
  FailingSystem system;
  EXPECT_EQ(pages->release(), 1024u);
  EXPECT_EQ(system.calls(SystemCall::madvise), 1u);
  EXPECT_EQ(system.pages_taken_back(), 1024u);
}

TEST(SimPageWork, DrainingTakesACallForHalfTheLimit) {
  const auto pages = SimPageAllocator::create(options_of(16384, 256, false)).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 8192; ++i) runs.push_back(pages->allocate_pages({}).value());
  FailingSystem system;
  for (const PageRun& run : runs) pages->free_pages(run);
  EXPECT_LE(system.calls(SystemCall::madvise), 8192 / 128u);
  EXPECT_GE(system.pages_taken_back(), 8192u - 256);
}

TEST(SimPageWork, ScatteredPagesCostACallEachAndNoMore) {
  const auto pages = SimPageAllocator::create(options_of(4096, 1024, false)).value();
  std::vector<PageRun> runs;
  for (int i = 0; i < 1024; ++i) runs.push_back(pages->allocate_pages({}).value());
  FailingSystem system;
  for (std::size_t i = 0; i < 1024; i += 2) pages->free_pages(runs[i]);
  EXPECT_EQ(pages->release(), 512u);
  EXPECT_EQ(system.calls(SystemCall::madvise), 512u);
  for (std::size_t i = 1; i < 1024; i += 2) pages->free_pages(runs[i]);
}

}  // namespace
}  // namespace mmkit
