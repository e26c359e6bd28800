// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "advise_result.hpp"
#include "console.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::string_view kNothing = "-";

std::string three(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}", *value) : std::string(kNothing);
}

std::string mark_of(const Advised& advised, std::size_t candidate) {
  return advised.advice && advised.advice->recommended == candidate ? "<-" : "";
}

Table table_of(const Advised& advised, const PoolReplay& trial) {
  using Align = Table::Align;
  Table table;
  table.add_column("", "driver", Align::left);
  table.add_column("density of all", "deciding", Align::right);
  table.add_column("density +meta", "worst", Align::right);
  table.add_column("density +meta", "compacted", Align::right);
  table.add_column("", "ns/op", Align::right);
  table.add_column("", "moved", Align::right);
  table.add_column("", "refused", Align::right);
  table.add_column("", "verified", Align::left);
  table.add_column("", "", Align::left);
  for (std::size_t i = 0; i < trial.rows.size(); ++i) {
    const DriverReplay& row = trial.rows[i];
    table.add_row({row.driver, three(advised.candidates[i].yield), three(row.worst_density()),
                   three(row.compacted ? row.compacted->density_with_metadata() : std::nullopt),
                   fmt::format("{:.0f}", row.operation_ns), format_count(row.moved),
                   format_count(row.refused), row.fault.empty() ? "ok" : "FAILED",
                   mark_of(advised, i)});
  }
  return table;
}

Table table_of(const Advised& advised, const TraceResult& trial) {
  using Align = Table::Align;
  Table table;
  table.add_column("", "policy", Align::left);
  table.add_column("", "use of it", Align::right);
  table.add_column("", "smallest heap", Align::right);
  table.add_column("", "ns/op", Align::right);
  table.add_column("", "p99.9, ns", Align::right);
  table.add_column("", "verified", Align::left);
  table.add_column("", "", Align::left);
  for (std::size_t i = 0; i < trial.rows.size(); ++i) {
    const PolicyRow& row = trial.rows[i];
    table.add_row(
        {row.policy, three(advised.candidates[i].yield),
         row.smallest_heap_bytes ? format_bytes(*row.smallest_heap_bytes) : std::string(kNothing),
         fmt::format("{:.0f}", row.operation_ns), fmt::format("{:.0f}", row.allocate_p999_ns),
         row.fault.empty() ? "ok" : "FAILED", mark_of(advised, i)});
  }
  return table;
}

std::string footnotes(const AdviseResult& result, const Console& console) {
  bool pools = false, heaps = false, filled = false;
  for (const Advised& advised : result.advised) {
    const auto* trial = std::get_if<PoolReplay>(&advised.trial);
    (trial != nullptr ? pools : heaps) = true;
    if (trial != nullptr && trial->snapshots == 0) filled = true;
  }
  std::vector<std::string> lines;
  if (pools) {
    lines.push_back(
        "deciding  payload by pages and structures, a page for each object refused: over all");
    lines.push_back("          snapshots, or at the end of a fill");
  }
  if (filled) {
    lines.push_back(
        "          objects were stored once and none was freed: a trace of what happens over");
    lines.push_back("          time (.ops) says more");
  }
  if (heaps) {
    lines.push_back(
        "use of it   the most bytes ever live by the smallest heap in which nothing fails");
  }
  lines.push_back(fmt::format("the quickest of those within {:.0f} % of the best is recommended",
                              100 * kReach));
  std::string text;
  for (const std::string& line : lines) text += console.styled(line, Tone::faint) + "\n";
  return text;
}

}  // namespace

std::string advise_report(const AdviseResult& result, const Console& console) {
  std::string text;
  for (const Advised& advised : result.advised) {
    text += console.styled(advised.sentence, Tone::strong) + "\n\n";
    const Table table =
        std::visit([&](const auto& trial) { return table_of(advised, trial); }, advised.trial);
    text += table.render(console.result_columns(), [&](std::string_view line, Table::Line kind) {
      if (kind == Table::Line::heading) return console.styled(line, Tone::strong);
      if (line.find("FAILED") != line.npos) return console.styled(line, Tone::bad);
      return console.styled(line, line.ends_with("<-") ? Tone::good : Tone::plain);
    });
    text += "\n";
  }
  return text + footnotes(result, console);
}

}  // namespace mmkit::tool
