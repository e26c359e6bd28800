// SPDX-License-Identifier: MIT
//
// PercpuStack - a free list of pointers per CPU: push and pop take no lock and no atomic.
//
// It owns the room for the pointers, not what they point at. Each unit is a record:
//
//   bytes  0         4      8          16
//          | lock    | pad  | count    | slot 0 | slot 1 | ... | slot capacity - 1 |
//
// push and pop work on this CPU's record by a sequence that begins with a look at the lock word and
// ends with the store of the count. A drainer, on any CPU, takes a record away from its CPU:
//
//   1 lock word = this process's token, by compare-exchange: from now on push and pop refuse
//   2 barrier on that CPU: no sequence is left that saw the word at zero
//   3 copies pointers out, stores the count, lets the word go
//
// In fallback mode push and pop take the lock word themselves, and the drainer needs no barrier.
// A child of fork may inherit a locked word, of a drainer that it has not: the token differs, and
// whoever meets it clears it. The record is whole at any moment, as one store changes it.
// Invariants: 1 count is at most capacity; the slots below it hold what was pushed and not popped
// Locking:    the record's lock word, against drainers
// Complexity: push and pop O(1), some 13 instructions; drain O(pointers) and about 1 us
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/percpu.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <mmkit/percpu/tsan.hpp>
#include <span>
#include <type_traits>
#include <utility>

namespace mmkit {

namespace detail {

// The bytes of a record, as above.
inline constexpr std::size_t kStackHeadBytes = 8, kStackSlotsBytes = 16;

/// If this CPU's record is locked by a process of which this is a child: unlocks it, and true.
bool percpu_stack_unlock_stale(PercpuPtr<std::byte> record) noexcept;
/// Moves the topmost pointers of one record, at most `room`, to `out`; how many.
std::size_t percpu_stack_drain(PercpuPtr<std::byte> record, unsigned cpu, void* out,
                               std::size_t room) noexcept;
/// Pointers in one record: a hint.
std::size_t percpu_stack_size(PercpuPtr<std::byte> record, unsigned cpu) noexcept;

}  // namespace detail

/// Pointers to T, per CPU. Moved from, it is empty: fit to be assigned and destroyed. Thread safety:
/// safe, but for moving and ending it, which the caller serialises with everything else.
template <class T>
class PercpuStack {
  static_assert(std::is_object_v<T> || std::is_void_v<T>);

 public:
  /// The most pointers a CPU can hold: what fits in the largest percpu allocation.
  static constexpr std::size_t kMaxCapacity =
      (kPercpuMaxBytes - detail::kStackSlotsBytes) / sizeof(void*);

  /// Makes one with room for `capacity_per_cpu` pointers (1 to 4094) on each CPU, of `allocator`
  /// (null: the process's), which outlives it. Errors: invalid_argument; out_of_memory.
  /// Thread safety: safe.
  static Result<PercpuStack> create(std::size_t capacity_per_cpu,
                                    PercpuAllocator* allocator = nullptr) noexcept {
    if (capacity_per_cpu == 0 || capacity_per_cpu > kMaxCapacity) {
      return fail(Errc::invalid_argument);
    }
    if (allocator == nullptr) allocator = &PercpuAllocator::instance();
    const Result<PercpuPtr<std::byte>> record = allocator->allocate(
        detail::kStackSlotsBytes + capacity_per_cpu * sizeof(void*), alignof(std::uint64_t));
    if (!record) return fail(record.error());
    return PercpuStack(*record, capacity_per_cpu, *allocator);
  }

  PercpuStack(PercpuStack&& other) noexcept
      : record_(std::exchange(other.record_, {})),
        capacity_(other.capacity_),
        allocator_(other.allocator_),
        units_(other.units_) {}
  PercpuStack& operator=(PercpuStack&& other) noexcept {
    if (this == &other) return *this;
    if (record_) allocator_->free(record_);
    record_ = std::exchange(other.record_, {});
    capacity_ = other.capacity_;
    allocator_ = other.allocator_;
    units_ = other.units_;
    return *this;
  }
  /// What the pointers left in it point at is the caller's, who drains it first.
  ~PercpuStack() {
    if (record_) allocator_->free(record_);
  }

  /// Puts `item` (not null: misuse, `null item`) on this CPU's stack. False when that is full, or is
  /// being drained at this moment. Thread safety: safe, also in signal handlers.
  [[nodiscard]] bool push(T* item) noexcept {
    if (item == nullptr) [[unlikely]]
      report_failure({"percpu", {}, "null item", 0});
    detail::tsan_release(item);
    void* const raw = const_cast<std::remove_cv_t<T>*>(item);
    do {
      if (detail::stack_push<kPercpuUnitStride>(record_.unit0, detail::kStackHeadBytes, raw,
                                                capacity_)) [[likely]] {
        return true;
      }
    } while (seems_locked() && detail::percpu_stack_unlock_stale(record_));
    return false;
  }

  /// Takes what was pushed last on this CPU and not popped. Null when there is nothing, or when it
  /// is being drained at this moment. Thread safety: safe, also in signal handlers.
  [[nodiscard]] T* pop() noexcept {
    do {
      void* const raw =
          detail::stack_pop<kPercpuUnitStride>(record_.unit0, detail::kStackHeadBytes);
      if (raw != nullptr) [[likely]] {
        detail::tsan_acquire(raw);
        return static_cast<T*>(raw);
      }
    } while (seems_locked() && detail::percpu_stack_unlock_stale(record_));
    return nullptr;
  }

  /// Takes up to out.size() pointers from the stack of one CPU, the newest first; how many. Waits
  /// for another drainer of the same CPU. A CPU that the allocator has not is misuse: `cpu out of
  /// range`. Not from signal handlers. Thread safety: safe. Complexity: about 1 us, and O(pointers).
  std::size_t drain(unsigned cpu, std::span<T*> out) noexcept {
    if (cpu >= units_) report_failure({"percpu", {}, "cpu out of range", cpu});
    const std::size_t taken =
        detail::percpu_stack_drain(record_, cpu, static_cast<void*>(out.data()), out.size());
    for (std::size_t i = 0; i < taken; ++i) detail::tsan_acquire(out[i]);
    return taken;
  }

  /// Calls f(T*) for the pointers of all CPUs, taken off before; how many. Beside other threads it
  /// may miss what they push. No lock is held; f must not throw. Otherwise as drain().
  template <class F>
  std::size_t drain_all(F&& f) noexcept {
    constexpr std::size_t kBatch = 64;  // on the stack, and few barriers
    std::size_t total = 0;
    for (unsigned cpu = 0; cpu < detail::open_units_of(units_); ++cpu) {
      // No more than one stackful: others may go on pushing for ever.
      for (std::size_t left = capacity_; left != 0;) {
        T* items[kBatch];
        const std::size_t taken = drain(cpu, std::span<T*>(items, left < kBatch ? left : kBatch));
        if (taken == 0) break;
        for (std::size_t i = 0; i < taken; ++i) f(items[i]);
        left -= taken;
        total += taken;
      }
    }
    return total;
  }

  /// Pointers on one CPU's stack: a hint. Misuse as in drain(). Thread safety: safe.
  std::size_t size(unsigned cpu) const noexcept {
    if (cpu >= units_) report_failure({"percpu", {}, "cpu out of range", cpu});
    return detail::percpu_stack_size(record_, cpu);
  }
  /// The records, as drawn above: for tools and tests that look at them. Null when empty.
  PercpuPtr<std::byte> get() const noexcept { return record_; }
  /// The room of each CPU.
  std::size_t capacity() const noexcept { return capacity_; }
  /// How many CPUs there are.
  unsigned units() const noexcept { return units_; }

 private:
  PercpuStack(PercpuPtr<std::byte> record, std::size_t capacity,
              PercpuAllocator& allocator) noexcept
      : record_(record), capacity_(capacity), allocator_(&allocator), units_(allocator.units()) {}

  // The cheap half of the question whether a refusal was a stale lock: it hardly ever is.
  bool seems_locked() const noexcept {
    return this_cpu_read(percpu_cast<std::uint32_t>(record_)) != 0;
  }

  PercpuPtr<std::byte> record_;
  std::size_t capacity_;
  PercpuAllocator* allocator_;
  unsigned units_;
};

}  // namespace mmkit
