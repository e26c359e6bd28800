// SPDX-License-Identifier: MIT
//
// The JSON view of `mmkit genpool`: every figure of the table by full names with units. Figures that
// do not exist (the smallest heap when there is none) are null.
#include "genpool_result.hpp"

#include <nlohmann/json.hpp>

#include "json_text.hpp"

namespace mmkit::tool {
namespace {

using Json = nlohmann::ordered_json;

// Enough for a chart, few enough to be read by eye.
constexpr std::size_t kJsonParts = 256;

template <class T>
Json number_or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json row_json(const TraceResult& trace, const PolicyRow& row) {
  return {{"policy", row.policy},
          {"operation_ns", row.operation_ns},
          {"allocate_p999_ns", row.allocate_p999_ns},
          {"allocate_worst_ns", row.allocate_worst_ns},
          {"failures", row.failures},
          {"smallest_heap_bytes", number_or_null(row.smallest_heap_bytes)},
          {"utilisation", number_or_null(trace.utilisation(row))},
          {"words_touched", row.words_touched},
          {"metadata_bytes", row.metadata_bytes},
          {"free_runs_at_peak", row.free_runs},
          {"largest_free_bytes_at_peak", row.largest_free_bytes},
          {"taken_granules_at_peak", row.occupancy.taken()},
          {"occupancy_at_peak", row.occupancy.shares(kJsonParts)},
          {"verified", row.fault.empty()},
          {"fault", row.fault}};
}

Json trace_json(const TraceResult& trace) {
  Json rows = Json::array();
  for (const PolicyRow& row : trace.rows) rows.push_back(row_json(trace, row));
  return {{"path", trace.path},
          {"operations", trace.operations},
          {"allocations", trace.allocations},
          {"peak_bytes", trace.figures.peak_bytes},
          {"peak_granules", trace.figures.peak_granules},
          {"peak_blocks", trace.figures.peak_blocks},
          {"peak_operation", trace.figures.peak_op + 1},
          {"heap_bytes", trace.heap_bytes},
          {"rounds", trace.rounds},
          {"clock_ns", trace.clock_ns},
          {"policies", rows}};
}

}  // namespace

std::string genpool_json(const GenPoolResult& result) {
  Json traces = Json::array();
  for (const TraceResult& trace : result.traces) traces.push_back(trace_json(trace));
  return json_text({{"mmkit", MMKIT_VERSION},
                    {"command", "genpool"},
                    {"granule_bytes", result.options.granule_bytes},
                    {"align_bytes", result.options.align_bytes},
                    {"traces_unreadable",
                     {{"count", result.unreadable.count()}, {"first", result.unreadable.first()}}},
                    {"traces", traces}});
}

}  // namespace mmkit::tool
