// SPDX-License-Identifier: MIT
//
// ReplayResult - all that `mmkit replay` found out; text, JSON and picture are views of it.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "complaints.hpp"
#include "heap_replay.hpp"
#include "options.hpp"
#include "picture.hpp"
#include "pool_replay.hpp"

namespace mmkit::tool {

struct ReplayResult {
  ReplayOptions options;
  std::vector<std::variant<PoolReplay, HeapReplay>> traces;  // in the order given
  Complaints unreadable;
};

/// A table a trace.
std::string replay_report(const ReplayResult& result, const Console& console);

/// One JSON document, ended by a newline.
std::string replay_json(const ReplayResult& result);

/// The figures over time, a line a driver or policy.
Picture replay_picture(const ReplayResult& result);

}  // namespace mmkit::tool
