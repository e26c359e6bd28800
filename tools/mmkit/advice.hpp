// SPDX-License-Identifier: MIT
//
// Advice - which of several candidates suits some data, by what each of them made of it.
//
//   1. candidates that failed, or hold nothing, are out
//   2. the best yield is looked for: the share of the memory that is data
//   3. of those within kReach of it the quickest is recommended
//
// Memory comes first, since holding more in less is what these pools are for; but a hundredth of it is
// not worth a slower pool, nor more than runs on other data would differ by.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace mmkit::tool {

/// Of the best yield, what a quicker candidate may fall short by.
inline constexpr double kReach = 0.01;

struct Candidate {
  std::string name;
  std::optional<double> yield;  // data by memory; none: it holds nothing, or not all
  double operation_ns = 0;
  std::string fault;  // empty: none was found
};

/// What is recommended, as places in the list of candidates.
struct Advice {
  std::size_t recommended = 0;
  std::size_t densest = 0;  // the best yield
  std::size_t quickest = 0;
  std::optional<std::size_t> runner_up;  // what would be recommended without the recommended one
};

/// Nothing when no candidate is left.
std::optional<Advice> advise(std::span<const Candidate> candidates);

/// One sentence: what suits the data and by which figures. `memory` says what a yield is: "density",
/// "use of the heap".
std::string sentence_of(const Advice& advice, std::span<const Candidate> candidates,
                        const std::string& data, const std::string& memory);

}  // namespace mmkit::tool
