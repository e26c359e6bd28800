// SPDX-License-Identifier: MIT
//
// Counter - PercpuCounter beside a plain addition; and whether it keeps its promises.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "percpu/add.hpp"
#include "percpu/loops.hpp"
#include "support/random.hpp"
#include "support/table.hpp"

namespace mmkit::bench {
namespace detail {

inline std::shared_ptr<PercpuCounter> new_counter(std::int32_t batch) {
  Result<PercpuCounter> made = PercpuCounter::create(0, batch);
  if (!made) throw std::runtime_error("no counter");
  return std::make_shared<PercpuCounter>(std::move(*made));
}

// Two threads add random amounts of either sign; between rounds the counter is asked.
inline Section counter_error(std::size_t adds, ::benchmark::State& state) {
  constexpr std::int32_t kBatch = 32;
  constexpr int kRounds = 64;
  const auto bound = static_cast<std::int64_t>(kBatch) * possible_cpus();
  std::int64_t worst = 0, difference = 0;
  for (auto _ : state) {
    const auto counter = new_counter(kBatch);
    TwoThreads threads;
    SplitMix random[kThreads] = {SplitMix(1), SplitMix(2)};
    std::int64_t added[kThreads] = {};
    for (int round = 0; round < kRounds; ++round) {
      threads.run(kThreads, [&](unsigned thread) {
        for (std::size_t i = 0; i < adds / kRounds; ++i) {
          const auto amount = static_cast<std::int64_t>(random[thread].below(21)) - 10;
          counter->add(amount);
          added[thread] += amount;
        }
      });
      const std::int64_t exact = added[0] + added[1];
      worst = std::max<std::int64_t>(worst, std::abs(counter->read() - exact));
      difference = std::max<std::int64_t>(difference, std::abs(counter->sum() - exact));
    }
  }
  if (worst >= bound) fail_run("PercpuCounter::read() is off by " + std::to_string(worst));
  if (difference != 0) fail_run("PercpuCounter::sum() is off by " + std::to_string(difference));
  state.counters["read_error"] = static_cast<double>(worst);
  state.counters["sum_error"] = static_cast<double>(difference);
  Table table;
  table.add_row({"", "off by at most", "target"});
  table.add_row({"read()", std::to_string(worst), "below " + std::to_string(bound)});
  table.add_row({"sum()", std::to_string(difference), "0"});
  return {"counter/error: two threads, " + std::to_string(2 * adds) +
          " additions of -10 to 10, batch 32\n" + table.render()};
}

}  // namespace detail

/// Registers counter/1.
inline void register_counter(const Options& options) {
  const std::size_t count = options.scale(1 << 18, 1 << 14);
  Comparison one;
  one.name = "counter/1";
  one.title = "ns an addition, one thread; batch 32";
  one.columns = {"add"};
  one.references = {"plain add [mem]"};
  one.make = [count] {
    const auto plain = std::make_shared<detail::PaddedNumber>();
    const auto counter = detail::new_counter(32);
    std::vector<Contender> all;
    all.push_back(timed<Turn::eight>("plain add [mem]", count,
                                     [plain] { detail::plain_add(&plain->value); }));
    all.push_back(timed<Turn::eight>("PercpuCounter::add", count, [counter] { counter->add(1); }));
    return all;
  };
  one.targets = {{"PercpuCounter::add", "plain add [mem]", 2}};
  register_percpu_comparison(std::move(one), options);
}

/// Registers counter/2 and counter/error.
inline void register_counter_by_two(const Options& options) {
  const std::size_t count = options.scale(1 << 18, 1 << 14);
  Comparison two;
  two.name = "counter/2";
  two.title = "ns an addition and thread, two threads; batch 32";
  two.columns = {"add"};
  two.references = {"plain add [mem]"};
  two.repeats_interrupted = false;
  two.make = [count] {
    const auto threads = std::make_shared<TwoThreads>();
    const auto plain = std::make_shared<std::vector<detail::PaddedNumber>>(kThreads);
    const auto counter = detail::new_counter(32);
    std::vector<Contender> all;
    all.push_back(
        timed_by_two<Turn::eight>("plain add [mem]", threads, count, [plain](unsigned thread) {
          return [to = &(*plain)[thread].value] { detail::plain_add(to); };
        }));
    all.push_back(timed_by_two<Turn::eight>(
        "PercpuCounter::add", threads, count,
        [counter](unsigned) { return [to = counter.get()] { to->add(1); }; }));
    return all;
  };
  register_percpu_comparison(std::move(two), options);

  const std::size_t adds = options.scale(1 << 22, 1 << 17);
  register_section("counter/error", 1, [adds](::benchmark::State& state) {
    return detail::counter_error(adds, state);
  });
}

}  // namespace mmkit::bench
