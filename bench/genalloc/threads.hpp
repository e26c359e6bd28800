// SPDX-License-Identifier: MIT
//
// Threads - one pool shared by two threads on two CPUs, and by four on the same two, in million pairs
// of free and allocate a second of all threads together.
//
//   one, two   a thread a CPU                 four   two threads a CPU, in turns of the scheduler
//
// Beside it the same pool, and sorted sets, behind locks: a spin lock, which is the best of locks
// until its holder loses the CPU, and a mutex. What the CPUs of a virtual machine are to each other
// changes by the second: the time in which a cache line goes one way is taken around each turn, and
// turns are parted by it into near, which is judged, and far. What a turn is: shared_pool.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "genalloc/shared_pool.hpp"
#include "support/harness.hpp"
#include "support/statistics.hpp"
#include "support/table.hpp"
#include "support/two_threads.hpp"
#include "support/verdict.hpp"

namespace mmkit::bench {
namespace detail {

/// A turn is near while a cache line goes one way in at most this time.
inline constexpr double kNearPoolNs = 80;
/// Two threads make at least so many pairs of one's, near; RelaxedFit is reported, and aims at 1.7.
inline constexpr double kLeastTwoByOne = .75;

struct PoolThreadsContender {
  std::string name;
  std::function<double()> one, two, four;
};

template <class MakeHeap>
PoolThreadsContender pool_threads_contender(const std::string& name, MakeHeap make,
                                            std::size_t pairs) {
  const auto shared_by = [&](unsigned threads) -> std::function<double()> {
    using Heap = typename decltype(make())::element_type;
    const auto pool = std::make_shared<SharedPool<Heap>>(make(), threads, pairs);
    return [pool] { return pool->turn(); };
  };
  return {name, shared_by(1), shared_by(2), shared_by(4)};
}

inline std::vector<PoolThreadsContender> pool_threads_contenders(std::size_t pairs) {
  const auto pool = [](const Fit& fit) {
    return [fit] { return std::make_unique<PoolHeap>(fit, 0u, kSharedGranules); };
  };
  const auto behind_spin = [](const Fit& fit) {
    return [fit] {
      return std::make_unique<LockedHeap<PoolHeap, SpinLock>>(fit, 0u, kSharedGranules);
    };
  };
  return {
      pool_threads_contender("first fit", pool(FirstFit{}), pairs),
      pool_threads_contender("best fit", pool(BestFit{}), pairs),
      pool_threads_contender("relaxed", pool(RelaxedFit{}), pairs),
      pool_threads_contender("first fit, spin lock", behind_spin(FirstFit{}), pairs),
      pool_threads_contender("best fit, spin lock", behind_spin(BestFit{}), pairs),
      pool_threads_contender(
          "sets, spin lock",
          [] { return std::make_unique<LockedHeap<SetBestFit, SpinLock>>(0u, kSharedGranules); },
          pairs),
      pool_threads_contender(
          "sets, mutex",
          [] { return std::make_unique<LockedHeap<SetBestFit, std::mutex>>(0u, kSharedGranules); },
          pairs),
  };
}

/// The turns of one contender that were near, or those that were far.
struct PoolThreadsSamples {
  std::vector<double> one, two, four;
};

class PoolThreadsRun {
 public:
  explicit PoolThreadsRun(std::size_t pairs)
      : contenders_(pool_threads_contenders(pairs)),
        near_(contenders_.size()),
        far_(contenders_.size()) {}

  // Each contender once, another one first.
  void round() {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const std::size_t turn = (i + rounds_) % contenders_.size();
      const double before_ns = one_way_ns();
      const double one = contenders_[turn].one();
      const double two = contenders_[turn].two();
      const bool near = std::max(before_ns, one_way_ns()) <= kNearPoolNs;
      PoolThreadsSamples& samples = (near ? near_ : far_)[turn];
      samples.one.push_back(one);
      samples.two.push_back(two);
      samples.four.push_back(contenders_[turn].four());
    }
    ++rounds_;
  }

  Section section() const {
    const Quartiles one_way = quartiles(one_way_ns_);
    Section section;
    section.text =
        "threads: million pairs a second on one shared pool of 2^16 granules, half full\n" +
        table("near", near_) + table("far", far_) + "  " + std::to_string(rounds_) +
        " rounds; near: a cache line goes one way in at most " + figure(kNearPoolNs) +
        " ns before and after the turn; over all turns it took " + figure(one_way.median) + " (" +
        figure(one_way.low) + ".." + figure(one_way.high) + ") ns\n";
    for (const char* const name : {"first fit", "best fit"}) {
      section.verdicts += judge_two(name) + judge_four(name);
    }
    return section;
  }

  void export_counters(::benchmark::State& state) const {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      for (const auto& [distance, samples] : {std::pair{".near", &near_[i]}, {".far", &far_[i]}}) {
        const std::string name = contenders_[i].name + distance;
        state.counters[name] = static_cast<double>(samples->one.size());
        state.counters[name + ".one"] = quartiles(samples->one).median;
        state.counters[name + ".two/one"] = paired_ratio(samples->two, samples->one).median;
        state.counters[name + ".four/one"] = paired_ratio(samples->four, samples->one).median;
      }
    }
    state.counters["one_way_ns"] = quartiles(one_way_ns_).median;
  }

 private:
  double one_way_ns() {
    constexpr unsigned kBatches = 9;
    one_way_ns_.push_back(threads_.one_way_ns(kBatches).median);
    return one_way_ns_.back();
  }

  std::string table(const std::string& distance, const std::vector<PoolThreadsSamples>& all) const {
    Table table;
    table.add_row(
        {distance, "turns", "one", "two", "four", "two/one", "quartiles", "four/one", "quartiles"});
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const PoolThreadsSamples& samples = all[i];
      std::vector<std::string> row{contenders_[i].name, std::to_string(samples.one.size())};
      if (!samples.one.empty()) {
        for (const auto* rates : {&samples.one, &samples.two, &samples.four}) {
          row.push_back(figure(quartiles(*rates).median));
        }
        for (const auto* rates : {&samples.two, &samples.four}) {
          const Quartiles q = paired_ratio(*rates, samples.one);
          row.push_back(decimal(q.median, 2));
          row.push_back(decimal(q.low, 2) + ".." + decimal(q.high, 2));
        }
      }
      table.add_row(std::move(row));
    }
    return table.render();
  }

  std::size_t index_of(const std::string& name) const {
    std::size_t i = 0;
    while (contenders_[i].name != name) ++i;
    return i;
  }
  std::string judge_two(const std::string& name) const {
    const PoolThreadsSamples& samples = near_[index_of(name)];
    if (samples.one.empty()) return "  not judged: threads  " + name + ", no turn was near\n";
    const Quartiles q = paired_ratio(samples.two, samples.one);
    return verdict(
        q.median >= kLeastTwoByOne, "threads", name + ", two / one",
        decimal(q.median, 2) + " in " + std::to_string(samples.one.size()) + " near turns",
        "at least " + decimal(kLeastTwoByOne, 2));
  }
  // When a holder waits for a CPU nothing else matters: near and far together.
  std::string judge_four(const std::string& name) const {
    const auto rate = [this](std::size_t i) {
      std::vector<double> all = near_[i].four;
      all.insert(all.end(), far_[i].four.begin(), far_[i].four.end());
      return quartiles(all).median;
    };
    const double ratio = rate(index_of(name)) / rate(index_of(name + ", spin lock"));
    return verdict(ratio >= 1, "threads", name + ", four threads / the same behind a spin lock",
                   decimal(ratio, 2), "at least 1.00");
  }

  TwoThreads threads_;
  std::vector<PoolThreadsContender> contenders_;
  std::vector<PoolThreadsSamples> near_, far_;  // by contender
  std::vector<double> one_way_ns_;
  std::size_t rounds_ = 0;
};

}  // namespace detail

/// Registers threads.
inline void register_pool_threads(const Options& options) {
  const std::size_t pairs = options.scale(20'000, 2'000);
  register_section("threads", options.rounds, [pairs](::benchmark::State& state) {
    detail::PoolThreadsRun run(pairs);
    for (auto _ : state) run.round();
    run.export_counters(state);
    return run.section();
  });
}

}  // namespace mmkit::bench
