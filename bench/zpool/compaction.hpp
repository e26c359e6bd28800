// SPDX-License-Identifier: MIT
//
// Compaction - what others notice while a thread compacts at full rate, and how fast it moves.
//
//   map             one thread maps and unmaps random live objects, one at a time; the other sleeps,
//                   then compacts a pool of which a random half has gone
//   allocate, free  the same with a pair in a pool of a single size, so that what is compacted is
//                   the very class that is allocated from: a slice of a compaction holds it up at
//                   most. With params that keep nothing on a CPU every pair needs the class itself
//   move            bytes of the objects that lie elsewhere afterwards, by the time inside compact()
//
// The pages that a compaction frees are kept by their source: to give one back to the system costs
// more than to move what was in it, and interrupts the other CPU. What that comes to, with the
// default source, stands beside it.
//
// Only tails are of interest: the samples of all rounds are taken together, rounds in which a thread
// lost its CPU being run again. Their maximum is what the machine does to a thread, and not shown.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/harness.hpp"
#include "support/interruptions.hpp"
#include "support/latencies.hpp"
#include "support/opaque.hpp"
#include "support/random.hpp"
#include "support/statistics.hpp"
#include "support/table.hpp"
#include "support/two_threads.hpp"
#include "support/verdict.hpp"
#include "zpool/pools.hpp"
#include "zpool/sparse_pool.hpp"
#include "zpool/steady.hpp"

namespace mmkit::bench {
namespace detail {

/// At most so much more at the 99.9th percentile of a map, at most so much at that of a pair, and at
/// least so many bytes moved in a nanosecond.
struct CompactionTarget {
  std::string_view driver;
  double map_more_ns, pair_ns, bytes_per_ns;
};
// Those named here are measured; zheap told to move nothing before it is asked to.
inline constexpr CompactionTarget kCompactionTargets[] = {{"zsmalloc", 1000, 50e3, 3},
                                                          {"zheap", 1000, 50e3, 3}};

/// An operation with nobody else about, and while the other thread compacts.
struct QuietAndBusy {
  Latencies quiet, busy;
};

/// One operation on one pool, round after round.
template <class Operation>
class DisturbedPool {
 public:
  DisturbedPool(std::string name, std::unique_ptr<SparsePool> pool, Operation operation,
                std::size_t quiet_samples)
      : name_(std::move(name)),
        pool_(std::move(pool)),
        operation_(operation),
        quiet_samples_(quiet_samples) {}

  void round(TwoThreads& threads) {
    bool interrupted = true;
    for (int i = 0; interrupted && i < kMostTries; ++i) {
      QuietAndBusy samples;
      Compacted moved;
      interrupted = attempt(threads, samples, moved);
      if (interrupted && i + 1 < kMostTries) continue;
      all_.quiet.add(samples.quiet);
      all_.busy.add(samples.busy);
      bytes_per_ns_.push_back(moved.moved_bytes / moved.ns);
      objects_.push_back(static_cast<double>(moved.moved_objects));
    }
  }
  const std::string& name() const { return name_; }
  const QuietAndBusy& samples() const { return all_; }
  const std::vector<double>& bytes_per_ns() const { return bytes_per_ns_; }
  const std::vector<double>& objects() const { return objects_; }
  SparsePool& sparse() { return *pool_; }

 private:
  static constexpr unsigned kCompactor = 0, kWatcher = 1;
  static constexpr std::size_t kMostBusySamples = 1U << 18;  // some 20 milliseconds

  // Whether a thread was interrupted.
  bool attempt(TwoThreads& threads, QuietAndBusy& samples, Compacted& moved) {
    std::atomic<bool> over{false};
    long interruptions[kThreads] = {};
    std::size_t chosen = 0;
    const auto choose = [&] { chosen = random_.below(pool_->live()); };
    const auto operate = [&] { operation_(*pool_, chosen); };
    threads.run(kThreads, [&](unsigned thread) {
      if (thread == kCompactor) pool_->refill_and_halve();
    });
    threads.run(kThreads, [&](unsigned thread) {
      if (thread == kWatcher) {
        samples.quiet.record(quiet_samples_, choose, operate, [] { return false; });
      }
    });
    threads.run(kThreads, [&](unsigned thread) {
      const long before = times_interrupted();
      threads.start_line().arrive_and_wait();
      if (thread == kCompactor) {
        moved.ns = pool_->compact();
        over.store(true, std::memory_order_relaxed);  // ends a loop, and hands nothing over
      } else {
        samples.busy.record(kMostBusySamples, choose, operate,
                            [&] { return over.load(std::memory_order_relaxed); });
      }
      interruptions[thread] = times_interrupted() - before;
    });
    moved = pool_->since_halved(moved.ns);
    return interruptions[0] + interruptions[1] != 0;
  }

  const std::string name_;
  std::unique_ptr<SparsePool> pool_;
  const Operation operation_;
  const std::size_t quiet_samples_;
  SplitMix random_{11};
  QuietAndBusy all_;
  std::vector<double> bytes_per_ns_, objects_;
};

inline void map_one(SparsePool& sparse, std::size_t i) {
  const Mapping mapping = sparse.pool().map(sparse.handle(i), MapMode::read_only);
  use(mapping.const_bytes().data());
}

/// The size of every object of a pool in which one class is all there is: about mem-node's mean.
inline constexpr std::uint16_t kOneSizeBytes = 1476;

inline void allocate_and_free_one(SparsePool& sparse, std::size_t) {
  const Result<Handle> made = sparse.pool().allocate(kOneSizeBytes);
  if (!made) out_of_objects("compaction", kOneSizeBytes, name(made.error()));
  sparse.pool().free(*made);
}

class CompactionRun {
 public:
  using Watched = DisturbedPool<void (*)(SparsePool&, std::size_t)>;

  CompactionRun(std::string type, std::size_t objects) : type_(std::move(type)) {
    const char* const as_it_is = type_ == "zheap" ? "floor=0" : "";
    const auto add = [&](const std::string& name, const std::string& params, PageSource* pages,
                         std::vector<std::uint16_t> sizes, auto operation) {
      auto pool = std::make_unique<SparsePool>(PoolKind{type_, type_, params}, pages,
                                               std::move(sizes), objects);
      watched_.emplace_back(name, std::move(pool), operation, objects);
    };
    add("map, unmap", as_it_is, pages_.get(), common_sizes(), map_one);
    add("allocate, free", as_it_is, pages_.get(), {kOneSizeBytes}, allocate_and_free_one);
    if (type_ == "zsmalloc") {
      add("the same, cache=0", "cache=0", pages_.get(), {kOneSizeBytes}, allocate_and_free_one);
    }
    judged_ = watched_.size();
    add("map, unmap, default pages", as_it_is, nullptr, common_sizes(), map_one);
  }

  void round() {
    one_way_ns_.push_back(threads_.one_way_ns().median);
    for (Watched& watched : watched_) watched.round(threads_);
    move_alone();
    Latencies clock;
    clock.record(
        kClockSamples, [] {}, [] {}, [] { return false; });
    clock_.add(clock);
  }

  Section section() const {
    Table latencies;
    latencies.add_row({"ns", "samples", "p50", "p99", "p99.9", "p99.99"});
    add_row(latencies, "the clock alone", clock_);
    for (const Watched& watched : watched_) {
      add_row(latencies, watched.name() + ", quiet", watched.samples().quiet);
      add_row(latencies, watched.name() + ", compacting", watched.samples().busy);
    }
    Table moves;
    moves.add_row({"moved", "objects", "GB/s", "quartiles"});
    add_row(moves, "nobody watching", alone_objects_, alone_bytes_per_ns_);
    for (const Watched& watched : watched_) {
      add_row(moves, watched.name(), watched.objects(), watched.bytes_per_ns());
    }
    const Quartiles one_way = quartiles(one_way_ns_);
    Section section;
    section.text = "compaction/" + type_ + ": while another thread compacts; " +
                   std::to_string(one_way_ns_.size()) + " rounds, each on half-empty pools\n" +
                   latencies.render() + moves.render() + "  a cache line goes one way in " +
                   figure(one_way.median) + " (" + figure(one_way.low) + ".." +
                   figure(one_way.high) + ") ns\n";
    for (const CompactionTarget& target : kCompactionTargets) {
      if (target.driver == type_) section.verdicts += judge(target);
    }
    return section;
  }

  void export_counters(::benchmark::State& state) const {
    for (const Watched& watched : watched_) {
      state.counters[watched.name() + ".quiet.p99.9"] = watched.samples().quiet.at(.999);
      state.counters[watched.name() + ".compacting.p99.9"] = watched.samples().busy.at(.999);
    }
    state.counters["GB/s"] = quartiles(alone_bytes_per_ns_).median;
    state.counters["one_way_ns"] = quartiles(one_way_ns_).median;
  }

 private:
  static constexpr std::size_t kClockSamples = 1U << 13;

  // The pool whose objects are mapped, while nobody maps them.
  void move_alone() {
    SparsePool& sparse = watched_.front().sparse();
    Compacted moved;
    threads_.run(1, [&](unsigned) {
      bool interrupted = true;
      for (int i = 0; interrupted && i < kMostTries; ++i) {
        sparse.refill_and_halve();
        const long before = times_interrupted();
        moved = sparse.since_halved(sparse.compact());
        interrupted = times_interrupted() != before;
      }
    });
    alone_bytes_per_ns_.push_back(moved.moved_bytes / moved.ns);
    alone_objects_.push_back(static_cast<double>(moved.moved_objects));
  }

  static void add_row(Table& table, const std::string& name, const Latencies& samples) {
    table.add_row({name, std::to_string(samples.size()), figure(samples.at(.5)),
                   figure(samples.at(.99)), figure(samples.at(.999)), figure(samples.at(.9999))});
  }
  static void add_row(Table& table, const std::string& name, const std::vector<double>& objects,
                      const std::vector<double>& bytes_per_ns) {
    const Quartiles q = quartiles(bytes_per_ns);
    table.add_row({name, decimal(quartiles(objects).median, 0), figure(q.median),
                   figure(q.low) + ".." + figure(q.high)});
  }

  std::string judge(const CompactionTarget& target) const {
    const std::string name = "compaction/" + type_;
    const QuietAndBusy& maps = watched_.front().samples();
    const double more_ns = maps.busy.at(.999) - maps.quiet.at(.999);
    std::string text =
        verdict(more_ns <= target.map_more_ns, name, "p99.9 of map, unmap above the quiet one",
                figure(more_ns) + " ns", "at most " + figure(target.map_more_ns) + " ns");
    for (std::size_t i = 1; i < judged_; ++i) {
      const double ns = watched_[i].samples().busy.at(.999);
      text += verdict(ns <= target.pair_ns, name, "p99.9 of " + watched_[i].name(),
                      figure(ns) + " ns", "at most " + figure(target.pair_ns) + " ns");
    }
    const Quartiles q = quartiles(alone_bytes_per_ns_);
    text += verdict(q.median >= target.bytes_per_ns, name, "moved",
                    figure(q.median) + " (" + figure(q.low) + ".." + figure(q.high) + ") GB/s",
                    "at least " + figure(target.bytes_per_ns) + " GB/s");
    return text;
  }

  const std::string type_;
  TwoThreads threads_;
  std::unique_ptr<SimPageAllocator> pages_ = new_keeping_pages();
  std::vector<Watched> watched_;  // the maps first; those that are not judged last
  std::size_t judged_ = 0;
  Latencies clock_;
  std::vector<double> one_way_ns_, alone_bytes_per_ns_, alone_objects_;
};

}  // namespace detail

/// Registers compaction/<driver> for every registered driver whose objects move in bulk.
inline void register_compaction(const Options& options) {
  const std::size_t objects = options.scale(common_sizes().size(), 8192);
  for (const std::string& type : driver_types()) {
    const auto is_this = [&](const detail::CompactionTarget& target) {
      return target.driver == type;
    };
    if (std::none_of(std::begin(detail::kCompactionTargets), std::end(detail::kCompactionTargets),
                     is_this)) {
      continue;
    }
    register_section("compaction/" + type, options.rounds,
                     [type, objects](::benchmark::State& state) {
                       detail::CompactionRun run(type, objects);
                       for (auto _ : state) run.round();
                       run.export_counters(state);
                       return run.section();
                     });
  }
}

}  // namespace mmkit::bench
