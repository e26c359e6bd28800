// SPDX-License-Identifier: MIT
//
// Caches - a few free objects of each size class on each CPU: an allocation without lock or atomic.
//
// The record of a CPU, and what is done without a call, is fast_path.hpp's.
//
// A free puts on top, an allocation takes the top. An empty stack is filled by half from the heap, a
// full one gives half back: one trip to the heap serves many calls. What lies in a stack counts as
// allocated there; its tag says it is free.
//
// To look at the records of other CPUs (statistics apart, which may be a little wrong) one sets the
// lock words and then makes sure that no sequence is under way: Stopped. Meanwhile CPUs find their
// stacks refused and go to the heap.
// Locking:    records belong to their CPU; Stopped is taken under the heap's pages mutex
// Complexity: pop, push O(1), about a nanosecond
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mmkit/percpu/fast_path.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <span>

#include "percpu/os_percpu.hpp"

namespace mmkit::percpu {

class Caches {
 public:
  struct Counts {
    std::uint64_t allocations = 0, frees = 0;
    std::uint64_t peak = 0;  ///< of allocations less frees: at least what it was
  };

  /// Errors: out_of_memory. The records of CPUs this process may run on now are touched.
  static Result<std::unique_ptr<Caches>> create(unsigned units) noexcept;
  Caches(const Caches&) = delete;
  Caches& operator=(const Caches&) = delete;
  ~Caches();

  /// The object of the class that this CPU freed last; nullptr when it has none.
  void* pop(unsigned size_class) noexcept {
    return detail::stack_pop<kStride>(records_.data, record::kHeads[size_class]);
  }
  /// Keeps a free object; false when this CPU has enough.
  bool push(unsigned size_class, void* object) noexcept {
    return detail::stack_push<kStride>(records_.data, record::kHeads[size_class], object,
                                       size_class::capacity(size_class));
  }

  std::byte* records() const noexcept { return records_.data; }

  /// Whether this thread can use its CPU's record without system call or fault.
  bool ready_now() const noexcept {
    if (percpu_mode() == PercpuMode::rseq && !detail::percpu_thread_ready()) return false;
    const unsigned cpu = this_cpu_index();
    return cpu < units_ && touched_[cpu].load(std::memory_order_relaxed);
  }
  /// After a call that was allowed to fault.
  void note_touched() noexcept {
    const unsigned cpu = this_cpu_index();
    if (cpu < units_) touched_[cpu].store(true, std::memory_order_relaxed);
  }

  void count_allocation() noexcept {
    const std::uint64_t allocations = add(record::kAllocations, 1);
    const std::byte* const here = mine();
    // This CPU's share; the sum of the highest shares bounds the highest sum.
    const auto live = static_cast<std::int64_t>(allocations - peek(here, record::kFrees));
    if (live > static_cast<std::int64_t>(peek(here, record::kPeak))) [[unlikely]]
      raise_peak(live);
  }
  void count_free() noexcept { add(record::kFrees, 1); }
  /// For a thread that cannot touch its record now (ready_now() said no).
  void count_allocation_aside() noexcept {
    allocations_aside_.fetch_add(1, std::memory_order_relaxed);  // a count
  }
  Counts counts() const noexcept;
  /// For a child of a fork that must not use what lies in the stacks: nothing comes out or goes in.
  void lock_for_ever() noexcept;
  /// Bytes of the objects that lie in the stacks; while others work, about.
  std::size_t kept_bytes() const noexcept;
  std::size_t metadata_bytes() const noexcept;

  /// While one lives no stack changes but through it. One at a time.
  class Stopped {
   public:
    explicit Stopped(Caches& caches) noexcept;
    Stopped(const Stopped&) = delete;
    Stopped& operator=(const Stopped&) = delete;
    ~Stopped();
    /// Calls f(size_class, object) for each object in a stack.
    template <class F>
    void for_each(F&& f) const {
      for (unsigned cpu = 0; cpu < caches_.cpus_; ++cpu) {
        for (unsigned c = 1; c < kSizeClasses; ++c) {
          for (void* const object : caches_.stack(cpu, c)) f(c, object);
        }
      }
    }
    /// Takes what lies in one stack: f(objects), then it is empty.
    template <class F>
    void empty_each(F&& f) {
      for (unsigned cpu = 0; cpu < caches_.cpus_; ++cpu) {
        for (unsigned c = 1; c < kSizeClasses; ++c) {
          const std::span<void* const> objects = caches_.stack(cpu, c);
          if (!objects.empty()) f(objects);
          caches_.set_count(cpu, c, 0);
        }
      }
    }

   private:
    Caches& caches_;
  };

 private:
  static constexpr std::size_t kStride = record::kStride;

  Caches(unsigned units, os::Range records, std::unique_ptr<std::atomic<bool>[]> touched) noexcept;

  std::byte* record_of(unsigned cpu) const noexcept { return records_.data + cpu * kStride; }
  std::byte* mine() const noexcept { return record_of(this_cpu_index()); }
  static std::uint64_t peek(const std::byte* from, std::size_t field) noexcept {
    return __atomic_load_n(reinterpret_cast<const std::uint64_t*>(from + field), __ATOMIC_RELAXED);
  }
  std::uint64_t add(std::size_t field, std::uint64_t value) noexcept {
    auto* const word = reinterpret_cast<std::uint64_t*>(records_.data + field);
    std::uint64_t sum = 0;
    MMKIT_PERCPU_RUN(detail::rseq::add_return<kStride>(word, value, sum),
                     sum = detail::fallback::add_return<kStride>(word, value))
    return sum;
  }
  void raise_peak(std::int64_t live) noexcept;
  std::span<void* const> stack(unsigned cpu, unsigned size_class) const noexcept;
  void set_count(unsigned cpu, unsigned size_class, std::uint64_t count) noexcept;
  std::uint32_t* lock_of(unsigned cpu) const noexcept {
    return reinterpret_cast<std::uint32_t*>(record_of(cpu));
  }

  const unsigned units_;
  const unsigned cpus_;  ///< the units that have a CPU, and thus a record in use
  const os::Range records_;
  const std::unique_ptr<std::atomic<bool>[]> touched_;
  std::atomic<std::uint64_t> allocations_aside_{0};
};

}  // namespace mmkit::percpu
