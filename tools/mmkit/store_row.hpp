// SPDX-License-Identifier: MIT
//
// StoreRow - what one store made of the corpus: a row of the table, an entry of the JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "pool_store.hpp"
#include "trial.hpp"

namespace mmkit::tool {

struct StoreRow {
  std::string name;     // as asked for: "zbud", "zsmalloc:chain_pages=16", "malloc"
  std::string type;     // "zbud"
  std::string params;   // "chain_pages=16"
  std::string measure;  // what held_bytes is
  TrialFigures trial;
  std::uint64_t pages = 0;
  std::uint64_t held_bytes = 0;  // without metadata_bytes
  std::uint64_t metadata_bytes = 0;
  SpillFigures spill;  // all 0 without a limit
  std::string fault;   // what the store's own books or structure contradict; empty: nothing

  bool verified() const noexcept { return trial.mismatches == 0 && fault.empty(); }
  /// Of the objects that are in the pool itself.
  std::uint64_t payload_in_pool_bytes() const noexcept {
    return trial.payload_bytes - spill.spilled_bytes;
  }
  /// Payload in the pool per byte held; nothing when nothing is held.
  std::optional<double> density() const noexcept { return ratio(held_bytes); }
  std::optional<double> density_with_metadata() const noexcept {
    return ratio(held_bytes + metadata_bytes);
  }

 private:
  std::optional<double> ratio(std::uint64_t bytes) const noexcept {
    if (bytes == 0) return std::nullopt;
    return static_cast<double>(payload_in_pool_bytes()) / static_cast<double>(bytes);
  }
};

}  // namespace mmkit::tool
