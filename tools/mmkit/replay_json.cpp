// SPDX-License-Identifier: MIT
//
// The JSON view of `mmkit replay`: every figure of the tables by full names with units, and the
// points over time as columns. Figures that do not exist (the density of nothing) are null.
#include <nlohmann/json.hpp>

#include "json_text.hpp"
#include "replay_result.hpp"

namespace mmkit::tool {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

/// A column of the points.
template <class Point, class Figure>
Json column(const std::vector<Point>& points, Figure figure) {
  Json values = Json::array();
  for (const Point& point : points) values.push_back(figure(point));
  return values;
}

Json point_json(const DensityPoint& point) {
  return {{"objects", point.objects},
          {"payload_bytes", point.payload_bytes},
          {"pages", point.pages},
          {"metadata_bytes", point.metadata_bytes},
          {"density", or_null(point.density())},
          {"density_with_metadata", or_null(point.density_with_metadata())}};
}

Json row_json(const DriverReplay& row) {
  using Point = DensityPoint;
  const std::vector<Point>& points = row.points;
  return {{"driver", row.driver},
          {"operation_ns", row.operation_ns},
          {"mean_density_with_metadata", or_null(row.mean_density())},
          {"worst_density_with_metadata", or_null(row.worst_density())},
          {"peak_pages", row.peak_pages()},
          {"end", point_json(points.back())},
          {"compacted", row.compacted ? point_json(*row.compacted) : Json()},
          {"moved", row.moved},
          {"refused", row.refused},
          {"verified", row.fault.empty()},
          {"fault", row.fault},
          {"over_time",
           {{"operation", column(points, [](const Point& p) { return p.operation; })},
            {"objects", column(points, [](const Point& p) { return p.objects; })},
            {"payload_bytes", column(points, [](const Point& p) { return p.payload_bytes; })},
            {"pages", column(points, [](const Point& p) { return p.pages; })},
            {"metadata_bytes", column(points, [](const Point& p) { return p.metadata_bytes; })},
            {"density", column(points, [](const Point& p) { return or_null(p.density()); })},
            {"density_with_metadata",
             column(points, [](const Point& p) { return or_null(p.density_with_metadata()); })}}}};
}

Json row_json(const PolicyReplay& row) {
  using Point = HeapPoint;
  const std::vector<Point>& points = row.points;
  return {
      {"policy", row.policy},
      {"operation_ns", row.operation_ns},
      {"failures", row.failures},
      {"mean_free_share_in_largest_run", row.mean_wholeness()},
      {"worst_free_share_in_largest_run", row.worst_wholeness()},
      {"most_free_runs", row.most_free_runs()},
      {"words_touched", row.words_touched},
      {"metadata_bytes", row.metadata_bytes},
      {"verified", row.fault.empty()},
      {"fault", row.fault},
      {"over_time",
       {{"operation", column(points, [](const Point& p) { return p.operation; })},
        {"taken_bytes", column(points, [](const Point& p) { return p.taken_bytes; })},
        {"free_bytes", column(points, [](const Point& p) { return p.free_bytes; })},
        {"largest_free_bytes", column(points, [](const Point& p) { return p.largest_free_bytes; })},
        {"free_runs", column(points, [](const Point& p) { return p.free_runs; })},
        {"failures", column(points, [](const Point& p) { return p.failures; })}}}};
}

template <class Trace>
Json rows_json(const Trace& trace) {
  Json rows = Json::array();
  for (const auto& row : trace.rows) rows.push_back(row_json(row));
  return rows;
}

Json trace_json(const PoolReplay& trace) {
  return {{"path", trace.path},
          {"kind", "sizes"},
          {"operations", trace.operations},
          {"keys", trace.keys},
          {"snapshots", trace.snapshots},
          {"peak_objects", trace.peak_objects},
          {"peak_payload_bytes", trace.peak_payload_bytes},
          {"rounds", trace.rounds},
          {"drivers", rows_json(trace)}};
}

Json trace_json(const HeapReplay& trace) {
  return {{"path", trace.path},
          {"kind", "allocations"},
          {"operations", trace.operations},
          {"allocations", trace.allocations},
          {"peak_bytes", trace.figures.peak_bytes},
          {"peak_blocks", trace.figures.peak_blocks},
          {"granule_bytes", trace.granule_bytes},
          {"heap_bytes", trace.heap_bytes},
          {"policies", rows_json(trace)}};
}

}  // namespace

std::string replay_json(const ReplayResult& result) {
  Json traces = Json::array();
  for (const auto& trace : result.traces) {
    traces.push_back(std::visit([](const auto& one) { return trace_json(one); }, trace));
  }
  return json_text({{"mmkit", MMKIT_VERSION},
                    {"command", "replay"},
                    {"traces_unreadable",
                     {{"count", result.unreadable.count()}, {"first", result.unreadable.first()}}},
                    {"traces", traces}});
}

}  // namespace mmkit::tool
