// SPDX-License-Identifier: MIT
//
// `mmkit replay`: each trace is read, replayed in every driver or policy, and shown as a table and as
// lines over time.
//
// All traces are read before any is replayed: nobody waits for a minute to hear that the last name
// has a typing error. Memory is the traces and one pool.
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "commands.hpp"
#include "driver_run.hpp"
#include "event_log.hpp"
#include "output_file.hpp"
#include "picture_files.hpp"
#include "replay_result.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

ExitCode judge(const ReplayResult& result, Console& console) {
  ExitCode code = ExitCode::ok;
  const auto look = [&](const std::string& path, const std::string& name,
                        const std::string& fault) {
    if (fault.empty()) return;
    code = ExitCode::verification_failed;
    console.error(fmt::format("{}: {}: {}", in_quotes(path), name, fault));
  };
  for (const auto& trace : result.traces) {
    if (const auto* pools = std::get_if<PoolReplay>(&trace)) {
      for (const DriverReplay& row : pools->rows) look(pools->path, row.driver, row.fault);
    } else {
      const auto& heaps = std::get<HeapReplay>(trace);
      for (const PolicyReplay& row : heaps.rows) look(heaps.path, row.policy, row.fault);
    }
  }
  return code;
}

}  // namespace

ExitCode run_replay(const ReplayOptions& options, Console& console, DriverRegistry& registry) {
  console.set_chatter(options.chatter);
  console.set_progress(options.progress);
  ReplayResult result;
  result.options = options;
  settle(result.options);
  const std::vector<PolicyChoice> policies =
      choose_policies(options.policies, result.options.align_bytes);
  const std::vector<DriverChoice> drivers = choose_drivers(options.drivers, registry);
  std::vector<std::pair<std::string, AnyTrace>> traces;
  read_each(options.traces, options.rule, result.unreadable, console, [&](const std::string& path) {
    traces.emplace_back(path, read_trace(path, options.format));
  });
  std::optional<EventLog> log;
  if (!options.events_path.empty()) log.emplace();
  EventLog* const events = log ? &*log : nullptr;
  for (const auto& [path, trace] : traces) {
    if (const auto* sizes = std::get_if<replay::SizeTrace>(&trace)) {
      result.traces.emplace_back(replay_in_pools(path, *sizes, drivers, registry, console, events));
    } else {
      result.traces.emplace_back(replay_in_heaps(path, std::get<replay::GptTrace>(trace),
                                                 result.options, policies, console, events));
    }
  }
  console.clear_line();
  console.result(options.form == ResultForm::json ? replay_json(result)
                                                  : replay_report(result, console));
  if (wants_picture(options)) write_picture(options, replay_picture(result));
  if (log) write_file(options.events_path, "the trace of events", log->json());
  return judge(result, console);
}

}  // namespace mmkit::tool
