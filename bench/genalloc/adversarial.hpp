// SPDX-License-Identifier: MIT
//
// Adversarial - two workloads made to mislead the searches.
//
//   adversarial/stale   hints promise what fixed allocations have taken since: in each leaf of 512
//                       granules the middle one is freed, which makes a run of 511, and taken again
//                       by its address, which no hint hears of; then 300 granules are wanted, and
//                       only the last leaf has them
//   adversarial/long    2^24 granules, 95 % filled with blocks of 600 to 6000, every second freed:
//                       thousands of long runs, in which blocks of such sizes come and go
//
// Means are over all operations, those that set the trap included: a search that is misled pays with
// what a free has saved up. The worst single allocation stands below.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
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

/// An operation takes at most so long in the mean.
inline constexpr double kMostAdversarialNs = 1000;

inline void require_place(bool found) {
  if (!found) throw std::runtime_error("a place that must be there was not found");
}

class StaleHints {
 public:
  StaleHints(const Fit& fit, std::size_t leaves)
      : leaves_(leaves), heap_(fit, 0, leaves * kLeaf), pool_(heap_.pool()) {
    // The first granule of each leaf stays taken, so that no run reaches into the next one.
    for (std::size_t leaf = 0; leaf < leaves_; ++leaf) {
      require_place(pool_.allocate_at(at(leaf, 0), 1).has_value());
      if (leaf + 1 != leaves_) require_place(pool_.allocate_at(at(leaf, kMiddle), 1).has_value());
    }
  }
  StaleHints(const StaleHints&) = delete;
  StaleHints& operator=(const StaleHints&) = delete;
  ~StaleHints() {
    for (std::size_t leaf = 0; leaf < leaves_; ++leaf) {
      pool_.free(at(leaf, 0), 1);
      if (leaf + 1 != leaves_) pool_.free(at(leaf, kMiddle), 1);
    }
  }

  /// ns an operation, and of the search.
  Figures turn() {
    Stopwatch watch;
    for (std::size_t leaf = 0; leaf + 1 < leaves_; ++leaf) {
      pool_.free(at(leaf, kMiddle), 1);
      require_place(pool_.allocate_at(at(leaf, kMiddle), 1).has_value());
    }
    const double trap_ns = watch.lap_ns();
    const std::uintptr_t place = heap_.place(kWanted);
    const double search_ns = watch.lap_ns();
    require_place(place != kNoPlace);
    heap_.free(place, kWanted);
    return {search_ns, (trap_ns + search_ns + watch.lap_ns()) / static_cast<double>(2 * leaves_)};
  }

 private:
  static constexpr std::size_t kLeaf = 512, kMiddle = 256, kWanted = 300;
  static std::uintptr_t at(std::size_t leaf, std::size_t granule) {
    return kHeapStart + leaf * kLeaf + granule;
  }
  const std::size_t leaves_;
  PoolHeap heap_;
  GenPool& pool_;
};

/// Random sizes from 600 to 6000 granules.
inline std::size_t long_size(SplitMix& random) {
  return 600 + random.below(5401);
}

template <class Heap>
class LongRuns {
 public:
  LongRuns(std::unique_ptr<Heap> heap, std::size_t granules) : heap_(std::move(heap)) {
    std::size_t taken = 0;
    std::vector<Block> odd;
    for (std::size_t i = 0; taken < granules / 100 * 95; ++i) {
      const std::size_t size = long_size(random_);
      const std::uintptr_t start = heap_->place(size);
      require_place(start != kNoPlace);
      (i % 2 == 0 ? kept_ : odd).push_back({start, size});
      taken += size;
    }
    for (const Block& block : odd) heap_->free(block.start, block.size);
    // Some of the holes are at work, so that a free is of a block in one of them.
    for (std::size_t i = 0; i < odd.size() / 2; ++i) {
      const std::size_t size = long_size(random_);
      if (const std::uintptr_t start = heap_->place(size); start != kNoPlace) {
        live_.push_back({start, size});
      }
    }
  }
  LongRuns(const LongRuns&) = delete;
  LongRuns& operator=(const LongRuns&) = delete;
  ~LongRuns() {
    for (const std::vector<Block>* blocks : {&kept_, &live_}) {
      for (const Block& block : *blocks) {
        if (block.start != kNoPlace) heap_->free(block.start, block.size);
      }
    }
  }

  /// The worst single allocation, in ns, and ns an operation, with two looks at the clock in a pair.
  Figures turn() {
    double worst_ns = 0;
    Stopwatch all;
    for (std::size_t pair = 0; pair < kPairs; ++pair) {
      Block& block = live_[random_.below(live_.size())];
      if (block.start != kNoPlace) heap_->free(block.start, block.size);
      const std::size_t size = long_size(random_);
      Stopwatch watch;
      block = {heap_->place(size), size};
      worst_ns = std::max(worst_ns, watch.lap_ns());
    }
    return {worst_ns, all.lap_ns_per(2 * kPairs)};
  }

 private:
  struct Block {
    std::uintptr_t start;
    std::size_t size;
  };
  static constexpr std::size_t kPairs = 2000;

  std::unique_ptr<Heap> heap_;
  SplitMix random_{23};
  std::vector<Block> kept_, live_;
};

inline void register_stale(const Options& options) {
  const std::size_t leaves = options.scale(2048, 256);
  Comparison comparison;
  comparison.name = "adversarial/stale";
  comparison.title = "ns of the one search that all hints mislead, and an operation of all; " +
                     std::to_string(leaves) + " leaves of 512 granules";
  comparison.columns = {"search", "operation"};
  comparison.references = {kAtomicAddition};
  comparison.make = [leaves] {
    std::vector<Contender> all;
    for (const NamedFit& policy : kExactFits) {
      const auto stale = std::make_shared<StaleHints>(policy.fit, leaves);
      all.push_back({policy.name, [stale] { return stale->turn(); }});
    }
    all.push_back({kAtomicAddition, [calibrator = std::make_shared<Calibrator>()] {
                     const double ns = calibrator->atomic_add_ns();
                     return Figures{ns, ns};
                   }});
    return all;
  };
  for (const NamedFit& policy : kExactFits) {
    comparison.targets.push_back({policy.name, "", kMostAdversarialNs});
  }
  register_comparison(std::move(comparison), options);
}

template <class Heap>
Contender long_contender(const std::string& name, std::unique_ptr<Heap> heap,
                         std::size_t granules) {
  const auto runs = std::make_shared<LongRuns<Heap>>(std::move(heap), granules);
  return {name, [runs] { return runs->turn(); }};
}

inline void register_long(const Options& options) {
  const std::size_t granules = std::size_t{1} << options.scale(24, 20);
  Comparison comparison;
  comparison.name = "adversarial/long";
  comparison.title =
      "ns of the worst allocation of a turn, and an operation of all; blocks of 600 "
      "to 6000 in " +
      std::to_string(granules) + " granules, every second freed";
  comparison.columns = {"worst", "operation"};
  comparison.references = {"sets, best fit"};
  comparison.make = [granules] {
    std::vector<Contender> all;
    for (const NamedFit& policy : kExactFits) {
      all.push_back(long_contender(policy.name,
                                   std::make_unique<PoolHeap>(policy.fit, 0u, granules), granules));
    }
    all.push_back(
        long_contender("sets, best fit", std::make_unique<SetBestFit>(0u, granules), granules));
    all.push_back(long_contender("std::map, first fit", std::make_unique<MapFirstFit>(0u, granules),
                                 granules));
    return all;
  };
  for (const NamedFit& policy : kExactFits) {
    comparison.targets.push_back({policy.name, "", kMostAdversarialNs});
  }
  register_comparison(std::move(comparison), options);
}

}  // namespace detail

/// Registers adversarial/stale and adversarial/long.
inline void register_adversarial(const Options& options) {
  detail::register_stale(options);
  detail::register_long(options);
}

}  // namespace mmkit::bench
