// SPDX-License-Identifier: MIT
//
// Resident memory follows use: asked of the operating system itself, by mincore for private memory
// and by the file's blocks for shareable memory. And nowait: no page fault inside the call, none on
// the pages it gives, no system call at all (a seccomp filter kills on any).
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mmkit/page.hpp>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/page_memory.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

using testing::file_pages;
using testing::fill_run;
using testing::kSanitized;
using testing::present_pages;
using testing::run_in_child;
using testing::run_is;
using testing::thread_faults;

std::unique_ptr<SimPageAllocator> make(std::size_t pages, std::size_t retain_pages,
                                       bool shareable = false) {
  SimPageAllocatorOptions options;
  options.capacity_bytes = pages * kPageSize;
  options.retain_bytes = retain_pages * kPageSize;
  options.shareable = shareable;
  return std::move(SimPageAllocator::create(options)).value();
}

class SimPageResidentTest : public ::testing::TestWithParam<bool> {
 protected:
  bool shareable() const { return GetParam(); }
  // Pages of all frames that take up memory. `all` is a run that covers them.
  std::size_t resident(const SimPageAllocator& pages, const PageRun& all, int fd) const {
    EXPECT_EQ(all.pages, pages.capacity_pages());
    return shareable() ? file_pages(fd) : present_pages(all);
  }
};

TEST_P(SimPageResidentTest, MemoryRisesAndFallsWithUse) {
  constexpr std::size_t kPages = 4096;
  constexpr std::size_t kRetained = 128;
  const auto pages = make(kPages, kRetained, shareable());
  // The whole range, to ask about; held only for a moment and never touched.
  const PageRun all = pages->allocate_pages({.pages = kPages}).value();
  const int fd = shareable() ? pages->share(all).value().fd : -1;
  pages->free_pages(all);
  ASSERT_EQ(resident(*pages, all, fd), 0u);

  for (int round = 0; round < 3; ++round) {
    std::vector<PageRun> runs;
    for (std::size_t i = 0; i < kPages / 4; ++i) {
      runs.push_back(pages->allocate_pages({.pages = 4}).value());
      fill_run(runs.back(), 0x77);
    }
    ASSERT_EQ(resident(*pages, all, fd), kPages);
    ASSERT_EQ(pages->stats().resident_pages, kPages);
    // In an order that jumps: what goes back is joined from many frees.
    for (std::size_t i = 0; i < runs.size(); ++i) {
      pages->free_pages(runs[i * 389 % runs.size()]);
      if (i % 64 == 0) {
        ASSERT_EQ(resident(*pages, all, fd), pages->stats().resident_pages);
      }
    }
    const std::size_t left = pages->stats().resident_pages;
    EXPECT_LE(left, kRetained);
    EXPECT_EQ(resident(*pages, all, fd), left);
    EXPECT_EQ(pages->release(), left);
    EXPECT_EQ(resident(*pages, all, fd), 0u);
  }
}

TEST_P(SimPageResidentTest, AFreshPageTakesNothingUntilItIsTouched) {
  const auto pages = make(256, 64, shareable());
  const PageRun run = pages->allocate_pages({.pages = 256, .gfp = Gfp::zero}).value();
  const int fd = shareable() ? pages->share(run).value().fd : -1;
  EXPECT_EQ(resident(*pages, run, fd), 0u);
  run.data[100 * kPageSize] = std::byte{1};
  EXPECT_EQ(resident(*pages, run, fd), 1u);
  pages->free_pages(run);
  EXPECT_EQ(resident(*pages, run, fd), 0u);
}

TEST_P(SimPageResidentTest, NowaitMeetsNoPageFault) {
  if (kSanitized) GTEST_SKIP() << "shadow memory faults too";
  const auto pages = make(4096, 4096, shareable());
  std::vector<PageRun> runs;
  for (int i = 0; i < 600; ++i) runs.push_back(pages->allocate_pages({.pages = 3}).value());
  // Never touched by their holder: present all the same once they are retained.
  for (const PageRun& run : runs) pages->free_pages(run);
  runs.assign(2000, {});  // the test's own memory must not fault either
  runs.clear();
  thread_faults();
  const std::uint64_t before = thread_faults();
  const auto take = [&](std::size_t length, Gfp gfp) {
    const Result<PageRun> run = pages->allocate_pages({.pages = length, .gfp = Gfp::nowait | gfp});
    if (run) runs.push_back(*run);
    return run.has_value();
  };
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(take(3, Gfp::zero));
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(take(1, Gfp::kernel));
  ASSERT_TRUE(take(1000, Gfp::zero));  // joined from runs that were freed one by one
  while (take(1, Gfp::kernel)) {
  }
  for (const PageRun& run : runs) run.data[0] = std::byte{1};
  EXPECT_EQ(thread_faults(), before);
  EXPECT_EQ(pages->stats().held_pages, 1800u);
  for (const PageRun& run : runs) pages->free_pages(run);
  EXPECT_TRUE(pages->validate());
}

INSTANTIATE_TEST_SUITE_P(Memory, SimPageResidentTest, ::testing::Bool(),
                         [](const auto& made) { return made.param ? "Shareable" : "Private"; });

// From here on any system call but exit_group kills the process.
bool forbid_system_calls() {
  const sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_exit_group},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
  };
  sock_fprog filter{sizeof program / sizeof program[0], const_cast<sock_filter*>(program)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(SimPageNowait, MakesNoSystemCall) {
  if (kSanitized) GTEST_SKIP() << "sanitizers make calls of their own";
  const auto pages = make(256, 256);
  std::vector<PageRun> runs;
  for (int i = 0; i < 50; ++i) runs.push_back(pages->allocate_pages({.pages = 2}).value());
  for (const PageRun& run : runs) pages->free_pages(run);
  const auto body = [&] {
    if (!forbid_system_calls()) return 3;
    PageRun held[60];
    std::size_t count = 0;
    std::size_t taken = 0;
    while (true) {
      const std::size_t length = count == 0 ? 20 : 2;
      const Result<PageRun> run =
          pages->allocate_pages({.pages = length, .gfp = Gfp::nowait | Gfp::zero});
      if (!run) {
        if (run.error() != Errc::out_of_memory) return 4;
        break;
      }
      held[count++] = *run;
      taken += length;
    }
    if (taken != 100) return 5;
    // Up to the limit a free makes none either.
    for (std::size_t i = 0; i < count; ++i) pages->free_pages(held[i]);
    return pages->stats().held_pages == 0 ? 0 : 6;
  };
  EXPECT_EQ(run_in_child(body), 0);
}

TEST(SimPageNowait, TheFilterWouldHaveKilled) {
  if (kSanitized) GTEST_SKIP() << "sanitizers make calls of their own";
  const auto pages = make(256, 4);
  const PageRun run = pages->allocate_pages({.pages = 8}).value();
  const auto body = [&] {
    if (!forbid_system_calls()) return 3;
    pages->free_pages(run);  // longer than may be retained
    return 0;
  };
  EXPECT_EQ(run_in_child(body), testing::kChildSignalled + SIGSYS);
  pages->free_pages(run);
}

// Another thread waits for the lock while a nowait allocation holds and lets go of it: even then
// the one that lets go makes no call. One thread is under the filter, the other is not.
TEST(SimPageNowait, MakesNoSystemCallWhileOthersWait) {
  if (kSanitized) GTEST_SKIP() << "sanitizers make calls of their own";
  const auto body = [] {
    const auto pages = make(256, 256);
    for (int i = 0; i < 2; ++i) {
      const PageRun run = pages->allocate_pages({.pages = 100}).value();
      pages->free_pages(run);
    }
    std::atomic<bool> started{false};
    std::thread other([&] {
      while (true) {
        const Result<PageRun> run = pages->allocate_pages({});
        if (run) pages->free_pages(*run);
        started = true;
      }
    });
    while (!started) std::this_thread::yield();
    // The filter is this thread's alone.
    if (!forbid_system_calls()) return 3;
    // What it takes it keeps: freeing would wait for the lock. Its tries come between those of the
    // other, as often as not with that one waiting.
    for (int taken = 0; taken < 50;) {
      const Result<PageRun> run = pages->allocate_pages({.gfp = Gfp::nowait});
      if (run) {
        ++taken;
      } else if (run.error() != Errc::try_again) {
        return 4;
      }
    }
    ::_exit(0);
  };
  EXPECT_EQ(run_in_child(body), 0);
}

}  // namespace
}  // namespace mmkit
