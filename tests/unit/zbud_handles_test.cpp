// SPDX-License-Identifier: MIT
//
// Handles of zbud that came before: a dead handle must not touch the object that its slot names now.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/handle_table.hpp>
#include <mmkit/zpool/zbud.hpp>

namespace mmkit {
namespace {

TEST(ZbudHandles, ADeadHandleUnmapsNothing) {
  alignas(64) std::array<std::byte, 128> objects{};
  HandleTable<std::uint64_t> table(7);
  ASSERT_TRUE(table.prepare());
  const std::uint32_t slot = table.reserve(/*may_grow=*/false).value();
  const Handle before = table.publish(slot, objects.data(), /*pins=*/0);
  ASSERT_TRUE(table.kill(before));
  table.recycle(slot);

  ASSERT_EQ(table.reserve(/*may_grow=*/false).value(), slot);  // the slot freed last
  const Handle now = table.publish(slot, objects.data() + 64, /*pins=*/1);
  ASSERT_NE(now, before);
  EXPECT_FALSE(table.unpin(before));
  EXPECT_EQ(table.kill(now).error(), Errc::busy) << "it is mapped as it was";
  EXPECT_FALSE(table.pin(before));
  EXPECT_EQ(table.kill(before).error(), Errc::invalid_argument);
  EXPECT_TRUE(table.unpin(now));
  EXPECT_TRUE(table.kill(now));
  table.recycle(slot);
}

TEST(ZbudHandles, ADeadHandleFreesAndTouchesNothing) {
  const auto pages = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  const auto pool = ZbudPool::create({.name = "stale",
                                      .params = {},
                                      .pages = pages.get(),
                                      .gfp = Gfp::kernel,
                                      .pool_tag = 7,
                                      .evict = {}})
                        .value();
  const Handle before = pool->allocate(100, Gfp::kernel).value();
  ASSERT_TRUE(pool->free(before));
  const Handle now = pool->allocate(200, Gfp::kernel).value();
  ASSERT_EQ(handle_bits::index(now), handle_bits::index(before));
  EXPECT_EQ(pool->free(before).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->map(before, MapMode::read_only).error(), Errc::not_found);
  pool->touch(before);
  EXPECT_EQ(pool->stats().objects, 1u);
  EXPECT_EQ(pool->stats().payload_bytes, 200u);
  EXPECT_TRUE(pool->validate());
  EXPECT_TRUE(pool->free(now));
}

}  // namespace
}  // namespace mmkit
