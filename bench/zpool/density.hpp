// SPDX-License-Identifier: MIT
//
// Density - payload bytes by bytes held after a fresh fill with every trace, and after churn A.
//
// The same on every machine and in every run, so it decides the program's exit code: baselines.hpp
// says what a fill and a compaction must reach, and the pool must be valid and empty at the end.
//   fill      the sizes of a trace in file order
//   churn A   after the fill: free a random half, then store a quarter as many, sizes x 0.6; then
//             compact(), where the driver can
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/harness.hpp"
#include "support/pinned.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"
#include "support/table.hpp"
#include "support/trace.hpp"
#include "support/verdict.hpp"
#include "zpool/baselines.hpp"
#include "zpool/ledger.hpp"
#include "zpool/pools.hpp"

namespace mmkit::bench {

inline std::string three(double density) {
  return decimal(density, 3);
}
inline std::string must_reach(double density, double tolerance) {
  return "must reach " + three(density) +
         (tolerance != 0 ? " to within " + three(tolerance) : std::string());
}

namespace detail {

inline constexpr const char* kCodecs[] = {"lz4", "zstd3"};

// What stands beside a figure: what it must reach, and whether it does. Failing fails the run.
class DensityJudge {
 public:
  explicit DensityJudge(const PoolKind& kind) : kind_(kind.name) {}

  // The cell beside a density of pages only.
  std::string against_baseline(const std::string& trace, double density) {
    const std::optional<double> baseline = density_of(kFillBaselines, kind_, trace);
    if (!baseline) return "";
    const double above = density - *baseline;
    const bool kept = must_match_exactly(kind_) ? std::abs(above) <= kDensityTolerance
                                                : above >= -kDensityTolerance;
    return cell(kept, trace + " pages only", density, *baseline, kDensityTolerance);
  }
  // The cell beside a density with metadata.
  std::string against_promise(const std::string& what, double density,
                              std::optional<double> promise) {
    return promise ? cell(density >= *promise, what, density, *promise, /*tolerance=*/0) : "";
  }
  const std::string& verdicts() const { return verdicts_; }

 private:
  std::string cell(bool kept, const std::string& what, double density, double bound,
                   double tolerance) {
    const std::string reach = must_reach(bound, tolerance);
    verdicts_ += verdict(kept, "density/" + kind_, what, decimal(density, 4), reach);
    if (kept) return three(bound);
    fail_run("density/" + kind_ + ", " + what + ": " + decimal(density, 4) + ", " + reach);
    return three(bound) + " MISSED";
  }

  const std::string kind_;
  std::string verdicts_;
};

// Stores a trace in file order; nanoseconds an object.
inline double fill(Ledger& ledger, const SizeTrace& trace) {
  Stopwatch watch;
  for (std::size_t i = 0; i < trace.sizes.size(); ++i) {
    ledger.store(static_cast<std::uint32_t>(i), trace.sizes[i]);
  }
  return watch.lap_ns_per(trace.sizes.size());
}

inline void churn_a(Ledger& ledger, const SizeTrace& trace) {
  SplitMix random(6);
  std::vector<std::uint32_t> keys(trace.sizes.size());
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = static_cast<std::uint32_t>(i);
  shuffle_front(keys, keys.size() / 2, random);
  for (std::size_t i = 0; i < keys.size() / 2; ++i) ledger.drop(keys[i]);
  for (std::size_t i = 0; i < keys.size() / 4; ++i) {
    const std::size_t size = trace.sizes[random.below(trace.sizes.size())];
    ledger.store(static_cast<std::uint32_t>(keys.size() + i),
                 std::max<std::size_t>(1, size * 6 / 10));
  }
}

// The two tables of one kind of pool, row by row.
class DensityTables {
 public:
  explicit DensityTables(const PoolKind& kind)
      : kind_(kind), judge_(kind), compacts_(can_compact(kind.type)) {
    fill_.add_row({"fill", "objects", "refused", "pages", "density", "baseline", "with md",
                   "at least", "store ns"});
    std::vector<std::string> head{"churn A", "density", "with md"};
    if (compacts_) {
      head.insert(head.end(), {"compacted", "with md", "at least", "moved", "pages freed"});
    }
    churn_.add_row(std::move(head));
  }

  void measure(const SizeTrace& trace, ::benchmark::State& state) {
    Ledger ledger(kind_);
    const double store_ns = fill(ledger, trace);
    ledger.validate();
    const Density fresh = ledger.density();
    const std::optional<double> promise = density_of(kFillPromises, kind_.name, trace.name);
    fill_.add_row({trace.name, std::to_string(ledger.live()), std::to_string(ledger.refused()),
                   std::to_string(ledger.stats().pages), three(fresh.pages_only),
                   judge_.against_baseline(trace.name, fresh.pages_only), three(fresh.with_md),
                   judge_.against_promise(trace.name + " with md", fresh.with_md, promise),
                   figure(store_ns)});
    state.counters[trace.name] = fresh.pages_only;
    state.counters[trace.name + ".with_md"] = fresh.with_md;

    churn_a(ledger, trace);
    ledger.validate();
    const Density churned = ledger.density();
    state.counters[trace.name + ".churn_a"] = churned.pages_only;
    std::vector<std::string> row{trace.name, three(churned.pages_only), three(churned.with_md)};
    if (compacts_) add_compacted(trace.name, ledger, row, state);
    churn_.add_row(std::move(row));
  }

  Section section() const {
    return {"density/" + kind_.name + ": payload by bytes held" +
                (kind_.params.empty() ? "" : " (" + kind_.params + ")") + "\n" + fill_.render() +
                churn_.render(),
            judge_.verdicts()};
  }

 private:
  void add_compacted(const std::string& trace, Ledger& ledger, std::vector<std::string>& row,
                     ::benchmark::State& state) {
    const std::uint64_t moved_before = ledger.stats().moved;
    const std::size_t freed_pages = ledger.compact();
    ledger.validate();
    const Density compacted = ledger.density();
    const std::optional<double> promise = density_of(kCompactedPromises, kind_.name, trace);
    row.insert(
        row.end(),
        {three(compacted.pages_only), three(compacted.with_md),
         judge_.against_promise(trace + " with md, churn A compacted", compacted.with_md, promise),
         std::to_string(ledger.stats().moved - moved_before), std::to_string(freed_pages)});
    state.counters[trace + ".churn_a.compacted.with_md"] = compacted.with_md;
  }

  const PoolKind kind_;
  DensityJudge judge_;
  const bool compacts_;
  Table fill_, churn_;
};

}  // namespace detail

/// Registers density/<kind> for every registered driver; zsmalloc by the pages of its longest zspage.
inline void register_density() {
  for (const PoolKind& kind : density_kinds()) {
    register_section("density/" + kind.name, 1, [kind](::benchmark::State& state) {
      const Pinned pinned;
      detail::DensityTables tables(kind);
      for (auto _ : state) {
        for (const char* codec : detail::kCodecs) {
          for (const std::string_view trace : kTraces) {
            tables.measure(load_sizes(std::string(trace) + "." + codec), state);
          }
        }
      }
      return tables.section();
    });
  }
}

}  // namespace mmkit::bench
