// SPDX-License-Identifier: MIT
//
// PackResult - all that `mmkit pack` found out; the table and the JSON are two views of it.
#pragma once

#include <string>
#include <vector>

#include "codec_run.hpp"
#include "corpus.hpp"
#include "input_walk.hpp"
#include "options.hpp"
#include "page_reader.hpp"
#include "store_row.hpp"

namespace mmkit::tool {

struct PackResult {
  PackOptions options;
  std::string codec_version;
  InputList inputs;
  ReadSummary reading;
  CorpusFigures corpus;
  CodecCost codec_cost;
  std::uint64_t objects = 0;
  TrialPlan plan;
  std::vector<StoreRow> rows;  // the drivers, then malloc

  /// Files found that were not read to their end because of --max-bytes; and their bytes not read.
  std::uint64_t left_out_bytes() const noexcept {
    const std::uint64_t rest = reading.cut && inputs.listed_bytes > reading.bytes
                                   ? inputs.listed_bytes - reading.bytes
                                   : 0;
    return inputs.beyond_bytes + rest;
  }
  /// Paths, directories and files that could not be read.
  std::uint64_t unreadable() const noexcept {
    return inputs.unreadable.count() + reading.unreadable.count();
  }
};

/// The table with what was packed above it and how it was measured below it.
std::string pack_report(const PackResult& result, const Console& console);

/// One JSON document, ended by a newline.
std::string pack_json(const PackResult& result);

}  // namespace mmkit::tool
