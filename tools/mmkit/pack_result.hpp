// SPDX-License-Identifier: MIT
//
// PackResult - all that `mmkit pack` found out; the table and the JSON are two views of it.
#pragma once

#include <string>
#include <vector>

#include "codec_run.hpp"
#include "corpus.hpp"
#include "driver_pool.hpp"
#include "options.hpp"
#include "pack_input.hpp"
#include "picture.hpp"
#include "store_row.hpp"

namespace mmkit::tool {

struct PackResult : PackInput {
  PackOptions options;
  std::string codec_version;
  CorpusFigures corpus;
  CodecCost codec_cost;
  std::uint64_t objects = 0;
  TrialPlan plan;
  std::vector<StoreRow> rows;  // the drivers, then malloc
};

/// The table with what was packed above it and how it was measured below it.
std::string pack_report(const PackResult& result, const Console& console);

/// One JSON document, ended by a newline.
std::string pack_json(const PackResult& result);

/// Pages with their objects and slack, classes and fullness of each driver. Throws as run_driver() does.
Picture pack_picture(const std::vector<DriverChoice>& drivers, const Corpus& corpus,
                     const SpillPlan& spill, DriverRegistry& registry, Console& console);

}  // namespace mmkit::tool
