// SPDX-License-Identifier: MIT
//
// Percpu - owns a T on every CPU.
//
// What a thread does with its CPU's T is its own affair: the this_cpu operations for one number,
// atomics or a lock inside of T for more. For counters that must not be exact at every moment there
// is PercpuCounter.
//
//   T trivially default constructible   not constructed: the memory is zero, and zero bytes are the
//                                       value. Units nobody opened stay without memory.
//   any other T                         constructed in every unit, destroyed in every unit: all
//                                       units are opened and take memory
// Locking:    none. The object itself is an ordinary value: one thread moves or ends it at a time.
// Complexity: create and destroy O(units) for a T with constructor; local() and on() O(1)
#pragma once

#include <cstdint>
#include <memory>
#include <mmkit/base/check.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <new>
#include <type_traits>
#include <utility>

namespace mmkit {

namespace detail {

/// How many of an allocator's units may have been written: the others read as zero.
inline unsigned open_units_of(unsigned units) noexcept {
  const unsigned open = open_units();
  return open < units ? open : units;
}

/// Takes memory for a T, of `allocator` or, if that is null, of the process's.
template <class T>
Result<PercpuPtr<T>> percpu_allocate(PercpuAllocator*& allocator) noexcept {
  if (allocator == nullptr) allocator = &PercpuAllocator::instance();
  const Result<PercpuPtr<std::byte>> memory = allocator->allocate(sizeof(T), alignof(T));
  if (!memory) return fail(memory.error());
  return percpu_cast<T>(*memory);
}

}  // namespace detail

/// The sum over `units` units, as 64 bits that wrap around. Opens none, and looks at none that was
/// never opened. Of numbers that change meanwhile each is read in one piece, one after the other.
/// Thread safety: safe, also in signal handlers. Complexity: O(open units), a load and an addition
/// each.
template <class T>
auto percpu_sum(PercpuPtr<T> p, unsigned units) noexcept {
  static_assert(std::is_integral_v<T>, "sums are of integers");
  using Sum = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
  const auto at = [](const T* from) {  // a T that is negative counts as negative
    return static_cast<std::uint64_t>(static_cast<Sum>(detail::read_racing(from)));
  };
  const unsigned open = detail::open_units_of(units);
  // Four chains of additions, so that the loads, each on a page of its own, overlap.
  std::uint64_t sums[4] = {};
  const T* here = p.unit0;
  unsigned cpu = 0;
  for (; cpu + 4 <= open; cpu += 4) {
    for (unsigned i = 0; i < 4; ++i) sums[i] += at(detail::unit_address(here, i));
    here = detail::unit_address(here, 4);
  }
  for (; cpu < open; ++cpu) {
    sums[0] += at(here);
    here = detail::unit_address(here, 1);
  }
  return static_cast<Sum>(sums[0] + sums[1] + sums[2] + sums[3]);
}

/// A T per CPU. Moved from, it is empty: fit to be assigned and destroyed.
template <class T>
class Percpu {
  static_assert(std::is_object_v<T> && !std::is_array_v<T>);
  static_assert(!std::is_member_pointer_v<T>, "a null pointer to member is not of zero bytes");
  static_assert(sizeof(T) <= kPercpuMaxBytes, "at most 32 KiB a CPU");
  static_assert(alignof(T) <= kPercpuMaxAlign, "the units' colour allows no more than 64 bytes");
  static_assert(std::is_nothrow_default_constructible_v<T> && std::is_nothrow_destructible_v<T>,
                "there is no good end to a constructor that fails on the fifth CPU");

 public:
  /// Makes one, value-initialised on every CPU, of `allocator` (null: the process's), which
  /// outlives it. Errors: out_of_memory. Thread safety: safe.
  static Result<Percpu> create(PercpuAllocator* allocator = nullptr) noexcept {
    const Result<PercpuPtr<T>> memory = detail::percpu_allocate<T>(allocator);
    if (!memory) return fail(memory.error());
    Percpu made(*memory, *allocator);
    if constexpr (!std::is_trivially_default_constructible_v<T>) {
      made.open_all();
      for (unsigned cpu = 0; cpu < made.units_; ++cpu) {
        ::new (static_cast<void*>(detail::unit_address(made.p_.unit0, cpu))) T();
      }
    }
    return made;
  }

  Percpu(Percpu&& other) noexcept
      : p_(std::exchange(other.p_, {})), allocator_(other.allocator_), units_(other.units_) {}
  Percpu& operator=(Percpu&& other) noexcept {
    if (this == &other) return *this;
    destroy();
    p_ = std::exchange(other.p_, {});
    allocator_ = other.allocator_;
    units_ = other.units_;
    return *this;
  }
  /// Destroys the T of every CPU. No thread may be using one.
  ~Percpu() { destroy(); }

  /// The T of one CPU, open for writing from now on. What other CPUs do with it meanwhile is the
  /// caller's to order. A CPU that the allocator has not is misuse: `cpu out of range`.
  T& on(unsigned cpu) noexcept {
    if (cpu >= units_) [[unlikely]]
      report_failure({"percpu", {}, "cpu out of range", cpu});
    return *per_cpu_ptr(p_, cpu);
  }
  /// The T of the CPU this thread is on: a hint, as in this_cpu_ptr().
  T& local() noexcept { return *this_cpu_ptr(p_); }
  /// For the this_cpu operations. Null when empty.
  PercpuPtr<T> get() const noexcept { return p_; }
  /// How many there are.
  unsigned units() const noexcept { return units_; }

  /// Calls f(cpu, T&) for every CPU in order, which opens them all. f must not throw.
  template <class F>
  void for_each(F&& f) noexcept {
    open_all();
    for (unsigned cpu = 0; cpu < units_; ++cpu) f(cpu, *detail::unit_address(p_.unit0, cpu));
  }
  /// The same, without opening any and leaving out those that nobody ever opened: they are zero.
  template <class F>
  void for_each_open(F&& f) const noexcept {
    const unsigned open = detail::open_units_of(units_);
    for (unsigned cpu = 0; cpu < open; ++cpu) {
      f(cpu, std::as_const(*detail::unit_address(p_.unit0, cpu)));
    }
  }
  /// The sum over all CPUs, for a T that is an integer: see percpu_sum().
  auto sum() const noexcept { return percpu_sum(p_, units_); }

 private:
  Percpu(PercpuPtr<T> p, PercpuAllocator& allocator) noexcept
      : p_(p), allocator_(&allocator), units_(allocator.units()) {}

  void open_all() noexcept { static_cast<void>(per_cpu_ptr(p_, units_ - 1)); }
  void destroy() noexcept {
    if (!p_) return;
    if constexpr (!std::is_trivially_destructible_v<T>) {
      for (unsigned cpu = 0; cpu < units_; ++cpu) {
        std::destroy_at(detail::unit_address(p_.unit0, cpu));
      }
    }
    allocator_->free(percpu_cast<std::byte>(p_));
  }

  PercpuPtr<T> p_;
  PercpuAllocator* allocator_;
  unsigned units_;
};

}  // namespace mmkit
