// SPDX-License-Identifier: MIT
//
// Traces - each contender replays what a program asked for, in a heap of 1.25 times what it needs.
//
// Before anything is timed, the places of our best fit are compared with those of the sorted sets,
// allocation by allocation: a difference ends the run with code 1. Peers that are no range
// allocators (malloc, std::pmr, Boost's heap in a buffer) stand there for orientation; they may
// touch the memory, and need not say where they put things.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/gpt_trace.hpp"
#include "support/comparison.hpp"
#include "support/stopwatch.hpp"

namespace mmkit::bench {
namespace detail {

/// Replays the trace; `where` receives each allocation's address. Nanoseconds an operation.
template <class Heap>
double replay(Heap& heap, const GptTrace& trace, std::vector<std::uintptr_t>& where) {
  where.assign(trace.sizes.size(), 0);
  std::size_t next = 0;
  Stopwatch watch;
  for (const std::uint32_t op : trace.ops) {
    if ((op & GptTrace::kFree) == 0) {
      where[next++] = heap.place(op);
      continue;
    }
    const std::uint32_t number = op & ~GptTrace::kFree;
    if (where[number] != 0) heap.free(where[number], trace.sizes[number]);
  }
  return watch.lap_ns_per(trace.ops.size());
}
/// Frees what the trace leaves.
template <class Heap>
void finish(Heap& heap, const GptTrace& trace, const std::vector<std::uintptr_t>& where) {
  std::vector<bool> live(where.size(), true);
  for (const std::uint32_t op : trace.ops) {
    if ((op & GptTrace::kFree) != 0) live[op & ~GptTrace::kFree] = false;
  }
  for (std::size_t i = 0; i < where.size(); ++i) {
    if (live[i] && where[i] != 0) heap.free(where[i], trace.sizes[i]);
  }
}

template <class MakeHeap>
Contender trace_contender(const std::string& name, std::shared_ptr<const GptTrace> trace,
                          MakeHeap make) {
  return {name, [trace, make] {
            auto heap = make(*trace);
            std::vector<std::uintptr_t> where;
            const double ns = replay(*heap, *trace, where);
            finish(*heap, *trace, where);
            return Figures{ns};
          }};
}
template <class Heap>
auto heap_of() {
  return
      [](const GptTrace& trace) { return std::make_unique<Heap>(trace.order, trace.heap_bytes()); };
}
inline auto pool_of(const Fit& fit) {
  return [fit](const GptTrace& trace) {
    return std::make_unique<PoolHeap>(fit, trace.order, trace.heap_bytes());
  };
}

/// What a pool says of itself after the trace.
inline std::string account(const std::string& name, const Fit& fit, const GptTrace& trace) {
  PoolHeap heap(fit, trace.order, trace.heap_bytes());
  std::vector<std::uintptr_t> where;
  replay(heap, trace, where);
  const GenPoolStats stats = heap.stats();
  finish(heap, trace, where);
  const double words = static_cast<double>(stats.words_touched);
  return "  " + name + ": " + figure(words / static_cast<double>(trace.ops.size())) +
         " words touched an operation, " + std::to_string(stats.metadata_bytes) +
         " bytes of bookkeeping, " +
         std::to_string(stats.failed_no_space + stats.failed_fragmented) + " refused\n";
}

inline std::string account_of(const GptTrace& trace) {
  PoolHeap ours(BestFit{}, trace.order, trace.heap_bytes());
  SetBestFit sets(trace.order, trace.heap_bytes());
  std::vector<std::uintptr_t> here, there;
  replay(ours, trace, here);
  replay(sets, trace, there);
  const bool same = here == there;
  if (!same) fail_run(trace.name + ": best fit goes elsewhere than the sorted sets");
  finish(ours, trace, here);
  return account("first fit", FirstFit{}, trace) + account("best fit", BestFit{}, trace) +
         "  best fit's places are those of the sorted sets: " + (same ? "yes" : "NO") + "\n";
}

inline void register_trace(const Options& options, const std::string& name, unsigned order) {
  const auto trace = std::make_shared<const GptTrace>(load_gpt(name, order));
  Comparison comparison;
  comparison.name = "trace/" + name;
  comparison.title = "ns an operation; " + std::to_string(trace->ops.size()) + " operations, " +
                     std::to_string(trace->heap_bytes() >> order) + " granules of " +
                     std::to_string(1u << order) + " bytes";
  comparison.columns = {"operation"};
  comparison.references = {"sets, best fit"};
  const bool touchable = trace->heap_bytes() < std::size_t{64} << 20;
  comparison.make = [trace, touchable] {
    std::vector<Contender> all{trace_contender("GenPool, first fit", trace, pool_of(FirstFit{})),
                               trace_contender("GenPool, best fit", trace, pool_of(BestFit{})),
                               trace_contender("GenPool, relaxed", trace, pool_of(RelaxedFit{})),
                               trace_contender("sets, best fit", trace, heap_of<SetBestFit>())};
    if (touchable) {
      all.push_back(trace_contender("boost rbtree_best_fit", trace, heap_of<BoostHeap>()));
      all.push_back(trace_contender("std::pmr pool", trace, heap_of<PmrHeap>()));
      all.push_back(trace_contender("malloc", trace, heap_of<CHeap>()));
    }
    return all;
  };
  comparison.targets = {{"GenPool, first fit", "sets, best fit", 1.0},
                        {"GenPool, best fit", "sets, best fit", 1.6}};
  comparison.footnote = [trace] { return account_of(*trace); };
  register_comparison(std::move(comparison), options);
}

}  // namespace detail

/// Registers trace/<name> for each trace.
inline void register_traces(const Options& options) {
  for (const char* const name : {"sqlite", "python_json", "cc1plus"}) {
    detail::register_trace(options, name, 4);
  }
  detail::register_trace(options, "gpu_frames_synth", 8);
}

}  // namespace mmkit::bench
