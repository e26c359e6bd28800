// SPDX-License-Identifier: MIT
#include "progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "console.hpp"
#include "interrupt.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::size_t kMinBarColumns = 10;
constexpr std::size_t kMaxBarColumns = 40;
// Rates over less than this are noise, and so is what they predict.
constexpr double kSettledSeconds = 0.3;

std::string rate_text(const ProgressState& state) {
  if (state.elapsed_seconds < kSettledSeconds || state.done == 0) return {};
  const double rate = static_cast<double>(state.done) / state.elapsed_seconds;
  const auto whole = static_cast<std::uint64_t>(std::min(rate, 1e18));
  if (state.unit == ProgressUnit::bytes) return format_bytes(whole) + "/s";
  return format_count(whole) + "/s";
}

std::string remaining_text(const ProgressState& state) {
  if (state.elapsed_seconds < kSettledSeconds || state.done == 0 || state.done > state.total) {
    return {};
  }
  const double left = state.elapsed_seconds * static_cast<double>(state.total - state.done) /
                      static_cast<double>(state.done);
  return format_clock(static_cast<std::uint64_t>(std::ceil(std::min(left, 1e9)))) + " left";
}

}  // namespace

std::string progress_line(const ProgressState& state, unsigned columns) {
  if (columns < 2) return {};
  const std::size_t room = columns - 1;
  const double share =
      state.total == 0
          ? 0.0
          : std::min(1.0, static_cast<double>(state.done) / static_cast<double>(state.total));
  const std::string percent =
      state.total == 0 ? std::string{} : fmt::format("{:>3} %", std::floor(100.0 * share));

  std::string line(state.label);
  std::string tail;
  const auto add_if_it_fits = [&](const std::string& part) {
    if (part.empty() || line.size() + tail.size() + 2 + part.size() > room) return;
    tail += "  " + part;
  };
  add_if_it_fits(percent);
  const std::size_t bar_place = 2 + 2;  // two blanks and the brackets
  const std::string rate = rate_text(state);
  const std::string remaining = remaining_text(state);
  // The remaining time is what people look for: it is placed before the rate, though shown after
  // it.
  const bool remaining_fits =
      !remaining.empty() && line.size() + tail.size() + 2 + remaining.size() <= room;
  const std::size_t kept = remaining_fits ? 2 + remaining.size() : 0;
  if (!rate.empty() && line.size() + tail.size() + kept + 2 + rate.size() <= room) {
    tail += "  " + rate;
  }
  if (remaining_fits) tail += "  " + remaining;

  const std::size_t used = line.size() + tail.size() + bar_place;
  if (state.total != 0 && used + kMinBarColumns <= room) {
    const std::size_t bar = std::min(kMaxBarColumns, room - used);
    const auto filled = static_cast<std::size_t>(std::floor(static_cast<double>(bar) * share));
    line += fmt::format("  [{}{}]", std::string(filled, '#'), std::string(bar - filled, '-'));
  }
  line += tail;
  // Not even label and share fit: the share says more.
  if (tail.empty() && !percent.empty() && percent.size() <= room) line = percent;
  line.resize(std::min(line.size(), room));
  return line;
}

Progress::Progress(Console& console, std::string label, std::uint64_t total, ProgressUnit unit)
    : console_(console),
      label_(std::move(label)),
      total_(total),
      unit_(unit),
      start_(Clock::now()) {
  advance(0);
}

void Progress::advance(std::uint64_t amount) {
  stop_if_interrupted();
  done_ += amount;
  if (console_.drawing_due() && console_.shows_progress()) draw();
}

void Progress::draw() {
  const std::chrono::duration<double> elapsed = Clock::now() - start_;
  const ProgressState state{label_, done_, total_, elapsed.count(), unit_};
  console_.draw_line(progress_line(state, console_.message_columns()));
}

}  // namespace mmkit::tool
