// SPDX-License-Identifier: MIT
//
// Scale - how much work a long test does: its own number of operations times MMKIT_SCALE.
//
// Sanitizer runs shrink the load (MMKIT_SCALE=0.1), thorough ones enlarge it (MMKIT_SCALE=10). What is tested does not
// change, only how often.
// Units:      a positive decimal factor; 1 when unset
// Locking:    none needed; safe from any thread
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace mmkit::testing {

/// The factor of this run. An unreadable or non-positive MMKIT_SCALE ends the program.
inline double run_scale() {
  static const double scale = [] {
    const char* text = std::getenv("MMKIT_SCALE");
    if (text == nullptr || *text == '\0') return 1.0;
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (*end != '\0' || !(value > 0.0)) {
      std::fprintf(stderr, "MMKIT_SCALE is '%s': not a positive number\n", text);
      std::exit(2);
    }
    return value;
  }();
  return scale;
}

/// `operations` times the factor, and never less than `at_least`, so that a shrunk test still tests something.
inline std::uint64_t scaled(std::uint64_t operations, std::uint64_t at_least = 1) {
  const double wanted = static_cast<double>(operations) * run_scale();
  const auto count = static_cast<std::uint64_t>(wanted);
  return count < at_least ? at_least : count;
}

}  // namespace mmkit::testing
