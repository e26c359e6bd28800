// SPDX-License-Identifier: MIT
//
// Latencies - how long each of many single operations took, and their percentiles.
//
// Two looks at the clock surround each operation and are part of its figure; what they cost alone
// has to stand beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/stopwatch.hpp"

namespace mmkit::bench {

class Latencies {
 public:
  /// Times `operation` until `is_over()`, or until there are `most` samples. `between` runs before
  /// each and is not timed.
  template <class Between, class Operation, class IsOver>
  void record(std::size_t most, Between between, Operation operation, IsOver is_over) {
    // There before the first sample: a page fault between two of them would chill what is measured.
    ns_.assign(most, 0);
    std::size_t count = 0;
    while (count < most && !is_over()) {
      between();
      Stopwatch watch;
      operation();
      ns_[count++] = static_cast<std::uint32_t>(std::min(watch.lap_ns(), 4e9));
    }
    ns_.resize(count);
  }
  void add(const Latencies& other) { ns_.insert(ns_.end(), other.ns_.begin(), other.ns_.end()); }

  std::size_t size() const { return ns_.size(); }
  /// The sample that this fraction of all is below; 0 without samples. O(samples).
  double at(double fraction) const {
    if (ns_.empty()) return 0;
    std::vector<std::uint32_t> sorted = ns_;
    const auto place = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(ns_.size() - 1));
    std::nth_element(sorted.begin(), sorted.begin() + place, sorted.end());
    return sorted[static_cast<std::size_t>(place)];
  }

 private:
  std::vector<std::uint32_t> ns_;
};

}  // namespace mmkit::bench
