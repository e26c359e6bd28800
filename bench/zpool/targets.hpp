// SPDX-License-Identifier: MIT
//
// Targets - the times that the drivers are held against, as ratios inside a round.
//
// A driver that is not named in a section is reported there, and not judged.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "support/comparison.hpp"

namespace mmkit::bench {

inline constexpr const char* kTwoAdditions = "two atomic additions";

/// The pair of `contender` by that of `reference` is at most `bound`.
struct TimeTarget {
  std::string_view section, contender, reference;
  double bound;
};
inline constexpr TimeTarget kTimeTargets[] = {
    {"steady/touch:0", "zbud", "glibc", 1.0},
    {"steady/touch:1", "zbud", "glibc", 1.0},
    {"steady/touch:3", "zbud", "glibc", 1.0},
    {"steady/touch:0", "z3fold", "glibc", 1.0},
    {"steady/touch:1", "z3fold", "glibc", 1.0},
    {"steady/touch:0", "zsmalloc", "glibc", .65},
    {"steady/touch:1", "zsmalloc", "glibc", .65},
    {"steady/touch:3", "zsmalloc", "mimalloc", 1.3},  // users store objects whole
    {"steady/touch:3", "zheap", "glibc", 1.1},
    {"map/same", "zbud map", kTwoAdditions, 1.5},
    {"map/same", "z3fold map", kTwoAdditions, 1.5},
    {"map/same", "zsmalloc map", kTwoAdditions, 1.3},
    {"map/same", "zheap map", kTwoAdditions, 1.3},
    {"map/random", "zbud map", kTwoAdditions, 1.5},
};

/// The targets of one section, for a Comparison.
inline std::vector<Target> targets_of(std::string_view section) {
  std::vector<Target> targets;
  for (const TimeTarget& target : kTimeTargets) {
    if (target.section != section) continue;
    targets.push_back({std::string(target.contender), std::string(target.reference), target.bound});
  }
  return targets;
}

}  // namespace mmkit::bench
