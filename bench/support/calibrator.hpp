// SPDX-License-Identifier: MIT
//
// Calibrator - what the simplest operations cost here and now, to set other figures against.
//
// Nanoseconds do not compare across machines, nor across hours of a shared one; ratios to an
// uncontended atomic addition, taken in the same rounds, do.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "support/stopwatch.hpp"

namespace mmkit::bench {

class Calibrator {
 public:
  static constexpr std::size_t kOperations = 8192;

  /// Nanoseconds of one atomic addition to a cache line nobody else uses.
  double atomic_add_ns() noexcept {
    Stopwatch watch;
    // Relaxed: on x86-64 every order of a read-modify-write is the same instruction, and elsewhere
    // this is the cheapest, hence the strictest yardstick.
    for (std::size_t i = 0; i < kOperations; ++i) shared_.fetch_add(1, std::memory_order_relaxed);
    return watch.lap_ns_per(kOperations);
  }
  /// Nanoseconds of two of them, one after the other, as a lock and its release would be.
  double two_atomic_adds_ns() noexcept {
    Stopwatch watch;
    for (std::size_t i = 0; i < kOperations; ++i) {
      shared_.fetch_add(1, std::memory_order_relaxed);
      shared_.fetch_add(1, std::memory_order_relaxed);
    }
    return watch.lap_ns_per(kOperations);
  }
  /// Nanoseconds of a load, an addition and a store of the same word.
  double plain_add_ns() noexcept {
    Stopwatch watch;
    for (std::size_t i = 0; i < kOperations; ++i) plain_ = plain_ + 1;
    return watch.lap_ns_per(kOperations);
  }

 private:
  alignas(64) std::atomic<std::uint64_t> shared_{0};
  alignas(64) volatile std::uint64_t plain_ = 0;  // volatile: the loop is not folded into one
};

}  // namespace mmkit::bench
