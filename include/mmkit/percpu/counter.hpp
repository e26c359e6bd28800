// SPDX-License-Identifier: MIT
//
// PercpuCounter - a counter that many threads add to at the cost of a plain addition.
//
//   add(amount)   unit of this CPU:  |local + amount| < batch?   local += amount
//                                    else                        central += local + amount, local = 0
//   read()        central            off by less than batch * units, once no add is under way
//   sum()         central + every local: exact, once no add is under way
//
// All numbers are 64 bits and wrap around as unsigned ones do, so the sum is exact whatever the
// amounts. Folding is lock-free: add() may be called in a signal handler that interrupted an add().
//
// The batch is the choice between a central number that is close and one that is touched seldom.
// Units:      whatever the caller counts
// Invariants: 1 central plus the locals is the sum, once no add is under way
//             2 every local lies in [-reach_, reach_] then, and reach_ is batch - 1
// Locking:    none. A fork in the middle of another thread's fold gives the child a sum that lacks
//             what was being folded: less than two batches.
// Source:     the kernel's percpu_counter
#pragma once

#include <atomic>
#include <cstdint>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>

namespace mmkit {

/// A counter. Moved from, it is empty: fit to be assigned and destroyed. Thread safety: safe, but
/// for moving and ending it, which the caller serialises with everything else.
class PercpuCounter {
 public:
  /// Makes one at `initial`, of `allocator` (null: the process's), which outlives it. A `batch` of 1
  /// keeps nothing back on a CPU; 0 stands for the larger of 32 and twice the possible CPUs.
  /// Errors: invalid_argument (a batch below zero); out_of_memory. Thread safety: safe.
  static Result<PercpuCounter> create(std::int64_t initial = 0, std::int32_t batch = 32,
                                      PercpuAllocator* allocator = nullptr) noexcept;
  PercpuCounter(PercpuCounter&& other) noexcept;
  PercpuCounter& operator=(PercpuCounter&& other) noexcept;
  ~PercpuCounter();

  /// Adds. Thread safety: safe, also in signal handlers. Complexity: O(1), nine instructions; one in
  /// about `batch` goes to the central number.
  void add(std::int64_t signed_amount) noexcept {
    const auto amount = static_cast<std::uint64_t>(
        MMKIT_MUTATE(MMKIT_MUTANT_percpu_counter_of_32_bits, signed_amount,
                     static_cast<std::int32_t>(signed_amount)));
#if MMKIT_PERCPU_HAS_RSEQ
    if (detail::rseq::add_within<kPercpuUnitStride>(locals_.unit0, amount, reach_) ==
        detail::rseq::Outcome::done) [[likely]] {
      return;
    }
#endif
    add_and_fold(amount);
  }

  /// The central number: off from sum() by less than batch * units. Complexity: one load.
  std::int64_t read() const noexcept {
    // Relaxed, as everywhere here: a number, which orders nothing.
    return static_cast<std::int64_t>(central_.load(std::memory_order_relaxed));
  }
  /// The sum: exact once the adds before it have ended. What others are adding at this moment may
  /// or may not be in it, and neither may what they are folding: up to a batch for each.
  /// Complexity: O(open units).
  std::int64_t sum() const noexcept;
  /// -1, 0 or 1 as the sum is less than, equal to or greater than `value`. Complexity: one load
  /// when read() is far enough from it, else that of sum().
  int compare(std::int64_t value) const noexcept;
  /// Makes the sum `value`. Adds that end before count no more, those that begin after are on top;
  /// of one at the same moment none is lost, but it may count as before or as after. Complexity:
  /// that of sum().
  void set(std::int64_t value) noexcept;

 private:
  PercpuCounter(PercpuPtr<std::uint64_t> locals, std::uint64_t initial, std::uint64_t reach,
                PercpuAllocator& allocator) noexcept;

  void add_and_fold(std::uint64_t amount) noexcept;
  void free_locals() noexcept;

  PercpuPtr<std::uint64_t> locals_;
  std::uint64_t reach_;
  PercpuAllocator* allocator_;
  unsigned units_;
  // A line of its own: else every fold of one CPU would take the fields above from all others.
  alignas(64) std::atomic<std::uint64_t> central_;
};

}  // namespace mmkit
