// SPDX-License-Identifier: MIT
//
// Smallest - how small a heap may be for a trace to be replayed in it, by policy.
//
// Utilisation is the peak of the bytes that are live by that heap. The same everywhere, but for
// RelaxedFit, whose places depend on the CPU. Decides the exit code: first fit needs what a walk through
// a std::map needs, best fit what the sorted sets need, to the granule.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/named_trace.hpp"
#include "support/harness.hpp"
#include "support/pinned.hpp"
#include "support/table.hpp"

namespace mmkit::bench {
namespace detail {

/// Granules of the smallest heap that `make(granules)` gives.
template <class Make>
std::uint64_t smallest_granules(const NamedTrace& trace, Make make) {
  replay::Places places;
  return replay::smallest_heap(trace.figures.peak_granules, [&](std::uint64_t granules) {
    const auto heap = make(granules << trace.order);
    return replay::fits(*heap, trace.trace, places);
  });
}
inline std::uint64_t smallest_pool(const NamedTrace& trace, const Fit& fit) {
  return smallest_granules(trace, [&](std::size_t bytes) {
    return std::make_unique<PoolHeap>(fit, trace.order, bytes);
  });
}

class UtilisationTable {
 public:
  explicit UtilisationTable(const std::vector<SharedTrace>& traces) : traces_(traces) {
    std::vector<std::string> head{""};
    for (const SharedTrace& trace : traces_) head.push_back(trace->name);
    table_.add_row(std::move(head));
  }
  /// `smallest(trace)` says how many granules; 0: says nothing of that trace.
  template <class Smallest>
  std::vector<std::uint64_t> add(const std::string& name, Smallest smallest) {
    std::vector<std::uint64_t> all;
    std::vector<std::string> row{name};
    for (const SharedTrace& trace : traces_) {
      all.push_back(smallest(*trace));
      row.push_back(all.back() == 0 ? "-" : decimal(100 * share(*trace, all.back()), 2) + " %");
      counters_[name + "." + trace->name] = all.back() == 0 ? 0 : share(*trace, all.back());
    }
    table_.add_row(std::move(row));
    return all;
  }
  std::string text() const { return table_.render(); }
  const std::map<std::string, double>& counters() const { return counters_; }

 private:
  static double share(const NamedTrace& trace, std::uint64_t granules) {
    return static_cast<double>(trace.figures.peak_bytes) /
           static_cast<double>(granules << trace.order);
  }
  const std::vector<SharedTrace>& traces_;
  Table table_;
  std::map<std::string, double> counters_;
};

template <class Model>
std::vector<std::uint64_t> add_model(const std::string& name, UtilisationTable& table) {
  return table.add(name, [](const NamedTrace& trace) {
    return smallest_granules(
        trace, [&](std::size_t bytes) { return std::make_unique<Model>(trace.order, bytes); });
  });
}

inline void require_equal(const std::string& what, std::uint64_t ours, std::uint64_t model) {
  if (ours == model) return;
  fail_run("smallest/" + what + ": " + std::to_string(ours) + " granules, the model needs " +
           std::to_string(model));
}

inline Section smallest_section(const std::vector<SharedTrace>& traces, bool quick,
                                ::benchmark::State& state) {
  const Pinned pinned;
  UtilisationTable table(traces);
  const auto add_pool = [&](const std::string& name, const Fit& fit) {
    return table.add(name, [&](const NamedTrace& trace) { return smallest_pool(trace, fit); });
  };
  const std::vector<std::uint64_t> first = add_pool("GenPool, first fit", FirstFit{});
  const std::vector<std::uint64_t> best = add_pool("GenPool, best fit", BestFit{});
  if (!quick) {
    table.add("GenPool, aligned to 4 granules", [&](const NamedTrace& trace) {
      return smallest_pool(trace, FirstFitAlign{std::size_t{4} << trace.order});
    });
    add_pool("GenPool, order aligned", FirstFitOrderAlign{});
    add_pool("GenPool, relaxed", RelaxedFit{});
  }
  const std::vector<std::uint64_t> map = add_model<MapFirstFit>("std::map, first fit", table);
  const std::vector<std::uint64_t> sets = add_model<SetBestFit>("sets, best fit", table);
  if (!quick) {
    table.add("boost rbtree_best_fit", [](const NamedTrace& trace) -> std::uint64_t {
      if (!trace.touchable()) return 0;
      return smallest_granules(trace, [&](std::size_t bytes) {
        return std::make_unique<BoostHeap>(trace.order, bytes, BoostHeap::Room::exact);
      });
    });
  }
  for (std::size_t i = 0; i < traces.size(); ++i) {
    require_equal(traces[i]->name + ", first fit", first[i], map[i]);
    require_equal(traces[i]->name + ", best fit", best[i], sets[i]);
  }
  for (const auto& [name, share] : table.counters()) state.counters[name] = share;
  return {"smallest: most bytes live at once by the smallest heap that replays the trace\n" +
          table.text()};
}

}  // namespace detail

/// Registers smallest.
inline void register_smallest(const Options& options, const std::vector<SharedTrace>& traces) {
  register_section("smallest", 1, [traces, quick = options.quick](::benchmark::State& state) {
    Section section;
    for (auto _ : state) section = detail::smallest_section(traces, quick, state);
    return section;
  });
}

}  // namespace mmkit::bench
