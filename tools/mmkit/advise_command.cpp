// SPDX-License-Identifier: MIT
//
// `mmkit advise`: traces, or files that become one, are run through every driver, chain length or
// policy that could serve them, and the figures decide.
//
// Files are compressed page by page as `mmkit pack` does, and their objects stored one after the
// other; only the sizes are kept. A trace of allocations is tried as `mmkit genpool` does.
#include <fmt/format.h>

#include <algorithm>

#include "advise_result.hpp"
#include "commands.hpp"
#include "driver_run.hpp"
#include "pack_input.hpp"
#include "same_filled.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

using replay::SizeOp;
using replay::SizeTrace;

constexpr std::string_view kZsmallocChain = "zsmalloc:chain_pages=";

/// Every driver as it comes, and zsmalloc in each length of its chains.
std::vector<DriverChoice> candidates_of(DriverRegistry& registry) {
  std::vector<std::string> names;
  for (const std::string& type : registered_types(registry)) {
    if (type != "zsmalloc") {
      names.push_back(type);
      continue;
    }
    for (const char* chain : {"4", "8", "16"}) {
      names.push_back(std::string(kZsmallocChain) + chain);
    }
  }
  return choose_drivers(names, registry);
}

void conclude(Advised& advised, const std::string& memory) {
  advised.advice = advise(advised.candidates);
  advised.sentence =
      advised.advice
          ? sentence_of(*advised.advice, advised.candidates, advised.data, memory)
          : fmt::format("nothing suits {}: every candidate failed or held nothing.", advised.data);
}

/// Which chain length, should it be zsmalloc for another reason.
void conclude_chain(Advised& advised) {
  std::vector<Candidate> chains;
  for (const Candidate& candidate : advised.candidates) {
    if (candidate.name.starts_with(kZsmallocChain)) chains.push_back(candidate);
  }
  const std::optional<Advice> best = advise(chains);
  if (!best) return;
  const Candidate& chain = chains[best->recommended];
  advised.chain = chain.name;
  advised.sentence +=
      fmt::format(" Of zsmalloc's chains that of {} pages suits it: {:.3f} at {:.0f} ns.",
                  chain.name.substr(kZsmallocChain.size()), *chain.yield, chain.operation_ns);
}

Advised try_pools(const std::string& path, const std::string& data, const SizeTrace& trace,
                  DriverRegistry& registry, Console& console) {
  PoolReplay trial =
      replay_in_pools(path, trace, candidates_of(registry), registry, console, nullptr);
  Advised advised;
  advised.data = data;
  for (const DriverReplay& row : trial.rows) {
    // While a store is only filled, its small beginnings say little.
    const std::size_t first = trace.snapshots == 0 ? row.points.size() - 1 : 0;
    advised.candidates.push_back({row.driver, row.yield(first), row.operation_ns, row.fault});
  }
  advised.trial = std::move(trial);
  conclude(advised, "density");
  conclude_chain(advised);
  return advised;
}

Advised try_policies(const std::string& path, const replay::GptTrace& trace,
                     const HeapOptions& heap, Console& console) {
  const std::vector<PolicyChoice> policies = choose_policies(heap.policies, heap.align_bytes);
  TraceResult trial =
      run_trace(path, trace, granule_order(heap), heap.heap_bytes, policies, console);
  Advised advised;
  advised.data = in_quotes(path);
  for (const PolicyRow& row : trial.rows) {
    advised.candidates.push_back({row.policy, trial.utilisation(row), row.operation_ns, row.fault});
  }
  advised.trial = std::move(trial);
  conclude(advised, "use of the smallest heap");
  return advised;
}

/// The pages of files as stores, one after the other.
SizeTrace trace_of_files(const AdviseOptions& options, Console& console) {
  const std::unique_ptr<Codec> codec = make_codec(options.codec);
  SizeTrace trace;
  CodecBuffer buffer;
  const PackInput input = read_input(
      options.inputs, options.max_bytes,
      [&](PageBytes page) {
        if (fill_of(page) != Fill::mixed) return;
        const auto size = static_cast<std::uint16_t>(codec->encode(page, buffer).size());
        trace.steps.push_back({trace.slots++, size, SizeOp::store});
        trace.peak_payload_bytes += size;
      },
      console);
  trace.peak_objects = trace.slots;
  check_input(input, options.rule, console);
  if (trace.slots != 0) return trace;
  throw Problem(ExitCode::no_input,
                "every page holds one repeated value: there is nothing to store");
}

ExitCode judge(const AdviseResult& result, Console& console) {
  ExitCode code = ExitCode::ok;
  for (const Advised& advised : result.advised) {
    for (const Candidate& candidate : advised.candidates) {
      if (candidate.fault.empty()) continue;
      code = ExitCode::verification_failed;
      console.error(fmt::format("{}: {}: {}", advised.data, candidate.name, candidate.fault));
    }
  }
  return code;
}

void try_traces(AdviseResult& result, Console& console, DriverRegistry& registry) {
  const AdviseOptions& options = result.options;
  std::vector<std::pair<std::string, AnyTrace>> traces;
  read_each(options.inputs, options.rule, result.unreadable, console, [&](const std::string& path) {
    traces.emplace_back(path, read_trace(path, options.format));
  });
  for (const auto& [path, trace] : traces) {
    if (const auto* sizes = std::get_if<SizeTrace>(&trace)) {
      result.advised.push_back(try_pools(path, in_quotes(path), *sizes, registry, console));
    } else {
      result.advised.push_back(
          try_policies(path, std::get<replay::GptTrace>(trace), options, console));
    }
  }
}

}  // namespace

ExitCode run_advise(const AdviseOptions& options, Console& console, DriverRegistry& registry) {
  console.set_chatter(options.chatter);
  console.set_progress(options.progress);
  AdviseResult result;
  result.options = options;
  settle(result.options);
  const auto traces = static_cast<std::size_t>(
      std::count_if(options.inputs.begin(), options.inputs.end(), [&](const std::string& path) {
        return options.format != TraceFormat::automatic ||
               format_of(path) != TraceFormat::automatic;
      }));
  if (traces != 0 && traces != options.inputs.size()) {
    throw Problem(ExitCode::usage,
                  "traces (.u16, .ops, .gpt) and other files cannot be advised on in one run");
  }
  if (traces != 0) {
    try_traces(result, console, registry);
  } else {
    const SizeTrace trace = trace_of_files(options, console);
    const std::string data =
        options.inputs.size() == 1 ? in_quotes(options.inputs[0]) : std::string("these files");
    result.advised.push_back(try_pools(options.inputs[0], data, trace, registry, console));
  }
  console.clear_line();
  console.result(options.form == ResultForm::json ? advise_json(result)
                                                  : advise_report(result, console));
  return judge(result, console);
}

}  // namespace mmkit::tool
