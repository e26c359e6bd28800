// SPDX-License-Identifier: MIT
//
// Which pools live, as tools see them, and the tags that tell their handles apart.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/driver_variants.hpp"
#include "support/scale.hpp"
#include "support/stub_driver.hpp"

namespace mmkit {
namespace {

class LivePools : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(registry_.register_driver(testing::make_stub("stub"))); }

  Result<std::unique_ptr<Zpool>> try_make(std::string name = {}) {
    return Zpool::create("stub", {.name = std::move(name), .registry = &registry_});
  }
  std::unique_ptr<Zpool> make(std::string name = {}) { return try_make(std::move(name)).value(); }

  static std::vector<std::string> names() {
    std::vector<std::string> names;
    for_each_live_pool([&](const ZpoolInfo& info) { names.emplace_back(info.name); });
    return names;
  }
  static std::uint16_t tag_of(std::string_view name) {
    std::uint16_t tag = 0;
    for_each_live_pool([&](const ZpoolInfo& info) {
      if (info.name == name) tag = info.tag;
    });
    return tag;
  }

  DriverRegistry registry_;
};

// What a listing says of a pool, whatever its kind.
class LivePoolsOf : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Driver, LivePoolsOf, ::testing::ValuesIn(testing::registered_types()),
                         [](const auto& type) { return type.param; });

using Names = std::vector<std::string>;

TEST_F(LivePools, AreListedOldestFirst) {
  EXPECT_EQ(names(), Names{});
  const std::unique_ptr<Zpool> first = make("first");
  std::unique_ptr<Zpool> second = make("second");
  const std::unique_ptr<Zpool> third = make("third");
  EXPECT_EQ(names(), (Names{"first", "second", "third"}));
  second.reset();
  EXPECT_EQ(names(), (Names{"first", "third"}));
  second = make("second again");
  EXPECT_EQ(names(), (Names{"first", "third", "second again"}));
}

TEST_P(LivePoolsOf, EveryKindAreDescribed) {
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  const auto pool =
      Zpool::create(GetParam(),
                    {.name = "described", .pages = source.get(), .limit_bytes = 10 * kPageSize + 7})
          .value();
  const Handle handle = pool->allocate(123).value();
  int seen = 0;
  for_each_live_pool([&](const ZpoolInfo& info) {
    ++seen;
    EXPECT_EQ(info.type, GetParam());
    EXPECT_EQ(info.name, "described");
    EXPECT_EQ(info.tag, handle_bits::tag(handle));
    EXPECT_EQ(info.limit_bytes, 10 * kPageSize);
    EXPECT_EQ(info.stats.objects, 1u);
    EXPECT_EQ(info.stats.payload_bytes, 123u);
    EXPECT_EQ(info.stats.pages, 1u);
    EXPECT_EQ(info.stats.metadata_bytes, pool->stats().metadata_bytes);
  });
  EXPECT_EQ(seen, 1);
  pool->free(handle);
}

TEST_F(LivePools, AreThoseThatLiveWhenTheCallBeginsAndStillDo) {
  std::vector<std::unique_ptr<Zpool>> pools;
  for (const char* name : {"a", "b", "c"}) pools.push_back(make(name));
  std::vector<std::string> seen;
  for_each_live_pool([&](const ZpoolInfo& info) {
    if (info.name == "a") {
      pools.erase(pools.begin() + 1);  // b ends before its turn comes
      pools.push_back(make("d"));
    }
    seen.emplace_back(info.name);
  });
  EXPECT_EQ(seen, (Names{"a", "c"}));
  EXPECT_EQ(names(), (Names{"a", "c", "d"}));
}

TEST_F(LivePools, MayBeListedFromInsideAListing) {
  const std::unique_ptr<Zpool> one = make("one");
  const std::unique_ptr<Zpool> two = make("two");
  int seen = 0;
  for_each_live_pool(
      [&](const ZpoolInfo&) { for_each_live_pool([&](const ZpoolInfo&) { ++seen; }); });
  EXPECT_EQ(seen, 4);
}

TEST_P(LivePoolsOf, EveryKindAreListedWhileTheyComeAndGo) {
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20}).value();
  std::atomic<bool> stop{false};
  std::vector<std::thread> makers;
  for (int id = 0; id < 3; ++id) {
    makers.emplace_back([&] {
      while (!stop.load()) {
        const auto pool =
            Zpool::create(GetParam(), {.name = "busy", .pages = source.get()}).value();
        const Handle handle = pool->allocate(100).value();
        pool->free(handle);
      }
    });
  }
  for (std::uint64_t i = 0; i < testing::scaled(500); ++i) {
    std::set<std::uint16_t> tags;
    for_each_live_pool([&](const ZpoolInfo& info) {
      EXPECT_EQ(info.name, "busy");
      EXPECT_EQ(info.type, GetParam());
      EXPECT_LE(info.stats.objects, 1u);
      EXPECT_TRUE(tags.insert(info.tag).second);
    });
    EXPECT_LE(tags.size(), 3u);
  }
  stop = true;
  for (std::thread& maker : makers) maker.join();
  for_each_live_pool([](const ZpoolInfo& info) { ADD_FAILURE() << info.name; });
}

// ---------------------------------------------------------------- tags

TEST_F(LivePools, HaveTagsThatAreNotUsedAgainSoon) {
  std::set<std::uint16_t> seen;
  for (int i = 0; i < 2000; ++i) {
    const std::unique_ptr<Zpool> pool = make("brief");
    const std::uint16_t tag = tag_of("brief");
    EXPECT_NE(tag, 0);
    EXPECT_TRUE(seen.insert(tag).second) << "after " << i << " pools";
  }
}

TEST_F(LivePools, AreAtMostAsManyAsThereAreTags) {
  constexpr std::size_t kTags = 65535;
  std::vector<std::unique_ptr<Zpool>> pools;
  pools.reserve(kTags + 1);
  while (pools.size() <= kTags) {
    Result<std::unique_ptr<Zpool>> pool = try_make();
    if (!pool) {
      EXPECT_EQ(pool.error(), Errc::out_of_memory);
      break;
    }
    pools.push_back(*std::move(pool));
  }
  ASSERT_EQ(pools.size(), kTags);
  std::vector<bool> used(kTags + 1);
  for_each_live_pool([&](const ZpoolInfo& info) {
    EXPECT_FALSE(used[info.tag]);
    used[info.tag] = true;
  });
  EXPECT_FALSE(used[0]);
  EXPECT_EQ(std::count(used.begin(), used.end(), true), static_cast<std::ptrdiff_t>(kTags));
  EXPECT_EQ(try_make().error(), Errc::out_of_memory) << "still";

  // One that ends makes room for one, wherever its tag was.
  for (const std::size_t at : {std::size_t{40000}, std::size_t{0}, kTags - 1}) {
    pools[at].reset();
    pools[at] = make();
    EXPECT_EQ(try_make().error(), Errc::out_of_memory);
  }
  pools.clear();
  EXPECT_TRUE(try_make());
}

TEST_F(LivePools, DoNotLoseATagToAPoolThatCouldNotBeMade) {
  ASSERT_TRUE(registry_.register_driver(testing::make_stub(
      "sterile",
      [](BackendEnv&&) -> Result<std::unique_ptr<ZpoolBackend>> { return fail(Errc::io_error); })));
  // More often than there are tags.
  for (int i = 0; i < 70000; ++i) {
    ASSERT_EQ(Zpool::create("sterile", {.registry = &registry_}).error(), Errc::io_error);
  }
  EXPECT_EQ(names(), Names{});
}

}  // namespace
}  // namespace mmkit
