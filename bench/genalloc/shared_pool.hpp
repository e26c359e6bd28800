// SPDX-License-Identifier: MIT
//
// SharedPool - one pool, half full, in which threads free a range of their own and take another.
//
// Threads live for a turn. Up to two have a CPU each; more of them share two CPUs, and run without
// real-time priority, whatever the program has: threads that have it do not take turns.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "genalloc/contenders.hpp"
#include "support/machine.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"
#include "support/two_threads.hpp"

namespace mmkit::bench {
namespace detail {

class SpinLock {
 public:
  void lock() noexcept {
    // Acquire pairs with unlock's release; relaxed while it waits, only to look.
    while (taken_.exchange(true, std::memory_order_acquire)) {
      while (taken_.load(std::memory_order_relaxed)) __builtin_ia32_pause();
    }
  }
  // Release: what was done under the lock is seen by the next holder's exchange.
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  alignas(64) std::atomic<bool> taken_{false};
};

/// A heap of one thread, shared behind a lock.
template <class Heap, class Lock>
class LockedHeap {
 public:
  template <class... Arguments>
  explicit LockedHeap(Arguments&&... arguments) : heap_(std::forward<Arguments>(arguments)...) {}
  std::uintptr_t place(std::size_t size) {
    const std::lock_guard<Lock> guard(lock_);
    return heap_.place(size);
  }
  void free(std::uintptr_t start, std::size_t size) {
    const std::lock_guard<Lock> guard(lock_);
    heap_.free(start, size);
  }

 private:
  Lock lock_;
  alignas(64) Heap heap_;
};

inline void keep_to_cpu(unsigned thread, bool ordinary) {
  const std::vector<int> cpus = usable_cpus();
  if (cpus.size() >= kThreads) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpus[thread % kThreads]), &set);
    ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
  }
  const sched_param none{};
  if (ordinary) ::pthread_setschedparam(::pthread_self(), SCHED_OTHER, &none);
}

inline constexpr std::size_t kSharedGranules = std::size_t{1} << 16;

/// Threads that free a range of their own and take another of 1 to 16 granules, in half a heap.
template <class Heap>
class SharedPool {
 public:
  SharedPool(std::unique_ptr<Heap> heap, unsigned threads, std::size_t pairs)
      : heap_(std::move(heap)), pairs_(pairs), workers_(threads) {
    for (unsigned i = 0; i < threads; ++i) {
      Worker& worker = workers_[i];
      worker.random = SplitMix(31 + i);
      std::size_t taken = 0;
      while (taken < kSharedGranules / 2 / threads) {
        const std::size_t size = 1 + worker.random.below(16);
        worker.live.push_back({heap_->place(size), size});
        taken += size;
      }
    }
  }
  SharedPool(const SharedPool&) = delete;
  SharedPool& operator=(const SharedPool&) = delete;
  ~SharedPool() {
    for (const Worker& worker : workers_) {
      for (const Range& range : worker.live) {
        if (range.start != kNoPlace) heap_->free(range.start, range.size);
      }
    }
  }

  /// Million pairs a second of all threads together.
  double turn() {
    const auto count = static_cast<std::ptrdiff_t>(workers_.size());
    std::barrier line(count + 1);
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < workers_.size(); ++i) {
      threads.emplace_back([this, i, &line] {
        keep_to_cpu(i, workers_.size() > kThreads);
        line.arrive_and_wait();
        Stopwatch watch;
        work(workers_[i]);
        workers_[i].elapsed_ns = watch.lap_ns();
      });
    }
    line.arrive_and_wait();
    double longest_ns = 0;
    for (unsigned i = 0; i < workers_.size(); ++i) {
      threads[i].join();
      longest_ns = std::max(longest_ns, workers_[i].elapsed_ns);
    }
    return static_cast<double>(pairs_ * workers_.size()) / longest_ns * 1e3;
  }

 private:
  struct Range {
    std::uintptr_t start;
    std::size_t size;
  };
  struct alignas(64) Worker {
    SplitMix random{0};
    std::vector<Range> live;
    double elapsed_ns = 0;
  };

  void work(Worker& worker) {
    for (std::size_t pair = 0; pair < pairs_; ++pair) {
      Range& range = worker.live[worker.random.below(worker.live.size())];
      if (range.start != kNoPlace) heap_->free(range.start, range.size);
      const std::size_t size = 1 + worker.random.below(16);
      range = {heap_->place(size), size};
    }
  }

  std::unique_ptr<Heap> heap_;
  const std::size_t pairs_;
  std::vector<Worker> workers_;
};

}  // namespace detail
}  // namespace mmkit::bench
