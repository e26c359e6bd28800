// SPDX-License-Identifier: MIT
//
// GenPoolTrial - one trace replayed through several policies, each in a heap of its own.
//
//   rounds     the whole trace, policies in turn, timed as a whole: ns per operation
//   latencies  each allocation by itself, three times; of the three the least counts, because the
//              same places are searched each time and only what else runs here differs
//   smallest   the heap is made smaller until an allocation fails
//   peak       the heap at the instant when most is taken, for the picture; and the proof: no two
//              ranges overlap, the pool's books agree, validate() finds nothing
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "occupancy.hpp"
#include "policies.hpp"
#include "replay/gpt_trace.hpp"

namespace mmkit::tool {

class Console;

/// What a policy made of a trace.
struct PolicyRow {
  std::string policy;
  double operation_ns = 0;  // median over the rounds
  double allocate_p999_ns = 0, allocate_worst_ns = 0;
  std::uint64_t failures = 0;  // allocations that found no place
  std::uint64_t words_touched = 0, metadata_bytes = 0;
  std::optional<std::uint64_t>
      smallest_heap_bytes;    // none: even 64 times what is live is too small
  std::size_t free_runs = 0;  // at the peak, as all below
  std::uint64_t largest_free_bytes = 0;
  Occupancy occupancy;
  std::string fault;  // what was found wrong; empty: nothing
};

/// A trace and its rows, in the order of the policies.
struct TraceResult {
  std::string path;
  std::size_t operations = 0, allocations = 0;
  replay::GptFigures figures;
  std::uint64_t heap_bytes = 0;
  unsigned rounds = 0;
  double clock_ns = 0;  // what looking at the clock twice costs, which is part of each latency
  std::vector<PolicyRow> rows;

  /// Peak of the bytes that are live by the smallest heap.
  std::optional<double> utilisation(const PolicyRow& row) const noexcept;
};

/// Replays the trace in heaps of `heap_bytes` (0: a quarter more than what is live at once) with
/// granules of 2^order bytes (at most 30). Throws a Problem: out_of_memory, or interrupted.
TraceResult run_trace(const std::string& path, const replay::GptTrace& trace, unsigned order,
                      std::uint64_t heap_bytes, const std::vector<PolicyChoice>& policies,
                      Console& console);

}  // namespace mmkit::tool
