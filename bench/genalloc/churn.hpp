// SPDX-License-Identifier: MIT
//
// Churn - random ranges of 1 to 16 granules come and go in a pool that stays as full as it is.
//
//   churn/2^N/P    N from 12 to 24, P per cent full: ns an operation, a pair being two
//
// A pool is filled once and lives as long as the comparison; then as many pairs are done as ranges
// live, so that what is timed is a heap that has been at work. A turn is short, and all its random
// numbers are drawn before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/traces.hpp"
#include "support/comparison.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"

namespace mmkit::bench {
namespace detail {

inline constexpr std::size_t kMostChurnGranules = 16;
/// What an operation may take in a pool of 2^24 granules, at any fill.
inline constexpr double kMostChurnNs = 350;

template <class Heap>
class ChurnHeap {
 public:
  ChurnHeap(std::unique_ptr<Heap> heap, std::size_t granules, unsigned percent)
      : heap_(std::move(heap)) {
    const std::size_t wanted = granules / 100 * percent;
    for (std::size_t taken = 0; taken < wanted;) {
      const std::size_t size = 1 + random_.below(kMostChurnGranules);
      const std::uintptr_t start = heap_->place(size);
      if (start == kNoPlace) break;
      live_.push_back({start, size});
      taken += size;
    }
    picks_.resize(kPairs);
    run(live_.size());
  }
  ChurnHeap(const ChurnHeap&) = delete;
  ChurnHeap& operator=(const ChurnHeap&) = delete;
  ~ChurnHeap() {
    for (const Range& range : live_) {
      if (range.start != kNoPlace) heap_->free(range.start, range.size);
    }
  }

  Figures turn() {
    failed_ = 0;
    return {run(kPairs)};
  }
  /// Allocations of the last turn that found no place.
  std::size_t failed() const { return failed_; }

 private:
  struct Range {
    std::uintptr_t start;
    std::size_t size;
  };
  struct Pick {
    std::uint32_t index, size;
  };
  static constexpr std::size_t kPairs = 10'000;

  /// Frees a random range and puts another in its place, `pairs` times. ns an operation.
  double run(std::size_t pairs) {
    double elapsed_ns = 0;
    for (std::size_t done = 0; done < pairs; done += kPairs) {
      for (Pick& pick : picks_) {
        pick = {static_cast<std::uint32_t>(random_.below(live_.size())),
                static_cast<std::uint32_t>(1 + random_.below(kMostChurnGranules))};
      }
      Stopwatch watch;
      for (const Pick& pick : picks_) {
        Range& range = live_[pick.index];
        if (range.start != kNoPlace) heap_->free(range.start, range.size);
        range = {heap_->place(pick.size), pick.size};
        if (range.start == kNoPlace) ++failed_;
      }
      elapsed_ns = watch.lap_ns_per(2 * kPairs);
    }
    return elapsed_ns;
  }

  std::unique_ptr<Heap> heap_;
  SplitMix random_{17};
  std::vector<Range> live_;
  std::vector<Pick> picks_;
  std::size_t failed_ = 0;
};

template <class Heap>
Contender churn_contender(const std::string& name, std::unique_ptr<Heap> heap, std::size_t granules,
                          unsigned percent) {
  const auto churn = std::make_shared<ChurnHeap<Heap>>(std::move(heap), granules, percent);
  return {name, [churn] { return churn->turn(); }};
}

inline void register_churn(const Options& options, unsigned log, unsigned percent) {
  const std::size_t granules = std::size_t{1} << log;
  Comparison comparison;
  comparison.name = "churn/2^" + std::to_string(log) + "/" + std::to_string(percent);
  comparison.title = "ns an operation, ranges of 1 to 16 granules, " + std::to_string(percent) +
                     " % of 2^" + std::to_string(log) + " granules taken";
  comparison.columns = {"operation"};
  comparison.references = {kAtomicAddition, "sets, best fit"};
  comparison.make = [granules, percent] {
    std::vector<Contender> all;
    for (const NamedFit& policy : kExactFits) {
      all.push_back(churn_contender(
          policy.name, std::make_unique<PoolHeap>(policy.fit, 0u, granules), granules, percent));
    }
    all.push_back(churn_contender("GenPool, relaxed",
                                  std::make_unique<PoolHeap>(RelaxedFit{}, 0u, granules), granules,
                                  percent));
    all.push_back(churn_contender("sets, best fit", std::make_unique<SetBestFit>(0u, granules),
                                  granules, percent));
    all.push_back(atomic_addition());
    return all;
  };
  if (log == 24) {
    for (const NamedFit& policy : kExactFits) {
      comparison.targets.push_back({policy.name, "", kMostChurnNs});
    }
  }
  register_comparison(std::move(comparison), options);
}

}  // namespace detail

/// Registers churn/2^N/P; a quick run leaves out the large heaps, which take seconds to fill.
inline void register_churn(const Options& options) {
  for (const unsigned log : {12u, 16u, 20u, 24u}) {
    if (options.quick && log > 16) continue;
    for (const unsigned percent : {50u, 75u, 90u, 99u}) {
      detail::register_churn(options, log, percent);
    }
  }
}

}  // namespace mmkit::bench
