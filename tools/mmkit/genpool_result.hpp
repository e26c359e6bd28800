// SPDX-License-Identifier: MIT
//
// GenPoolResult - all that `mmkit genpool` found out; text, JSON and picture are views of it.
#pragma once

#include <string>
#include <vector>

#include "complaints.hpp"
#include "genpool_trial.hpp"
#include "options.hpp"
#include "picture.hpp"

namespace mmkit::tool {

struct GenPoolResult {
  GenPoolRunOptions options;
  std::vector<TraceResult> traces;
  Complaints unreadable;
};

/// A table and an occupancy picture a trace.
std::string genpool_report(const GenPoolResult& result, const Console& console);

/// One JSON document, ended by a newline.
std::string genpool_json(const GenPoolResult& result);

/// The occupancy of every policy and trace.
Picture genpool_picture(const GenPoolResult& result);

}  // namespace mmkit::tool
