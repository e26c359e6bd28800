// SPDX-License-Identifier: MIT
//
// Versus - zheap beside zsmalloc where zsmalloc is at its best or has no rival: the smaller sizes that
// zstd makes of the same pages, and objects of 20 to 200 bytes. With all metadata; decides the exit code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "support/harness.hpp"
#include "support/pinned.hpp"
#include "support/random.hpp"
#include "support/table.hpp"
#include "support/trace.hpp"
#include "support/verdict.hpp"
#include "zpool/density.hpp"
#include "zpool/ledger.hpp"

namespace mmkit::bench {
namespace detail {

inline SizeTrace small_objects() {
  SizeTrace trace{"20 to 200 bytes", {}};
  SplitMix random(13);
  for (int i = 0; i < 200'000; ++i) {
    trace.sizes.push_back(static_cast<std::uint16_t>(20 + random.below(181)));
  }
  return trace;
}

// Filled; after churn A; after that, compacted.
struct Three {
  double filled, churned, compacted;
};
inline Three densities(const PoolKind& kind, const SizeTrace& trace) {
  Ledger ledger(kind);
  Three three{};
  fill(ledger, trace);
  three.filled = ledger.density().with_md;
  churn_a(ledger, trace);
  three.churned = ledger.density().with_md;
  ledger.compact();
  three.compacted = ledger.density().with_md;
  ledger.validate();
  return three;
}

class VersusTable {
 public:
  VersusTable() {
    table_.add_row({"with metadata", "zheap filled", "zsmalloc-8", "zheap churn A", "zsmalloc-8",
                    "zheap compacted", "zsmalloc-8"});
  }
  void measure(const SizeTrace& trace) {
    const Three ours = densities({"zheap", "zheap", ""}, trace);
    const Three theirs = densities({"zsmalloc-8", "zsmalloc", "chain_pages=8"}, trace);
    table_.add_row({trace.name, mmkit::bench::three(ours.filled),
                    mmkit::bench::three(theirs.filled), mmkit::bench::three(ours.churned),
                    mmkit::bench::three(theirs.churned), mmkit::bench::three(ours.compacted),
                    mmkit::bench::three(theirs.compacted)});
    judge(trace.name + " filled", ours.filled, theirs.filled);
    judge(trace.name + " churn A", ours.churned, theirs.churned);
    judge(trace.name + " compacted", ours.compacted, theirs.compacted);
  }
  Section section() const {
    return {"density/zheap beside zsmalloc: payload by bytes held\n" + table_.render(), verdicts_};
  }

 private:
  void judge(const std::string& what, double ours, double theirs) {
    const std::string bound = "at least zsmalloc's " + decimal(theirs, 4);
    const bool kept = ours >= theirs;
    verdicts_ += verdict(kept, "density/versus", what, decimal(ours, 4), bound);
    if (!kept) fail_run("density/versus, " + what + ": " + decimal(ours, 4) + ", " + bound);
  }

  Table table_;
  std::string verdicts_;
};

}  // namespace detail

/// Registers density/versus.
inline void register_versus() {
  register_section("density/versus", 1, [](::benchmark::State& state) {
    const Pinned pinned;
    detail::VersusTable table;
    for (auto _ : state) {
      for (const std::string_view trace : kTraces) {
        table.measure(load_sizes(std::string(trace) + ".zstd3"));
      }
      table.measure(detail::small_objects());
    }
    return table.section();
  });
}

}  // namespace mmkit::bench
