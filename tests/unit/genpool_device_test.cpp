// SPDX-License-Identifier: MIT
//
// What is built around pools: devices and references, owned ranges, the std::pmr resource, JSON.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <mmkit/genalloc/pool_resource.hpp>
#include <string>
#include <vector>

namespace mmkit {
namespace {

TEST(Device, OwnsOnePoolOfANameAndOneWithout) {
  Device device("dma");
  EXPECT_EQ(device.name(), "dma");
  EXPECT_EQ(device.find_pool(), nullptr);
  GenPool* const named = device.create_pool({.name = "sram"}).value();
  EXPECT_EQ(device.find_pool(), nullptr) << "an empty name finds only the unnamed pool";
  GenPool* const unnamed = device.create_pool({}).value();
  EXPECT_EQ(device.create_pool({}).error(), Errc::already_exists);
  EXPECT_EQ(device.create_pool({.name = "sram"}).error(), Errc::already_exists);
  EXPECT_EQ(device.create_pool({.min_alloc_order = 60}).error(), Errc::invalid_argument);
  EXPECT_EQ(device.find_pool("sram"), named);
  EXPECT_EQ(device.find_pool(), unnamed);
  EXPECT_EQ(device.find_pool("other"), nullptr);
}

TEST(DeviceNode, AReferenceMeansThePoolOfItsTarget) {
  Device own("own"), parents("parents");
  GenPool* const unnamed = own.create_pool({}).value();
  GenPool* const labelled = parents.create_pool({.name = "label"}).value();
  GenPool* const by_name = parents.create_pool({.name = "bank@1"}).value();
  DeviceNode soc("soc"), camera("camera"), sram("sram", &soc), bank("bank@1", &soc);
  ASSERT_TRUE(camera.add_phandle("memory", sram));
  ASSERT_TRUE(camera.add_phandle("other", sram));
  ASSERT_TRUE(camera.add_phandle("memory", bank));
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", 0), nullptr);
  soc.set_device(&parents);
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", 1), by_name);
  bank.set_label("label");
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", 1), labelled);
  sram.set_device(&own);
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", 0), unnamed);
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", 2), nullptr);
  EXPECT_EQ(find_pool_by_phandle(camera, "memory", -1), nullptr);
  EXPECT_EQ(find_pool_by_phandle(camera, "nothing", 0), nullptr);
}

TEST(DeviceNode, AReferenceFallsBackToWhereTheRangeStarts) {
  Device device("window");
  GenPool* const pool = device.create_pool({.name = "w"}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 64, .phys = 0xf000}));
  DeviceNode user("user"), window("range");
  ASSERT_TRUE(user.add_phandle("p", window));
  EXPECT_EQ(find_pool_by_phandle(user, "p", 0), nullptr);
  window.set_reg(0xf001);
  EXPECT_EQ(find_pool_by_phandle(user, "p", 0), nullptr);
  window.set_reg(0xf000);
  EXPECT_EQ(find_pool_by_phandle(user, "p", 0), pool);
}

TEST(GenPoolAllocation, FreesWhatItHoldsOnce) {
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 100, .size_bytes = 100}));
  {
    GenPoolAllocation first = GenPoolAllocation::make(*pool, 10).value();
    GenPoolAllocation second = GenPoolAllocation::make(*pool, 20, BestFit{}).value();
    EXPECT_EQ(first.start(), 100u);
    EXPECT_EQ(second.start(), 110u);
    EXPECT_EQ(second.size_bytes(), 20u);
    EXPECT_EQ(GenPoolAllocation::make(*pool, 71).error(), Errc::no_space);
    first = std::move(second);
    EXPECT_FALSE(second);  // NOLINT: a moved-from one is empty
    EXPECT_EQ(pool->available_bytes(), 80u);
    GenPoolAllocation third = std::move(first);
    EXPECT_EQ(third.release(), 110u);
    EXPECT_FALSE(third);
  }
  EXPECT_EQ(pool->available_bytes(), 80u);
  pool->free(110, 20);
}

TEST(GenPoolAllocation, HoldsThePlaceThatWasAskedFor) {
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 100, .size_bytes = 100}));
  {
    const GenPoolAllocation one = GenPoolAllocation::make_at(*pool, 150, 20).value();
    EXPECT_EQ(one.start(), 150u);
    EXPECT_EQ(one.size_bytes(), 20u);
    EXPECT_EQ(pool->available_bytes(), 80u);
    EXPECT_EQ(GenPoolAllocation::make_at(*pool, 169, 1).error(), Errc::no_space);
    EXPECT_EQ(GenPoolAllocation::make_at(*pool, 190, 11).error(), Errc::invalid_argument);
    EXPECT_EQ(pool->available_bytes(), 80u);
  }
  EXPECT_EQ(pool->available_bytes(), 100u);
}

TEST(GenPoolResource, ServesContainers) {
  alignas(4096) static unsigned char memory[1 << 16];
  const auto pool = GenPool::create({.min_alloc_order = 4, .kind = AddressKind::host}).value();
  ASSERT_TRUE(pool->add_chunk(
      {.start = reinterpret_cast<std::uintptr_t>(memory), .size_bytes = sizeof memory}));
  {
    GenPoolResource resource(*pool), same(*pool);
    EXPECT_TRUE(resource.is_equal(same));
    EXPECT_FALSE(resource.is_equal(*std::pmr::new_delete_resource()));
    std::pmr::vector<int> numbers(&resource);
    for (int i = 0; i < 1000; ++i) numbers.push_back(i);
    EXPECT_EQ(numbers[999], 999);
    void* const page = resource.allocate(100, 4096);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page) % 4096, 0u);
    resource.deallocate(page, 100, 4096);
    EXPECT_THROW(static_cast<void>(resource.allocate(std::size_t{1} << 20)), std::bad_alloc);
  }
  EXPECT_EQ(pool->available_bytes(), sizeof memory);
}

TEST(GenPoolJson, SaysWhatThePoolIs) {
  const auto pool = GenPool::create({.name = "a\"b\n"}).value();
  ASSERT_TRUE(pool->add_chunk({.start = 100, .size_bytes = 50, .phys = 7}));
  ASSERT_TRUE(pool->add_chunk({.start = 200, .size_bytes = 5}));
  ASSERT_TRUE(pool->allocate_at(110, 10));
  std::string text;
  write_json(*pool, [&](std::string_view part) { text += part; });
  EXPECT_NE(
      text.find("{\"name\":\"a\\\"b\\u000a\",\"granule_bytes\":1,\"stats\":{\"size_bytes\":55,"),
      std::string::npos);
  EXPECT_NE(text.find("\"chunks\":[{\"start\":200,\"size_bytes\":5,\"available_bytes\":5,\"phys\":"
                      "null},{\"start\":100,\"size_bytes\":50,\"available_bytes\":40,\"phys\":7}]"),
            std::string::npos);
  EXPECT_NE(text.find("\"free_runs\":[[200,5],[100,10],[120,30]]}"), std::string::npos);
  pool->free(110, 10);
}

}  // namespace
}  // namespace mmkit
