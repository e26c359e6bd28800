// SPDX-License-Identifier: MIT
//
// mmkit - the command: tries the library on real data and shows what comes out.
//
//   main -> arguments -> options -> <name>_command   one file a subcommand (commands.hpp)
//           command_line                 |
//         input:    input_walk -> page_reader -> corpus (codec, same_filled, page_hash); trace_file
//         measures: trial, over driver_run and malloc_run; codec_run; verify; genpool_trial;
//                   pool_replay, heap_replay; advice
//         shows:    table, JSON; occupancy; picture, svg; event_log; console, progress, units
//
// A command uses input, measures and shows, in this order; what is shown knows nothing of how it is
// measured. Pictures are data (picture.hpp) until a renderer draws them.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "arguments.hpp"
#include "commands.hpp"
#include "interrupt.hpp"

namespace mmkit::tool {
namespace {

/// Files opened later must not become a standard stream that our caller has closed. Whether
/// standard output was there.
bool settle_standard_streams() noexcept {
  bool output_open = true;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) != -1) continue;
    if (fd == STDOUT_FILENO) output_open = false;
    // The lowest free number, which is this one.
    static_cast<void>(::open("/dev/null", O_RDWR));
  }
  return output_open;
}

struct Dispatch {
  Console& console;
  ExitCode operator()(const TextRequest& request) const {
    console.result(request.text);
    return ExitCode::ok;
  }
  ExitCode operator()(const PackOptions& options) const {
    return run_pack(options, console, default_registry());
  }
  ExitCode operator()(const ReplayOptions& options) const {
    return run_replay(options, console, default_registry());
  }
  ExitCode operator()(const AdviseOptions& options) const {
    return run_advise(options, console, default_registry());
  }
  ExitCode operator()(const GenPoolRunOptions& options) const {
    return run_genpool(options, console);
  }
  ExitCode operator()(const PercpuRunOptions& options) const {
    return run_percpu(options, console);
  }
  ExitCode operator()(const DriversOptions& options) const {
    return run_drivers(options, console, default_registry());
  }
};

ExitCode run(int argc, const char* const* argv, Console& console, bool output_open) {
  try {
    const Arguments arguments = parse_arguments(argc, argv);
    if (!output_open) throw Problem(ExitCode::no_output, "standard output is closed");
    return std::visit(Dispatch{console}, arguments);
  } catch (const Problem& problem) {
    if (static_cast<int>(problem.code()) > 128) {
      console.announce(problem.what());
    } else {
      console.error(problem.what());
    }
    return problem.code();
  } catch (const std::bad_alloc&) {
    console.error("out of memory; of pack, a smaller --max-bytes needs less");
    return ExitCode::out_of_memory;
  } catch (const std::exception& failure) {
    console.error(failure.what());
    return ExitCode::internal;
  }
}

}  // namespace
}  // namespace mmkit::tool

int main(int argc, char** argv) {
  using namespace mmkit::tool;
  const bool output_open = settle_standard_streams();
  std::signal(SIGPIPE,
              SIG_IGN);  // a closed pipe is an error of write(2), with an exit code of ours
  std::signal(SIGXFSZ, SIG_IGN);  // the same of a file that may not grow
  watch_for_interrupts();
  Console console(STDOUT_FILENO, STDERR_FILENO);
  const ExitCode code = run(argc, argv, console, output_open);
  // Network file systems report a full disk only here.
  if (output_open && ::close(STDOUT_FILENO) != 0 && code == ExitCode::ok) {
    console.error(
        fmt::format("the result cannot be written to standard output: {}", std::strerror(errno)));
    return static_cast<int>(ExitCode::no_output);
  }
  return static_cast<int>(code);
}
