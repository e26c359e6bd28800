// SPDX-License-Identifier: MIT
//
// Misuse of a zheap pool ends the program by name, wherever moves have put the object; a write beyond
// the end of an object is noticed when what it destroyed is freed.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <string>
#include <vector>

#include "support/percpu_memory.hpp"

namespace mmkit {
namespace {

class ZheapDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20}).value();
    pool_ = Zpool::create("zheap", {.name = "cache", .pages = source_.get(), .params = "floor=0"})
                .value();
    for (int i = 0; i < 1000; ++i) handles_.push_back(pool_->allocate(1000).value());
  }
  void TearDown() override {
    for (const Handle handle : handles_) static_cast<void>(pool_->try_free(handle));
  }
  // Frees all but each fifth, and moves those that are left.
  void scatter_and_compact() {
    std::vector<Handle> left;
    for (std::size_t i = 0; i < handles_.size(); ++i) {
      if (i % 5 == 0) {
        left.push_back(handles_[i]);
      } else {
        pool_->free(handles_[i]);
      }
    }
    handles_ = left;
    ASSERT_NE(pool_->compact().value(), 0u);
    ASSERT_NE(pool_->stats().moved, 0u);
  }
  static std::string line(const std::string& fault, Handle handle) {
    char text[16];
    std::snprintf(text, sizeof text, "%012llx",
                  static_cast<unsigned long long>(handle_bits::raw(handle) & 0xffff'ffff'ffff));
    return "^mmkit: zheap pool 'cache': " + fault + " 0x[0-9a-f]{1,4}" + text + "\n$";
  }

  // A handle's slot depends on the CPU that takes it, and the child makes its handles anew.
  testing::PinnedThread pinned_;
  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
  std::vector<Handle> handles_;
};

TEST_F(ZheapDeathTest, AMovedObjectIsFreedOnce) {
  scatter_and_compact();
  for (const std::size_t i : {std::size_t{0}, handles_.size() - 1}) {
    pool_->free(handles_[i]);
    EXPECT_DEATH(pool_->free(handles_[i]), line("dead handle", handles_[i]));
    EXPECT_DEATH(static_cast<void>(pool_->map(handles_[i])), line("dead handle", handles_[i]));
  }
}

TEST_F(ZheapDeathTest, AMappedObjectIsNotFreed) {
  scatter_and_compact();
  const Mapping mapping = pool_->map(handles_.back());
  EXPECT_DEATH(pool_->free(handles_.back()), line("mapped handle freed", handles_.back()));
}

TEST_F(ZheapDeathTest, APoolIsNotDestroyedUnderAMapping) {
  scatter_and_compact();
  EXPECT_DEATH(
      {
        const Mapping mapping = pool_->map(handles_[4]);
        pool_.reset();
      },
      line("pool destroyed with live mapping", handles_[4]));
}

TEST_F(ZheapDeathTest, OfAnObjectThatIsNotMappedNoMappingEnds) {
  const auto backend =
      ZheapPool::create({.name = "cache", .pages = source_.get(), .pool_tag = 1, .evict = {}})
          .value();
  for (const std::size_t size : {100U, 4096U}) {
    const Handle handle = backend->allocate(size, Gfp::kernel).value();
    EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
    ASSERT_TRUE(backend->map(handle, MapMode::read_only));
    backend->unmap(handle);
    EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
    ASSERT_TRUE(backend->free(handle));
    EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
  }
}

// The object behind it loses its header, and so its free is noticed; in audit builds the next free in its
// block.
TEST_F(ZheapDeathTest, AWriteBeyondTheEndOfAnObjectIsNoticedByTheNextFree) {
  for (const int written : {0x00, 0xff, 0x41}) {
    EXPECT_DEATH(
        {
          Mapping mapping = pool_->map(handles_[10]);
          std::byte* const end = mapping.bytes().data() + mapping.bytes().size();
          mapping = Mapping();
          std::memset(end, written, 8);
          for (const Handle handle : handles_) pool_->free(handle);
        },
        MMKIT_CHECK_LEVEL >= 2
            ? "^mmkit: zheap.cpp:[0-9]+: check failed: block_is_whole, line 0x"
            : "^mmkit: zheap.cpp:[0-9]+: check failed: is_extent_of.one.slot, one.place., line "
              "0x");
  }
}

}  // namespace
}  // namespace mmkit
