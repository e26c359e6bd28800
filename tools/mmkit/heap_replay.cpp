// SPDX-License-Identifier: MIT
#include "heap_replay.hpp"

#include <algorithm>

#include "event_log.hpp"
#include "pool_heap.hpp"
#include "pool_replay.hpp"
#include "progress.hpp"
#include "stopwatch.hpp"

namespace mmkit::tool {
namespace {

using replay::GptTrace;

HeapPoint point_of(const GenPool& pool, std::size_t operation) {
  const GenPoolStats stats = pool.stats();
  return {operation,
          stats.size_bytes - stats.available_bytes,
          stats.available_bytes,
          stats.largest_free_bytes,
          stats.free_runs,
          stats.failed_no_space + stats.failed_fragmented};
}

PolicyReplay follow(const GptTrace& trace, const PolicyChoice& policy, unsigned order,
                    std::uint64_t heap_bytes, Console& console, EventLog* log) {
  PolicyReplay row;
  row.policy = policy.name;
  PoolHeap heap(policy.fit, order, heap_bytes);
  replay::Places places(trace.sizes.size(), replay::kNoPlace);
  Progress progress(console, policy.name + ": replaying", trace.ops.size(), ProgressUnit::objects);
  const unsigned lane = log == nullptr ? 0 : log->lane(policy.name);
  const double begin_us = log == nullptr ? 0 : log->now_us();
  double total_ns = 0;
  replay::Cursor cursor;
  for (const std::size_t end : even_points(trace.ops.size())) {
    const std::size_t begin = cursor.operation;
    const Stopwatch watch;
    replay::advance(heap, trace, places, cursor, end);
    total_ns += watch.elapsed_ns();
    progress.advance(end - begin);
    row.points.push_back(point_of(heap.pool(), end));
    if (log == nullptr) continue;
    log->counter(policy.name + ": free runs", log->now_us(),
                 {{"free runs", row.points.back().free_runs}});
    log->counter(policy.name + ": taken bytes", log->now_us(),
                 {{"taken", row.points.back().taken_bytes}});
  }
  if (log != nullptr) log->span(lane, "replay", begin_us, log->now_us());
  const GenPoolStats stats = heap.pool().stats();
  row.operation_ns = total_ns / static_cast<double>(trace.ops.size());
  row.failures = stats.failed_no_space + stats.failed_fragmented;
  row.words_touched = stats.words_touched;
  row.metadata_bytes = stats.metadata_bytes;
  row.fault = fault_in(heap.pool(), occupancy_of(heap.pool(), order), trace, places, order,
                       trace.ops.size());
  replay::finish(heap, trace, places);
  return row;
}

}  // namespace

double PolicyReplay::mean_wholeness() const {
  double sum = 0;
  for (const HeapPoint& point : points) sum += point.wholeness();
  return sum / static_cast<double>(points.size());
}

double PolicyReplay::worst_wholeness() const {
  double worst = 1;
  for (const HeapPoint& point : points) worst = std::min(worst, point.wholeness());
  return worst;
}

std::size_t PolicyReplay::most_free_runs() const {
  std::size_t most = 0;
  for (const HeapPoint& point : points) most = std::max(most, point.free_runs);
  return most;
}

HeapReplay replay_in_heaps(const std::string& path, const GptTrace& trace, const HeapOptions& heap,
                           const std::vector<PolicyChoice>& policies, Console& console,
                           EventLog* log) {
  const unsigned order = granule_order(heap);
  HeapReplay result;
  result.path = path;
  result.operations = trace.ops.size();
  result.allocations = trace.sizes.size();
  result.figures = replay::figures_of(trace, order);
  result.granule_bytes = heap.granule_bytes;
  result.heap_bytes = heap_bytes_for(path, result.figures.peak_granules, order, heap.heap_bytes);
  for (const PolicyChoice& policy : policies) {
    result.rows.push_back(follow(trace, policy, order, result.heap_bytes, console, log));
  }
  return result;
}

}  // namespace mmkit::tool
