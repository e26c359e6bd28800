// SPDX-License-Identifier: MIT
#include "advice.hpp"

#include <fmt/format.h>

#include <cmath>

namespace mmkit::tool {
namespace {

bool counts(const Candidate& candidate) {
  return candidate.yield.has_value() && *candidate.yield > 0 && candidate.fault.empty();
}

/// The first candidate for which no other is better(other, it); `without` is left out.
template <class Better>
std::optional<std::size_t> first_of(std::span<const Candidate> candidates,
                                    std::optional<std::size_t> without, Better better) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i == without || !counts(candidates[i])) continue;
    if (!best || better(candidates[i], candidates[*best])) best = i;
  }
  return best;
}

std::optional<std::size_t> densest_of(std::span<const Candidate> candidates,
                                      std::optional<std::size_t> without) {
  return first_of(candidates, without,
                  [](const Candidate& a, const Candidate& b) { return *a.yield > *b.yield; });
}

std::optional<std::size_t> recommended_of(std::span<const Candidate> candidates,
                                          std::optional<std::size_t> without) {
  const std::optional<std::size_t> densest = densest_of(candidates, without);
  if (!densest) return std::nullopt;
  const double least = *candidates[*densest].yield * (1 - kReach);
  const auto in_reach = [least](const Candidate& one) { return *one.yield >= least; };
  return first_of(candidates, without, [&](const Candidate& a, const Candidate& b) {
    if (in_reach(a) != in_reach(b)) return in_reach(a);
    return in_reach(a) ? a.operation_ns < b.operation_ns : *a.yield > *b.yield;
  });
}

std::string figures_of(const Candidate& candidate) {
  return fmt::format("{:.3f} at {:.0f} ns an operation", *candidate.yield, candidate.operation_ns);
}

}  // namespace

std::optional<Advice> advise(std::span<const Candidate> candidates) {
  const std::optional<std::size_t> recommended = recommended_of(candidates, std::nullopt);
  if (!recommended) return std::nullopt;
  const auto quicker = [](const Candidate& a, const Candidate& b) {
    return a.operation_ns < b.operation_ns;
  };
  return Advice{*recommended, *densest_of(candidates, std::nullopt),
                *first_of(candidates, std::nullopt, quicker),
                recommended_of(candidates, recommended)};
}

std::string sentence_of(const Advice& advice, std::span<const Candidate> candidates,
                        const std::string& data, const std::string& memory) {
  const Candidate& best = candidates[advice.recommended];
  std::string text = fmt::format("{} suits {}: {} {}", best.name, data, memory, figures_of(best));
  if (advice.densest != advice.recommended) {
    const Candidate& densest = candidates[advice.densest];
    text += fmt::format("; {} comes to {}, which is not worth the time", densest.name,
                        figures_of(densest));
  } else if (advice.runner_up) {
    const Candidate& next = candidates[*advice.runner_up];
    text += fmt::format("; next is {}, {}", next.name, figures_of(next));
  }
  if (advice.quickest == advice.recommended) return text + "; none is quicker.";
  if (advice.quickest == advice.runner_up && advice.densest == advice.recommended) {
    return text + ", the quickest.";
  }
  const Candidate& quickest = candidates[advice.quickest];
  return text + fmt::format("; quickest is {}, {}.", quickest.name, figures_of(quickest));
}

}  // namespace mmkit::tool
