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
#include "picture_files.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

struct NamedTrace {
  std::string path;
  replay::GptTrace trace;
};

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
  std::vector<NamedTrace> traces;
  read_each(options.traces, options.rule, result.unreadable, console, [&](const std::string& path) {
    traces.push_back({path, read_gpt_trace(path)});
  });
  const unsigned order = granule_order(result.options);
  for (const NamedTrace& named : traces) {
    result.traces.push_back(
        run_trace(named.path, named.trace, order, options.heap_bytes, policies, console));
  }
  console.clear_line();
  console.result(options.form == ResultForm::json ? genpool_json(result)
                                                  : genpool_report(result, console));
  if (wants_picture(options)) write_picture(options, genpool_picture(result));
  return judge(result, console);
}

}  // namespace mmkit::tool
