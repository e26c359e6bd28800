// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "replay_result.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

/// A line a row: figure(point) over the operations, left out where there is none.
template <class Trace, class Name, class Figure>
Chart chart_of(const Trace& trace, const std::string& y_label, Name name, Figure figure) {
  Chart chart{"operations", y_label, {}};
  for (const auto& row : trace.rows) {
    ChartSeries series{name(row), {}, {}};
    for (const auto& point : row.points) {
      const std::optional<double> value = figure(point);
      if (!value) continue;
      series.x.push_back(static_cast<double>(point.operation));
      series.y.push_back(*value);
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

void add_to(Picture& picture, const PoolReplay& trace) {
  const auto name = [](const DriverReplay& row) { return row.driver; };
  picture.sections.push_back(
      {trace.path + ": density", "payload by pages and the pool's own structures",
       chart_of(trace, "density with metadata", name,
                [](const DensityPoint& point) { return point.density_with_metadata(); })});
  picture.sections.push_back({trace.path + ": pages", "",
                              chart_of(trace, "pages held", name, [](const DensityPoint& point) {
                                return std::optional(static_cast<double>(point.pages));
                              })});
}

void add_to(Picture& picture, const HeapReplay& trace) {
  const auto name = [](const PolicyReplay& row) { return row.policy; };
  const std::string heap = fmt::format("a heap of {}", format_bytes(trace.heap_bytes));
  picture.sections.push_back(
      {trace.path + ": free memory in one run", heap,
       chart_of(trace, "largest free run by all that is free", name,
                [](const HeapPoint& point) { return std::optional(point.wholeness()); })});
  picture.sections.push_back({trace.path + ": free runs", heap,
                              chart_of(trace, "free runs", name, [](const HeapPoint& point) {
                                return std::optional(static_cast<double>(point.free_runs));
                              })});
}

}  // namespace

Picture replay_picture(const ReplayResult& result) {
  Picture picture{"Traces replayed, over time", {}};
  for (const auto& trace : result.traces) {
    std::visit([&](const auto& one) { add_to(picture, one); }, trace);
  }
  return picture;
}

}  // namespace mmkit::tool
