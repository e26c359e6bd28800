// SPDX-License-Identifier: MIT
//
// TwoThreads - two threads that live as long as the comparison, on two CPUs, started together.
//
// They stay, because a malloc gives up a thread's caches when the thread ends. One-way latency of a
// cache line between the two CPUs is measured beside every figure of two threads: on a virtual
// machine two CPUs may be neighbours now and far apart a second later, and a ratio alone then says
// more about the host than about the code.
// Locking: mutex_ guards all fields; the start line is an atomic counter that both threads watch.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/machine.hpp"
#include "support/statistics.hpp"
#include "support/stopwatch.hpp"

namespace mmkit::bench {

inline constexpr unsigned kThreads = 2;

/// Where two threads wait for each other, any number of times. Spins, then yields: the other thread
/// may need this very CPU.
class StartLine {
 public:
  void arrive_and_wait() noexcept {
    // Each arrival publishes what came before it (release) and sees what came before the other's
    // (acquire): the two threads hand objects to each other here.
    const unsigned mine = arrived_.fetch_add(1, std::memory_order_acq_rel) + 1;
    const unsigned full = (mine + kThreads - 1) / kThreads * kThreads;
    for (unsigned spins = 0; static_cast<int>(arrived_.load(std::memory_order_acquire) - full) < 0;
         ++spins) {
      if (spins > 2000) ::sched_yield();
    }
  }

 private:
  alignas(64) std::atomic<unsigned> arrived_{0};
};

class TwoThreads {
 public:
  TwoThreads() {
    const std::vector<int> cpus = usable_cpus();
    for (unsigned i = 0; i < kThreads; ++i) {
      threads_[i] = std::thread([this, i] { serve(i); });
      if (cpus.size() < kThreads) continue;  // one CPU: they take turns on it
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(cpus[i]), &set);
      ::pthread_setaffinity_np(threads_[i].native_handle(), sizeof set, &set);
    }
  }
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;
  ~TwoThreads() {
    run(0, {});
    for (std::thread& thread : threads_) thread.join();
  }

  /// Runs `job(thread)` on the first `active` threads and waits; with `active` 0 the threads end.
  void run(unsigned active, const std::function<void(unsigned thread)>& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = job;
    active_ = active;
    done_ = 0;
    ++order_;
    wake_.notify_all();
    wake_.wait(lock, [this] { return done_ == kThreads; });
  }
  StartLine& start_line() noexcept { return start_line_; }

  /// Nanoseconds for a cache line to go one way between the two threads: the quartiles over so many
  /// batches of a few hundred round trips, each some 30 to 200 microseconds.
  Quartiles one_way_ns(unsigned batches = 31) {
    constexpr unsigned kTrips = 400;
    alignas(64) std::atomic<unsigned> ball{0};
    std::vector<double> samples;
    run(kThreads, [&](unsigned thread) {
      for (unsigned batch = 0; batch < batches; ++batch) {
        start_line_.arrive_and_wait();
        Stopwatch watch;
        for (unsigned trip = 0; trip < kTrips; ++trip) {
          const unsigned mine = (batch * kTrips + trip) * 2 + thread;
          // Acquire and release pair with the other thread's; nothing but the ball is handed over.
          for (unsigned spins = 0; ball.load(std::memory_order_acquire) != mine; ++spins) {
            if (spins > 20000) ::sched_yield();
          }
          ball.store(mine + 1, std::memory_order_release);
        }
        if (thread == 0) samples.push_back(watch.lap_ns_per(2 * kTrips));
      }
    });
    return quartiles(samples);
  }

 private:
  void serve(unsigned thread) {
    std::size_t seen = 0;
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return order_ != seen; });
      seen = order_;
      const unsigned active = active_;
      const std::function<void(unsigned)> job = job_;
      lock.unlock();
      if (thread < active) job(thread);
      lock.lock();
      if (++done_ == kThreads) wake_.notify_all();
      if (active == 0) return;
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::function<void(unsigned)> job_;
  unsigned active_ = 0, done_ = 0;
  std::size_t order_ = 0;
  StartLine start_line_;
  std::thread threads_[kThreads];
};

}  // namespace mmkit::bench
