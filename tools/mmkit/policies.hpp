// SPDX-License-Identifier: MIT
//
// Policies - the ways in which a pool of ranges looks for a place, by name; and the heap to try
// them in.
#pragma once

#include <cstdint>
#include <mmkit/genalloc.hpp>
#include <string>
#include <vector>

#include "options.hpp"

namespace mmkit::tool {

struct PolicyChoice {
  std::string name;
  Fit fit;
};

/// The policies by name, all of them when none is named. `align_bytes` is that of the aligned one.
/// Throws a Problem (usage) that lists the names.
std::vector<PolicyChoice> choose_policies(const std::vector<std::string>& names,
                                          std::uint64_t align_bytes);

/// Fills in what was left open. Throws a Problem (usage) for sizes that cannot be.
void settle(HeapOptions& options);

/// The granule as a power of two, after settle().
unsigned granule_order(const HeapOptions& options);

}  // namespace mmkit::tool
