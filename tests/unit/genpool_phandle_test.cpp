// SPDX-License-Identifier: MIT
//
// Which pool a reference of a device tree means, and in which order that is looked for.
#include <gtest/gtest.h>

#include <climits>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <string>
#include <thread>
#include <vector>

namespace mmkit {
namespace {

constexpr std::uint64_t kReg = 0xf8000000;

/// A node that refers to one other by "p".
class Reference {
 public:
  explicit Reference(DeviceNode& target) { EXPECT_TRUE(user_.add_phandle("p", target)); }
  GenPool* pool() const { return find_pool_by_phandle(user_, "p", 0); }

 private:
  DeviceNode user_{"user"};
};

GenPool* pool_at(Device& device, const std::string& name, std::uint64_t phys) {
  GenPool* const pool = device.create_pool({.name = name}).value();
  EXPECT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 0x100, .phys = phys}));
  return pool;
}

TEST(Phandle, OwnDeviceComesBeforeParentAndReg) {
  Device own("own"), parent("parent"), other("other");
  GenPool* const unnamed = own.create_pool({}).value();
  GenPool* const by_name = parent.create_pool({.name = "node"}).value();
  GenPool* const by_reg = pool_at(other, "x", kReg);
  DeviceNode above("above"), node("node", &above);
  above.set_device(&parent);
  node.set_reg(kReg);
  const Reference reference(node);
  EXPECT_EQ(reference.pool(), by_name) << "the parent comes before reg";
  node.set_device(&own);
  EXPECT_EQ(reference.pool(), unnamed);
  node.set_device(nullptr);
  EXPECT_EQ(reference.pool(), by_name);
  above.set_device(nullptr);
  EXPECT_EQ(reference.pool(), by_reg);
}

TEST(Phandle, OwnDeviceWithoutAnUnnamedPoolFallsBackToRegAlone) {
  Device own("own"), parent("parent");
  own.create_pool({.name = "node"}).value();
  parent.create_pool({.name = "node"}).value();
  DeviceNode above("above"), node("node", &above);
  above.set_device(&parent);
  node.set_device(&own);
  const Reference reference(node);
  EXPECT_EQ(reference.pool(), nullptr) << "a node with a device of its own is not its parent's";
  node.set_reg(kReg);
  EXPECT_EQ(reference.pool(), nullptr);
  GenPool* const by_reg = pool_at(parent, "x", kReg);
  EXPECT_EQ(reference.pool(), by_reg);
}

TEST(Phandle, ALabelStandsForTheNameAndIsTakenBackByAnEmptyOne) {
  Device parent("parent");
  GenPool* const by_name = parent.create_pool({.name = "node"}).value();
  DeviceNode above("above"), node("node", &above);
  above.set_device(&parent);
  const Reference reference(node);
  node.set_label("label");
  EXPECT_EQ(reference.pool(), nullptr) << "the name is not tried when there is a label";
  GenPool* const labelled = parent.create_pool({.name = "label"}).value();
  EXPECT_EQ(reference.pool(), labelled);
  node.set_label("");
  EXPECT_EQ(reference.pool(), by_name);
}

TEST(Phandle, AParentsUnnamedPoolIsNotMeantByANode) {
  Device parent("parent");
  parent.create_pool({}).value();
  DeviceNode above("above"), node("node", &above);
  above.set_device(&parent);
  EXPECT_EQ(Reference(node).pool(), nullptr);
}

TEST(Phandle, OnlyTheParentIsAskedAndNoOneAbove) {
  Device top("top");
  top.create_pool({.name = "node"}).value();
  DeviceNode root("root"), middle("middle", &root), node("node", &middle);
  root.set_device(&top);
  EXPECT_EQ(Reference(node).pool(), nullptr);
}

TEST(Phandle, RegMeansTheStartOfAChunkOfAnyDevice) {
  Device first("first"), second("second");
  GenPool* const low = pool_at(first, "low", 0);
  GenPool* const high = pool_at(second, "high", ~std::uint64_t{0} - 0xff);
  ASSERT_TRUE(high->add_chunk({.start = 0x9000, .size_bytes = 16, .phys = kReg}));
  ASSERT_TRUE(high->add_chunk({.start = 0xa000, .size_bytes = 16}));
  DeviceNode node("node");
  const Reference reference(node);
  EXPECT_EQ(reference.pool(), nullptr) << "no reg is not reg 0";
  node.set_reg(0);
  EXPECT_EQ(reference.pool(), low);
  node.set_reg(1);
  EXPECT_EQ(reference.pool(), nullptr) << "inside a chunk is not its start";
  node.set_reg(~std::uint64_t{0} - 0xff);
  EXPECT_EQ(reference.pool(), high);
  node.set_reg(kReg);
  EXPECT_EQ(reference.pool(), high) << "any of its chunks";
  ASSERT_TRUE(high->remove_chunk(0x9000));
  EXPECT_EQ(reference.pool(), nullptr);
}

TEST(Phandle, ADeviceThatEndedIsNotFoundByReg) {
  DeviceNode node("node");
  node.set_reg(kReg);
  const Reference reference(node);
  Device stays("stays");
  {
    auto middle = std::make_unique<Device>("middle");
    pool_at(*middle, "x", kReg);
    const Device newest("newest");
    EXPECT_NE(reference.pool(), nullptr);
    middle.reset();
    EXPECT_EQ(reference.pool(), nullptr);
  }
  GenPool* const pool = pool_at(stays, "y", kReg);
  EXPECT_EQ(reference.pool(), pool) << "the others are still there";
}

TEST(Phandle, PropertiesKeepTheirReferencesInOrderAndApart) {
  Device device("device");
  DeviceNode above("above"), user("user");
  above.set_device(&device);
  std::vector<std::unique_ptr<DeviceNode>> nodes;
  std::vector<GenPool*> pools;
  for (int i = 0; i < 20; ++i) {
    const std::string name = "node" + std::to_string(i);
    nodes.push_back(std::make_unique<DeviceNode>(name, &above));
    pools.push_back(device.create_pool({.name = name}).value());
    std::string property = i % 2 == 0 ? "even" : "odd";
    ASSERT_TRUE(user.add_phandle(property, *nodes.back()));
    property.assign(property.size(), '?');  // the node has its own copy
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(find_pool_by_phandle(user, i % 2 == 0 ? "even" : "odd", i / 2),
              pools[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(find_pool_by_phandle(user, "even", 10), nullptr);
  EXPECT_EQ(find_pool_by_phandle(user, "eve", 0), nullptr);
  EXPECT_EQ(find_pool_by_phandle(user, "even ", 0), nullptr);
  EXPECT_EQ(find_pool_by_phandle(user, "", 0), nullptr);
  for (const int index : {-1, INT_MIN, INT_MAX}) {
    EXPECT_EQ(find_pool_by_phandle(user, "even", index), nullptr) << index;
  }
}

TEST(Phandle, APropertyMayHaveAnyNameAndANodeMayReferToItself) {
  Device device("device");
  GenPool* const pool = device.create_pool({}).value();
  DeviceNode node("node");
  node.set_device(&device);
  const std::string odd("a\0b", 3);
  ASSERT_TRUE(node.add_phandle("", node));
  ASSERT_TRUE(node.add_phandle(odd, node));
  EXPECT_EQ(find_pool_by_phandle(node, "", 0), pool);
  EXPECT_EQ(find_pool_by_phandle(node, odd, 0), pool);
  EXPECT_EQ(find_pool_by_phandle(node, "a", 0), nullptr);
}

TEST(Device, ARefusedPoolLeavesTheNameFree) {
  Device device("device");
  EXPECT_EQ(device.create_pool({.min_alloc_order = 48, .name = "x"}).error(),
            Errc::invalid_argument);
  EXPECT_EQ(device.create_pool({.name = "x", .fit = FirstFitAlign{3}}).error(),
            Errc::invalid_argument);
  EXPECT_EQ(device.find_pool("x"), nullptr);
  std::string name = "x";
  GenPool* const pool = device.create_pool({.min_alloc_order = 5, .name = name}).value();
  name = "y";
  EXPECT_EQ(device.find_pool("x"), pool) << "the name is the pool's own copy";
  EXPECT_EQ(pool->granule_bytes(), 32u);
}

TEST(Device, ThreadsThatWantOneNameMakeOnePool) {
  constexpr int kThreads = 4, kNames = 50;
  Device device("device");
  std::vector<std::thread> threads;
  std::vector<int> made(kThreads, 0);
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kNames; ++i) {
        const auto pool = device.create_pool({.name = std::to_string(i)});
        if (pool) {
          ++made[t];
        } else {
          EXPECT_EQ(pool.error(), Errc::already_exists);
        }
        EXPECT_NE(device.find_pool(std::to_string(i)), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int all = 0;
  for (const int count : made) all += count;
  EXPECT_EQ(all, kNames);
}

TEST(Device, ALongListOfPoolsEndsWithoutDeepRecursion) {
  Device device("device");
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(device.create_pool({.name = std::to_string(i)}));
  }
  EXPECT_NE(device.find_pool("0"), nullptr);
}

}  // namespace
}  // namespace mmkit
