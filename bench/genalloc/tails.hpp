// SPDX-License-Identifier: MIT
//
// Tails - how long the slowest allocations of a trace take, and what looks at no clock: the words that
// searches touch, metadata, places.
//
// The latter decide the exit code: the places are those of the sorted sets, allocation by allocation;
// words touched and metadata are within what is promised.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/named_trace.hpp"
#include "support/harness.hpp"
#include "support/stopwatch.hpp"
#include "support/table.hpp"
#include "support/verdict.hpp"

namespace mmkit::bench {
namespace detail {

using replay::Places;

/// Words that searches look at, by operations and log2 of the granules: not above these.
inline constexpr double kMostFirstFitC = 6, kMostBestFitC = 24;

/// At most so many bits of metadata a granule besides 128 KiB a pool.
inline double most_metadata_bytes(std::size_t granules) {
  const double bits = granules >= std::size_t{1} << 20 ? 1.5 : 3;
  return bits / 8 * static_cast<double>(granules) + (128 << 10);
}

/// Each allocation by itself, some times over; of the times of one the least counts, because it finds
/// the same each time and only what else runs here differs.
template <class MakeHeap>
std::vector<double> least_times(const NamedTrace& trace, MakeHeap make, unsigned passes) {
  std::vector<double> least(trace.trace.sizes.size(), 1e18);
  Places places;
  for (unsigned pass = 0; pass < passes; ++pass) {
    const auto heap = make(trace);
    replay::replay_timed(*heap, trace.trace, places, [&](std::size_t number, auto allocate) {
      Stopwatch watch;
      allocate();
      least[number] = std::min(least[number], watch.lap_ns());
    });
    replay::finish(*heap, trace.trace, places);
  }
  std::sort(least.begin(), least.end());
  return least;
}

struct Tail {
  double p999_ns, worst_ns;
};
template <class MakeHeap>
Tail tail_of(const NamedTrace& trace, MakeHeap make, unsigned passes) {
  const std::vector<double> sorted = least_times(trace, make, passes);
  return {sorted[(sorted.size() - 1) * 999 / 1000], sorted.back()};
}

/// What a policy is held to on a trace.
struct TailBound {
  const char* name;
  Fit fit;
  double most_c, most_p999_ns;
};
/// Programs' traces and the GPU's; a heap of large blocks has longer searches.
inline std::vector<TailBound> tail_bounds(const NamedTrace& trace) {
  const bool gpu = trace.order == 8;
  return {{"GenPool, first fit", FirstFit{}, kMostFirstFitC, gpu ? 3000.0 : 1000.0},
          {"GenPool, best fit", BestFit{}, kMostBestFitC, gpu ? 3000.0 : 1500.0}};
}

/// The table of tail/<name>, and its verdicts.
class TailTable {
 public:
  TailTable(const NamedTrace& trace, unsigned passes, ::benchmark::State& state)
      : trace_(trace), passes_(passes), state_(state) {
    table_.add_row({"", "allocate p99.9", "worst ns", "words/op", "C", "metadata", "per byte",
                    "bits/granule", "failed"});
  }

  void add_pool(const TailBound& bound) {
    const std::string name = bound.name;
    const Tail tail = tail_of(trace_, pool_of(bound.fit), passes_);
    PoolHeap heap(bound.fit, trace_.order, trace_.heap_bytes());
    Places places;
    replay::replay(heap, trace_.trace, places);
    const GenPoolStats stats = heap.stats();
    replay::finish(heap, trace_.trace, places);
    const double words = static_cast<double>(stats.words_touched) / trace_.operations();
    const double c = words / std::log2(static_cast<double>(trace_.heap_granules()));
    const auto metadata = static_cast<double>(stats.metadata_bytes);
    table_.add_row({name, figure(tail.p999_ns), figure(tail.worst_ns), figure(words), decimal(c, 2),
                    std::to_string(stats.metadata_bytes),
                    decimal(100 * metadata / static_cast<double>(trace_.heap_bytes()), 2) + " %",
                    decimal(8 * metadata / static_cast<double>(trace_.heap_granules()), 2),
                    std::to_string(stats.failed_no_space + stats.failed_fragmented)});
    state_.counters[name + ".p999_ns"] = tail.p999_ns;
    state_.counters[name + ".words"] = words;
    state_.counters[name + ".metadata_bytes"] = metadata;
    verdicts_ += verdict(tail.p999_ns <= bound.most_p999_ns, "tail/" + trace_.name,
                         name + ", p99.9 of an allocation", figure(tail.p999_ns) + " ns",
                         "at most " + figure(bound.most_p999_ns));
    check(c <= bound.most_c,
          name + ": C is " + decimal(c, 2) + ", at most " + decimal(bound.most_c, 0));
    check(metadata <= most_metadata_bytes(trace_.heap_granules()),
          name + ": " + std::to_string(stats.metadata_bytes) + " bytes of metadata");
  }
  /// A peer has a tail and no more.
  template <class Heap>
  void add_peer(const std::string& name) {
    const Tail tail = tail_of(trace_, heap_of<Heap>(), passes_);
    table_.add_row({name, figure(tail.p999_ns), figure(tail.worst_ns)});
  }
  std::string text() const { return table_.render(); }
  const std::string& verdicts() const { return verdicts_; }

 private:
  void check(bool well, const std::string& what) {
    if (!well) fail_run("tail/" + trace_.name + ", " + what);
  }

  const NamedTrace& trace_;
  const unsigned passes_;
  ::benchmark::State& state_;
  Table table_;
  std::string verdicts_;
};

/// Whether two heaps put every allocation at the same place, and what the second took.
template <class Model>
std::string same_places(const NamedTrace& trace, const Fit& fit, const std::string& what) {
  PoolHeap ours(fit, trace.order, trace.heap_bytes());
  Model model(trace.order, trace.heap_bytes());
  Places here, there(trace.trace.sizes.size());
  replay::replay(ours, trace.trace, here);
  Stopwatch watch;
  replay::replay(model, trace.trace, there);
  const double ns = watch.lap_ns_per(trace.trace.ops.size());
  replay::finish(ours, trace.trace, here);
  const bool same = here == there;
  if (!same) fail_run(trace.name + ": places are not those of " + what);
  return "  places are those of " + what + ": " + (same ? "yes" : "NO") + "; that took " +
         figure(ns) + " ns an operation, once\n";
}

/// Bytes of the sorted sets when most runs are free: two nodes a run, as glibc's heap rounds them.
inline std::string sets_account(const NamedTrace& trace) {
  SetBestFit sets(trace.order, trace.heap_bytes());
  Places places;
  std::size_t most_runs = 0;
  replay::replay_timed(sets, trace.trace, places, [&](std::size_t, auto allocate) {
    most_runs = std::max(most_runs, sets.runs());
    allocate();
  });
  // A node: 32 bytes of links and colour, 16 of ours; malloc adds its 8 and rounds to 16.
  constexpr std::size_t kNodeBytes = 64;
  return "  the sorted sets: at most " + std::to_string(most_runs) + " free runs, " +
         std::to_string(2 * kNodeBytes * most_runs) + " bytes of nodes\n";
}

inline Section tail_section(const NamedTrace& trace, unsigned passes, ::benchmark::State& state) {
  TailTable table(trace, passes, state);
  for (const TailBound& bound : tail_bounds(trace)) table.add_pool(bound);
  table.add_peer<SetBestFit>("sets, best fit");
  if (trace.touchable()) {
    table.add_peer<BoostHeap>("boost rbtree_best_fit");
    table.add_peer<CHeap>("malloc");
  }
  return {"tail/" + trace.name + ": ns of single allocations, the least of " +
              std::to_string(passes) + " replays; C = words an operation / log2 of the granules\n" +
              table.text() + same_places<MapFirstFit>(trace, FirstFit{}, "std::map, first fit") +
              same_places<SetBestFit>(trace, BestFit{}, "the sorted sets, best fit") +
              sets_account(trace),
          table.verdicts()};
}

inline void register_tail(const Options& options, const SharedTrace& trace) {
  const unsigned passes = options.quick ? 1 : 5;
  register_section("tail/" + trace->name, 1, [trace, passes](::benchmark::State& state) {
    Section section;
    for (auto _ : state) section = tail_section(*trace, passes, state);
    return section;
  });
}

}  // namespace detail

/// Registers tail/<name> for each trace.
inline void register_tails(const Options& options, const std::vector<SharedTrace>& traces) {
  for (const SharedTrace& trace : traces) detail::register_tail(options, trace);
}

}  // namespace mmkit::bench
