// SPDX-License-Identifier: MIT
//
// Loops - an operation repeated so that it is measured, and not its loop; on one thread or on two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/percpu.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include "support/comparison.hpp"
#include "support/stopwatch.hpp"
#include "support/two_threads.hpp"

namespace mmkit::bench {

/// How an operation is repeated. Eight times a turn of the loop: what takes less than a nanosecond,
/// so that it is measured and not the loop. Two loops, not eight lines, so that the compiler takes
/// out of them what it would take out of any. Once a turn: what is long enough.
enum class Turn : int { once = 1, eight = 8 };

/// Calls `operation` `count` times, a multiple of 8.
template <Turn kTurn, class Operation>
[[gnu::noinline, gnu::flatten]] void repeat(std::size_t count, const Operation& given) {
  constexpr int kTimes = static_cast<int>(kTurn);
  const Operation operation = given;  // its captures in registers, as a program's own variables
  for (std::size_t i = 0; i < count; i += kTimes) {
#pragma GCC unroll 8
    for (int j = 0; j < kTimes; ++j) operation();
  }
}

/// Times `operation` in this thread: nanoseconds for one.
template <Turn kTurn = Turn::once, class Operation>
Contender timed(std::string name, std::size_t count, Operation operation) {
  return {std::move(name), [count, operation]() -> Figures {
            Stopwatch watch;
            repeat<kTurn>(count, operation);
            return {watch.lap_ns_per(count)};
          }};
}

/// The same in two threads at once: nanoseconds for one, per thread. `make(thread)` gives the
/// operation of a thread.
template <Turn kTurn = Turn::once, class Make>
Contender timed_by_two(std::string name, std::shared_ptr<TwoThreads> threads, std::size_t count,
                       Make make) {
  return {std::move(name), [threads = std::move(threads), count, make]() -> Figures {
            double ns[kThreads] = {};
            threads->run(kThreads, [&](unsigned thread) {
              const auto operation = make(thread);
              threads->start_line().arrive_and_wait();
              Stopwatch watch;
              repeat<kTurn>(count, operation);
              ns[thread] = watch.lap_ns_per(count);
            });
            return {(ns[0] + ns[1]) / kThreads};
          }};
}

/// An allocator with so many units, or with one for each possible CPU (0).
inline std::shared_ptr<PercpuAllocator> new_percpu_allocator(unsigned units) {
  Result<std::unique_ptr<PercpuAllocator>> made = PercpuAllocator::create({.max_cpus = units});
  if (!made) throw std::runtime_error("no percpu allocator: " + std::string(name(made.error())));
  return std::move(*made);
}

/// A number on every CPU, for ever.
inline PercpuPtr<std::uint64_t> new_number(PercpuAllocator& allocator) {
  const Result<PercpuPtr<std::byte>> made = allocator.allocate(8, 8);
  if (!made) throw std::runtime_error("no percpu memory");
  return percpu_cast<std::uint64_t>(*made);
}

/// Targets are of the restartable sequences; where there are none they are not judged.
inline void register_percpu_comparison(Comparison comparison, const Options& options) {
  if (percpu_mode() == PercpuMode::fallback) comparison.targets.clear();
  register_comparison(std::move(comparison), options);
}

}  // namespace mmkit::bench
