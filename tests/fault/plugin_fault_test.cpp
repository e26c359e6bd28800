// SPDX-License-Identifier: MIT
//
// Plug-ins without memory: each allocation that a load makes fails in turn, on either side, and
// nothing stays loaded.
#include <gtest/gtest.h>

#include <memory>
#include <mmkit/zpool.hpp>

#include "fault/zpool_failing_heap.hpp"
#include "plugin/plugin_directory.hpp"

namespace mmkit {
namespace {

using testing::FailingHeap;

TEST(PluginFault, ALoadWithoutMemoryLeavesNothingLoaded) {
  const testing::PluginDirectory directory;
  directory.add_runs();
  const SharedObjectLoader loader(directory.path());
  DriverRegistry registry;
  // What is made once in a process.
  ASSERT_TRUE(loader(registry, "runs"));
  ASSERT_TRUE(registry.unregister_driver("runs"));

  std::uint64_t points = 0;
  for (const auto how : {FailingHeap::Failing::once, FailingHeap::Failing::for_ever}) {
    for (std::uint64_t n = 1;; ++n) {
      const std::size_t blocks = FailingHeap::live_blocks();
      FailingHeap::fail_nth(n, how);
      const Status loaded = loader(registry, "runs");
      FailingHeap::succeed();
      if (loaded) {
        EXPECT_EQ(FailingHeap::failed(), 0u);
        EXPECT_TRUE(registry.unregister_driver("runs"));
        break;
      }
      EXPECT_EQ(loaded.error(), Errc::out_of_memory);
      EXPECT_FALSE(testing::is_loaded(directory.file("runs"))) << "allocation " << n;
      EXPECT_EQ(FailingHeap::live_blocks(), blocks) << "allocation " << n;
      points = n;
    }
  }
  // What keeps the object, the driver in the plug-in, the registry's entry.
  EXPECT_EQ(points, 3u);
}

// Of the plug-in itself: making a pool, its first object, and more slots than were ready.
TEST(PluginFault, APoolOfAPluginFailsWithoutChange) {
  const testing::PluginDirectory directory;
  directory.add_runs();
  DriverRegistry registry;
  registry.set_loader(SharedObjectLoader(directory.path()));
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{4} << 20}).value();
  std::uint64_t points = 0;
  for (const auto how : {FailingHeap::Failing::once, FailingHeap::Failing::for_ever}) {
    for (std::uint64_t n = 1;; ++n) {
      ASSERT_TRUE(registry.has_pool("runs"));
      const std::size_t blocks = FailingHeap::live_blocks();
      FailingHeap::fail_nth(n, how);
      bool failed = false;
      {
        auto pool = Zpool::create("runs", {.pages = source.get(), .registry = &registry});
        failed = !pool;
        Handle handles[100] = {};
        for (Handle& handle : handles) {
          if (failed) break;
          const Result<Handle> given = (*pool)->allocate(10);
          failed = !given;
          if (given) handle = *given;
          EXPECT_TRUE((*pool)->validate());
        }
        for (const Handle handle : handles) {
          if (handle != Handle::none) (*pool)->free(handle);
        }
      }
      FailingHeap::succeed();
      EXPECT_EQ(FailingHeap::live_blocks(), blocks) << "allocation " << n;
      if (FailingHeap::failed() == 0) break;
      EXPECT_TRUE(failed);
      points = n;
    }
  }
  EXPECT_GE(points, 4u);
}

}  // namespace
}  // namespace mmkit
