// SPDX-License-Identifier: MIT
//
// Add - this_cpu_add beside a plain `add [mem]`, and beside what is done without it: an atomic for
// each CPU, found by sched_getcpu(), or one for all.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "percpu/loops.hpp"

namespace mmkit::bench {

// What the compiler must load anew for each addition: the pointer of a program's global counter.
inline PercpuPtr<std::uint64_t> global_number;
inline constinit StaticPercpu<std::uint64_t> static_number;

namespace detail {

// The instruction, and nothing that a compiler could take out of the loop.
[[gnu::always_inline]] inline void plain_add(std::uint64_t* to) noexcept {
  asm volatile("addq $1, %0" : "+m"(*to));
}

#if MMKIT_PERCPU_HAS_RSEQ
// What this_cpu_add is where the compiler can keep the distance of the area in a register, as in a
// loop of the program's. Written eight times in a row g++ loads it anew each time; this loop it
// unrolls, as it has no way back for threads that are not registered. False: it met one.
[[gnu::noinline]] inline bool sequences(PercpuPtr<std::uint64_t> to, std::size_t count) noexcept {
#pragma GCC unroll 8
  for (std::size_t i = 0; i < count; ++i) {
    if (!mmkit::detail::rseq::add<kPercpuUnitStride>(to.unit0, 1)) [[unlikely]]
      return false;
  }
  return true;
}
#endif

/// An atomic for each CPU, each in a cache line of its own.
class AtomicShards {
 public:
  AtomicShards() : shards_(possible_cpus()) {}
  void add() noexcept {
    const auto cpu = static_cast<std::size_t>(::sched_getcpu());
    shards_[cpu].value.fetch_add(1, std::memory_order_relaxed);  // a number, no order
  }

 private:
  struct alignas(128) Shard {
    std::atomic<std::uint64_t> value{0};
  };
  std::vector<Shard> shards_;
};

struct alignas(128) PaddedNumber {
  std::uint64_t value = 0;
};
struct alignas(128) SharedNumber {
  std::atomic<std::uint64_t> value{0};
};

}  // namespace detail

/// Registers add/1.
inline void register_add(const Options& options) {
  const std::size_t count = options.scale(1 << 18, 1 << 14);
  if (!global_number) global_number = new_number(PercpuAllocator::instance());
  const PercpuPtr<std::uint64_t> local = new_number(PercpuAllocator::instance());

  Comparison one;
  one.name = "add/1";
  one.title = "ns an addition, one thread, eight of them a turn of the loop";
  one.columns = {"add"};
  one.references = {"plain add [mem]"};
  one.make = [count, local] {
    const auto plain = std::make_shared<detail::PaddedNumber>();
    const auto shards = std::make_shared<detail::AtomicShards>();
    const auto shared = std::make_shared<detail::SharedNumber>();
    std::vector<Contender> all;
    all.push_back(timed<Turn::eight>("plain add [mem]", count,
                                     [plain] { detail::plain_add(&plain->value); }));
    all.push_back(
        timed<Turn::eight>("this_cpu_add, local", count, [local] { this_cpu_add(local, 1); }));
    all.push_back(
        timed<Turn::eight>("this_cpu_add, global", count, [] { this_cpu_add(global_number, 1); }));
    all.push_back(timed<Turn::eight>("this_cpu_add, static", count,
                                     [] { this_cpu_add(static_number.get(), 1); }));
    all.push_back(timed<Turn::eight>("this_cpu_add_return", count, [local] {
      std::uint64_t sum = this_cpu_add_return(local, 1);
      asm volatile("" : "+r"(sum));
    }));
    all.push_back(timed<Turn::eight>("this_cpu_xchg", count, [local] {
      std::uint64_t before = this_cpu_xchg(local, 1);
      asm volatile("" : "+r"(before));
    }));
    all.push_back(timed<Turn::eight>("this_cpu_cmpxchg", count, [local] {
      std::uint64_t before = this_cpu_cmpxchg(local, 1, 1);
      asm volatile("" : "+r"(before));
    }));
    all.push_back(timed<Turn::eight>("atomic of the CPU", count, [shards] { shards->add(); }));
    all.push_back(timed<Turn::eight>("one shared atomic", count, [shared] {
      shared->value.fetch_add(1, std::memory_order_relaxed);
    }));
    return all;
  };
#if MMKIT_PERCPU_HAS_RSEQ
  if (percpu_mode() == PercpuMode::rseq) {
    one.make = [count, local, others = std::move(one.make)] {
      std::vector<Contender> all = others();
      all.push_back({"its sequence alone", [count, local]() -> Figures {
                       Stopwatch watch;
                       if (!detail::sequences(local, count)) throw std::runtime_error("no rseq");
                       return {watch.lap_ns_per(count)};
                     }});
      return all;
    };
  }
#endif
  one.targets = {
      {"its sequence alone", "plain add [mem]", 1.35},
      {"this_cpu_add, local", "plain add [mem]", 1.35},
      {"this_cpu_add, global", "plain add [mem]", 1.6},
      {"this_cpu_add, static", "plain add [mem]", 1.6},
      {"atomic of the CPU", "this_cpu_add, local", 14, Target::Kind::at_least},
  };
  register_percpu_comparison(std::move(one), options);
}

/// Registers add/2, which is for the end of a run: see Company.
inline void register_add_by_two(const Options& options) {
  const std::size_t count = options.scale(1 << 18, 1 << 14);
  const PercpuPtr<std::uint64_t> local = new_number(PercpuAllocator::instance());

  Comparison two;
  two.name = "add/2";
  two.title = "ns an addition and thread, two threads";
  two.columns = {"add"};
  two.references = {"plain add [mem]"};
  two.repeats_interrupted = false;  // the threads interrupt who waits for them
  two.make = [count, local] {
    const auto threads = std::make_shared<TwoThreads>();
    const auto plain = std::make_shared<std::vector<detail::PaddedNumber>>(kThreads);
    const auto shards = std::make_shared<detail::AtomicShards>();
    const auto shared = std::make_shared<detail::SharedNumber>();
    std::vector<Contender> all;
    all.push_back(
        timed_by_two<Turn::eight>("plain add [mem]", threads, count, [plain](unsigned thread) {
          return [to = &(*plain)[thread].value] { detail::plain_add(to); };
        }));
    all.push_back(timed_by_two<Turn::eight>(
        "this_cpu_add, local", threads, count,
        [local](unsigned) { return [local] { this_cpu_add(local, 1); }; }));
    all.push_back(timed_by_two<Turn::eight>(
        "atomic of the CPU", threads, count,
        [shards](unsigned) { return [to = shards.get()] { to->add(); }; }));
    all.push_back(
        timed_by_two<Turn::eight>("one shared atomic", threads, count, [shared](unsigned) {
          return [to = &shared->value] { to->fetch_add(1, std::memory_order_relaxed); };
        }));
    return all;
  };
  two.targets = {{"atomic of the CPU", "this_cpu_add, local", 14, Target::Kind::at_least}};
  register_percpu_comparison(std::move(two), options);
}

}  // namespace mmkit::bench
