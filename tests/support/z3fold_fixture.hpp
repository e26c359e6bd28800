// SPDX-License-Identifier: MIT
//
// Z3foldTest - a pool of the class itself, without the front end, whose objects tell where they are.
//
// A place is told by an object's address: the page it is in, and the chunk there.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/z3fold.hpp>
#include <utility>
#include <vector>

#include "support/hooked_source.hpp"
#include "support/pattern.hpp"
#include "support/percpu_memory.hpp"

namespace mmkit::testing {

class Z3foldTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kChunk = ChunkedPage::kChunkBytes;
  static constexpr std::size_t kMostShared = 3904;

  void SetUp() override {
    memory_ = SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value();
    source_ = std::make_unique<HookedSource>(*memory_);
    make();
  }
  void TearDown() override {
    answer_ = [this](Handle handle) { return pool_->free(handle); };
    while (pool_->total_pages() != 0) ASSERT_TRUE(pool_->shrink(pool_->total_pages()).status);
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(memory_->stats().held_pages, 0u);
  }

  void make(std::string_view params = {}, Gfp gfp = Gfp::kernel) {
    pool_ = Z3foldPool::create(BackendEnv{.name = "z",
                                          .params = params,
                                          .pages = source_.get(),
                                          .gfp = gfp,
                                          .pool_tag = 99,
                                          .evict =
                                              [this](Handle handle) {
                                                asked_.push_back(handle);
                                                return answer_(handle);
                                              }})
                .value();
  }

  Handle add(std::size_t size_bytes) {
    const Handle handle = pool_->store(make_pattern(size_bytes, keys_), Gfp::kernel).value();
    made_.push_back({handle, size_bytes, keys_++});
    EXPECT_TRUE(pool_->validate());
    return handle;
  }
  Handle add_chunks(std::size_t chunks) { return add(chunks * kChunk); }
  void free(Handle handle) {
    EXPECT_TRUE(pool_->free(handle));
    EXPECT_TRUE(pool_->validate());
  }
  std::uintptr_t address(Handle handle) {
    const auto bytes = pool_->map(handle, MapMode::read_only);
    EXPECT_TRUE(bytes);
    if (!bytes) return 0;
    const auto address = reinterpret_cast<std::uintptr_t>(bytes->data());
    pool_->unmap(handle);
    return address;
  }
  std::uintptr_t page(Handle handle) { return address(handle) / kPageSize; }
  std::size_t chunk(Handle handle) {
    EXPECT_EQ(address(handle) % kChunk, 0u);
    return address(handle) % kPageSize / kChunk;
  }
  bool live(Handle handle) {
    const bool live = pool_->map(handle, MapMode::read_only).has_value();
    if (live) pool_->unmap(handle);
    return live;
  }
  /// Every live object that add() made has its bytes and its size.
  void expect_whole() {
    for (const Made& made : made_) {
      const auto bytes = pool_->map(made.handle, MapMode::read_only);
      if (!bytes) continue;
      EXPECT_EQ(bytes->size(), made.size_bytes);
      EXPECT_TRUE(has_pattern(*bytes, made.key));
      pool_->unmap(made.handle);
    }
  }
  Status give_up(Handle handle) { return pool_->free(handle); }
  static Status refuse(Handle) { return fail(Errc::busy); }
  void make_refusing_of(Handle kept) {
    answer_ = [this, kept](Handle handle) {
      return handle == kept ? refuse(handle) : give_up(handle);
    };
  }

  /// A page with FIRST, LAST and MIDDLE of so many chunks, made in that order.
  struct Trio {
    Handle first, middle, last;
  };
  Trio add_trio(std::size_t first, std::size_t middle, std::size_t last) {
    Trio trio{};
    trio.first = add_chunks(first);
    trio.last = add_chunks(last);
    trio.middle = add_chunks(middle);
    EXPECT_EQ(page(trio.middle), page(trio.first));
    EXPECT_EQ(page(trio.last), page(trio.first));
    return trio;
  }

  struct Made {
    Handle handle;
    std::size_t size_bytes;
    std::uint64_t key;
  };
  PinnedThread pinned_;  // an allocation looks at its own CPU's pages first
  std::unique_ptr<SimPageAllocator> memory_;
  std::unique_ptr<HookedSource> source_;
  std::function<Status(Handle)> answer_ = [this](Handle handle) { return give_up(handle); };
  std::vector<Handle> asked_;
  std::vector<Made> made_;
  std::uint64_t keys_ = 1;
  std::unique_ptr<Z3foldPool> pool_;
};

using Handles = std::vector<Handle>;

}  // namespace mmkit::testing
