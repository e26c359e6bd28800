// SPDX-License-Identifier: MIT
//
// PercpuRace - threads that count as fast as they can, in one way after the other; what an addition
// takes, and how many got lost.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mmkit::tool {

/// What one of the threads did.
struct RaceThread {
  std::chrono::steady_clock::time_point begin, end;
  std::uint64_t adds = 0;
};

struct RaceResult {
  std::string way;  // "this_cpu_add"
  std::uint64_t adds = 0;
  std::int64_t lost = 0;  // below zero: a stale number came back and was counted twice
  double ns_per_add = 0;  // of processor time
  std::vector<RaceThread> threads;
};

/// Races `threads` threads, each way for about `seconds`. `report` is called between steps with the
/// share of the whole that is done, 0 to 1; it may throw, which ends the race. Throws a Problem
/// (out_of_memory) when there is no memory for the counters or the threads.
std::vector<RaceResult> run_percpu_race(unsigned threads, double seconds,
                                        const std::function<void(double)>& report);

}  // namespace mmkit::tool
