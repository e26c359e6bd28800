// SPDX-License-Identifier: MIT
//
// Quartiles - the median of a run's samples, and how far the middle half of them spreads.
//
// Not a mean: on a shared machine the slow samples are other programs' work, and a mean adds it up.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace mmkit::bench {

struct Quartiles {
  double low = 0, median = 0, high = 0;
};

/// The quartiles of `samples`, interpolated between neighbours; zeros when there are none.
inline Quartiles quartiles(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double fraction) {
    const double position = fraction * static_cast<double>(samples.size() - 1);
    const std::size_t below = static_cast<std::size_t>(position);
    const std::size_t above = std::min(below + 1, samples.size() - 1);
    const double part = position - static_cast<double>(below);
    return samples[below] * (1 - part) + samples[above] * part;
  };
  return {at(0.25), at(0.5), at(0.75)};
}

/// The quartiles of a[i] / b[i]: pairs of samples taken next to each other in time, so that what
/// slows the machine for a while slows both.
inline Quartiles paired_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (b[i] > 0) ratios.push_back(a[i] / b[i]);
  }
  return quartiles(std::move(ratios));
}

}  // namespace mmkit::bench
