// SPDX-License-Identifier: MIT
//
// A process forks while it has page allocators: the child uses those with private memory freely,
// also when other threads were in the middle of a call, and may only destroy the shareable ones.
// What a child does wrong there is the death test's. A child reports by its exit code.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/page.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/page_memory.hpp"
#include "support/sanitized.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using testing::fill_run;
using testing::run_in_child;
using testing::run_is;

std::unique_ptr<SimPageAllocator> make(bool shareable) {
  SimPageAllocatorOptions options;
  options.capacity_bytes = 1024 * kPageSize;
  options.retain_bytes = 16 * kPageSize;
  options.shareable = shareable;
  return std::move(SimPageAllocator::create(options)).value();
}

TEST(SimPageFork, AChildHasPrivatePagesOfItsOwn) {
  auto pages = make(/*shareable=*/false);
  const PageRun run = pages->allocate_pages({.pages = 4}).value();
  fill_run(run, 0x33);
  const auto body = [&] {
    if (!run_is(run, 0x33)) return 1;
    fill_run(run, 0x44);
    pages->free_pages(run);
    for (int i = 0; i < 100; ++i) {
      const Result<PageRun> more = pages->allocate_pages({.pages = 20, .gfp = Gfp::zero});
      if (!more || !run_is(*more, 0)) return 2;
      fill_run(*more, 0x55);
      pages->free_pages(*more);
    }
    if (!pages->validate() || pages->stats().held_pages != 0) return 3;
    pages->release();
    if (pages->stats().resident_pages != 0) return 4;
    pages.reset();
    return 0;
  };
  EXPECT_EQ(run_in_child(body), 0);
  EXPECT_TRUE(run_is(run, 0x33));  // the parent's are as they were
  EXPECT_EQ(pages->stats().held_pages, 4u);
  pages->free_pages(run);
  EXPECT_TRUE(pages->validate());
}

TEST(SimPageFork, AChildMayDestroyAShareableAllocatorAndTouchesNothingThere) {
  auto pages = make(/*shareable=*/true);
  const PageRun run = pages->allocate_pages({.pages = 4}).value();
  fill_run(run, 0x33);
  const int fd = pages->share(run).value().fd;
  const auto body = [&] {
    if (pages->inherited_by_fork()) return 1;
    // The addresses are nobody's here: put something there, which destruction must leave alone.
    void* const place = ::mmap(run.data, 4 * kPageSize, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    const bool ours = place == run.data;
    // A sanitizer's own thread may have come first, with the addresses as free as they were.
    if (!ours && !testing::kSanitized) return 2;
    if (ours) fill_run(run, 0x66);
    const std::size_t files = testing::open_files();
    pages.reset();
    if (ours && !run_is(run, 0x66)) return 3;
    return testing::open_files() == files - 1 ? 0 : 4;
  };
  EXPECT_EQ(run_in_child(body), 0);
  EXPECT_TRUE(run_is(run, 0x33));
  EXPECT_EQ(testing::file_pages(fd), 4u);
  pages->free_pages(run);
  EXPECT_TRUE(pages->validate());
}

// Comes last when locks are taken for a fork, so every lock of an allocator is held meanwhile.
class WhileAllLocksAreHeld final : public ForkParticipant {
 public:
  explicit WhileAllLocksAreHeld(std::function<void()> body) : body_(std::move(body)) {
    EXPECT_TRUE(join_fork(LockRank::leaf));
  }
  ~WhileAllLocksAreHeld() { leave_fork(); }
  void lock_for_fork() noexcept override { body_(); }
  void unlock_after_fork() noexcept override {}

 private:
  std::function<void()> body_;
};

TEST(SimPageFork, NowaitSaysTryAgainWhileTheLockIsTaken) {
  const auto pages = make(/*shareable=*/false);
  pages->free_pages(pages->allocate_pages({}).value());
  Result<PageRun> run = fail(Errc::busy);
  {
    WhileAllLocksAreHeld meanwhile([&] {
      std::thread other([&] { run = pages->allocate_pages({.gfp = Gfp::nowait}); });
      other.join();
    });
    EXPECT_EQ(run_in_child([] { return 0; }), 0);
  }
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error(), Errc::try_again);
  EXPECT_EQ(pages->stats().failures, 1u);
  run = pages->allocate_pages({.gfp = Gfp::nowait});
  ASSERT_TRUE(run);
  pages->free_pages(*run);
}

// The load: forks. Threads are in the middle of every kind of call when they come.
TEST(SimPageFork, AChildOfAThreadedParentFindsWholeStructures) {
  const auto pages = make(/*shareable=*/false);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  // One gives long runs back, and so holds the lock around batches most of the time; the others trim,
  // and so wait for that lock most of the time.
  threads.emplace_back([&] {
    while (!stop) {
      const Result<PageRun> run = pages->allocate_pages({.pages = 200});
      if (!run) continue;
      fill_run(*run, 0x77);
      pages->free_pages(*run);
    }
  });
  for (std::size_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      std::vector<PageRun> held;
      for (std::size_t i = 0; !stop; ++i) {
        if (held.size() < 30) {
          const Result<PageRun> run = pages->allocate_pages({.pages = 1 + (i + t) % 3});
          if (run) held.push_back(*run);
          continue;
        }
        for (const PageRun& run : held) pages->free_pages(run);
        held.clear();
      }
      for (const PageRun& run : held) pages->free_pages(run);
    });
  }
  const std::uint64_t forks = testing::scaled(100, 10);
  for (std::uint64_t i = 0; i < forks; ++i) {
    const auto body = [&] {
      if (!pages->validate()) return 1;
      std::vector<PageRun> held;
      for (int k = 0; k < 40; ++k) {
        const Result<PageRun> run = pages->allocate_pages({.gfp = Gfp::zero});
        if (!run || !run_is(*run, 0)) return 2;
        held.push_back(*run);
      }
      for (const PageRun& run : held) pages->free_pages(run);
      // A trim that a thread of the parent had begun must not keep this one from its own.
      if (pages->stats().retained_pages > 16) return 3;
      return pages->validate() ? 0 : 4;
    };
    const int code = run_in_child(body);
    EXPECT_EQ(code, 0) << "fork " << i;
    if (code != 0) break;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(pages->validate());
  EXPECT_EQ(pages->stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
