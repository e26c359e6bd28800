// SPDX-License-Identifier: MIT
//
// Ref - get and put of PercpuRef beside a shared atomic; and kills with references held across.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "percpu/add.hpp"
#include "percpu/loops.hpp"
#include "support/table.hpp"

namespace mmkit::bench {
namespace detail {

inline std::shared_ptr<PercpuRef> new_ref(std::function<void()> release = {}) {
  Result<std::unique_ptr<PercpuRef>> made = PercpuRef::create(std::move(release));
  if (!made) throw std::runtime_error("no reference count");
  return std::move(*made);
}

// As shared ownership is counted: whoever drops the last one must see what the others did.
inline void shared_get_put(std::atomic<std::uint64_t>& count) noexcept {
  count.fetch_add(1, std::memory_order_relaxed);
  count.fetch_sub(1, std::memory_order_acq_rel);  // pairs with the other puts
}

// Each round one thread kills while the other holds 0 to 3 references, and puts them while the
// first looks on.
inline Section kills(std::size_t rounds, ::benchmark::State& state) {
  std::size_t early = 0, missing = 0;
  for (auto _ : state) {
    std::atomic<std::size_t> released{0};
    const auto ref = new_ref([&released] { released.fetch_add(1); });
    TwoThreads threads;
    std::atomic<std::size_t> held{0},
        killed{0};  // rounds; sequentially consistent, this is no race
    const auto wait_for = [](const std::atomic<std::size_t>& round, std::size_t wanted) {
      for (unsigned spins = 0; round.load() < wanted; ++spins) {
        if (spins > 100) ::sched_yield();
      }
    };
    threads.run(kThreads, [&](unsigned thread) {
      for (std::size_t round = 1; round <= rounds; ++round) {
        const std::size_t references = round % 4;
        if (thread == 0) {
          wait_for(held, round);
          ref->kill();
          if (references != 0 && released.load() >= round) ++early;
          killed.store(round);
          for (std::size_t tries = 0; released.load() < round; ++tries) {
            if (tries == 2000000) {
              ++missing;
              released.store(round);
            }
            ::sched_yield();
          }
          if (released.load() != round) ++early;  // twice
          ref->reinit();
        } else {
          for (std::size_t i = 0; i < references; ++i) ref->get();
          held.store(round);
          wait_for(killed, round);
          for (std::size_t i = 0; i < references; ++i) ref->put();
          wait_for(released, round);
          // The next get needs the next life.
          for (unsigned spins = 0; ref->is_dying(); ++spins) {
            if (spins > 100) ::sched_yield();
          }
        }
      }
    });
  }
  if (early != 0) fail_run("PercpuRef released too early " + std::to_string(early) + " times");
  if (missing != 0) fail_run("PercpuRef did not release " + std::to_string(missing) + " times");
  state.counters["early"] = static_cast<double>(early);
  state.counters["missing"] = static_cast<double>(missing);
  Table table;
  table.add_row({"", "releases", "target"});
  table.add_row({"too early, or twice", std::to_string(early), "0"});
  table.add_row({"missing", std::to_string(missing), "0"});
  return {"ref/kills: " + std::to_string(rounds) +
          " kills, another thread holding 0 to 3 references across\n" + table.render()};
}

}  // namespace detail

/// Registers ref/1.
inline void register_ref(const Options& options) {
  const std::size_t count = options.scale(1 << 16, 1 << 12);
  Comparison one;
  one.name = "ref/1";
  one.title = "ns for get + put, one thread";
  one.columns = {"pair"};
  one.references = {"PercpuRef"};
  one.make = [count] {
    const auto ref = detail::new_ref();
    const auto shared = std::make_shared<detail::SharedNumber>();
    std::vector<Contender> all;
    all.push_back(timed("PercpuRef", count, [to = ref.get(), ref] {
      to->get();
      to->put();
    }));
    all.push_back(timed("PercpuRef, tryget_live + put", count, [to = ref.get(), ref] {
      if (to->tryget_live()) to->put();
    }));
    all.push_back(
        timed("one shared atomic", count, [shared] { detail::shared_get_put(shared->value); }));
    return all;
  };
  one.targets = {{"one shared atomic", "PercpuRef", 8, Target::Kind::at_least}};
  register_percpu_comparison(std::move(one), options);
}

/// Registers ref/2 and ref/kills.
inline void register_ref_by_two(const Options& options) {
  const std::size_t count = options.scale(1 << 16, 1 << 12);
  Comparison two;
  two.name = "ref/2";
  two.title = "ns for get + put, per thread, two threads";
  two.columns = {"pair"};
  two.references = {"PercpuRef"};
  two.repeats_interrupted = false;
  two.make = [count] {
    const auto threads = std::make_shared<TwoThreads>();
    const auto ref = detail::new_ref();
    const auto shared = std::make_shared<detail::SharedNumber>();
    std::vector<Contender> all;
    all.push_back(timed_by_two("PercpuRef", threads, count, [ref](unsigned) {
      return [to = ref.get()] {
        to->get();
        to->put();
      };
    }));
    all.push_back(timed_by_two("one shared atomic", threads, count, [shared](unsigned) {
      return [to = &shared->value] { detail::shared_get_put(*to); };
    }));
    return all;
  };
  two.targets = {{"one shared atomic", "PercpuRef", 18, Target::Kind::at_least}};
  register_percpu_comparison(std::move(two), options);

  const std::size_t rounds = options.scale(20000, 1000);
  register_section("ref/kills", 1,
                   [rounds](::benchmark::State& state) { return detail::kills(rounds, state); });
}

}  // namespace mmkit::bench
