// SPDX-License-Identifier: MIT
//
// `mmkit genpool`: each trace is read, replayed through every policy, and shown as a table and a
// picture.
//
// All traces are read before any is replayed: nobody waits for a minute to hear that the last name
// has a typing error. Memory is the traces and one heap's books.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "commands.hpp"
#include "genpool_result.hpp"
#include "genpool_trial.hpp"
#include "interrupt.hpp"
#include "trace_file.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

// What figures_of() can add up; granules of a gigabyte are coarse enough for anybody.
constexpr std::uint64_t kMostGranuleBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kUsualAlignGranules = 4;

void check_power_of_two(const char* option, std::uint64_t bytes, std::uint64_t most) {
  if (std::has_single_bit(bytes) && bytes <= most) return;
  throw Problem(ExitCode::usage, fmt::format("{} is {}; it must be a power of two up to {}", option,
                                             bytes, format_bytes(most)));
}

void check(GenPoolRunOptions& options) {
  check_power_of_two("--granule", options.granule_bytes, kMostGranuleBytes);
  if (options.align_bytes == 0) options.align_bytes = kUsualAlignGranules * options.granule_bytes;
  check_power_of_two("--align", options.align_bytes, std::uint64_t{1} << 47);
  if (options.heap_bytes != 0 && options.heap_bytes < options.granule_bytes) {
    throw Problem(ExitCode::usage, fmt::format("--heap is {}; it must be at least one granule, {}",
                                               format_bytes(options.heap_bytes),
                                               format_bytes(options.granule_bytes)));
  }
}

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

void write_file(const std::string& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  int error = fd < 0 ? errno : 0;
  while (error == 0 && !text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EINTR) {
      stop_if_interrupted();
    } else {
      error = errno;
    }
  }
  // Network file systems report a full disk only here.
  if (fd >= 0 && ::close(fd) != 0 && error == 0) error = errno;
  if (error == 0) return;
  throw Problem(ExitCode::no_output, fmt::format("the picture cannot be written to {}: {}",
                                                 in_quotes(path), std::strerror(error)));
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
  check(result.options);
  const std::vector<PolicyChoice> policies =
      choose_policies(options.policies, result.options.align_bytes);
  const std::vector<NamedTrace> traces = read_all(result, console);
  const auto order = static_cast<unsigned>(std::countr_zero(result.options.granule_bytes));
  for (const NamedTrace& named : traces) {
    result.traces.push_back(
        run_trace(named.path, named.trace, order, options.heap_bytes, policies, console));
  }
  console.clear_line();
  console.result(options.form == ResultForm::json ? genpool_json(result)
                                                  : genpool_report(result, console));
  if (!options.svg_path.empty()) write_file(options.svg_path, genpool_svg(result));
  return judge(result, console);
}

}  // namespace mmkit::tool
