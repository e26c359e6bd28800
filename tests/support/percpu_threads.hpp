// SPDX-License-Identifier: MIT
//
// PercpuThreads - threads on given CPUs, for tests of what is kept per CPU.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "support/percpu_memory.hpp"

namespace mmkit::testing {

/// Runs `body` on one CPU, in a thread of its own, and waits for it.
template <class Body>
void run_on(unsigned cpu, Body&& body) {
  std::thread([&] {
    bind_thread(::pthread_self(), {cpu});
    body();
  }).join();
}

/// Moves the calling thread about as a scheduler would: to one CPU, to another, to all.
class Wanderer {
 public:
  explicit Wanderer(std::uint64_t seed) : random_(seed) {}
  void move() {
    const std::vector<unsigned>& cpus = allowed_cpus();
    const std::size_t to = random_() % (cpus.size() + 1);
    if (to == cpus.size()) {
      bind_thread(::pthread_self(), cpus);
    } else {
      bind_thread(::pthread_self(), {cpus[to]});
    }
  }

 private:
  std::mt19937_64 random_;
};

/// Threads that start together; joined at the end of the scope.
class Crew {
 public:
  Crew() = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() { join(); }

  template <class Body>
  void add(Body body) {
    threads_.emplace_back([this, body = std::move(body)]() mutable {
      while (!started_.load(std::memory_order_acquire)) std::this_thread::yield();
      body();
    });
  }
  void start() { started_.store(true, std::memory_order_release); }
  void join() {
    start();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::atomic<bool> started_{false};
  std::vector<std::thread> threads_;
};

/// Tells a crew to stop when the scope ends, on a failed assertion too. Declared after the crew.
class StopAtEnd {
 public:
  explicit StopAtEnd(std::atomic<bool>& stop) : stop_(stop) {}
  StopAtEnd(const StopAtEnd&) = delete;
  StopAtEnd& operator=(const StopAtEnd&) = delete;
  ~StopAtEnd() { stop_ = true; }

 private:
  std::atomic<bool>& stop_;
};

/// An allocator with so many units, or the test process ends.
inline std::unique_ptr<PercpuAllocator> make_percpu_allocator(unsigned units) {
  PercpuOptions options;
  options.max_cpus = std::max(units, possible_cpus());
  return std::move(PercpuAllocator::create(options)).value();
}
/// One with units that nobody can have opened yet, as none before it had so many.
inline std::unique_ptr<PercpuAllocator> make_unopened_percpu_allocator() {
  return make_percpu_allocator(detail::open_units() + 16);
}

}  // namespace mmkit::testing
