// SPDX-License-Identifier: MIT
//
// EventLog - what happened when, as a file that chrome://tracing, Perfetto and Speedscope open: the
// Trace Event Format in JSON.
//
//   lane    a row of its own: "X" events, spans of time on it; named by a metadata event
//   counter figures over time: "C" events
//
// Units:   microseconds since the log was made, on the steady clock
// Locking: none: the caller serialises
#pragma once

#include <chrono>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace mmkit::tool {

class EventLog {
 public:
  using Clock = std::chrono::steady_clock;
  using Arguments = nlohmann::ordered_json;

  double at_us(Clock::time_point time) const {
    return std::chrono::duration<double, std::micro>(time - start_).count();
  }
  double now_us() const { return at_us(Clock::now()); }

  /// A row for spans; the number to name it by.
  unsigned lane(const std::string& name);
  void span(unsigned lane, const std::string& name, double begin_us, double end_us,
            const Arguments& arguments = Arguments::object());
  /// `figures` is an object of numbers.
  void counter(const std::string& name, double at_us, const Arguments& figures);

  /// The document.
  std::string json() const;

 private:
  Clock::time_point start_ = Clock::now();
  unsigned lanes_ = 0;
  nlohmann::ordered_json events_ = nlohmann::ordered_json::array();
};

}  // namespace mmkit::tool
