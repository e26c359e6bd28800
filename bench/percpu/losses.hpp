// SPDX-License-Identifier: MIT
//
// Losses - additions that do not arrive, while everything is done to disturb them.
//
// 64 threads add as fast as they can. A timer interrupts them every 100 us, and its handler adds
// too; another thread moves them from CPU to CPU and forks. At the end the copies are summed: with
// this_cpu_add nothing may be missing. Beside it stands the same with an ordinary load, addition
// and store on the copy of the CPU, which shows that the disturbance is one.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <thread>
#include <vector>

#include "percpu/loops.hpp"
#include "support/machine.hpp"
#include "support/random.hpp"
#include "support/table.hpp"

namespace mmkit::bench {
namespace detail {

struct Unprotected {
  static void add(PercpuPtr<std::uint64_t> to) noexcept {
    std::uint64_t* const here = this_cpu_ptr(to);
    // Each in one piece, so that it is no data race; the two are not one, which is the point.
    __atomic_store_n(here, __atomic_load_n(here, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
  }
};
struct Protected {
  static void add(PercpuPtr<std::uint64_t> to) noexcept { this_cpu_add(to, 1); }
};

struct Storm {
  std::uint64_t expected = 0, arrived = 0, signals = 0, moves = 0, forks = 0;
  // Of an unprotected loop a stale store can also bring back more than was added.
  std::int64_t lost() const { return static_cast<std::int64_t>(expected - arrived); }
};

inline PercpuPtr<std::uint64_t> signalled_number;
inline std::atomic<std::uint64_t> signals_seen{0};

template <class Way>
Storm storm(std::uint64_t additions) {
  constexpr unsigned kStormThreads = 64;
  constexpr long kPeriodUs = 100;
  Storm result;
  const PercpuPtr<std::uint64_t> number = new_number(PercpuAllocator::instance());
  signalled_number = number;
  signals_seen.store(0);
  struct sigaction handler {};
  struct sigaction before {};
  handler.sa_handler = [](int) {
    const int error = errno;
    Way::add(signalled_number);
    signals_seen.fetch_add(1, std::memory_order_relaxed);
    errno = error;
  };
  handler.sa_flags = SA_RESTART;
  ::sigaction(SIGALRM, &handler, &before);

  const std::vector<int> cpus = usable_cpus();
  std::atomic<unsigned> running{kStormThreads};
  std::vector<std::thread> threads;
  const std::uint64_t each = additions / kStormThreads / 8 * 8;
  for (unsigned i = 0; i < kStormThreads; ++i) {
    threads.emplace_back([&] {
      repeat<Turn::eight>(each, [number] { Way::add(number); });
      running.fetch_sub(1);
    });
  }
  // A signal of the process goes to its first thread if that takes it; the others shall.
  sigset_t alarms, mask_before;
  sigemptyset(&alarms);
  sigaddset(&alarms, SIGALRM);
  ::pthread_sigmask(SIG_BLOCK, &alarms, &mask_before);
  const ::itimerval period{{0, kPeriodUs}, {0, kPeriodUs}};
  ::setitimer(ITIMER_REAL, &period, nullptr);
  SplitMix random(3);
  while (running.load() != 0) {
    for (int i = 0; i < 8; ++i) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(cpus[random.below(cpus.size())]), &set);
      ::pthread_setaffinity_np(threads[random.below(threads.size())].native_handle(), sizeof set,
                               &set);
      ++result.moves;
    }
    if (result.moves % 16 == 0) {
      const ::pid_t child = ::fork();
      if (child == 0) {
        for (int i = 0; i < 100; ++i) Way::add(number);  // its own copy
        ::_exit(0);
      }
      if (child > 0) ++result.forks;
      while (child > 0 && ::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
    ::usleep(50);
  }
  const ::itimerval none{};
  ::setitimer(ITIMER_REAL, &none, nullptr);
  for (std::thread& thread : threads) thread.join();
  ::signal(SIGALRM, SIG_IGN);  // what is pending yet
  ::pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  result.signals = signals_seen.load();
  result.expected = each * kStormThreads + result.signals;
  result.arrived = percpu_sum(number, PercpuAllocator::instance().units());
  PercpuAllocator::instance().free(percpu_cast<std::byte>(number));
  return result;
}

inline Section losses(std::uint64_t additions, ::benchmark::State& state) {
  Storm ours, unprotected;
  for (auto _ : state) {
    ours = storm<Protected>(additions);
    unprotected = storm<Unprotected>(additions);
  }
  if (ours.lost() != 0) fail_run("this_cpu_add lost " + std::to_string(ours.lost()));
  state.counters["lost"] = static_cast<double>(ours.lost());
  state.counters["lost_unprotected"] = static_cast<double>(unprotected.lost());
  Table table;
  table.add_row({"", "additions", "lost", "target", "signals", "moves", "forks"});
  const auto add_row = [&table](const char* name, const Storm& storm, const char* target) {
    table.add_row({name, std::to_string(storm.expected), std::to_string(storm.lost()), target,
                   std::to_string(storm.signals), std::to_string(storm.moves),
                   std::to_string(storm.forks)});
  };
  add_row("this_cpu_add", ours, "0");
  add_row("load, add, store", unprotected, "");
  return {"losses: 64 threads, moved about, interrupted by a signal that adds too, forked\n" +
          table.render()};
}

}  // namespace detail

/// Registers losses.
inline void register_losses(const Options& options) {
  const std::uint64_t additions = options.scale(1'000'000'000, 100'000'000);
  register_section("losses", 1, [additions](::benchmark::State& state) {
    return detail::losses(additions, state);
  });
}

}  // namespace mmkit::bench
