// SPDX-License-Identifier: MIT
//
// Where objects lie, asked of every driver: each in its run, apart from all others, none forgotten; and
// the count of runs by class and fullness, by hand.
#include "pool_map.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <set>

#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

/// Objects of many sizes, whose bytes do not matter.
struct Objects {
  std::vector<std::byte> bytes = std::vector<std::byte>(kPageSize);
  std::vector<StoredObject> list;
  explicit Objects(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      list.push_back({bytes.data(), 0, static_cast<std::uint32_t>(1000 + i),
                      static_cast<std::uint16_t>(50 + i * 97 % 3500)});
    }
  }
};

class Mapped : public ::testing::TestWithParam<const char*> {};

TEST_P(Mapped, HasEachObjectOnceAndApartFromOthers) {
  const Objects objects(700);
  PoolStore store({GetParam(), GetParam(), ""}, default_registry(), 700, {}, /*records_runs=*/true);
  for (std::size_t i = 0; i < 700; ++i) ASSERT_TRUE(store.put(i, objects.list[i].bytes()));
  for (std::size_t i = 0; i < 700; i += 3) store.drop(i);
  const RunMap map = map_of(store, objects.list);
  std::uint64_t pages = 0;
  std::set<std::uint32_t> numbers;
  std::size_t next = 0;
  for (const MapRun& run : map.runs) {
    pages += run.pages;
    std::uint32_t reached = 0;
    for (const std::size_t end = next + run.objects; next < end; ++next) {
      const MapObject& object = map.objects.at(next);
      EXPECT_GE(object.begin_bytes, reached);
      reached = object.begin_bytes + object.size_bytes;
      EXPECT_EQ(object.size_bytes, objects.list[object.number - 1000].size_bytes);
      EXPECT_NE((object.number - 1000) % 3, 0u);
      EXPECT_TRUE(numbers.insert(object.number).second);
    }
    EXPECT_LE(reached, run.pages * kPageSize);
  }
  EXPECT_EQ(next, map.objects.size());
  EXPECT_EQ(numbers.size(), store.pool().stats().objects);
  EXPECT_EQ(pages, store.pool().stats().pages);
  const Grid grid = classes_of(map, {GetParam(), GetParam(), ""});
  EXPECT_EQ(std::accumulate(grid.values.begin(), grid.values.end(), 0.0),
            static_cast<double>(map.runs.size()));
  EXPECT_EQ(grid.values.size(), grid.rows.size() * grid.columns.size());
}

INSTANTIATE_TEST_SUITE_P(Drivers, Mapped, ::testing::Values("zbud", "z3fold", "zsmalloc", "zheap"));

TEST(MapBeginning, HasWholeRuns) {
  const RunMap map{"run", "page", {{1, 2}, {1, 3}, {1, 1}}, std::vector<MapObject>(6)};
  EXPECT_EQ(beginning_of(map, 100).runs.size(), 3u);
  EXPECT_EQ(beginning_of(map, 5).runs.size(), 2u);
  EXPECT_EQ(beginning_of(map, 4).runs.size(), 1u);
  EXPECT_EQ(beginning_of(map, 4).objects.size(), 2u);
}

TEST(Classes, AreByObjectsOfAPageOrBySizeClass) {
  RunMap map{"run", "page", {{1, 1}, {1, 2}, {4, 1}}, {}};
  map.objects = {{0, 0, 100}, {1, 0, 2000}, {2, 2000, 2000}, {3, 0, 40}};
  const Grid grid = classes_of(map, {"zbud", "zbud", ""});
  EXPECT_EQ(grid.rows, (std::vector<std::string>{"of 4 pages", "of 1 object", "of 2 objects"}));
  EXPECT_EQ(grid.values[1 * 10 + 0], 1) << "100 of 4096 bytes";
  EXPECT_EQ(grid.values[2 * 10 + 9], 1) << "4000 of 4096";
  // Cells of 32 bytes: a page has 128, of which one is in use.
  const Grid classes = classes_of({"run", "page", {{1, 1}}, {{0, 0, 30}}},
                                  {"zsmalloc", "zsmalloc", "chain_pages=4"});
  EXPECT_EQ(classes.rows, (std::vector<std::string>{"32 B: 128 in 1 page"}));
  EXPECT_EQ(classes.values[0], 1);
}

}  // namespace
}  // namespace mmkit::tool
