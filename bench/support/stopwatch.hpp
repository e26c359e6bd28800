// SPDX-License-Identifier: MIT
//
// Stopwatch - nanoseconds between two looks at the monotonic clock.
//
// A look costs some 20 to 40 ns. Phases of 1024 operations and more are timed as a whole, so that
// the clock is below a thousandth of what it measures.
#pragma once

#include <chrono>
#include <cstddef>

namespace mmkit::bench {

class Stopwatch {
 public:
  /// Nanoseconds since the stopwatch was made or last asked.
  double lap_ns() noexcept {
    const auto now = std::chrono::steady_clock::now();
    const double ns = std::chrono::duration<double, std::nano>(now - start_).count();
    start_ = now;
    return ns;
  }
  /// The same, for each of `operations`.
  double lap_ns_per(std::size_t operations) noexcept {
    return lap_ns() / static_cast<double>(operations);
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace mmkit::bench
