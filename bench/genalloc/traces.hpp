// SPDX-License-Identifier: MIT
//
// Traces - each contender replays what a program asked for, in a heap of 1.25 times what it needs.
//
//   trace/<name>   ns an operation, round after round, beside the sorted sets, Boost's heap, std::pmr,
//                  malloc, and one atomic addition
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/named_trace.hpp"
#include "support/calibrator.hpp"
#include "support/comparison.hpp"
#include "support/stopwatch.hpp"

namespace mmkit::bench {

inline constexpr const char* kAtomicAddition = "atomic addition";

/// What an operation costs here and now, to set the others against.
inline Contender atomic_addition() {
  return {kAtomicAddition, [calibrator = std::make_shared<Calibrator>()] {
            return Figures{calibrator->atomic_add_ns()};
          }};
}

namespace detail {

using replay::Places;

/// An operation of a program's trace takes at most so long, on the machine of docs/genalloc.md.
inline constexpr double kMostFirstFitNs = 50, kMostBestFitNs = 110;

template <class MakeHeap>
Contender trace_contender(const std::string& name, SharedTrace trace, MakeHeap make) {
  return {name, [trace, make] {
            const auto heap = make(*trace);
            Places places(trace->trace.sizes.size());
            Stopwatch watch;
            replay::replay(*heap, trace->trace, places);
            const double ns = watch.lap_ns_per(trace->trace.ops.size());
            replay::finish(*heap, trace->trace, places);
            return Figures{ns};
          }};
}
inline void register_trace(const Options& options, const SharedTrace& trace) {
  Comparison comparison;
  comparison.name = "trace/" + trace->name;
  comparison.title = "ns an operation; " + std::to_string(trace->trace.ops.size()) +
                     " operations, " + std::to_string(trace->heap_granules()) + " granules of " +
                     std::to_string(1u << trace->order) + " bytes";
  comparison.columns = {"operation"};
  comparison.references = {kAtomicAddition, "sets, best fit"};
  comparison.repeats_interrupted = !options.quick;  // whose times mean little anyway
  comparison.make = [trace] {
    std::vector<Contender> all{trace_contender("GenPool, first fit", trace, pool_of(FirstFit{})),
                               trace_contender("GenPool, best fit", trace, pool_of(BestFit{})),
                               trace_contender("GenPool, relaxed", trace, pool_of(RelaxedFit{})),
                               trace_contender("sets, best fit", trace, heap_of<SetBestFit>())};
    if (trace->touchable()) {
      all.push_back(trace_contender("boost rbtree_best_fit", trace, heap_of<BoostHeap>()));
      all.push_back(trace_contender("std::pmr pool", trace, heap_of<PmrHeap>()));
      all.push_back(trace_contender("malloc", trace, heap_of<CHeap>()));
    }
    all.push_back(atomic_addition());
    return all;
  };
  comparison.targets = {{"GenPool, first fit", "sets, best fit", 1.0},
                        {"GenPool, best fit", "sets, best fit", 1.6}};
  if (trace->order == 4) {
    comparison.targets.push_back({"GenPool, first fit", "", kMostFirstFitNs});
    comparison.targets.push_back({"GenPool, best fit", "", kMostBestFitNs});
  }
  register_comparison(std::move(comparison), options);
}

}  // namespace detail

/// Registers trace/<name> for each trace.
inline void register_traces(const Options& options, const std::vector<SharedTrace>& traces) {
  for (const SharedTrace& trace : traces) detail::register_trace(options, trace);
}

}  // namespace mmkit::bench
