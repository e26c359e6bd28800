// SPDX-License-Identifier: MIT
//
// Race - what brings threads to one point at one time.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace mmkit::testing {

/// Runs `body(0)` to `body(count - 1)`, each in a thread of its own, and waits for all.
template <class Body>
void run_threads(unsigned count, Body&& body) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t) threads.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : threads) thread.join();
}

/// Lets its threads go within some tens of nanoseconds of each other, which a barrier that sleeps
/// does not: what is raced for takes no longer.
class SpinBarrier {
 public:
  explicit SpinBarrier(unsigned threads) : threads_(threads) {}
  void arrive_and_wait() {
    const std::uint64_t round = round_.load();
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_ = 0;
      round_.fetch_add(1);
      return;
    }
    for (unsigned spins = 1; round_.load() == round; ++spins) {
      if (spins % 256 == 0) std::this_thread::yield();
    }
  }

 private:
  const unsigned threads_;
  std::atomic<unsigned> arrived_{0};
  std::atomic<std::uint64_t> round_{0};
};

}  // namespace mmkit::testing
