// SPDX-License-Identifier: MIT
//
// Aim: `mmkit replay` measures what it says and finds out a driver that does not do its work.
// Method: traces whose figures are known, and drivers that are each wrong in one way.
#include "pool_replay.hpp"

#include <gmock/gmock.h>

#include "driver_run.hpp"
#include "event_log.hpp"
#include "exit_code.hpp"
#include "heap_replay.hpp"
#include "odd_driver.hpp"
#include "support/captured_failure.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

using replay::SizeOp;
using replay::SizeTrace;

class PoolReplayed : public ::testing::Test {
 protected:
  PoolReplayed() {
    // Keys 0, 1, 2; 1 is overwritten, 0 goes.
    trace_.steps = {{0, 100, SizeOp::store}, {1, 3000, SizeOp::store},     {0, 0, SizeOp::snapshot},
                    {2, 50, SizeOp::store},  {1, 1000, SizeOp::overwrite}, {0, 100, SizeOp::drop},
                    {1, 0, SizeOp::snapshot}};
    trace_.slots = 3;
    trace_.snapshots = 2;
    trace_.peak_objects = 3;
  }

  DriverReplay replay(Oddity oddity, EventLog* log = nullptr) {
    const std::string type = "odd";
    EXPECT_TRUE(registry_.register_driver(std::make_shared<OddDriver>(type, oddity)).has_value());
    const std::vector<DriverChoice> drivers{{type, type, ""}};
    return replay_in_pools("t", trace_, drivers, registry_, captured_.console(), log).rows.at(0);
  }

  SizeTrace trace_;
  DriverRegistry registry_;
  CapturedConsole captured_;
};

TEST_F(PoolReplayed, HasAPointASnapshot) {
  const DriverReplay row = replay(Oddity::none);
  EXPECT_EQ(row.fault, "");
  ASSERT_EQ(row.points.size(), 2u);
  EXPECT_EQ(row.points[0].operation, 3u);
  EXPECT_EQ(row.points[0].objects, 2u);
  EXPECT_EQ(row.points[0].payload_bytes, 3100u);
  EXPECT_EQ(row.points[0].pages, 2u);
  EXPECT_EQ(row.points[1].objects, 2u);
  EXPECT_EQ(row.points[1].payload_bytes, 1050u);
  EXPECT_DOUBLE_EQ(*row.points[1].density(), 1050.0 / (2 * kPageSize));
  EXPECT_EQ(row.worst_density(), row.points[1].density_with_metadata());
  EXPECT_DOUBLE_EQ(
      *row.mean_density(),
      (*row.points[0].density_with_metadata() + *row.points[1].density_with_metadata()) / 2);
  EXPECT_GT(row.operation_ns, 0);
  EXPECT_FALSE(row.compacted.has_value()) << "this driver cannot";
}

TEST_F(PoolReplayed, CountsWhatADriverRefuses) {
  const DriverReplay row = replay(Oddity::refuses_large);
  EXPECT_EQ(row.fault, "");
  EXPECT_EQ(row.refused, 1u);
  EXPECT_EQ(row.points[0].payload_bytes, 100u);
  EXPECT_EQ(row.points[1].payload_bytes, 1050u) << "the overwrite is small enough";
}

TEST_F(PoolReplayed, FindsATurnedBit) {
  EXPECT_EQ(replay(Oddity::turns_a_bit).fault, "1 of 2 objects did not come back");
}

TEST_F(PoolReplayed, FindsBooksThatDoNotAddUp) {
  EXPECT_EQ(replay(Oddity::loses_count).fault, "2 objects were stored, stats() counts 1");
}

TEST_F(PoolReplayed, FindsABrokenStructure) {
  EXPECT_EQ(replay(Oddity::breaks).fault, "validate() says bad_format");
}

TEST_F(PoolReplayed, EndsWhenThereIsNoMemoryAndLeavesNothingBehind) {
  const testing::CapturedLeaks leaks;
  try {
    replay(Oddity::has_no_memory);
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::out_of_memory);
  }
  EXPECT_TRUE(leaks.reports().empty());
}

TEST_F(PoolReplayed, LogsSpansAndCounters) {
  EventLog log;
  replay(Oddity::none, &log);
  const nlohmann::json document = nlohmann::json::parse(log.json());
  std::size_t counters = 0, spans = 0;
  for (const nlohmann::json& event : document["traceEvents"]) {
    if (event["ph"] == "C") ++counters;
    if (event["ph"] == "X") ++spans;
  }
  EXPECT_EQ(counters, 2u * 2);
  EXPECT_GE(spans, 2u);
}

TEST(Points, AreTheSnapshotsOrEven) {
  SizeTrace trace;
  trace.steps.assign(1000, {0, 1, SizeOp::store});
  EXPECT_EQ(points_of(trace).size(), 64u);
  EXPECT_EQ(points_of(trace).back(), 1000u);
  EXPECT_EQ(even_points(3), (std::vector<std::size_t>{1, 2, 3}));
  trace.steps[9] = {0, 0, SizeOp::snapshot};
  trace.steps[19] = {1, 0, SizeOp::snapshot};
  trace.snapshots = 2;
  EXPECT_EQ(points_of(trace), (std::vector<std::size_t>{10, 20, 1000}));
}

TEST(Points, AreAtMostAThousandOfManySnapshots) {
  SizeTrace trace;
  for (std::uint32_t i = 0; i < 5000; ++i) trace.steps.push_back({i, 0, SizeOp::snapshot});
  trace.snapshots = 5000;
  const std::vector<std::size_t> points = points_of(trace);
  EXPECT_LE(points.size(), 1025u);
  EXPECT_GE(points.size(), 900u);
  EXPECT_EQ(points.back(), 5000u);
}

TEST(HeapReplayed, ShowsFreeMemoryFallApart) {
  // Four blocks, the first and third go: of 5 granules 3 are free, in three runs.
  constexpr std::uint32_t kFree = replay::GptTrace::kFree;
  const replay::GptTrace trace{{16, 16, 16, 16, kFree | 0, kFree | 2}, {16, 16, 16, 16}};
  HeapOptions heap;
  heap.policies = {"first-fit"};
  settle(heap);
  CapturedConsole captured;
  const HeapReplay result = replay_in_heaps("t", trace, heap, choose_policies(heap.policies, 64),
                                            captured.console(), nullptr);
  EXPECT_EQ(result.heap_bytes, 5u * 16);
  const PolicyReplay& row = result.rows.at(0);
  EXPECT_EQ(row.fault, "");
  ASSERT_EQ(row.points.size(), 6u);
  EXPECT_EQ(row.points[3].free_runs, 1u);
  EXPECT_DOUBLE_EQ(row.points[3].wholeness(), 1);
  EXPECT_EQ(row.points[5].free_runs, 3u);
  EXPECT_EQ(row.points[5].taken_bytes, 32u);
  EXPECT_DOUBLE_EQ(row.points[5].wholeness(), 1.0 / 3);
  EXPECT_DOUBLE_EQ(row.worst_wholeness(), 1.0 / 3);
  EXPECT_EQ(row.most_free_runs(), 3u);
}

}  // namespace
}  // namespace mmkit::tool
