// SPDX-License-Identifier: MIT
//
// Threads allocate, free, release and ask at once; what each holds keeps the pattern it wrote, what
// is asked for as zero is zero. The load is said in operations.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/page.hpp>
#include <random>
#include <thread>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::size_t kWordsAPage = kPageSize / sizeof(std::uint64_t);

struct Held {
  PageRun run;
  std::uint64_t mark;

  std::uint64_t& word(std::size_t index) const {
    return reinterpret_cast<std::uint64_t*>(run.data)[index];
  }
  std::size_t words() const { return run.pages * kWordsAPage; }
  // Every 37th word: all pages, ever other places.
  void write() const {
    for (std::size_t i = mark % 37; i < words(); i += 37) word(i) = mark + i;
  }
  bool intact() const {
    for (std::size_t i = mark % 37; i < words(); i += 37) {
      if (word(i) != mark + i) return false;
    }
    return true;
  }
  bool zero() const {
    for (std::size_t i = 0; i < words(); i += 7) {
      if (word(i) != 0) return false;
    }
    return true;
  }
};

struct Mix {
  std::size_t capacity_pages;
  std::size_t retain_pages;
  unsigned nodes;
  bool shareable;
  unsigned nowait_percent;
};

// One thread's share. Wrong contents and impossible refusals are counted, not thrown about.
class Worker {
 public:
  Worker(SimPageAllocator& pages, const Mix& mix, std::uint64_t seed)
      : pages_(pages), mix_(mix), random_(seed) {}

  void run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations; ++i) {
      const std::uint64_t dice = below(1000);
      if (dice < 520) {
        allocate();
      } else if (dice < 992) {
        free_one();
      } else if (dice < 996) {
        pages_.release();
      } else if (dice < 999) {
        const PageSourceStats stats = pages_.stats();
        if (stats.held_pages > stats.peak_pages || stats.frees > stats.allocations ||
            stats.resident_pages > mix_.capacity_pages) {
          ++wrong;
        }
      } else if (!pages_.validate()) {
        ++wrong;
      }
    }
    while (!held_.empty()) free_one();
  }

  std::uint64_t wrong = 0;
  std::uint64_t allocated = 0;
  std::uint64_t again = 0;

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  void allocate() {
    PageRequest request;
    request.pages = below(10) == 0 ? 1 + below(40) : 1 + below(3);
    request.align_pages = below(5) == 0 ? 4 : 1;
    const bool zero = below(2) == 0;
    if (zero) request.gfp = request.gfp | Gfp::zero;
    if (below(100) < mix_.nowait_percent) request.gfp = request.gfp | Gfp::nowait;
    if (below(2) == 0) request.node = static_cast<int>(below(mix_.nodes));
    const Result<PageRun> run = pages_.allocate_pages(request);
    if (!run) {
      if (run.error() == Errc::try_again) ++again;
      const bool legal = run.error() == Errc::out_of_memory ||
                         (run.error() == Errc::try_again && has(request.gfp, Gfp::nowait));
      if (!legal) ++wrong;
      return;
    }
    ++allocated;
    held_.push_back({*run, random_()});
    if (zero && !held_.back().zero()) ++wrong;
    held_.back().write();
  }
  void free_one() {
    if (held_.empty()) return;
    std::swap(held_[below(held_.size())], held_.back());
    if (!held_.back().intact()) ++wrong;
    pages_.free_pages(held_.back().run);
    held_.pop_back();
  }

  SimPageAllocator& pages_;
  const Mix mix_;
  std::mt19937_64 random_;
  std::vector<Held> held_;
};

void stress(const Mix& mix, std::uint64_t operations, std::uint64_t stream) {
  constexpr std::size_t kThreads = 4;
  SimPageAllocatorOptions options;
  options.capacity_bytes = mix.capacity_pages * kPageSize;
  options.retain_bytes = mix.retain_pages * kPageSize;
  options.nodes = mix.nodes;
  options.shareable = mix.shareable;
  const auto pages = std::move(SimPageAllocator::create(options)).value();
  std::vector<Worker> workers;
  for (std::size_t i = 0; i < kThreads; ++i) {
    workers.emplace_back(*pages, mix, testing::test_seed(stream * 100 + i));
  }
  std::vector<std::thread> threads;
  for (Worker& worker : workers) threads.emplace_back([&] { worker.run(operations / kThreads); });
  for (std::thread& thread : threads) thread.join();
  std::uint64_t allocated = 0;
  for (const Worker& worker : workers) {
    EXPECT_EQ(worker.wrong, 0u);
    allocated += worker.allocated;
  }
  EXPECT_GT(allocated, operations / 20);
  const PageSourceStats stats = pages->stats();
  EXPECT_EQ(stats.allocations, allocated);
  EXPECT_EQ(stats.frees, allocated);
  EXPECT_EQ(stats.held_pages, 0u);
  EXPECT_LE(stats.retained_pages, mix.retain_pages);
  EXPECT_EQ(stats.release_failures, 0u);
  EXPECT_TRUE(pages->validate());
  EXPECT_EQ(pages->release(), stats.retained_pages);
}

TEST(SimPageStress, ThreadsShareAllocatorWithRetention) {
  stress({20'000, 64, 1, false, 10}, testing::scaled(400'000), 1);
}

TEST(SimPageStress, ThreadsAtTheEdgeOfMemory) {
  stress({400, 48, 3, false, 10}, testing::scaled(400'000), 2);
}

TEST(SimPageStress, ThreadsShareAFile) {
  stress({2000, 16, 1, true, 10}, testing::scaled(200'000), 3);
}

TEST(SimPageStress, MostlyNowait) {
  stress({2000, 1000, 2, false, 80}, testing::scaled(400'000), 4);
}

// A frame on its way back has no holder, so a request for all frames must wait for it: refused it
// would be a lie, and given out at once it would lose its bytes, and itself, to the batch.
TEST(SimPageStress, ARequestForEverythingWaitsForTheBatchOnItsWay) {
  constexpr std::size_t kPages = 256;
  SimPageAllocatorOptions options;
  options.capacity_bytes = kPages * kPageSize;
  options.retain_bytes = kPages * kPageSize;
  const auto pages = std::move(SimPageAllocator::create(options)).value();
  std::atomic<bool> stop{false};
  // Sends whatever is retained back, all the time, and holds nothing.
  std::thread releaser([&] {
    while (!stop) pages->release();
  });
  std::uint64_t refused = 0;
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < testing::scaled(5000, 1000); ++i) {
    // Odd ones are cut off the run that the batch is made of.
    const Result<PageRun> run = pages->allocate_pages({.pages = kPages - i % 2});
    if (!run) {
      ++refused;
      continue;
    }
    const Held held{*run, i};
    held.write();
    if (!pages->validate()) ++wrong;
    if (!held.intact()) ++wrong;
    pages->free_pages(*run);
  }
  stop = true;
  releaser.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(wrong, 0u);
  EXPECT_TRUE(pages->validate());
}

}  // namespace
}  // namespace mmkit
