// SPDX-License-Identifier: MIT
//
// Progress - one line on a terminal: what is going on, how far it is, how fast, and how long it
// will take.
//
//   reading and compressing  [##############----------------]  45 %  312.4 MiB/s  0:03 left
//
// A narrow terminal loses first the bar's length, then the bar, the rate, the remaining time; what
// is left is cut. The line is never drawn from inside a timed section: callers report between them.
// It stays on the screen until the next one, or until the console says something else.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace mmkit::tool {

class Console;

enum class ProgressUnit { bytes, objects };

struct ProgressState {
  std::string_view label;
  std::uint64_t done = 0;
  std::uint64_t total = 0;  // 0: unknown, so no share and no remaining time
  double elapsed_seconds = 0;
  ProgressUnit unit = ProgressUnit::objects;
};

/// The line for a terminal of that many columns; it never reaches the last one, where some
/// terminals wrap.
std::string progress_line(const ProgressState& state, unsigned columns);

class Progress {
 public:
  /// The console outlives it. Draws at once when the console shows progress.
  Progress(Console& console, std::string label, std::uint64_t total, ProgressUnit unit);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Reports what was done since the last report. Throws a Problem when the user has interrupted
  /// the command: every long loop reports, so every long loop can be interrupted.
  void advance(std::uint64_t amount);

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  Console& console_;
  std::string label_;
  std::uint64_t total_;
  ProgressUnit unit_;
  std::uint64_t done_ = 0;
  Clock::time_point start_;
};

}  // namespace mmkit::tool
