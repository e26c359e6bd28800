// SPDX-License-Identifier: MIT
//
// PercpuStorm - many threads step through an operation while everything is done to interrupt them.
//
//   every thread, between two runs of steps:  a signal to one that runs on another CPU, whose
//                                             handler steps too; another CPU for it; a yield
//   a timer:                                  signals to whoever runs
//   some threads, once:                       a fork, whose child checks what it sees
//
// The disturbances follow the number of steps, and not the clock, so that a longer run has more.
// Units:      a step is one call of Steps::step or Steps::handler
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/time.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <mmkit/percpu/mode.hpp>
#include <mutex>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_memory.hpp"
#include "support/seed.hpp"

namespace mmkit::testing {

/// What happened in a storm.
struct StormCounts {
  std::uint64_t steps = 0;    ///< by threads
  std::uint64_t handled = 0;  ///< by their signal handlers
  std::uint64_t signals = 0;  ///< sent to a thread, without the timer's
  std::uint64_t moves = 0;    ///< threads bound to another CPU
  unsigned forks = 0;
};

namespace storm {

// Of a thread in the storm: handlers of any nesting count here.
struct Thread {
  unsigned number = 0;
  std::uint64_t handled = 0;
};
inline constinit thread_local Thread this_thread{};
// What a handler does, with its thread's number. Set while no signal can come.
inline constinit std::atomic<void (*)(unsigned)> handler{nullptr};

inline void on_signal(int) {
  const int before = errno;
  this_thread.handled += 1;
  handler.load(std::memory_order_relaxed)(this_thread.number);
  errno = before;
}

inline sigset_t signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGALRM);
  return set;
}

}  // namespace storm

/// Runs `kThreads` threads. Steps has static functions `step(thread)`, `handler(thread)` for signal
/// handlers, which never nest, and `child()` for forked children, true when all is well there.
template <class Steps>
class PercpuStorm {
 public:
  static constexpr unsigned kThreads = 64;
  // As long as a disturbance takes: so that one thread is disturbed in the middle of its steps
  // while another one disturbs.
  static constexpr std::uint64_t kStepsBetween = 1024;

  /// At least `steps` steps in all, and `forks` forks, at most one a thread. A child that fails
  /// ends the program.
  static StormCounts run(std::uint64_t steps, unsigned forks) {
    PercpuStorm storm(steps / kThreads / kStepsBetween + 1, forks);
    return storm.rage();
  }

 private:
  PercpuStorm(std::uint64_t runs, unsigned forks) : runs_(runs), forks_(forks) {
    ::pthread_barrier_init(&barrier_, nullptr, kThreads + 1);
  }
  ~PercpuStorm() { ::pthread_barrier_destroy(&barrier_); }

  StormCounts rage() {
    storm::handler.store(&Steps::handler, std::memory_order_relaxed);
    struct sigaction action {};
    struct sigaction before_user {};
    struct sigaction before_timer {};
    action.sa_handler = &storm::on_signal;
    action.sa_flags = SA_RESTART;
    action.sa_mask = storm::signals();
    ::sigaction(SIGUSR1, &action, &before_user);
    ::sigaction(SIGALRM, &action, &before_timer);
    const sigset_t signals = storm::signals();
    sigset_t mask_before;
    ::pthread_sigmask(SIG_BLOCK, &signals, &mask_before);

    std::vector<std::thread> threads;
    for (unsigned number = 0; number < kThreads; ++number) {
      threads.emplace_back([this, number] { live(number); });
      handles_[number] = threads.back().native_handle();
    }
    ::pthread_barrier_wait(&barrier_);
    const itimerval fast{{0, 200}, {0, 200}};
    ::setitimer(ITIMER_REAL, &fast, nullptr);
    ::pthread_barrier_wait(&barrier_);
    const itimerval off{};
    ::setitimer(ITIMER_REAL, &off, nullptr);
    ::pthread_barrier_wait(&barrier_);
    for (std::thread& thread : threads) thread.join();

    // What the timer left pending is ignored away before the old handlers come back.
    ::signal(SIGALRM, SIG_IGN);
    ::signal(SIGUSR1, SIG_IGN);
    ::sigaction(SIGUSR1, &before_user, nullptr);
    ::sigaction(SIGALRM, &before_timer, nullptr);
    ::pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
    return total_;
  }

  void live(unsigned number) {
    storm::this_thread = {number, 0};
    const sigset_t signals = storm::signals();
    ::pthread_barrier_wait(&barrier_);
    ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    std::uint64_t random = test_seed(number);
    StormCounts mine;
    for (std::uint64_t run = 0; run < runs_; ++run) {
      running_[this_cpu_index() % kThreads].store(number, std::memory_order_relaxed);
      for (std::uint64_t i = 0; i < kStepsBetween; ++i) Steps::step(number);
      random = random * 6364136223846793005u + 1442695040888963407u;
      disturb(static_cast<unsigned>(random >> 33), mine);
      if (run == runs_ / 2 && number < forks_) {
        if (run_in_child([] { return Steps::child() ? 0 : 1; }) != 0) std::abort();
        mine.forks += 1;
      }
    }
    ::pthread_barrier_wait(&barrier_);  // nobody sends a signal from here on
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    {
      const std::lock_guard lock(mutex_);
      total_.steps += runs_ * kStepsBetween;
      total_.handled += storm::this_thread.handled;
      total_.signals += mine.signals;
      total_.moves += mine.moves;
      total_.forks += mine.forks;
    }
    ::pthread_barrier_wait(&barrier_);
  }

  void disturb(unsigned random, StormCounts& mine) {
    const std::vector<unsigned>& cpus = allowed_cpus();
    unsigned cpu = cpus[random / 8 % cpus.size()];
    if (cpu == this_cpu_index()) cpu = cpus[(random / 8 + 1) % cpus.size()];
    const unsigned running = running_[cpu % kThreads].load(std::memory_order_relaxed);
    const pthread_t victim = handles_[running];
    switch (random % 8) {
      default:
        ::pthread_kill(victim, SIGUSR1);
        mine.signals += 1;
        break;
      case 0:
      case 1:
        bind_thread(victim, {cpus[random / 8 / kThreads % cpus.size()]});
        mine.moves += 1;
        break;
      case 2:
        ::sched_yield();
    }
  }

  const std::uint64_t runs_;
  const unsigned forks_;
  pthread_barrier_t barrier_;
  pthread_t handles_[kThreads] = {};
  // Who was seen last on each CPU: a guess.
  std::atomic<unsigned> running_[kThreads] = {};
  std::mutex mutex_;
  StormCounts total_;
};

}  // namespace mmkit::testing
