// SPDX-License-Identifier: MIT
//
// Options - what a benchmark program takes besides Google Benchmark's own flags.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace mmkit::bench {

inline constexpr const char* kUsage =
    "  --quick          few rounds on a part of the traces: shows that everything runs; the times\n"
    "                   mean little, the densities are as always\n"
    "  --rounds=N       rounds of each comparison (default 61)\n"
    "  --list           the names, for --benchmark_filter=REGEX\n"
    "Everything else is Google Benchmark's: --benchmark_filter, --benchmark_format=json,\n"
    "--benchmark_out=FILE. The traces are looked for in $MMKIT_BENCH_DATA.\n";

struct Options {
  bool quick = false;
  unsigned rounds = 61;  // odd, so that a median is a sample

  /// The larger number, or the smaller one in a quick run.
  std::size_t scale(std::size_t full, std::size_t quick_count) const noexcept {
    return quick ? quick_count : full;
  }
};

/// Takes our own flags out of argv and leaves the rest. Returns false after a message about a flag
/// that is wrong.
inline bool take_options(int& argc, char** argv, Options& options, bool& list) {
  int kept = 1;
  bool rounds_given = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--quick") {
      options.quick = true;
    } else if (flag == "--list") {
      list = true;
    } else if (flag.rfind("--rounds=", 0) == 0) {
      char* end = nullptr;
      const unsigned long rounds = std::strtoul(argv[i] + 9, &end, 10);
      if (end == argv[i] + 9 || *end != '\0' || rounds == 0 || rounds > 100000) {
        std::fprintf(stderr, "--rounds takes a number from 1 to 100000, not '%s'\n", argv[i] + 9);
        return false;
      }
      options.rounds = static_cast<unsigned>(rounds);
      rounds_given = true;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  argv[argc] = nullptr;
  if (options.quick && !rounds_given) options.rounds = 3;
  return true;
}

}  // namespace mmkit::bench
