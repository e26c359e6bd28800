// SPDX-License-Identifier: MIT
//
// What `mmkit genpool` is made of: cells that say how full a heap is, and a trial whose
// figures are known.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "exit_code.hpp"
#include "genpool_trial.hpp"
#include "occupancy.hpp"
#include "tool_support.hpp"
#include "trace_file.hpp"

namespace mmkit::tool {
namespace {

TEST(Occupancy, IsFullUntilRunsAreFree) {
  Occupancy heap(10);
  EXPECT_EQ(heap.cells(), 10u);
  EXPECT_EQ(drawn(heap.shares(5)), "#####");
  heap.free_run(1, 1);
  heap.free_run(4, 5);
  EXPECT_EQ(heap.taken(), 4u);
  EXPECT_EQ(drawn(heap.shares(10)), "#.##.....#");
  EXPECT_EQ(drawn(heap.shares(5)), "+#..+");
  EXPECT_EQ(drawn(heap.shares(99)), "#.##.....#") << "no more parts than granules";
}

TEST(Occupancy, SharesAreThoseOfANaiveCount) {
  std::mt19937_64 random(3);
  for (const std::uint64_t granules : {1u, 63u, 4095u, 4096u, 4097u, 100'003u}) {
    Occupancy heap(granules);
    std::vector<bool> taken(granules, true);
    for (std::uint64_t at = random() % 50; at < granules; at += 1 + random() % 50) {
      const std::uint64_t run = std::min<std::uint64_t>(granules - at, 1 + random() % 200);
      heap.free_run(at, run);
      for (std::uint64_t i = 0; i < run; ++i) taken[at + i] = false;
      at += run;
    }
    const std::size_t cells = heap.cells();
    EXPECT_EQ(cells, std::min<std::uint64_t>(granules, Occupancy::kCells));
    const std::vector<double> shares = heap.shares(cells);
    for (std::size_t cell = 0; cell < cells; ++cell) {
      const std::uint64_t first = cell * granules / cells, end = (cell + 1) * granules / cells;
      std::uint64_t count = 0;
      for (std::uint64_t i = first; i < end; ++i) count += taken[i] ? 1u : 0u;
      ASSERT_DOUBLE_EQ(shares[cell], static_cast<double>(count) / static_cast<double>(end - first))
          << granules << " " << cell;
    }
  }
}

TEST(Occupancy, OneGranuleShowsAmong16Million) {
  Occupancy heap(std::uint64_t{1} << 24);
  heap.free_run(5, 1);
  const std::string text = drawn(heap.shares(64));
  EXPECT_EQ(text, "*" + std::string(63, '#'));
  heap.free_run(6, (std::uint64_t{1} << 24) - 7);
  EXPECT_EQ(drawn(heap.shares(64)), "-" + std::string(62, '.') + "-")
      << "the rest are 0 to 4 and the last";
}

TEST(TraceFile, NamesFileOffsetAndReason) {
  const ScratchDirectory directory;
  const auto problem_of = [](const std::string& path) -> std::string {
    try {
      read_gpt_trace(path);
    } catch (const Problem& problem) {
      EXPECT_EQ(problem.code(), ExitCode::no_input);
      return problem.what();
    }
    return "none";
  };
  const std::string path =
      directory.write("x.gpt", std::string("GPT1\1\0\0\0\1\0\0\0\0\0\0\0\7\0", 18));
  EXPECT_EQ(problem_of(path),
            "'" + path + "': offset 16: the file ends after 0 of its 1 operations");
  EXPECT_NE(problem_of(directory.path("none")).find("No such file"), std::string::npos);
  EXPECT_NE(problem_of(directory.path()).find("Is a directory"), std::string::npos);
  const std::string good =
      directory.write("y.gpt", std::string("GPT1\1\0\0\0\1\0\0\0\0\0\0\0\7\0\0\0", 20));
  EXPECT_EQ(read_gpt_trace(good).sizes, (std::vector<std::uint32_t>{7}));
}

TEST(Policies, AreChosenByName) {
  EXPECT_EQ(choose_policies({}, 64).size(), 5u);
  const std::vector<PolicyChoice> two = choose_policies({"relaxed", "best-fit"}, 64);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].name, "relaxed");
  EXPECT_EQ(two[1].name, "best-fit");
  EXPECT_THROW(choose_policies({"worst-fit"}, 64), Problem);
}

// Blocks of 3, 1, 2, 1 granules; the first and the third go; 2 and 3 come, and nothing else.
replay::GptTrace small_trace() {
  replay::GptTrace trace;
  constexpr std::uint32_t kFree = replay::GptTrace::kFree;
  trace.ops = {48, 16, 32, 16, kFree | 0, kFree | 2, 32, 48};
  trace.sizes = {48, 16, 32, 16, 32, 48};
  return trace;
}

TEST(GenPoolTrial, BestFitNeedsLessThanFirstFitWhereSizesRepeat) {
  CapturedConsole captured;
  const replay::GptTrace trace = small_trace();
  const std::vector<PolicyChoice> policies = choose_policies({"first-fit", "best-fit"}, 64);
  const TraceResult result = run_trace("t", trace, 4, 0, policies, captured.console());
  EXPECT_EQ(result.operations, 8u);
  EXPECT_EQ(result.allocations, 6u);
  EXPECT_EQ(result.figures.peak_bytes, 112u);
  EXPECT_EQ(result.heap_bytes, 16u * (7 + 7 / 4));
  ASSERT_EQ(result.rows.size(), 2u);
  // First fit puts the 2 where the 3 could have been, so that the 3 goes to the end.
  EXPECT_EQ(result.rows[0].smallest_heap_bytes.value(), 16u * 10);
  EXPECT_EQ(result.rows[0].failures, 1u);
  EXPECT_EQ(result.rows[1].smallest_heap_bytes.value(), 16u * 7);
  EXPECT_EQ(result.rows[1].failures, 0u);
  EXPECT_DOUBLE_EQ(result.utilisation(result.rows[1]).value(), 1);
  for (const PolicyRow& row : result.rows) {
    EXPECT_EQ(row.fault, "");
    EXPECT_GT(row.operation_ns, 0);
    EXPECT_GE(row.allocate_worst_ns, row.allocate_p999_ns);
    EXPECT_GT(row.words_touched, 0u);
    EXPECT_EQ(row.occupancy.granules(), 8u);
    EXPECT_EQ(row.occupancy.taken(), 7u);
    EXPECT_EQ(row.free_runs, 1u);
    EXPECT_EQ(row.largest_free_bytes, 16u);
  }
}

TEST(GenPoolTrial, TakesTheHeapThatItIsGiven) {
  CapturedConsole captured;
  const std::vector<PolicyChoice> policies = choose_policies({}, 64);
  const TraceResult result =
      run_trace("t", small_trace(), 4, 16 * 4 + 3, policies, captured.console());
  EXPECT_EQ(result.heap_bytes, 64u) << "whole granules";
  for (const PolicyRow& row : result.rows) {
    EXPECT_GT(row.failures, 0u) << row.policy;
    EXPECT_EQ(row.fault, "") << row.policy;
    EXPECT_TRUE(row.smallest_heap_bytes) << "is looked for whatever the heap was";
  }
}

TEST(GenPoolTrial, AHeapWhoseBooksFindNoMemoryIsAProblem) {
  CapturedConsole captured;
  replay::GptTrace trace;
  trace.ops = trace.sizes = {1};
  try {
    run_trace("t", trace, 0, std::uint64_t{1} << 50, choose_policies({}, 64), captured.console());
    ADD_FAILURE() << "2^50 granules";
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::out_of_memory);
    EXPECT_NE(std::string(problem.what()).find("--granule"), std::string::npos);
  }
}

}  // namespace
}  // namespace mmkit::tool
