// SPDX-License-Identifier: MIT
#include "event_log.hpp"

#include <algorithm>

#include "json_text.hpp"

namespace mmkit::tool {
namespace {

constexpr int kProcess = 1;  // the format wants one; it says nothing here

}  // namespace

unsigned EventLog::lane(const std::string& name) {
  const unsigned lane = ++lanes_;
  events_.push_back({{"name", "thread_name"},
                     {"ph", "M"},
                     {"pid", kProcess},
                     {"tid", lane},
                     {"args", {{"name", name}}}});
  return lane;
}

void EventLog::span(unsigned lane, const std::string& name, double begin_us, double end_us,
                    const Arguments& arguments) {
  events_.push_back({{"name", name},
                     {"ph", "X"},
                     {"pid", kProcess},
                     {"tid", lane},
                     {"ts", begin_us},
                     {"dur", std::max(0.0, end_us - begin_us)},
                     {"args", arguments}});
}

void EventLog::counter(const std::string& name, double at_us, const Arguments& figures) {
  events_.push_back(
      {{"name", name}, {"ph", "C"}, {"pid", kProcess}, {"ts", at_us}, {"args", figures}});
}

std::string EventLog::json() const {
  return json_text({{"displayTimeUnit", "ns"},
                    {"otherData", {{"mmkit", MMKIT_VERSION}}},
                    {"traceEvents", events_}});
}

}  // namespace mmkit::tool
