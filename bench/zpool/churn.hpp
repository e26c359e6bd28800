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
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/harness.hpp"
#include "support/pinned.hpp"
#include "support/random.hpp"
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
  std::size_t calls = 0;          // of allocate and free
  double worst_while_mapped = 0;  // with metadata, while some objects are mapped all the time
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

// Keeps so many objects mapped, picked at random: one that goes is replaced by another.
class HeldMappings {
 public:
  HeldMappings(Ledger& ledger, std::size_t count) : ledger_(ledger), count_(count) {}

  void before_drop(std::uint32_t key) { held_.erase(key); }
  void after_store(std::uint32_t key) {
    // One in fifty, so that they lie all over the pool.
    if (held_.size() < count_ && random_.below(kOneIn) == 0) held_.emplace(key, ledger_.map(key));
  }

 private:
  static constexpr std::size_t kOneIn = 50;

  Ledger& ledger_;
  const std::size_t count_;
  SplitMix random_{12};
  std::map<std::uint32_t, Mapping> held_;
};

// Calls f at each snapshot. Returns how often allocate and free were called.
template <class F>
std::size_t replay(Ledger& ledger, const std::vector<ChurnRecord>& records, std::size_t mapped,
                   F&& at_snapshot) {
  HeldMappings held(ledger, mapped);
  std::size_t calls = 0;
  for (const ChurnRecord& record : records) {
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::drop) {
      held.before_drop(record.key);
      ledger.drop(record.key);
      ++calls;
    }
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::store) {
      ledger.store(record.key, record.size_bytes);
      held.after_store(record.key);
      ++calls;
    }
    if (record.op == ChurnOp::snapshot_end) at_snapshot();
  }
  return calls;
}

inline double worst_while_mapped(const PoolKind& kind, const std::vector<ChurnRecord>& records) {
  Ledger ledger(kind);
  double worst = 1;
  replay(ledger, records, kHeldMapped, [&] { worst = std::min(worst, ledger.density().with_md); });
  ledger.validate();
  return worst;
}

inline Churned follow(const PoolKind& kind, const std::vector<ChurnRecord>& records) {
  Churned churned;
  Ledger ledger(kind);
  Stopwatch watch;
  churned.calls = replay(ledger, records, /*mapped=*/0, [&] {
    const Density density = ledger.density();
    churned.pages_only.push_back(density.pages_only);
    churned.with_md.push_back(density.with_md);
  });
  churned.operation_ns = watch.lap_ns_per(records.size());
  churned.stats = ledger.stats();
  ledger.validate();
  if (can_compact(kind.type)) {
    ledger.compact();
    ledger.validate();
    churned.compacted = ledger.density();
    churned.worst_while_mapped = worst_while_mapped(kind, records);
  }
  return churned;
}

inline double moves_per_call(const Churned& churned) {
  return static_cast<double>(churned.stats.moved) / static_cast<double>(churned.calls);
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
  if (baseline.moves == 0) return;
  const auto judge_most = [&](const std::string& what, double value, double most) {
    const std::string bound = "at most " + decimal(most, 3);
    const bool kept = value <= most;
    section.verdicts += verdict(kept, "churn/" + kind.name, what, decimal(value, 4), bound);
    if (!kept)
      fail_run("churn/" + kind.name + ", " + what + ": " + decimal(value, 4) + ", " + bound);
  };
  judge_most("moves a call", moves_per_call(churned), baseline.moves);
  judge_most("lost of the worst to " + std::to_string(kHeldMapped) + " mappings",
             worst(churned.with_md) - churned.worst_while_mapped, kHeldMappedLoss);
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
                 std::to_string(churned.stats.moved) + " objects moved in " +
                 std::to_string(churned.calls) + " calls of allocate and free (" +
                 decimal(moves_per_call(churned), 4) + " each), " +
                 std::to_string(churned.stats.evicted) + " evicted until the last snapshot\n";
  if (can_compact(kind.type)) {
    section.text +=
        "  worst with " + std::to_string(kHeldMapped) +
        " objects mapped at each time, with metadata: " + three(churned.worst_while_mapped) + "\n";
  }
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
