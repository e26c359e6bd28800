// SPDX-License-Identifier: MIT
//
// Harness - the main of every benchmark program, and what is printed when.
//
// Google Benchmark chooses and runs (its flags work as everywhere) and writes the JSON; the text is
// ours: the machine, then each benchmark's section as it ends, then the targets met and missed.
// Exit code: 0; 1 when a figure that must hold on every machine does not (density, never a time);
// 2 for a wrong flag or a trace that cannot be read.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/machine.hpp"
#include "support/options.hpp"
#include "support/peers.hpp"

namespace mmkit::bench {

/// What a benchmark leaves for the reader.
struct Section {
  std::string text;
  std::string verdicts{};  // lines for the end of the run; may be empty
};

namespace detail {

struct Results {
  std::map<std::string, Section> sections;  // by benchmark name
  std::vector<std::string> failures;
  bool broken = false;  // a benchmark ended by an error
};
inline Results& results() {
  static Results all;
  return all;
}

// Prints our sections where Google Benchmark would print its lines.
class SectionReporter final : public ::benchmark::BenchmarkReporter {
 public:
  explicit SectionReporter(const Options& options) : quick_(options.quick) {}
  bool ReportContext(const Context&) override {
    std::printf("%s", machine_statement().c_str());
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) {
        results().broken = true;
        std::fprintf(stderr, "%s: %s\n", run.run_name.function_name.c_str(),
                     run.error_message.c_str());
        continue;
      }
      const auto found = results().sections.find(run.run_name.function_name);
      if (found == results().sections.end()) continue;
      std::printf("\n%s", found->second.text.c_str());
      std::fflush(stdout);
      verdicts_ += found->second.verdicts;
      results().sections.erase(found);
    }
  }
  void Finalize() override {
    if (quick_) {
      std::printf("\na quick run: the times mean little, and targets are not judged\n");
    } else if (!verdicts_.empty()) {
      std::printf("\ntargets\n%s", verdicts_.c_str());
    }
  }

 private:
  const bool quick_;
  std::string verdicts_;
};

inline bool wants_own_format(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--benchmark_format", 18) == 0) return true;
    if (std::strncmp(argv[i], "--benchmark_list_tests", 22) == 0) return true;
  }
  return false;
}

}  // namespace detail

/// Registers `body` as the benchmark `name`; it iterates `iterations` times over its state.
inline void register_section(const std::string& name, unsigned iterations,
                             std::function<Section(::benchmark::State&)> body) {
  ::benchmark::RegisterBenchmark(name.c_str(),
                                 [name, body = std::move(body)](::benchmark::State& state) {
                                   try {
                                     detail::results().sections[name] = body(state);
                                   } catch (const std::exception& error) {
                                     state.SkipWithError(error.what());
                                   }
                                 })
      ->Iterations(iterations)
      ->UseRealTime()
      ->Unit(::benchmark::kMillisecond);
}

/// Records that a figure which must hold does not: the program will end with code 1.
inline void fail_run(std::string message) {
  detail::results().failures.push_back(std::move(message));
}

/// The main of a benchmark program. `register_all` registers its benchmarks.
inline int run_benchmarks(int argc, char** argv,
                          const std::function<void(const Options&)>& register_all) {
  make_room_for_peers(argv);
  Options options;
  bool list = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0) {
      std::printf("usage: %s [flags]\n%s", argv[0], kUsage);
      return 0;
    }
  }
  if (!take_options(argc, argv, options, list)) return 2;
  std::string list_flag = "--benchmark_list_tests=true";
  std::vector<char*> flags(argv, argv + argc);
  if (list) flags.push_back(list_flag.data());
  flags.push_back(nullptr);
  int count = static_cast<int>(flags.size()) - 1;
  const bool own_format = detail::wants_own_format(count, flags.data());
  ::benchmark::Initialize(&count, flags.data());
  if (::benchmark::ReportUnrecognizedArguments(count, flags.data())) return 2;
  try {
    register_all(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  if (own_format) {
    ::benchmark::RunSpecifiedBenchmarks();
  } else {
    detail::SectionReporter reporter(options);
    ::benchmark::RunSpecifiedBenchmarks(&reporter);
  }
  ::benchmark::Shutdown();
  for (const std::string& failure : detail::results().failures) {
    std::fprintf(stderr, "failed: %s\n", failure.c_str());
  }
  if (detail::results().broken) return 2;
  return detail::results().failures.empty() ? 0 : 1;
}

}  // namespace mmkit::bench
