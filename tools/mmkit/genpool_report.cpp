// SPDX-License-Identifier: MIT
#include "genpool_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "console.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::string_view kNothing = "-";
constexpr std::size_t kPictureRows = 3;
// A terminal's width less the names; wider ones gain nothing that an eye could use.
constexpr std::size_t kPictureColumns = 96, kLeastPictureColumns = 16, kUsualColumns = 80;
constexpr std::size_t kBandCells = 1024;

std::string nanoseconds(double value) {
  return value < 100 ? fmt::format("{:.1f}", value)
                     : format_count(static_cast<std::uint64_t>(std::llround(value)));
}

std::string percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f} %", *share * 100) : std::string(kNothing);
}

std::uint64_t granules_of(const GenPoolResult& result, const TraceResult& trace) {
  return trace.heap_bytes / result.options.granule_bytes;
}

std::string heading_of(const GenPoolResult& result, const TraceResult& trace) {
  const replay::GptFigures& figures = trace.figures;
  std::string text = fmt::format("trace    {}\n", in_quotes(trace.path));
  text +=
      fmt::format("         {}, {} of them allocations\n",
                  format_counted(trace.operations, "operation"), format_count(trace.allocations));
  text += fmt::format("peak     {} in {}; {} in granules of {}\n", format_bytes(figures.peak_bytes),
                      format_counted(figures.peak_blocks, "block"),
                      format_bytes(figures.peak_granules * result.options.granule_bytes),
                      format_bytes(result.options.granule_bytes));
  text += fmt::format("heap     {}, {}\n", format_bytes(trace.heap_bytes),
                      format_counted(granules_of(result, trace), "granule"));
  return text;
}

std::string table_of(const TraceResult& trace, const Console& console) {
  using Align = Table::Align;
  Table table;
  table.add_column("", "policy", Align::left);
  table.add_column("", "ns/op", Align::right);
  table.add_column("allocate, ns", "p99.9", Align::right);
  table.add_column("allocate, ns", "worst", Align::right);
  table.add_column("", "failed", Align::right);
  table.add_column("", "smallest heap", Align::right);
  table.add_column("", "used", Align::right);
  table.add_column("", "words/op", Align::right);
  table.add_column("", "metadata", Align::right);
  table.add_column("", "verified", Align::left);
  for (const PolicyRow& row : trace.rows) {
    table.add_row(
        {row.policy, nanoseconds(row.operation_ns), nanoseconds(row.allocate_p999_ns),
         nanoseconds(row.allocate_worst_ns), format_count(row.failures),
         row.smallest_heap_bytes ? format_bytes(*row.smallest_heap_bytes) : std::string(kNothing),
         percent(trace.utilisation(row)),
         fmt::format("{:.1f}", static_cast<double>(row.words_touched) /
                                   static_cast<double>(trace.operations)),
         format_bytes(row.metadata_bytes), row.fault.empty() ? "ok" : "FAILED"});
  }
  return table.render(console.result_columns(), [&](std::string_view line, Table::Line kind) {
    if (kind == Table::Line::heading) return console.styled(line, Tone::strong);
    return console.styled(line, line.ends_with("FAILED") ? Tone::bad : Tone::plain);
  });
}

std::string holes_of(const PolicyRow& row) {
  return fmt::format("{}, the largest {}", format_counted(row.free_runs, "free run"),
                     format_bytes(row.largest_free_bytes));
}

/// Some rows of letters a policy, the same number of granules to a letter in all of them.
std::string picture_of(const GenPoolResult& result, const TraceResult& trace,
                       const Console& console) {
  std::size_t label = 0;
  for (const PolicyRow& row : trace.rows) label = std::max(label, row.policy.size());
  const std::size_t room = std::min<std::size_t>(console.result_columns(), kUsualColumns + label);
  const std::size_t columns =
      std::clamp(room > label + 4 ? room - label - 4 : 0, kLeastPictureColumns, kPictureColumns);
  const std::uint64_t granules = granules_of(result, trace);
  const std::uint64_t letters = std::min<std::uint64_t>(granules, columns * kPictureRows);
  std::string text =
      fmt::format("the heap when most is taken, after operation {}; a letter is {}\n",
                  format_count(trace.figures.peak_op + 1),
                  format_counted((granules + letters - 1) / letters, "granule"));
  for (const PolicyRow& row : trace.rows) {
    const std::string letters_text = drawn(row.occupancy.shares(columns * kPictureRows));
    for (std::size_t at = 0; at < letters_text.size(); at += columns) {
      text += fmt::format("{:<{}}  [{}]\n", at == 0 ? row.policy : std::string{}, label,
                          letters_text.substr(at, columns));
    }
    text += fmt::format("{:<{}}   {}\n", "", label, holes_of(row));
  }
  return text + std::string(label + 3, ' ') + console.styled(kOccupancyLegend, Tone::faint) + "\n";
}

std::string footnotes(const GenPoolResult& result, const Console& console) {
  const TraceResult& last = result.traces.back();
  const std::string lines[] = {
      "ns/op     processor time of the whole trace by its operations, median of 3 to 15 rounds",
      fmt::format(
          "allocate  each by itself, the least of 3; looking at the clock is {:.0f} ns of it",
          last.clock_ns),
      "used      the most bytes ever live by the smallest heap in which nothing fails",
      "words/op  64-bit words of bitmaps and hints that searches looked at",
      "metadata  reserved for the pool's books; touched as it is needed",
  };
  std::string text;
  for (const std::string& line : lines) text += console.styled(line, Tone::faint) + "\n";
  return text;
}

}  // namespace

std::string genpool_report(const GenPoolResult& result, const Console& console) {
  std::string text;
  for (const TraceResult& trace : result.traces) {
    text += heading_of(result, trace) + "\n" + table_of(trace, console) + "\n" +
            picture_of(result, trace, console) + "\n";
  }
  return text + footnotes(result, console);
}

Picture genpool_picture(const GenPoolResult& result) {
  Picture picture{"The heap when most is taken: the darker, the fuller", {}};
  for (const TraceResult& trace : result.traces) {
    Bands bands;
    for (const PolicyRow& row : trace.rows) {
      bands.bands.push_back(
          {row.policy,
           fmt::format("{}; {} failed, {} used in the smallest heap", holes_of(row),
                       format_count(row.failures), percent(trace.utilisation(row))),
           row.occupancy.shares(kBandCells)});
    }
    picture.sections.push_back({fmt::format("{}: {} of {}, after operation {}", trace.path,
                                            format_counted(granules_of(result, trace), "granule"),
                                            format_bytes(result.options.granule_bytes),
                                            format_count(trace.figures.peak_op + 1)),
                                "", std::move(bands)});
  }
  return picture;
}

}  // namespace mmkit::tool
