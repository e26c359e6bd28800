// SPDX-License-Identifier: MIT
//
// PackInput - files and directories read page by page, with everything that is to be said of them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "input_walk.hpp"
#include "options.hpp"
#include "page_bytes.hpp"
#include "page_reader.hpp"

namespace mmkit::tool {

struct PackInput {
  InputList inputs;
  ReadSummary reading;
  std::uint64_t max_bytes = 0;

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

/// Calls take(page) with each page, at most `max_bytes` of them. Throws a Problem: usage (less than a
/// page), interrupted, and what `take` throws.
PackInput read_input(const std::vector<std::string>& paths, std::uint64_t max_bytes,
                     const std::function<void(PageBytes)>& take, Console& console);

/// Warns of what could not be read. Throws a Problem (no_input) when nothing could, or by the rule not
/// all.
void check_input(const PackInput& input, InputRule rule, Console& console);

}  // namespace mmkit::tool
