// SPDX-License-Identifier: MIT
//
// Threads - one pool or malloc shared by two threads, in million pairs a second of both together.
//
// What is done to it: shared_heap.hpp. Two CPUs of a virtual machine may be neighbours now and far
// apart a second later, and a ratio alone then says more about the host than about the code. So the
// time in which a cache line goes one way is taken right before and right after each turn, and the
// turns are parted by the longer of the two: near, which is judged, and far, which is reported.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "support/harness.hpp"
#include "support/statistics.hpp"
#include "support/table.hpp"
#include "support/two_threads.hpp"
#include "support/verdict.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"
#include "zpool/shared_heap.hpp"
#include "zpool/steady.hpp"

namespace mmkit::bench {
namespace detail {

/// A turn is near while a cache line goes one way in at most this time.
inline constexpr double kNearNs = 80;

/// At least so many times the pairs of one thread, while the CPUs are near.
struct ScalingTarget {
  std::string_view heap;
  double own, mix;
};
inline constexpr ScalingTarget kScalingTargets[] = {{"zsmalloc", 1.6, 1.5}, {"zheap", 1.7, 1.3}};

// A heap in each of the three ways of sharing it.
struct ThreadsContender {
  std::string name;
  std::function<double()> one, own, mix;  // a turn, in million pairs a second
};

template <class MakeHeap>
ThreadsContender threads_contender(const std::string& name, MakeHeap make_heap,
                                   const std::shared_ptr<TwoThreads>& threads, SharedShape shape) {
  const auto shared_in = [&](Sharing sharing) -> std::function<double()> {
    using Heap = decltype(make_heap());
    const auto heap = std::make_shared<SharedHeap<Heap>>(make_heap(), sharing, threads, shape);
    return [heap] { return heap->turn(); };
  };
  return {name, shared_in(Sharing::one), shared_in(Sharing::own), shared_in(Sharing::mix)};
}

template <Touch kTouch>
std::vector<ThreadsContender> threads_contenders(const std::shared_ptr<TwoThreads>& threads,
                                                 SharedShape shape) {
  std::vector<ThreadsContender> all;
  for (const std::string& type : driver_types()) {
    const auto make_heap = [&] { return ZpoolHeap<kTouch>{new_pool(type)}; };
    all.push_back(threads_contender(type, make_heap, threads, shape));
  }
  for (const Malloc& peer : peers().present) {
    const auto make_heap = [&] { return MallocHeap<kTouch>{&peer}; };
    all.push_back(threads_contender(peer.name, make_heap, threads, shape));
  }
  return all;
}

// The turns of one contender that were near, or those that were far.
struct ThreadsSamples {
  std::vector<double> one, own, mix;

  Quartiles own_by_one() const { return paired_ratio(own, one); }
  Quartiles mix_by_one() const { return paired_ratio(mix, one); }
};

class ThreadsRun {
 public:
  ThreadsRun(std::string name, std::shared_ptr<TwoThreads> threads,
             std::vector<ThreadsContender> contenders)
      : name_(std::move(name)),
        threads_(std::move(threads)),
        contenders_(std::move(contenders)),
        near_(contenders_.size()),
        far_(contenders_.size()) {
    for (ThreadsContender& contender : contenders_) {  // warm, and not counted
      contender.one();
      contender.own();
      contender.mix();
    }
  }

  // Each contender once, another one first.
  void round() {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const std::size_t turn = (i + rounds_) % contenders_.size();
      const double before_ns = one_way_ns();
      const double one = contenders_[turn].one();
      const double own = contenders_[turn].own();
      const double mix = contenders_[turn].mix();
      const bool near = std::max(before_ns, one_way_ns()) <= kNearNs;
      ThreadsSamples& samples = (near ? near_ : far_)[turn];
      samples.one.push_back(one);
      samples.own.push_back(own);
      samples.mix.push_back(mix);
    }
    ++rounds_;
  }

  Section section(const std::string& title) const {
    const Quartiles one_way = quartiles(one_way_ns_);
    Section section;
    section.text = name_ + ": " + title + "\n" + table("near", near_) + table("far", far_) + "  " +
                   std::to_string(rounds_) +
                   " rounds; near: a cache line goes one way in at most " + figure(kNearNs) +
                   " ns before and after the turn; over all turns it took " +
                   figure(one_way.median) + " (" + figure(one_way.low) + ".." +
                   figure(one_way.high) + ") ns\n";
    for (const ScalingTarget& target : kScalingTargets) {
      for (std::size_t i = 0; i < contenders_.size(); ++i) {
        if (contenders_[i].name != target.heap) continue;
        section.verdicts += judge(i, "own", near_[i].own_by_one(), target.own);
        section.verdicts += judge(i, "mix", near_[i].mix_by_one(), target.mix);
      }
    }
    return section;
  }

  void export_counters(::benchmark::State& state) const {
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const std::string& name = contenders_[i].name;
      for (const auto& [distance, samples] : {std::pair{".near", &near_[i]}, {".far", &far_[i]}}) {
        state.counters[name + distance] = static_cast<double>(samples->one.size());
        state.counters[name + distance + ".one"] = quartiles(samples->one).median;
        state.counters[name + distance + ".own/one"] = samples->own_by_one().median;
        state.counters[name + distance + ".mix/one"] = samples->mix_by_one().median;
      }
    }
    state.counters["one_way_ns"] = quartiles(one_way_ns_).median;
  }

 private:
  // Short: a turn is some milliseconds, and what it is set against should be of the same moment.
  double one_way_ns() {
    constexpr unsigned kBatches = 9;
    one_way_ns_.push_back(threads_->one_way_ns(kBatches).median);
    return one_way_ns_.back();
  }

  std::string table(const std::string& distance, const std::vector<ThreadsSamples>& all) const {
    Table table;
    table.add_row(
        {distance, "turns", "one", "own", "mix", "own/one", "quartiles", "mix/one", "quartiles"});
    for (std::size_t i = 0; i < contenders_.size(); ++i) {
      const ThreadsSamples& samples = all[i];
      std::vector<std::string> row{contenders_[i].name, std::to_string(samples.one.size())};
      if (!samples.one.empty()) {
        for (const auto* rates : {&samples.one, &samples.own, &samples.mix}) {
          row.push_back(figure(quartiles(*rates).median));
        }
        for (const Quartiles& q : {samples.own_by_one(), samples.mix_by_one()}) {
          row.push_back(decimal(q.median, 2));
          row.push_back(decimal(q.low, 2) + ".." + decimal(q.high, 2));
        }
      }
      table.add_row(std::move(row));
    }
    return table.render();
  }

  std::string judge(std::size_t contender, const std::string& way, const Quartiles& q,
                    double bound) const {
    const std::size_t turns = near_[contender].one.size();
    const std::string& heap = contenders_[contender].name;
    if (turns == 0)
      return "  not judged: " + name_ + "  " + heap + " " + way + ", no turn was near\n";
    return verdict(q.median >= bound, name_, heap + " " + way + " / one thread",
                   decimal(q.median, 2) + " (" + decimal(q.low, 2) + ".." + decimal(q.high, 2) +
                       ") in " + std::to_string(turns) + " near turns",
                   "at least " + decimal(bound, 2));
  }

  const std::string name_;
  std::shared_ptr<TwoThreads> threads_;
  std::vector<ThreadsContender> contenders_;
  std::vector<ThreadsSamples> near_, far_;  // by contender
  std::vector<double> one_way_ns_;
  std::size_t rounds_ = 0;
};

template <Touch kTouch>
void register_threads(const Options& options, const std::string& name) {
  const SharedShape shape{.live = options.scale(common_sizes().size(), 8192),
                          .batches = options.scale(kTurnBatches, 4),
                          .settling_batches = options.scale(kSettlingBatches, 4)};
  register_section(name, options.rounds, [name, shape](::benchmark::State& state) {
    const auto threads = std::make_shared<TwoThreads>();
    ThreadsRun run(name, threads, threads_contenders<kTouch>(threads, shape));
    for (auto _ : state) run.round();
    run.export_counters(state);
    return run.section("million pairs a second on one shared heap; " + title_of(kTouch));
  });
}

}  // namespace detail

/// Registers threads/touch:1 and :3.
inline void register_threads(const Options& options) {
  detail::register_threads<Touch::first_byte>(options, "threads/touch:1");
  detail::register_threads<Touch::whole>(options, "threads/touch:3");
}

}  // namespace mmkit::bench
