// SPDX-License-Identifier: MIT
//
// AdviseResult - all that `mmkit advise` found out; text and JSON are views of it.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "advice.hpp"
#include "complaints.hpp"
#include "genpool_trial.hpp"
#include "options.hpp"
#include "pool_replay.hpp"

namespace mmkit::tool {

/// What was looked at, the candidates in the same order as its rows, and what follows.
struct Advised {
  std::variant<PoolReplay, TraceResult> trial;
  std::string data;  // "'x.ops'", "these files"
  std::vector<Candidate> candidates;
  std::optional<Advice> advice;
  std::string sentence;
  std::string chain;  // of zsmalloc's variants the one that suits; empty without them
};

struct AdviseResult {
  AdviseOptions options;
  std::vector<Advised> advised;
  Complaints unreadable;
};

std::string advise_report(const AdviseResult& result, const Console& console);

/// One JSON document, ended by a newline.
std::string advise_json(const AdviseResult& result);

}  // namespace mmkit::tool
