// SPDX-License-Identifier: MIT
//
// HeapReplay - a trace of allocations replayed in a pool of ranges of each policy: how the free
// memory falls apart over time.
//
// One pass a policy, timed between the points; `mmkit genpool` measures the same policies more
// closely, but only at the peak. At the end the proof: no two ranges overlap, the pool's books and
// free runs agree with what is live, validate() finds nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policies.hpp"
#include "replay/gpt_trace.hpp"

namespace mmkit::tool {

class Console;
class EventLog;

struct HeapPoint {
  std::size_t operation = 0;  // operations that were done
  std::uint64_t taken_bytes = 0, free_bytes = 0, largest_free_bytes = 0;
  std::size_t free_runs = 0;
  std::uint64_t failures = 0;

  /// The share of the free bytes that is in the largest run; 1 when nothing is free.
  double wholeness() const noexcept {
    if (free_bytes == 0) return 1;
    return static_cast<double>(largest_free_bytes) / static_cast<double>(free_bytes);
  }
};

struct PolicyReplay {
  std::string policy;
  double operation_ns = 0;
  std::uint64_t failures = 0, words_touched = 0, metadata_bytes = 0;
  std::vector<HeapPoint> points;
  std::string fault;  // empty: nothing

  double mean_wholeness() const;
  double worst_wholeness() const;
  std::size_t most_free_runs() const;
};

struct HeapReplay {
  std::string path;
  std::size_t operations = 0, allocations = 0;
  replay::GptFigures figures;
  std::uint64_t heap_bytes = 0, granule_bytes = 0;
  std::vector<PolicyReplay> rows;
};

/// `heap` is settled. Throws a Problem: out_of_memory, interrupted. `log` may be null.
HeapReplay replay_in_heaps(const std::string& path, const replay::GptTrace& trace,
                           const HeapOptions& heap, const std::vector<PolicyChoice>& policies,
                           Console& console, EventLog* log);

}  // namespace mmkit::tool
