// SPDX-License-Identifier: MIT
//
// zheap at its edges: limits of a few pages, pages that lie anywhere, handles of others, extents that
// wait, forks inside of callbacks.
#include <mmkit/zpool/zheap.hpp>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/backend_fixture.hpp"
#include "support/child_process.hpp"
#include "support/seed.hpp"
#include "support/tracked_objects.hpp"

namespace mmkit {
namespace {

class ZheapEdges : public testing::BackendTest<ZheapPool> {
 protected:
  std::unique_ptr<Zpool> make_front(std::size_t limit_pages, const char* params = "",
                                    EvictFn evict = {}) {
    return Zpool::create("zheap", {.name = "edges",
                                   .evict = std::move(evict),
                                   .pages = source_.get(),
                                   .params = params,
                                   .limit_bytes = limit_pages * kPageSize})
        .value();
  }
};

// ---------------------------------------------------------------- limits

// As many as fit into blocks of a page each, or better.
TEST_F(ZheapEdges, FillsSoFewPagesAsALimitAllows) {
  for (const std::size_t limit : {1u, 2u, 3u, 16u, 17u}) {
    for (const std::size_t size : {1u, 100u, 1000u, 2040u, 3000u, 4031u, 4096u}) {
      const auto pool = make_front(limit);
      std::vector<Handle> handles;
      while (const Result<Handle> handle = pool->allocate(size)) {
        handles.push_back(*handle);
        ASSERT_LE(pool->total_bytes(), limit * kPageSize);
      }
      // The last two granules of a block are too few to be listed.
      const std::size_t of_a_page =
          size == 4096 ? 1 : (HeapBlock::granules_in(1) - 2) / HeapBlock::granules_for(size);
      EXPECT_GE(handles.size(), limit * of_a_page) << size << " bytes, " << limit << " pages";
      const ZpoolStats before = pool->stats();
      EXPECT_EQ(pool->allocate(size).error(), Errc::out_of_memory);
      EXPECT_EQ(pool->stats().pages, before.pages);
      EXPECT_EQ(pool->stats().payload_bytes, before.payload_bytes);
      EXPECT_EQ(pool->stats().objects, handles.size());
      // What goes makes room for what comes.
      pool->free(handles.back());
      const Result<Handle> again = pool->allocate(size);
      ASSERT_TRUE(again) << size << " bytes, " << limit << " pages";
      handles.back() = *again;
      EXPECT_TRUE(pool->validate());
      for (const Handle handle : handles) pool->free(handle);
      EXPECT_EQ(pool->total_bytes(), 0u);
    }
  }
}

TEST_F(ZheapEdges, EvictsToStayWithinFewPages) {
  for (const std::size_t limit : {1u, 2u, 3u, 16u, 17u}) {
    std::set<Handle> live;
    std::size_t evicted = 0;
    const auto pool = make_front(limit, "", [&](Zpool& self, Handle handle) {
      ++evicted;
      live.erase(handle);
      return self.try_free(handle);
    });
    std::mt19937_64 random(testing::test_seed(limit));
    for (int i = 0; i < 2000; ++i) {
      const Result<Handle> handle = pool->allocate(1 + random() % 4096);
      ASSERT_TRUE(handle) << "what lives can all be evicted; " << limit << " pages, object " << i;
      live.insert(*handle);
      ASSERT_LE(pool->total_bytes(), limit * kPageSize);
    }
    EXPECT_NE(evicted, 0u);
    EXPECT_EQ(pool->stats().objects, live.size());
    EXPECT_TRUE(pool->validate());
    for (const Handle handle : live) pool->free(handle);
    EXPECT_EQ(pool->total_bytes(), 0u);
  }
}

TEST_F(ZheapEdges, ALargeObjectNeedsItsPagesAndNoMore) {
  for (const std::size_t size : {32768u, 32767u, 30000u, 17000u}) {
    const std::size_t pages = (size + kPageSize - 1) / kPageSize;
    const auto enough = make_front(size > 32000 ? pages : 16, "max_object=32768");
    const Handle handle = enough->allocate(size).value();
    enough->free(handle);
    const auto short_one = make_front(pages - 1, "max_object=32768");
    EXPECT_EQ(short_one->allocate(size).error(), Errc::out_of_memory);
    EXPECT_EQ(short_one->total_bytes(), 0u);
    EXPECT_TRUE(short_one->validate());
  }
}

// ---------------------------------------------------------------- pages

// Gives runs in no order, none of them at a multiple of its length.
class ScatteredSource final : public PageSource {
 public:
  ScatteredSource()
      : pages_(SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value()) {}
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    PageRequest longer = request;
    longer.pages += 1 + turn_ % 3;
    longer.align_pages = 16;
    const Result<PageRun> run = pages_->allocate_pages(longer);
    if (!run) return run;
    const std::size_t skipped = 1 + turn_++ % 3;
    std::byte* const data = run->data + skipped * kPageSize;
    runs_[data] = *run;
    held_ += request.pages;
    // Numbers that have nothing to do with addresses.
    return PageRun{data, request.pages, Pfn{turn_ * 7919}};
  }
  void free_pages(PageRun run) noexcept override {
    const auto at = runs_.find(run.data);
    ASSERT_TRUE(at != runs_.end());
    pages_->free_pages(at->second);
    runs_.erase(at);
    held_ -= run.pages;
  }
  PageSourceStats stats() const noexcept override {
    PageSourceStats stats;
    stats.held_pages = held_;
    return stats;
  }

 private:
  std::unique_ptr<SimPageAllocator> pages_;
  std::map<std::byte*, PageRun> runs_;
  std::size_t held_ = 0;
  std::uint64_t turn_ = 0;
};

TEST_F(ZheapEdges, TakesPagesWhereverTheyLie) {
  ScatteredSource scattered;
  make("max_object=32768 floor=0.98", {}, &scattered);
  std::mt19937_64 random(testing::test_seed(0));
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 500; ++i) add(1, 1 + random() % (i % 8 == 0 ? 32768 : 2000));
    free_if([&](std::size_t) { return random() % 2 == 0; });
    expect_intact();
  }
  EXPECT_TRUE(pool_->compact());
  expect_intact();
  free_if([](std::size_t) { return true; });
  EXPECT_EQ(scattered.stats().held_pages, 0u);
  pool_.reset();
}

// ---------------------------------------------------------------- handles

TEST_F(ZheapEdges, ManyPoolsKnowTheirOwnHandlesAlone) {
  std::vector<std::unique_ptr<Zpool>> pools;
  std::vector<Handle> handles;
  for (int i = 0; i < 200; ++i) {
    pools.push_back(make_front(0));
    for (int n = 0; n < 3; ++n) handles.push_back(pools.back()->allocate(100).value());
  }
  for (std::size_t i = 0; i < handles.size(); i += 7) {
    for (std::size_t p = 0; p < pools.size(); ++p) {
      if (p == i / 3) continue;
      EXPECT_EQ(pools[p]->try_free(handles[i]).error(), Errc::invalid_argument);
      EXPECT_EQ(pools[p]->try_map(handles[i]).error(), Errc::not_found);
    }
  }
  for (std::size_t i = 0; i < handles.size(); ++i) pools[i / 3]->free(handles[i]);
  for (const auto& pool : pools) EXPECT_EQ(pool->total_bytes(), 0u);
}

// An extent that waits on its CPU is dead to everybody.
TEST_F(ZheapEdges, AHandleWhoseExtentWaitsIsDead) {
  make("");
  add(15'000, 500);
  ASSERT_GT(pool_->total_pages(), 1500u);
  std::vector<Handle> gone;
  for (int i = 0; i < 200; ++i) {
    const Handle handle = handles_.back();
    handles_.pop_back();
    ASSERT_TRUE(pool_->free(handle));
    gone.push_back(handle);
    for (std::size_t n = gone.size() - std::min<std::size_t>(gone.size(), 8); n < gone.size();
         ++n) {
      ASSERT_EQ(pool_->free(gone[n]).error(), Errc::invalid_argument);
      ASSERT_EQ(pool_->map(gone[n], MapMode::read_only).error(), Errc::not_found);
      pool_->touch(gone[n]);
    }
    ASSERT_EQ(pool_->stats().payload_bytes, handles_.size() * 500);
  }
  EXPECT_TRUE(pool_->validate());
}

TEST_F(ZheapEdges, AnObjectMappedByOthersIsFreedByNobody) {
  make("");
  add(10, 4096);
  add(10, 300);
  for (const Handle handle : handles_) {
    std::thread([&] { ASSERT_TRUE(pool_->map(handle, MapMode::read_write)); }).join();
    EXPECT_EQ(pool_->free(handle).error(), Errc::busy);
    ASSERT_TRUE(pool_->map(handle, MapMode::read_only));
    pool_->unmap(handle);
    EXPECT_EQ(pool_->free(handle).error(), Errc::busy);
    std::thread([&] { pool_->unmap(handle); }).join();
  }
  free_if([](std::size_t i) { return i % 2 == 0; });
  expect_intact();
}

// ---------------------------------------------------------------- forks

// The child goes on with the eviction that it was born in, and ends the pool.
TEST_F(ZheapEdges, AForkInsideOfAnEvictionGoesOnInBoth) {
  pid_t child = -1;
  bool is_child = false;
  std::set<Handle> gone;
  make("floor=0.9", [&](Handle handle) {
    if (child == -1) {
      child = ::fork();
      is_child = child == 0;
    }
    gone.insert(handle);
    return pool_->free(handle);
  });
  add(500, 900);
  const ShrinkOutcome done = pool_->shrink(40);
  if (is_child) {
    int wrong = 0;
    if (!done.status || done.reclaimed_pages < 40) wrong = 1;
    if (wrong == 0 && !pool_->validate()) wrong = 2;
    for (const Handle handle : handles_) {
      if (wrong == 0 && pool_->free(handle).has_value() == gone.contains(handle)) wrong = 3;
    }
    if (wrong == 0 && pool_->total_pages() != 0) wrong = 4;
    ::_exit(wrong);
  }
  EXPECT_TRUE(done.status);
  ASSERT_GT(child, 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  forget(gone);
  expect_intact();
}

TEST_F(ZheapEdges, AChildMayUseThePoolInsideOfAnEviction) {
  std::set<Handle> gone;
  int code = -1;
  make("", [&](Handle handle) {
    if (code == -1) {
      code = testing::run_in_child([&] {
        if (!pool_->validate()) return 1;
        if (!pool_->compact()) return 2;
        if (!pool_->allocate(700, Gfp::kernel)) return 3;
        for (const Handle each : handles_) {
          if (!pool_->free(each)) return 4;
        }
        return pool_->validate() ? 0 : 5;
      });
    }
    gone.insert(handle);
    return pool_->free(handle);
  });
  add(300, 900);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(code, 0);
  forget(gone);
  expect_intact();
}

}  // namespace
}  // namespace mmkit
