// SPDX-License-Identifier: MIT
//
// Density - payload bytes by bytes held: after a fresh fill with every trace, and under churn.
//
// The same on every machine and in every run, so it decides the program's exit code: a fill must
// give the baseline (baselines.hpp), and the pool must be valid and empty at the end.
//   fill      the sizes of a trace in file order
//   churn A   after the fill: free a random half, then store a quarter as many, sizes x 0.6
//   churn B   follow churn-node-py; density at each of its 30 snapshots (as churn/<driver>)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/zpool.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/harness.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"
#include "support/table.hpp"
#include "support/trace.hpp"
#include "zpool/baselines.hpp"
#include "zpool/heaps.hpp"

namespace mmkit::bench {
namespace detail {

inline constexpr const char* kTraces[] = {"mem-node", "mem-python", "mem-cc1plus",
                                          "elf-lib",  "source",     "sqlite"};
inline constexpr const char* kCodecs[] = {"lz4", "zstd3"};

struct Density {
  double pages_only = 0, with_md = 0;
};

// A pool, what lives in it, and the payload that was stored. Frees everything at the end.
class Ledger {
 public:
  explicit Ledger(const std::string& type) : pool_(new_pool(type)) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  ~Ledger() {
    for (const auto& [key, object] : live_) pool_->free(object.handle);
    if (pool_->total_bytes() != 0) fail(" pages are left after everything was freed");
  }

  // Stores an object unless the driver refuses its size; any other refusal is a failure.
  void store(std::uint32_t key, std::size_t size_bytes) {
    Result<Handle> made = pool_->store(content(size_bytes));
    if (made) {
      live_.emplace(key, Object{*made, size_bytes});
      payload_bytes_ += size_bytes;
    } else if (made.error() == Errc::no_space && size_bytes > pool_->max_object_bytes()) {
      ++refused_;
    } else {
      out_of_objects(pool_->type(), size_bytes, name(made.error()));
    }
  }
  void drop(std::uint32_t key) {
    const auto found = live_.find(key);
    if (found == live_.end()) return;  // it was refused
    pool_->free(found->second.handle);
    payload_bytes_ -= found->second.size_bytes;
    live_.erase(found);
  }

  Density density() const {
    const ZpoolStats stats = pool_->stats();
    if (stats.payload_bytes != payload_bytes_) fail(" miscounts its payload");
    if (stats.objects != live_.size()) fail(" miscounts its objects");
    const double payload = static_cast<double>(payload_bytes_);
    const double held = static_cast<double>(stats.pages * kPageSize);
    return {payload / held, payload / (held + static_cast<double>(stats.metadata_bytes))};
  }
  void validate() const {
    if (!pool_->validate()) fail(" does not pass validate()");
  }
  std::size_t live() const { return live_.size(); }
  std::size_t refused() const { return refused_; }
  std::size_t pages() const { return pool_->stats().pages; }

 private:
  struct Object {
    Handle handle;
    std::size_t size_bytes;
  };
  void fail(const std::string& what) const {
    fail_run("a pool of " + std::string(pool_->type()) + what);
  }

  std::shared_ptr<Zpool> pool_;
  std::unordered_map<std::uint32_t, Object> live_;
  std::size_t payload_bytes_ = 0, refused_ = 0;
};

inline std::string three(double density) {
  return decimal(density, 3);
}

inline bool keeps_to(const std::string& driver, double density, double baseline) {
  const double above = density - baseline;
  return must_match_exactly(driver) ? std::abs(above) <= kDensityTolerance
                                    : above >= -kDensityTolerance;
}

// The baseline's cell; a figure that does not keep to it fails the run.
inline std::string against_baseline(const std::string& driver, const std::string& trace,
                                    double density) {
  const std::optional<double> baseline = density_baseline(driver, trace);
  if (!baseline) return "";
  if (keeps_to(driver, density, *baseline)) return three(*baseline);
  fail_run(driver + " on " + trace + ": density " + decimal(density, 4) + ", the baseline is " +
           three(*baseline));
  return three(*baseline) + " MISSED";
}

inline Section fill_traces(const std::string& driver, ::benchmark::State& state) {
  Table table;
  table.add_row({"", "objects", "refused", "pages", "density", "baseline", "with md", "store ns",
                 "churn A", "with md"});
  for (auto _ : state) {
    for (const char* codec : kCodecs) {
      for (const char* trace_name : kTraces) {
        const SizeTrace trace = load_sizes(std::string(trace_name) + "." + codec);
        Ledger ledger(driver);
        Stopwatch watch;
        for (std::size_t i = 0; i < trace.sizes.size(); ++i) {
          ledger.store(static_cast<std::uint32_t>(i), trace.sizes[i]);
        }
        const double store_ns = watch.lap_ns_per(trace.sizes.size());
        ledger.validate();
        const Density fresh = ledger.density();
        std::vector<std::string> row{trace.name,
                                     std::to_string(ledger.live()),
                                     std::to_string(ledger.refused()),
                                     std::to_string(ledger.pages()),
                                     three(fresh.pages_only),
                                     against_baseline(driver, trace.name, fresh.pages_only),
                                     three(fresh.with_md),
                                     figure(store_ns)};
        state.counters[trace.name] = fresh.pages_only;

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
        ledger.validate();
        const Density churned = ledger.density();
        row.push_back(three(churned.pages_only));
        row.push_back(three(churned.with_md));
        state.counters[trace.name + ".churn_a"] = churned.pages_only;
        table.add_row(std::move(row));
      }
    }
  }
  return {"density/" + driver +
          ": payload by bytes held, after a fill in file order and after churn A\n" +
          table.render()};
}

inline Section follow_churn(const std::string& driver, ::benchmark::State& state) {
  std::vector<double> pages_only, with_md;
  double operation_ns = 0;
  for (auto _ : state) {
    const std::vector<ChurnRecord> records = load_churn("churn-node-py");
    Ledger ledger(driver);
    Stopwatch watch;
    for (const ChurnRecord& record : records) {
      if (record.op == ChurnOp::overwrite || record.op == ChurnOp::drop) ledger.drop(record.key);
      if (record.op == ChurnOp::overwrite || record.op == ChurnOp::store) {
        ledger.store(record.key, record.size_bytes);
      }
      if (record.op == ChurnOp::snapshot_end) {
        const Density density = ledger.density();
        pages_only.push_back(density.pages_only);
        with_md.push_back(density.with_md);
      }
    }
    operation_ns = watch.lap_ns_per(records.size());
    ledger.validate();
  }
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  const auto worst = [](const std::vector<double>& values) {
    return *std::min_element(values.begin(), values.end());
  };
  state.counters["mean"] = mean(with_md);
  state.counters["worst"] = worst(with_md);
  Table table;
  table.add_row({"", "mean", "worst"});
  table.add_row({"pages only", three(mean(pages_only)), three(worst(pages_only))});
  table.add_row({"with metadata", three(mean(with_md)), three(worst(with_md))});
  if (const std::optional<ChurnBaseline> baseline = churn_baseline(driver)) {
    const std::vector<double>& ours = baseline->counts_metadata ? with_md : pages_only;
    const bool kept = keeps_to(driver, mean(ours), baseline->mean) &&
                      keeps_to(driver, worst(ours), baseline->worst);
    if (!kept) fail_run("churn/" + driver + ": mean or worst density is not the baseline's");
    table.add_row({std::string("baseline of ") +
                       (baseline->counts_metadata ? "the latter" : "the former") +
                       (kept ? "" : " MISSED"),
                   three(baseline->mean), three(baseline->worst)});
  }
  return {"churn/" + driver + ": density at " + std::to_string(with_md.size()) +
          " snapshots of churn-node-py; " + figure(operation_ns) +
          " ns an operation, its bookkeeping included\n" + table.render()};
}

}  // namespace detail

/// Registers density/<driver> and churn/<driver> for every registered driver.
inline void register_density() {
  for (const std::string& driver : driver_types()) {
    register_section("density/" + driver, 1, [driver](::benchmark::State& state) {
      return detail::fill_traces(driver, state);
    });
    register_section("churn/" + driver, 1, [driver](::benchmark::State& state) {
      return detail::follow_churn(driver, state);
    });
  }
}

}  // namespace mmkit::bench
