// SPDX-License-Identifier: MIT
//
// `mmkit genpool`: each trace is read, replayed through every policy, and shown as a table and a
// picture.
//
// All traces are read before any is replayed: nobody waits for a minute to hear that the last name
// has a typing error. Memory is the traces and one heap's books.
#include <fmt/format.h>

#include <utility>
#include <vector>

#include "commands.hpp"
#include "genpool_result.hpp"
#include "genpool_trial.hpp"
#include "output_file.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

struct NamedTrace {
  std::string path;
  replay::GptTrace trace;
};

/// Those that can be read.
std::vector<NamedTrace> read_all(GenPoolResult& result, Console& console) {
  std::vector<NamedTrace> traces;
  for (const std::string& path : result.options.traces) {
    try {
      traces.push_back({path, read_trace(path)});
    } catch (const Problem& problem) {
      if (problem.code() != ExitCode::no_input) throw;
      result.unreadable.add(problem.what());
    }
  }
  const Complaints& unreadable = result.unreadable;
  if (unreadable.empty()) return traces;
  // One trace and no other: the error says it, a warning before it would say it twice.
  if (result.options.traces.size() == 1) {
    throw Problem(ExitCode::no_input, unreadable.first().front());
  }
  for (const std::string& text : unreadable.first()) console.warn(text);
  if (traces.empty() || result.options.rule == InputRule::strict) {
    throw Problem(ExitCode::no_input,
                  fmt::format("{} of {} cannot be read{}", format_count(unreadable.count()),
                              format_counted(result.options.traces.size(), "trace"),
                              traces.empty() ? "" : ", and --strict is set"));
  }
  return traces;
}

ExitCode judge(const GenPoolResult& result, Console& console) {
  ExitCode code = ExitCode::ok;
  for (const TraceResult& trace : result.traces) {
    for (const PolicyRow& row : trace.rows) {
      if (row.fault.empty()) continue;
      code = ExitCode::verification_failed;
      console.error(fmt::format("{}: {}: {}", in_quotes(trace.path), row.policy, row.fault));
    }
  }
  return code;
}

}  // namespace

ExitCode run_genpool(const GenPoolRunOptions& options, Console& console) {
  console.set_chatter(options.chatter);
  console.set_progress(options.progress);
  GenPoolResult result;
  result.options = options;
  settle(result.options);
  const std::vector<PolicyChoice> policies =
      choose_policies(options.policies, result.options.align_bytes);
  const std::vector<NamedTrace> traces = read_all(result, console);
  const unsigned order = granule_order(result.options);
  for (const NamedTrace& named : traces) {
    result.traces.push_back(
        run_trace(named.path, named.trace, order, options.heap_bytes, policies, console));
  }
  console.clear_line();
  console.result(options.form == ResultForm::json ? genpool_json(result)
                                                  : genpool_report(result, console));
  if (!options.svg_path.empty()) write_file(options.svg_path, "the picture", genpool_svg(result));
  return judge(result, console);
}

}  // namespace mmkit::tool
