// SPDX-License-Identifier: MIT
//
// Churn - density while two processes work: churn B, the records of churn-node-py.
//
// Follows what happened to the pages of a node and a python process, and looks at the density at
// each of the 30 snapshots; then compact(), where the driver can. Decides the exit code, as the
// densities of a fill do.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "support/harness.hpp"
#include "support/pinned.hpp"
#include "support/stopwatch.hpp"
#include "support/table.hpp"
#include "support/trace.hpp"
#include "support/verdict.hpp"
#include "zpool/baselines.hpp"
#include "zpool/density.hpp"
#include "zpool/ledger.hpp"
#include "zpool/pools.hpp"

namespace mmkit::bench {
namespace detail {

struct Churned {
  std::vector<double> pages_only, with_md;  // by snapshot
  Density compacted;                        // where the driver can
  ZpoolStats stats;                         // at the last snapshot
  double operation_ns = 0;
};

inline double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}
inline double worst(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

inline Churned follow(const PoolKind& kind, const std::vector<ChurnRecord>& records) {
  Churned churned;
  Ledger ledger(kind);
  Stopwatch watch;
  for (const ChurnRecord& record : records) {
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::drop) ledger.drop(record.key);
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::store) {
      ledger.store(record.key, record.size_bytes);
    }
    if (record.op == ChurnOp::snapshot_end) {
      const Density density = ledger.density();
      churned.pages_only.push_back(density.pages_only);
      churned.with_md.push_back(density.with_md);
    }
  }
  churned.operation_ns = watch.lap_ns_per(records.size());
  churned.stats = ledger.stats();
  ledger.validate();
  if (can_compact(kind.type)) {
    ledger.compact();
    ledger.validate();
    churned.compacted = ledger.density();
  }
  return churned;
}

// The row of what is to be reached, and a verdict for each of its figures.
inline void judge_churn(const PoolKind& kind, const Churned& churned, const ChurnBaseline& baseline,
                        Table& table, Section& section) {
  std::vector<std::string> row{
      std::string(must_match_exactly(kind.name) ? "baseline of " : "at least, of ") +
      (baseline.counts_metadata ? "the latter" : "the former")};
  const auto judge = [&](const std::string& what, double density, double bound) {
    if (bound == 0) return;
    const double above = density - bound;
    const bool kept = must_match_exactly(kind.name) ? std::abs(above) <= baseline.tolerance
                                                    : above >= -baseline.tolerance;
    row.push_back(three(bound) + (kept ? "" : " MISSED"));
    const std::string reach = must_reach(bound, baseline.tolerance);
    section.verdicts += verdict(kept, "churn/" + kind.name, what, decimal(density, 4), reach);
    if (!kept) {
      fail_run("churn/" + kind.name + ", " + what + ": " + decimal(density, 4) + ", " + reach);
    }
  };
  const std::vector<double>& ours = baseline.counts_metadata ? churned.with_md : churned.pages_only;
  judge("mean", mean(ours), baseline.mean);
  judge("worst", worst(ours), baseline.worst);
  judge("after compact()",
        baseline.counts_metadata ? churned.compacted.with_md : churned.compacted.pages_only,
        baseline.compacted);
  table.add_row(row);
}

inline Section churn_section(const PoolKind& kind, const Churned& churned) {
  Section section;
  Table table;
  std::vector<std::string> head{"", "mean", "worst"};
  std::vector<std::string> pages{"pages only", three(mean(churned.pages_only)),
                                 three(worst(churned.pages_only))};
  std::vector<std::string> all{"with metadata", three(mean(churned.with_md)),
                               three(worst(churned.with_md))};
  if (can_compact(kind.type)) {
    head.push_back("after compact()");
    pages.push_back(three(churned.compacted.pages_only));
    all.push_back(three(churned.compacted.with_md));
  }
  table.add_row(head);
  table.add_row(pages);
  table.add_row(all);
  const std::optional<ChurnBaseline> baseline = churn_baseline(kind.name);
  if (baseline) judge_churn(kind, churned, *baseline, table, section);
  section.text = "churn/" + kind.name + ": density at " + std::to_string(churned.with_md.size()) +
                 " snapshots of churn-node-py; " + figure(churned.operation_ns) +
                 " ns an operation, its bookkeeping included\n" + table.render() + "  " +
                 std::to_string(churned.stats.moved) + " objects moved and " +
                 std::to_string(churned.stats.evicted) + " evicted until the last snapshot\n";
  return section;
}

}  // namespace detail

/// Registers churn/<kind> for the kinds of register_density().
inline void register_churn() {
  for (const PoolKind& kind : density_kinds()) {
    register_section("churn/" + kind.name, 1, [kind](::benchmark::State& state) {
      const Pinned pinned;
      detail::Churned churned;
      for (auto _ : state) churned = detail::follow(kind, load_churn("churn-node-py"));
      state.counters["mean"] = detail::mean(churned.with_md);
      state.counters["worst"] = detail::worst(churned.with_md);
      state.counters["moved"] = static_cast<double>(churned.stats.moved);
      state.counters["evicted"] = static_cast<double>(churned.stats.evicted);
      return detail::churn_section(kind, churned);
    });
  }
}

}  // namespace mmkit::bench
