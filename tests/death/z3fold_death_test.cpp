// SPDX-License-Identifier: MIT
//
// Misuse of a z3fold pool ends the program by name, wherever compaction has put the object.
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/z3fold.hpp>
#include <string>

namespace mmkit {
namespace {

class Z3foldDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
    pool_ = Zpool::create("z3fold", {.name = "cache", .pages = source_.get()}).value();
    // Two pages of three; then one object of the first is alone.
    for (Handle& handle : handles_) handle = pool_->allocate(1280).value();
    for (const int i : {1, 2, 3}) pool_->free(handles_[i]);
  }
  void TearDown() override {
    for (const int i : {0, 4, 5}) static_cast<void>(pool_->try_free(handles_[i]));
  }
  static std::string line(const std::string& fault, Handle handle) {
    char text[16];
    std::snprintf(text, sizeof text, "%012llx",
                  static_cast<unsigned long long>(handle_bits::raw(handle) & 0xffff'ffff'ffff));
    return "^mmkit: z3fold pool 'cache': " + fault + " 0x[0-9a-f]{1,4}" + text + "\n$";
  }

  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
  Handle handles_[6] = {};
};

TEST_F(Z3foldDeathTest, ADeadHandleIsNamed) {
  EXPECT_DEATH(pool_->free(handles_[1]), line("dead handle", handles_[1]));
  EXPECT_DEATH(static_cast<void>(pool_->map(handles_[1])), line("dead handle", handles_[1]));
}

TEST_F(Z3foldDeathTest, AMovedObjectIsFreedOnce) {
  ASSERT_EQ(pool_->compact().value(), 1u);
  pool_->free(handles_[0]);
  EXPECT_DEATH(pool_->free(handles_[0]), line("dead handle", handles_[0]));
}

TEST_F(Z3foldDeathTest, AMappedObjectIsNotFreed) {
  ASSERT_EQ(pool_->compact().value(), 1u);
  const Mapping mapping = pool_->map(handles_[0]);
  EXPECT_DEATH(pool_->free(handles_[0]), line("mapped handle freed", handles_[0]));
}

TEST_F(Z3foldDeathTest, APoolIsNotDestroyedUnderAMapping) {
  EXPECT_DEATH(
      {
        const Mapping mapping = pool_->map(handles_[4]);
        pool_.reset();
      },
      line("pool destroyed with live mapping", handles_[4]));
}

TEST_F(Z3foldDeathTest, OfAnObjectThatIsNotMappedNoMappingEnds) {
  const auto backend = Z3foldPool::create({.name = "cache",
                                           .params = {},
                                           .pages = source_.get(),
                                           .gfp = Gfp::kernel,
                                           .pool_tag = 1,
                                           .evict = {}})
                           .value();
  const Handle handle = backend->allocate(100, Gfp::kernel).value();
  EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
  ASSERT_TRUE(backend->map(handle, MapMode::read_only));
  backend->unmap(handle);
  EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
  ASSERT_TRUE(backend->free(handle));
  EXPECT_DEATH(backend->unmap(handle), line("handle not mapped", handle));
}

}  // namespace
}  // namespace mmkit
