// SPDX-License-Identifier: MIT
#include "pack_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "console.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::size_t kPathsShown = 3;
constexpr std::string_view kNothing = "-";

std::string nanoseconds(const std::optional<double>& value) {
  if (!value) return std::string(kNothing);
  return format_count(static_cast<std::uint64_t>(std::llround(*value)));
}

std::string density(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}", *value) : std::string(kNothing);
}

std::string paths_text(const std::vector<std::string>& paths) {
  std::string text;
  for (std::size_t index = 0; index < paths.size() && index < kPathsShown; ++index) {
    if (index > 0) text += ", ";
    text += in_quotes(paths[index]);
  }
  if (paths.size() > kPathsShown) {
    text += fmt::format(" and {} more", format_count(paths.size() - kPathsShown));
  }
  return text;
}

std::string codec_text(const PackResult& result) {
  return fmt::format("{} {}, level {}", name_of(result.options.codec.kind), result.codec_version,
                     result.options.codec.level);
}

std::string corpus_text(const PackResult& result) {
  const CorpusFigures& corpus = result.corpus;
  std::string text = fmt::format("input    {}\n", paths_text(result.options.paths));
  text +=
      fmt::format("         {}, {}: {} of 4 KiB\n", format_counted(result.reading.files, "file"),
                  format_bytes(result.reading.bytes), format_counted(corpus.pages, "page"));
  if (corpus.same_filled_pages() > 0) {
    text += fmt::format(
        "filled   {} of them ({}) with one repeated value, counted and not stored: {} zero, {} "
        "another byte, {} a word\n",
        format_count(corpus.same_filled_pages()),
        format_share(corpus.same_filled_pages(), corpus.pages), format_count(corpus.zero_pages),
        format_count(corpus.repeated_byte_pages), format_count(corpus.repeated_word_pages));
  }
  if (result.objects > 0) {
    text += fmt::format("objects  {} by {}: {}, {} of their pages", format_count(result.objects),
                        codec_text(result), format_bytes(corpus.object_bytes),
                        format_share(corpus.object_bytes, result.objects * kPageSize));
    if (corpus.raw_objects > 0) {
      text += fmt::format("; {} incompressible, kept raw", format_count(corpus.raw_objects));
    }
    text += fmt::format("\ncodec    {} ns to compress a page, {} ns to decompress\n",
                        nanoseconds(result.codec_cost.compress_ns),
                        nanoseconds(result.codec_cost.decompress_ns));
  }
  return text;
}

std::string verified_text(const StoreRow& row) {
  if (row.trial.objects == 0 && row.fault.empty()) return std::string(kNothing);
  return row.verified() ? "ok" : "FAILED";
}

std::string table_text(const PackResult& result, const Console& console) {
  using Align = Table::Align;
  const std::string with_codec = fmt::format("ns with {}", name_of(result.options.codec.kind));
  const bool limited = result.options.spill.limit_bytes != 0;
  Table table;
  table.add_column("", "driver", Align::left);
  table.add_column("", "objects", Align::right);
  table.add_column("", "refused", Align::right);
  table.add_column("", "payload", Align::right);
  if (limited) {
    table.add_column("", "evicted", Align::right);
    table.add_column("", "passed", Align::right);
    table.add_column("", "spilled", Align::right);
  }
  table.add_column("", "held", Align::right);
  table.add_column("", "pages", Align::right);
  table.add_column("density", "bare", Align::right);
  table.add_column("density", "+meta", Align::right);
  table.add_column("ns", "store", Align::right);
  table.add_column("ns", "load", Align::right);
  table.add_column(with_codec, "store", Align::right);
  table.add_column(with_codec, "load", Align::right);
  table.add_column("", "verified", Align::left);
  for (const StoreRow& row : result.rows) {
    std::vector<std::string> cells{row.name, format_count(row.trial.objects),
                                   format_count(row.trial.refused),
                                   format_bytes(row.trial.payload_bytes)};
    if (limited) {
      cells.push_back(format_count(row.spill.evicted));
      cells.push_back(format_count(row.spill.passed));
      cells.push_back(format_bytes(row.spill.spilled_bytes));
    }
    cells.insert(cells.end(),
                 {format_bytes(row.held_bytes), format_count(row.pages), density(row.density()),
                  density(row.density_with_metadata()), nanoseconds(row.trial.store_ns),
                  nanoseconds(row.trial.load_ns), nanoseconds(row.trial.store_codec_ns),
                  nanoseconds(row.trial.load_codec_ns), verified_text(row)});
    table.add_row(std::move(cells));
  }
  return table.render(console.result_columns(), [&](std::string_view line, Table::Line kind) {
    if (kind == Table::Line::heading) return console.styled(line, Tone::strong);
    const bool bad = line.ends_with("FAILED");
    return console.styled(line, bad ? Tone::bad : Tone::plain);
  });
}

std::string times_text(std::uint64_t count) {
  return count == 1 ? "once" : fmt::format("median of {}", count);
}

/// What the columns mean and how they were measured.
std::vector<std::string> footnotes(const PackResult& result) {
  const std::string_view codec = name_of(result.options.codec.kind);
  std::vector<std::string> lines;
  lines.push_back("density   payload / held; +meta counts the pool's own structures as held, too");
  const bool refused = std::any_of(result.rows.begin(), result.rows.end(),
                                   [](const StoreRow& row) { return row.trial.refused > 0; });
  if (refused) {
    lines.push_back(
        "refused   too large for that driver: kept aside, not in its payload or density");
  }
  if (result.options.spill.limit_bytes != 0) {
    lines.push_back(fmt::format(
        "evicted   by a pool at its limit of {}, to its spill file; passed: written there at once,",
        format_bytes(result.options.spill.limit_bytes)));
    lines.push_back(
        "          as there was nothing to evict; density is of what stayed; malloc has no limit");
  }
  lines.push_back(fmt::format(
      "ns        processor time per object, {}; stores fill a fresh pool, page faults included;",
      times_text(result.plan.rounds)));
  lines.push_back(fmt::format("          loads copy the object out, in random order (seed {})",
                              result.options.seed));
  lines.push_back(fmt::format(
      "          with {}: compressing or decompressing included; {}, stores of {}", codec,
      times_text(result.plan.codec_rounds), format_counted(result.plan.sample.size(), "object")));
  lines.push_back("malloc    held is the " + result.rows.back().measure + ";");
  lines.push_back("          its headers are in it, so that its two densities are one");
  lines.push_back(
      "verified  every object stored was read back, decompressed and compared with its page");
  return lines;
}

}  // namespace

std::string pack_report(const PackResult& result, const Console& console) {
  std::string text = corpus_text(result) + "\n" + table_text(result, console);
  if (result.objects == 0) {
    return text + "\n" +
           console.styled("every page holds one repeated value: there is nothing to store",
                          Tone::faint) +
           "\n";
  }
  text += "\n";
  for (const std::string& line : footnotes(result)) {
    text += console.styled(line, Tone::faint) + "\n";
  }
  return text;
}

}  // namespace mmkit::tool
