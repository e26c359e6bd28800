// SPDX-License-Identifier: MIT
//
// Caches - a few free objects of each size class on each CPU: an allocation without lock or atomic.
//
// A CPU's record holds a stack a class, worked by the sequences of rseq_x86_64.hpp, and its counts:
//
//   record  | lock | allocations | frees | peak |  count, slots of class 1 | class 2 | ... | 31
//           0      8             16      24     64
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
#include <mmkit/base/mutex.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <span>

#include "percpu/os_percpu.hpp"
#include "percpu/size_classes.hpp"

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
    return detail::stack_pop<kStride>(records_.data, kHeads[size_class]);
  }
  /// Keeps a free object; false when this CPU has enough.
  bool push(unsigned size_class, void* object) noexcept {
    return detail::stack_push<kStride>(records_.data, kHeads[size_class], object,
                                       size_class::capacity(size_class));
  }

  // The same for a thread that runs sequences, by the address of the records alone; false also when
  // there is more to do than a sequence.
  static bool pop_fast(std::byte* records, unsigned size_class, void*& object) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    return detail::rseq::pop<kStride>(records, kHeads[size_class], object) ==
           detail::rseq::Outcome::done;
#else
    return static_cast<void>(records), static_cast<void>(size_class), static_cast<void>(object),
           false;
#endif
  }
  static bool push_fast(std::byte* records, unsigned size_class, void* object) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    return detail::rseq::push<kStride>(records, kHeads[size_class], object,
                                       kCapacities[size_class]) == detail::rseq::Outcome::done;
#else
    return static_cast<void>(records), static_cast<void>(size_class), static_cast<void>(object),
           false;
#endif
  }
  static bool count_allocation_fast(std::byte* records) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    return detail::rseq::count_within<kStride>(reinterpret_cast<std::uint64_t*>(
               records + kAllocations)) == detail::rseq::Outcome::done;
#else
    return static_cast<void>(records), false;
#endif
  }
  static bool count_free_fast(std::byte* records) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    return detail::rseq::add<kStride>(reinterpret_cast<std::uint64_t*>(records + kFrees), 1);
#else
    return static_cast<void>(records), false;
#endif
  }
  std::byte* records() const noexcept {
    return records_.data;
  }

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
    if (count_allocation_fast(records_.data)) [[likely]]
      return;
    const std::uint64_t allocations = add(kAllocations, 1);
    const std::byte* const record = mine();
    // This CPU's share; the sum of the highest shares bounds the highest sum.
    const auto live = static_cast<std::int64_t>(allocations - peek(record, kFrees));
    if (live > static_cast<std::int64_t>(peek(record, kPeak))) [[unlikely]]
      raise_peak(live);
  }
  void count_free() noexcept {
    if (!count_free_fast(records_.data)) add(kFrees, 1);
  }
  /// For a thread that cannot touch its record now (ready_now() said no).
  void count_aside(std::uint64_t allocations, std::uint64_t frees) noexcept {
    // Relaxed: counts order nothing.
    allocations_aside_.fetch_add(allocations, std::memory_order_relaxed);
    frees_aside_.fetch_add(frees, std::memory_order_relaxed);
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
  // The first three side by side and in this order: rseq::count_within.
  static constexpr std::size_t kAllocations = 8, kFrees = 16, kPeak = 24, kFirstStack = 64;

  // Where the stack of each class begins in a record.
  static constexpr std::array<std::size_t, kSizeClasses + 1> kHeads = [] {
    std::array<std::size_t, kSizeClasses + 1> heads{};
    std::size_t at = kFirstStack;
    for (unsigned c = 1; c < kSizeClasses; ++c) {
      heads[c] = at;
      at += 8 + 8 * size_class::capacity(c);
    }
    heads[kSizeClasses] = at;
    return heads;
  }();
  static constexpr std::array<std::uint16_t, kSizeClasses> kCapacities = [] {
    std::array<std::uint16_t, kSizeClasses> capacities{};
    for (unsigned c = 1; c < kSizeClasses; ++c) {
      capacities[c] = static_cast<std::uint16_t>(size_class::capacity(c));
    }
    return capacities;
  }();
  // Whole pairs of cache lines, so that no two CPUs share any; and no multiple of a page, so that
  // their records fall into different sets.
  static constexpr std::size_t kStride = (kHeads[kSizeClasses] + 127) / 128 * 128;
  static_assert(kStride % 4096 != 0);

  Caches(unsigned units, os::Range records, std::unique_ptr<std::atomic<bool>[]> touched) noexcept;

  std::byte* record(unsigned cpu) const noexcept {
    return records_.data + cpu * kStride;
  }
  std::byte* mine() const noexcept {
    return record(this_cpu_index());
  }
  static std::uint64_t peek(const std::byte* record, std::size_t field) noexcept {
    return __atomic_load_n(reinterpret_cast<const std::uint64_t*>(record + field),
                           __ATOMIC_RELAXED);
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
    return reinterpret_cast<std::uint32_t*>(record(cpu));
  }

  const unsigned units_;
  const unsigned cpus_;  ///< the units that have a CPU, and thus a record in use
  const os::Range records_;
  const std::unique_ptr<std::atomic<bool>[]> touched_;
  std::atomic<std::uint64_t> allocations_aside_{0}, frees_aside_{0};
};

}  // namespace mmkit::percpu
