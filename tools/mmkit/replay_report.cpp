// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <cmath>

#include "console.hpp"
#include "replay_result.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::string_view kNothing = "-";

std::string nanoseconds(double value) {
  return value < 100 ? fmt::format("{:.1f}", value)
                     : format_count(static_cast<std::uint64_t>(std::llround(value)));
}

std::string three(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}", *value) : std::string(kNothing);
}

std::string rendered(const Table& table, const Console& console) {
  return table.render(console.result_columns(), [&](std::string_view line, Table::Line kind) {
    if (kind == Table::Line::heading) return console.styled(line, Tone::strong);
    return console.styled(line, line.ends_with("FAILED") ? Tone::bad : Tone::plain);
  });
}

std::string verified(const std::string& fault) {
  return fault.empty() ? "ok" : "FAILED";
}

std::string text_of(const PoolReplay& trace, const Console& console) {
  using Align = Table::Align;
  std::string text = fmt::format("trace    {}\n", in_quotes(trace.path));
  text += fmt::format("         {} on {}", format_counted(trace.operations, "operation"),
                      format_counted(trace.keys, "page"));
  if (trace.snapshots != 0) text += ", " + format_counted(trace.snapshots, "snapshot");
  text += fmt::format("\npeak     {} in {}\n\n", format_bytes(trace.peak_payload_bytes),
                      format_counted(trace.peak_objects, "object"));
  Table table;
  table.add_column("", "driver", Align::left);
  table.add_column("", "ns/op", Align::right);
  table.add_column("density +meta", "mean", Align::right);
  table.add_column("density +meta", "worst", Align::right);
  table.add_column("density +meta", "end", Align::right);
  table.add_column("density +meta", "compacted", Align::right);
  table.add_column("pages", "most", Align::right);
  table.add_column("pages", "end", Align::right);
  table.add_column("", "moved", Align::right);
  table.add_column("", "refused", Align::right);
  table.add_column("", "verified", Align::left);
  for (const DriverReplay& row : trace.rows) {
    table.add_row({row.driver, nanoseconds(row.operation_ns), three(row.mean_density()),
                   three(row.worst_density()), three(row.points.back().density_with_metadata()),
                   three(row.compacted ? row.compacted->density_with_metadata() : std::nullopt),
                   format_count(row.peak_pages()), format_count(row.points.back().pages),
                   format_count(row.moved), format_count(row.refused), verified(row.fault)});
  }
  return text + rendered(table, console) + "\n";
}

std::string text_of(const HeapReplay& trace, const Console& console) {
  using Align = Table::Align;
  std::string text = fmt::format("trace    {}\n", in_quotes(trace.path));
  text +=
      fmt::format("         {}, {} of them allocations\n",
                  format_counted(trace.operations, "operation"), format_count(trace.allocations));
  text += fmt::format(
      "peak     {} in {}\nheap     {}, {}\n\n", format_bytes(trace.figures.peak_bytes),
      format_counted(trace.figures.peak_blocks, "block"), format_bytes(trace.heap_bytes),
      format_counted(trace.heap_bytes / trace.granule_bytes, "granule"));
  Table table;
  table.add_column("", "policy", Align::left);
  table.add_column("", "ns/op", Align::right);
  table.add_column("", "failed", Align::right);
  table.add_column("free in one run", "mean", Align::right);
  table.add_column("free in one run", "worst", Align::right);
  table.add_column("free in one run", "end", Align::right);
  table.add_column("free runs", "most", Align::right);
  table.add_column("free runs", "end", Align::right);
  table.add_column("", "words/op", Align::right);
  table.add_column("", "metadata", Align::right);
  table.add_column("", "verified", Align::left);
  for (const PolicyReplay& row : trace.rows) {
    table.add_row({row.policy, nanoseconds(row.operation_ns), format_count(row.failures),
                   three(row.mean_wholeness()), three(row.worst_wholeness()),
                   three(row.points.back().wholeness()), format_count(row.most_free_runs()),
                   format_count(row.points.back().free_runs),
                   fmt::format("{:.1f}", static_cast<double>(row.words_touched) /
                                             static_cast<double>(trace.operations)),
                   format_bytes(row.metadata_bytes), verified(row.fault)});
  }
  return text + rendered(table, console) + "\n";
}

std::string footnotes(const ReplayResult& result, const Console& console) {
  unsigned pools_rounds = 0;
  bool heaps = false;
  for (const auto& trace : result.traces) {
    if (const auto* pools = std::get_if<PoolReplay>(&trace)) pools_rounds = pools->rounds;
    if (std::holds_alternative<HeapReplay>(trace)) heaps = true;
  }
  std::vector<std::string> lines;
  if (pools_rounds != 0) {
    lines.push_back(fmt::format(
        "ns/op     processor time, fresh pages included; median of {} rounds", pools_rounds));
    lines.push_back(
        "density   payload / (pages + the pool's own structures), at each point in time");
    lines.push_back(
        "moved     objects that the driver moved by itself; compacted: after compact()");
    lines.push_back("refused   too large for the driver, and in none of its figures");
  }
  if (heaps) {
    lines.push_back(
        "free in one run   the largest free run by all that is free, at 64 points in time");
    lines.push_back("words/op  64-bit words of bitmaps and hints that searches looked at");
  }
  lines.push_back(
      "verified  what lives at the end came back as it was stored, and the books agree");
  std::string text;
  for (const std::string& line : lines) text += console.styled(line, Tone::faint) + "\n";
  return text;
}

}  // namespace

std::string replay_report(const ReplayResult& result, const Console& console) {
  std::string text;
  for (const auto& trace : result.traces) {
    text += std::visit([&](const auto& one) { return text_of(one, console); }, trace);
  }
  return text + footnotes(result, console);
}

}  // namespace mmkit::tool
