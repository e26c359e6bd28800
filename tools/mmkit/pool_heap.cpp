// SPDX-License-Identifier: MIT
#include "pool_heap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "exit_code.hpp"
#include "units.hpp"

namespace mmkit::tool {

using replay::GptTrace;

PoolHeap::PoolHeap(const Fit& fit, unsigned order, std::uint64_t bytes) {
  Result<std::unique_ptr<GenPool>> pool =
      GenPool::create({.min_alloc_order = order, .name = "trace", .fit = fit});
  if (pool && (*pool)->add_chunk({.start = 0, .size_bytes = bytes})) pool_ = *std::move(pool);
  if (pool_ != nullptr) return;
  throw Problem(ExitCode::out_of_memory,
                fmt::format("no memory for the books of a heap of {} in granules of {}; a "
                            "coarser --granule or a smaller --heap needs less",
                            format_bytes(bytes), format_bytes(std::uint64_t{1} << order)));
}

std::uint64_t heap_bytes_for(const std::string& path, std::uint64_t peak_granules, unsigned order,
                             std::uint64_t wanted_bytes) {
  const std::uint64_t granules =
      wanted_bytes != 0 ? wanted_bytes >> order : peak_granules + peak_granules / 4;
  if (granules <= kMostHeapGranules) return granules << order;
  throw Problem(
      ExitCode::out_of_memory,
      fmt::format("{}: a heap of {} granules; at most {} can be replayed, and a coarser "
                  "--granule or a smaller --heap makes fewer",
                  in_quotes(path), format_count(granules), format_count(kMostHeapGranules)));
}

Occupancy occupancy_of(const GenPool& pool, unsigned order) {
  Occupancy occupancy(pool.size_bytes() >> order);
  pool.for_each_free_run(
      [&](const FreeRun& run) { occupancy.free_run(run.start >> order, run.size_bytes >> order); });
  return occupancy;
}

std::string fault_in(const GenPool& pool, const Occupancy& occupancy, const GptTrace& trace,
                     const replay::Places& places, unsigned order, std::size_t end) {
  std::vector<bool> freed(places.size(), false);
  for (std::size_t i = 0; i < end; ++i) {
    if (GptTrace::is_free(trace.ops[i])) freed[GptTrace::number(trace.ops[i])] = true;
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  std::uint64_t live_granules = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (freed[i] || places[i] == replay::kNoPlace) continue;
    const std::uint64_t granules = (trace.sizes[i] + (std::uint64_t{1} << order) - 1) >> order;
    ranges.emplace_back(places[i] >> order, granules);
    live_granules += granules;
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t reached = 0;
  for (const auto& [start, granules] : ranges) {
    if (start < reached) return fmt::format("two ranges overlap at granule {}", start);
    reached = start + granules;
  }
  if (reached << order > pool.size_bytes()) return "a range reaches past the end of the heap";
  if (pool.size_bytes() - pool.available_bytes() != live_granules << order) {
    return "the pool's free bytes are not what is left";
  }
  if (occupancy.taken() != live_granules) return "the free runs are not what is left";
  return pool.validate() ? "" : "validate() found a broken invariant";
}

}  // namespace mmkit::tool
