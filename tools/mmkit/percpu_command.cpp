// SPDX-License-Identifier: MIT
//
// `mmkit percpu`: how per-CPU variables work in this process, what counting costs in four ways, and
// what the allocator's chunks look like.
#include <fmt/format.h>
#include <sched.h>

#include <mmkit/base/cpu.hpp>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "event_log.hpp"
#include "interrupt.hpp"
#include "json_text.hpp"
#include "output_file.hpp"
#include "percpu_picture.hpp"
#include "percpu_race.hpp"
#include "picture_files.hpp"
#include "progress.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

std::string_view mode_name() {
  return percpu_mode() == PercpuMode::rseq ? "rseq" : "fallback";
}

/// CPUs that this process may run on now.
unsigned allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // It fails where there are more CPUs than a set of the usual size has.
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return possible_cpus();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

std::vector<RaceResult> race(const PercpuRunOptions& options, Console& console) {
  constexpr std::uint64_t kSteps = 1000;
  Progress progress(console, "counting", kSteps, ProgressUnit::objects);
  std::uint64_t shown = 0;
  constexpr double kWays = 4;
  return run_percpu_race(options.threads, options.seconds / kWays, [&](double done) {
    const auto now = static_cast<std::uint64_t>(done * kSteps);
    progress.advance(now - shown);
    shown = now;
  });
}

std::string race_table(const std::vector<RaceResult>& results, const Console& console) {
  using Align = Table::Align;
  Table table;
  table.add_column("", "way", Align::left);
  table.add_column("", "additions", Align::right);
  table.add_column("", "ns each", Align::right);
  table.add_column("", "lost", Align::right);
  for (const RaceResult& result : results) {
    const auto magnitude = static_cast<std::uint64_t>(result.lost < 0 ? -result.lost : result.lost);
    table.add_row({result.way, format_count(result.adds), fmt::format("{:.2f}", result.ns_per_add),
                   (result.lost < 0 ? "-" : "") + format_count(magnitude)});
  }
  return table.render(console.result_columns(), [&](std::string_view text, Table::Line kind) {
    return console.styled(text, kind == Table::Line::heading ? Tone::strong : Tone::plain);
  });
}

std::string picture_text(const Demonstration& shown) {
  std::string text;
  for (std::size_t i = 0; i < shown.chunks.size(); ++i) {
    const ChunkPicture& chunk = shown.chunks[i];
    text += fmt::format("chunk {:>2}  [{}]  {} free, longest {}{}\n", i, drawn(chunk),
                        format_bytes(chunk.free_bytes), format_bytes(chunk.largest_free_bytes),
                        chunk.reserved ? "; for shared objects loaded late" : "");
  }
  text += "          # full   + partly   o empty, kept   . empty, no memory: a page of each CPU\n";
  return text;
}

std::string text_of(const PercpuRunOptions& options, const std::vector<RaceResult>& results,
                    const Demonstration& shown, const Console& console) {
  std::string text = fmt::format("mode      {} ({})\n", mode_name(), percpu_mode_reason());
  text += fmt::format("cpus      {} possible, {} allowed\n", possible_cpus(), allowed_cpus());
  text += fmt::format("\n{} counting\n", format_counted(options.threads, "thread"));
  text += race_table(results, console);
  text +=
      fmt::format("\n{} in {}, after some were freed\n", format_counted(shown.stats.live, "object"),
                  format_counted(shown.stats.chunks, "chunk"));
  return text + picture_text(shown);
}

std::string json_of(const PercpuRunOptions& options, const std::vector<RaceResult>& results,
                    const Demonstration& shown) {
  nlohmann::ordered_json ways = nlohmann::ordered_json::array();
  for (const RaceResult& result : results) {
    ways.push_back({{"way", result.way},
                    {"adds", result.adds},
                    {"ns_per_add", result.ns_per_add},
                    {"lost", result.lost}});
  }
  nlohmann::ordered_json chunks = nlohmann::ordered_json::array();
  for (const ChunkPicture& chunk : shown.chunks) {
    chunks.push_back({{"pages", drawn(chunk)},
                      {"free_bytes", chunk.free_bytes},
                      {"largest_free_bytes", chunk.largest_free_bytes},
                      {"reserved", chunk.reserved}});
  }
  return json_text({{"mmkit", MMKIT_VERSION},
                    {"command", "percpu"},
                    {"mode", mode_name()},
                    {"reason", percpu_mode_reason()},
                    {"possible_cpus", possible_cpus()},
                    {"allowed_cpus", allowed_cpus()},
                    {"threads", options.threads},
                    {"seconds", options.seconds},
                    {"race", ways},
                    {"live_objects", shown.stats.live},
                    {"populated_pages", shown.stats.populated_pages},
                    {"empty_populated_pages", shown.stats.empty_populated_pages},
                    {"chunks", chunks}});
}

/// A lane a thread, a span a way.
std::string events_of(const EventLog& empty, const std::vector<RaceResult>& results) {
  EventLog log = empty;
  std::vector<unsigned> lanes;
  for (std::size_t i = 0; i < results.front().threads.size(); ++i) {
    lanes.push_back(log.lane(fmt::format("thread {}", i)));
  }
  for (const RaceResult& result : results) {
    for (std::size_t i = 0; i < result.threads.size(); ++i) {
      const RaceThread& thread = result.threads[i];
      log.span(lanes[i], result.way, log.at_us(thread.begin), log.at_us(thread.end),
               {{"adds", thread.adds}});
    }
    const RaceThread& last = result.threads.back();
    log.counter("lost", log.at_us(last.end), {{"lost", result.lost}});
  }
  return log.json();
}

}  // namespace

ExitCode run_percpu(const PercpuRunOptions& options, Console& console) {
  console.set_chatter(options.chatter);
  console.set_progress(options.progress);
  const EventLog log;  // its clock starts now
  const std::vector<RaceResult> results = race(options, console);
  const Demonstration shown = demonstrate_chunks();
  stop_if_interrupted();
  console.clear_line();
  console.result(options.form == ResultForm::json ? json_of(options, results, shown)
                                                  : text_of(options, results, shown, console));
  if (wants_picture(options)) write_picture(options, percpu_picture(shown.chunks));
  if (!options.events_path.empty()) {
    write_file(options.events_path, "the trace of events", events_of(log, results));
  }
  // What is atomic on its CPU cannot lose anything.
  return results.front().lost == 0 ? ExitCode::ok : ExitCode::verification_failed;
}

}  // namespace mmkit::tool
