// SPDX-License-Identifier: MIT
//
// Every misuse of a pool of ranges ends the program with a line that names fault, pool and address;
// its try_ form refuses and changes nothing.
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <mmkit/genalloc.hpp>
#include <string>
#include <vector>

namespace mmkit {
namespace {

using ::testing::KilledBySignal;

class GenPoolDeathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    pool_ = GenPool::create({.min_alloc_order = 4, .name = "heap"}).value();
    ASSERT_TRUE(pool_->add_chunk({.start = 0x10000, .size_bytes = 0x1008}));
    ASSERT_TRUE(pool_->add_chunk({.start = 0x11008, .size_bytes = 0x1000}));
    ASSERT_TRUE(pool_->allocate_at(0x10000, 0x100));
    ASSERT_TRUE(pool_->allocate_at(0x10ff0, 0x10));
    ASSERT_TRUE(pool_->allocate_at(0x11008, 0x40));
  }
  void TearDown() override {
    pool_->free(0x10000, 0x100);
    pool_->free(0x10ff0, 0x10);
    pool_->free(0x11008, 0x40);
  }
  std::vector<std::size_t> runs() const {
    std::vector<std::size_t> all;
    pool_->for_each_free_run([&](const FreeRun& run) {
      all.push_back(run.start);
      all.push_back(run.size_bytes);
    });
    return all;
  }
  void expect(std::uintptr_t start, std::size_t size_bytes, const std::string& fault,
              const std::string& value) {
    const auto before = runs();
    EXPECT_EQ(pool_->try_free(start, size_bytes).error(), Errc::invalid_argument);
    EXPECT_EQ(runs(), before);
    EXPECT_TRUE(pool_->validate());
    EXPECT_EXIT(pool_->free(start, size_bytes), KilledBySignal(SIGABRT),
                "^mmkit: genalloc pool 'heap': " + fault + " " + value + "\n$");
  }
  std::unique_ptr<GenPool> pool_;
};

TEST_F(GenPoolDeathTest, AForeignAddressIsNamed) {
  expect(0x1000, 16, "address in no chunk", "0x1000");
}
TEST_F(GenPoolDeathTest, AMisalignedAddressIsNamed) {
  expect(0x10008, 16, "misaligned address", "0x10008");
}
TEST_F(GenPoolDeathTest, ARangePastTheChunkIsNamedThoughAnotherBeginsThere) {
  expect(0x10ff0, 0x40, "free past the end of the chunk", "0x10ff0");
}
TEST_F(GenPoolDeathTest, ASecondFreeIsNamed) {
  pool_->free(0x10000, 0x100);
  expect(0x10000, 0x100, "free of memory not allocated", "0x10000");
  ASSERT_TRUE(pool_->allocate_at(0x10000, 0x100));
}
TEST_F(GenPoolDeathTest, ARangeThatIsPartlyFreeIsNamed) {
  expect(0x100f0, 0x20, "free of memory not allocated", "0x100f0");
}
TEST_F(GenPoolDeathTest, TheTailOfAChunkIsNotAllocated) {
  expect(0x10ff0, 0x18, "free of memory not allocated", "0x10ff0");
}

TEST(GenPoolBoundariesDeathTest, AWrongSizeIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto pool = GenPool::create({.name = "exact", .track_boundaries = true}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0x100, .size_bytes = 0x1000}));
  ASSERT_EQ(pool->allocate(32).value(), 0x100u);
  EXPECT_EXIT(pool->free(0x100, 16), KilledBySignal(SIGABRT),
              "^mmkit: genalloc pool 'exact': size differs from the allocation 0x100\n$");
  pool->free(0x100, 32);
}

}  // namespace
}  // namespace mmkit
