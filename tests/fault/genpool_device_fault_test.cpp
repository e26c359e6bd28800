// SPDX-License-Identifier: MIT
//
// Each allocation of a device fails in turn: create_pool and add_phandle say out_of_memory, and
// neither name nor reference is there afterwards.
#include <gtest/gtest.h>

#include <cstdint>
#include <mmkit/genalloc.hpp>
#include <string>

#include "fault/zpool_failing_heap.hpp"

namespace mmkit {
namespace {

using testing::FailingHeap;

TEST(DeviceFault, CreatePoolFailsAtEachAllocationAndLeavesTheNameFree) {
  Device device("device");
  const GenPoolOptions options{.name = "a name too long for any string to keep inside itself"};
  for (const auto how : {FailingHeap::Failing::once, FailingHeap::Failing::for_ever}) {
    std::uint64_t n = 1;
    for (;; ++n) {
      const std::size_t blocks = FailingHeap::live_blocks();
      FailingHeap::fail_nth(n, how);
      const auto pool = device.create_pool(options);
      FailingHeap::succeed();
      if (FailingHeap::failed() == 0) {
        // The second time round the name is taken, and that is found at the end.
        EXPECT_EQ(pool.has_value(), how == FailingHeap::Failing::once);
        break;
      }
      ASSERT_FALSE(pool) << n;
      EXPECT_EQ(pool.error(), Errc::out_of_memory) << n;
      EXPECT_EQ(FailingHeap::live_blocks(), blocks) << n;
      EXPECT_EQ(device.find_pool(options.name) != nullptr, how != FailingHeap::Failing::once);
    }
    EXPECT_GE(n, 3u);
  }
}

TEST(DeviceFault, AddPhandleFailsAtEachAllocationAndLeavesNoReference) {
  Device device("device");
  GenPool* const pool = device.create_pool({}).value();
  DeviceNode user("user"), target("target");
  target.set_device(&device);
  std::uint64_t n = 1;
  for (;; ++n) {
    const std::size_t blocks = FailingHeap::live_blocks();
    FailingHeap::fail_nth(n, FailingHeap::Failing::once);
    const Status added = user.add_phandle("memory", target);
    FailingHeap::succeed();
    if (FailingHeap::failed() == 0) {
      EXPECT_TRUE(added);
      break;
    }
    EXPECT_EQ(added.error(), Errc::out_of_memory);
    EXPECT_EQ(FailingHeap::live_blocks(), blocks);
    EXPECT_EQ(find_pool_by_phandle(user, "memory", 0), nullptr);
  }
  EXPECT_EQ(n, 3u);
  EXPECT_EQ(find_pool_by_phandle(user, "memory", 0), pool);
  EXPECT_EQ(find_pool_by_phandle(user, "memory", 1), nullptr);
}

TEST(DeviceFault, LookupsAllocateNothing) {
  Device device("device");
  GenPool* const pool = device.create_pool({}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 64, .phys = 7}));
  DeviceNode user("user"), target("target");
  target.set_reg(7);
  ASSERT_TRUE(user.add_phandle("p", target));
  FailingHeap::fail_nth(1, FailingHeap::Failing::for_ever);
  GenPool* const found = find_pool_by_phandle(user, "p", 0);
  GenPool* const by_name = device.find_pool();
  FailingHeap::succeed();
  EXPECT_EQ(FailingHeap::failed(), 0u);
  EXPECT_EQ(found, pool);
  EXPECT_EQ(by_name, pool);
}

}  // namespace
}  // namespace mmkit
