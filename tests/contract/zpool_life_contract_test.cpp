// SPDX-License-Identifier: MIT
//
// How pools are made, what they say of themselves, and how they end.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "contract/zpool_contract.hpp"
#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

using testing::CapturedLeaks;
using testing::CapturedReport;
using testing::make_pattern;
using testing::TrackedObjects;

class ZpoolLife : public testing::ZpoolContract {};
MMKIT_FOR_EACH_DRIVER(ZpoolLife);

TEST_P(ZpoolLife, IsKnownByItsType) {
  EXPECT_TRUE(default_registry().has_pool(type()));
  const std::unique_ptr<Zpool> pool = make();
  EXPECT_EQ(pool->type(), type());
}

TEST_P(ZpoolLife, HasSensibleTraits) {
  EXPECT_GE(max_bytes(), kPageSize / 2);
  EXPECT_TRUE(make()->max_object_bytes() == max_bytes());
}

TEST_P(ZpoolLife, KeepsItsName) {
  EXPECT_EQ(make()->name(), "");
  for (const std::string& name :
       {std::string("cache"), std::string("with 'quotes' and\nlines"), std::string(5000, 'n')}) {
    const std::unique_ptr<Zpool> pool = make({.name = name});
    EXPECT_EQ(pool->name(), name);
  }
  // Names need not be unique.
  const std::unique_ptr<Zpool> one = make({.name = "twin"});
  const std::unique_ptr<Zpool> two = make({.name = "twin"});
  EXPECT_NE(one.get(), two.get());
}

TEST_P(ZpoolLife, TakesThePagesOfTheProcessWhenGivenNone) {
  const Result<std::unique_ptr<Zpool>> pool = Zpool::create(type());
  ASSERT_TRUE(pool);
  TrackedObjects objects(**pool);
  for (int i = 0; i < 10; ++i) objects.add(1000);
  EXPECT_GT((*pool)->total_bytes(), 0u);
  EXPECT_EQ(held_pages(), 0u);
}

TEST_P(ZpoolLife, HoldsNoPageWhenNew) {
  const std::unique_ptr<Zpool> pool = make();
  EXPECT_EQ(pool->total_bytes(), 0u);
  EXPECT_EQ(held_pages(), 0u);
  EXPECT_TRUE(pool->validate());
}

// ---------------------------------------------------------------- parameters

TEST_P(ZpoolLife, RefusesParametersThatItDoesNotKnow) {
  for (const char* params : {"no_such_parameter=1", "nonsense", "=", "=1", "x=", "a=1,b=2", "?"}) {
    EXPECT_EQ(try_make({.params = params}).error(), Errc::invalid_argument) << params;
  }
  EXPECT_EQ(held_pages(), 0u);
}

TEST_P(ZpoolLife, TakesNoParametersInAnyNumberOfSeparators) {
  for (const char* params : {"", " ", ",", ", ,  ,,"}) {
    EXPECT_TRUE(try_make({.params = params})) << '"' << params << '"';
  }
}

// What a driver adds to these belongs into this table.
struct Parameters {
  std::vector<std::string> good, bad;
};
const Parameters kReclaimRetries = {
    {"reclaim_retries=8", "reclaim_retries=1", "reclaim_retries=1000000", " reclaim_retries=3 ",
     "reclaim_retries=2,reclaim_retries=4", "reclaim_retries=2 reclaim_retries=4",
     ",reclaim_retries=9,"},
    {"reclaim_retries", "reclaim_retries=", "reclaim_retries=0", "reclaim_retries=-1",
     "reclaim_retries=+1", "reclaim_retries=1000001", "reclaim_retries=8x", "reclaim_retries=x8",
     "reclaim_retries=0x8", "reclaim_retries=1.5", "reclaim_retries=99999999999999999999999",
     "reclaim_retries= 8", "reclaim_retries =8", "Reclaim_retries=8", "reclaim_retries=8=8",
     "reclaim_retries=8;reclaim_retries=8", "reclaim_retries=8,floor=1", "reclaim_retries=8\t"}};
const Parameters kChainAndCache = {
    {"chain_pages=4", "chain_pages=8", "chain_pages=16", "cache=0", "cache=1", "cache=64",
     "cache=63,chain_pages=16", "chain_pages=4 cache=2", "chain_pages=4,chain_pages=8", " cache=3 ",
     ",cache=3,"},
    {"chain_pages",
     "chain_pages=",
     "chain_pages=0",
     "chain_pages=1",
     "chain_pages=5",
     "chain_pages=32",
     "chain_pages=-4",
     "chain_pages=+4",
     "chain_pages=4x",
     "chain_pages=0x4",
     "chain_pages=4.0",
     "chain_pages=99999999999999999999999",
     "chain_pages= 4",
     "chain_pages =4",
     "Chain_pages=4",
     "cache",
     "cache=",
     "cache=65",
     "cache=-1",
     "cache=1k",
     "cache=99999999999999999999999",
     "cache=1;chain_pages=4",
     "cache=1,floor=1",
     "reclaim_retries=8",
     "cache=8\t"}};
const Parameters kFloorAndMaxObject = {
    {"floor=0", "floor=0.955", "floor=0.98", "floor=.5", "max_object=4096", "max_object=32768",
     "floor=0.9,max_object=5000", " max_object=4097 floor=0.0 "},
    {"floor", "floor=", "floor=-0.1", "floor=0.981", "floor=1", "floor=nan", "floor=inf",
     "floor=1e-1", "floor=0.9x", "floor=0,9", "max_object=4095", "max_object=32769",
     "max_object=0x2000", "max_object=-1", "max_object=", "cache=1", "chain_pages=8",
     "reclaim_retries=8"}};
// Of the plug-in in examples.
const Parameters kMaxObject = {
    {"max_object=4096", "max_object=16777216", " max_object=5000, ,max_object=6000"},
    {"max_object", "max_object=", "max_object=4095", "max_object=16777217", "max_object=-1",
     "max_object=+1", "max_object=5000x", "max_object=99999999999999999999999", "Max_object=5000",
     "max_object=5000;max_object=5000", "max_object=5000\t", "floor=0"}};
const std::map<std::string, Parameters, std::less<>> kParameters = {{"zbud", kReclaimRetries},
                                                                    {"z3fold", kReclaimRetries},
                                                                    {"zsmalloc", kChainAndCache},
                                                                    {"zheap", kFloorAndMaxObject},
                                                                    {"runs", kMaxObject}};

TEST_P(ZpoolLife, HoldsItsParametersToTheirRanges) {
  const auto known = kParameters.find(type());
  if (known == kParameters.end()) GTEST_SKIP() << "no parameters noted for this driver";
  for (const std::string& params : known->second.good) {
    EXPECT_TRUE(try_make({.params = params})) << params;
  }
  for (const std::string& params : known->second.bad) {
    const auto made = try_make({.params = params});
    ASSERT_FALSE(made) << params;
    EXPECT_EQ(made.error(), Errc::invalid_argument) << params;
  }
}

// ---------------------------------------------------------------- the end

TEST_P(ZpoolLife, EndsQuietlyWhenEmpty) {
  const CapturedLeaks leaks;
  {
    const std::unique_ptr<Zpool> pool = make({.name = "empty"});
    TrackedObjects objects(*pool);
    for (int i = 0; i < 100; ++i) objects.add(1000);
  }
  EXPECT_TRUE(leaks.reports().empty());
}

TEST_P(ZpoolLife, ReportsTheObjectsThatItLeavesBehind) {
  const CapturedLeaks leaks;
  for (const std::uint64_t count : {1u, 2u, 77u}) {
    std::unique_ptr<Zpool> pool = make({.name = "leaky"});
    for (std::uint64_t i = 0; i < count; ++i) ASSERT_TRUE(pool->allocate(100 + i));
    EXPECT_GT(held_pages(), 0u);
    pool.reset();
    EXPECT_EQ(held_pages(), 0u) << "its pages go back all the same";
    const CapturedReport expected{type(), "leaky", "objects left at destruction", count};
    ASSERT_FALSE(leaks.reports().empty());
    EXPECT_EQ(leaks.reports().back(), expected);
  }
  EXPECT_EQ(leaks.reports().size(), 3u);
}

// The report comes with no lock held, so that its handler may use what the library offers.
TEST_P(ZpoolLife, LetsALeakHandlerUseOtherPools) {
  static Zpool* diary = nullptr;
  static std::vector<Handle> entries;
  const std::unique_ptr<Zpool> kept = make();
  diary = kept.get();
  entries.clear();
  const FailureHandler before = set_leak_handler([](const FailureReport& report) noexcept {
    entries.push_back(diary->store(make_pattern(64, report.value)).value());
    for_each_live_pool([](const ZpoolInfo& info) { EXPECT_NE(info.name, "leaky"); });
  });
  std::unique_ptr<Zpool> pool = make({.name = "leaky"});
  ASSERT_TRUE(pool->allocate(100));
  pool.reset();
  set_leak_handler(before);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_TRUE(testing::has_pattern(
      kept->map(entries.front(), MapMode::read_only).const_bytes().first(64), 1));
  kept->free(entries.front());
}

TEST_P(ZpoolLife, OfManyPoolsAtOnceIsEachItsOwn) {
  std::vector<std::unique_ptr<Zpool>> pools;
  std::vector<std::unique_ptr<TrackedObjects>> objects;
  for (std::uint64_t i = 0; i < 50; ++i) {
    pools.push_back(make({.name = "pool " + std::to_string(i)}));
    objects.push_back(std::make_unique<TrackedObjects>(*pools.back(), i << 32));
  }
  for (std::size_t i = 0; i < 1000; ++i) objects[i % 50]->add(1 + i * 7919 % max_bytes());
  std::size_t total = 0;
  for (std::size_t i = 0; i < pools.size(); ++i) {
    EXPECT_TRUE(pools[i]->validate());
    objects[i]->expect_intact_and_apart();
    total += pools[i]->total_bytes();
  }
  EXPECT_EQ(total, held_pages() * kPageSize);
  // They end in another order than they began.
  while (!pools.empty()) {
    const std::size_t at = pools.size() * 7 / 13;
    objects.erase(objects.begin() + static_cast<std::ptrdiff_t>(at));
    pools.erase(pools.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

TEST_P(ZpoolLife, BeginsAndEndsInManyThreads) {
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const std::unique_ptr<Zpool> pool = make({.name = "short-lived"});
        TrackedObjects objects(*pool);
        for (std::size_t j = 0; j < 10; ++j) objects.add(1 + j * 397);
        EXPECT_TRUE(pool->validate());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(held_pages(), 0u);
}

}  // namespace
}  // namespace mmkit
