// SPDX-License-Identifier: MIT
//
// Floor - what keeping a density floor costs those who call: churn B, each call timed, with the default
// floor and with none.
//
// Where no call is long because of moves, the percentiles of both are the same. Only tails are of
// interest: the samples of all rounds are taken together, rounds in which the thread lost its CPU being
// run again.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "support/harness.hpp"
#include "support/interruptions.hpp"
#include "support/latencies.hpp"
#include "support/pinned.hpp"
#include "support/table.hpp"
#include "support/trace.hpp"
#include "support/verdict.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"
#include "zpool/sparse_pool.hpp"

namespace mmkit::bench {
namespace detail {

/// At most so much more at the 99.9th percentile of a call than without a floor.
inline constexpr double kFloorMoreNs = 2000;

/// Churn B on one pool, round after round, each call timed.
class TimedChurn {
 public:
  TimedChurn(std::string name, std::string params) : name_(std::move(name)), params_(params) {}

  void round(const std::vector<ChurnRecord>& records) {
    for (int attempt = 0; attempt < kMostTries; ++attempt) {
      const long before = times_interrupted();
      const Latencies samples = follow(records);
      if (times_interrupted() != before && attempt + 1 < kMostTries) continue;
      all_.add(samples);
      return;
    }
  }
  const std::string& name() const { return name_; }
  const Latencies& samples() const { return all_; }

 private:
  Latencies follow(const std::vector<ChurnRecord>& records) {
    const auto pool = new_pool("zheap", params_, pages_.get());
    std::unordered_map<std::uint32_t, Handle> live;
    Latencies samples;
    std::size_t at = 0;
    bool is_second_half = false;  // of an overwrite: a free, then a store
    const ChurnRecord* record = nullptr;
    const auto next = [&] {
      if (is_second_half) return;
      do {
        record = at < records.size() ? &records[at++] : nullptr;
      } while (record != nullptr && record->op == ChurnOp::snapshot_end);
    };
    next();
    samples.record(
        2 * records.size(), [] {},
        [&] {
          if (record == nullptr) return;
          const bool frees = record->op != ChurnOp::store && !is_second_half;
          if (frees) {
            pool->free(live.extract(record->key).mapped());
            is_second_half = record->op == ChurnOp::overwrite;
          } else {
            const Result<Handle> made = pool->store(content(record->size_bytes));
            if (!made) out_of_objects("zheap", record->size_bytes, mmkit::name(made.error()));
            live.insert_or_assign(record->key, *made);
            is_second_half = false;
          }
          next();
        },
        [&] { return record == nullptr; });
    for (const auto& [key, handle] : live) pool->free(handle);
    return samples;
  }

  const std::string name_, params_;
  std::unique_ptr<SimPageAllocator> pages_ = new_keeping_pages();
  Latencies all_;
};

inline Section floor_section(const std::array<TimedChurn, 2>& pools, std::size_t rounds) {
  Table table;
  table.add_row({"ns", "samples", "p50", "p99", "p99.9", "p99.99"});
  for (const TimedChurn& pool : pools) {
    const Latencies& samples = pool.samples();
    table.add_row({pool.name(), std::to_string(samples.size()), figure(samples.at(.5)),
                   figure(samples.at(.99)), figure(samples.at(.999)), figure(samples.at(.9999))});
  }
  const double more_ns = pools[0].samples().at(.999) - pools[1].samples().at(.999);
  return {"floor/zheap: calls of churn-node-py, the look-up of the key included; " +
              std::to_string(rounds) + " rounds\n" + table.render(),
          verdict(more_ns <= kFloorMoreNs, "floor/zheap", "p99.9 above that without a floor",
                  figure(more_ns) + " ns", "at most " + figure(kFloorMoreNs) + " ns")};
}

}  // namespace detail

/// Registers floor/zheap.
inline void register_floor(const Options& options) {
  register_section("floor/zheap", options.rounds, [options](::benchmark::State& state) {
    const Pinned pinned;
    const std::vector<ChurnRecord> records = load_churn("churn-node-py");
    std::array<detail::TimedChurn, 2> pools{detail::TimedChurn("the default floor", ""),
                                            detail::TimedChurn("no floor", "floor=0")};
    for (auto _ : state) {
      for (detail::TimedChurn& pool : pools) pool.round(records);
    }
    for (const detail::TimedChurn& pool : pools) {
      state.counters[pool.name() + ".p99.9"] = pool.samples().at(.999);
    }
    return detail::floor_section(pools, options.rounds);
  });
}

}  // namespace mmkit::bench
