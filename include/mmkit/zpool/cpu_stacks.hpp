// SPDX-License-Identifier: MIT
//
// CpuStacks - what a pool keeps once a CPU: stacks of numbers and its counts, without lock or atomic.
//
// The number of a slot goes onto a stack of the CPU where it was freed and comes off where it is
// wanted next. Each stack has a limit on each CPU, zero until somebody grants one, so a CPU that
// never works with the pool keeps nothing and costs nothing.
//
//   record  | lock | pad | allocations, bytes | frees, bytes |  stack 0: count, limit, numbers | ...
//           0      4     16                   32             64
//
// A stack is changed by its CPU alone, through restartable sequences (percpu/rseq_x86_64.hpp), or
// in fallback mode under the record's lock word. Who empties another CPU's stack sets the lock word,
// makes sure by a barrier that no sequence is left that saw it at zero, and takes the numbers out;
// pushes and pops refuse meanwhile. A limit is one word that anybody may write: whoever lowers it
// must empty the stack afterwards, if it is to hold.
// Units:      heads in bytes from the start of a record
// Invariants: 1 count is at most the highest limit since the stack was last emptied  2 no number is 0
// Locking:    see above; set_limit(): caller serialises for each stack
// Complexity: push, pop, count O(1), some ten instructions; drain() O(numbers) and about 1 us
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <span>

namespace mmkit {

class CpuStacks {
 public:
  /// The longest stack there can be.
  static constexpr unsigned kMostNumbers = 64;
  static constexpr std::size_t kFirstHead = 64;

  constexpr CpuStacks() noexcept = default;
  CpuStacks(const CpuStacks&) = delete;
  CpuStacks& operator=(const CpuStacks&) = delete;
  ~CpuStacks();

  /// The bytes of a stack.
  static constexpr std::size_t stack_bytes(unsigned capacity) noexcept {
    return sizeof(std::uint32_t) * (2 + std::size_t{capacity});
  }
  /// Makes records of so many bytes, all zero: no stack has room. Errors: out_of_memory.
  Status create(std::size_t record_bytes) noexcept;

  // ------------------------------------------------------------------ this CPU

  /// Puts a number (not 0) on this CPU's stack. False: no room, or somebody empties it.
  [[gnu::always_inline]] bool push(std::size_t head, std::uint32_t number) noexcept {
    return detail::stack_push_number<kPercpuUnitStride>(records_.unit0, head, number);
  }
  /// Takes what was pushed last on this CPU; 0: nothing, or somebody empties it.
  [[gnu::always_inline]] std::uint32_t pop(std::size_t head) noexcept {
    return detail::stack_pop_number<kPercpuUnitStride>(records_.unit0, head);
  }
  void count_allocation(std::size_t bytes) noexcept {
    if (try_count_allocation(bytes)) return;
    this_cpu_inc(word(kAllocations));
    this_cpu_add(word(kAllocations + 8), bytes);
  }
  void count_free(std::size_t bytes) noexcept {
    if (try_count_free(bytes)) return;
    this_cpu_inc(word(kFrees));
    this_cpu_add(word(kFrees + 8), bytes);
  }

  // The same without a call in them: false, or 0, also where the thread is not ready for sequences or
  // the mode is fallback, and then nothing has happened.
  [[gnu::always_inline]] bool try_push(std::size_t head, std::uint32_t number) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    using detail::rseq::Outcome;
    return detail::rseq::push_number<kPercpuUnitStride>(records_.unit0, head, number) ==
           Outcome::done;
#else
    return static_cast<void>(head), static_cast<void>(number), false;
#endif
  }
  [[gnu::always_inline]] std::uint32_t try_pop(std::size_t head) noexcept {
    std::uint32_t number = 0;
#if MMKIT_PERCPU_HAS_RSEQ
    static_cast<void>(detail::rseq::pop_number<kPercpuUnitStride>(records_.unit0, head, number));
#else
    static_cast<void>(head);
#endif
    return number;
  }
  [[gnu::always_inline]] bool try_count_allocation(std::size_t bytes) noexcept {
    return try_add_pair(kAllocations, bytes);
  }
  [[gnu::always_inline]] bool try_count_free(std::size_t bytes) noexcept {
    return try_add_pair(kFrees, bytes);
  }

  /// Whether this thread can use its CPU's record without a system call or a page fault.
  bool ready_now() const noexcept;
  /// Makes it so, for calls to come. Returns the CPU, a hint.
  unsigned make_ready() noexcept;

  // ------------------------------------------------------------------ any CPU

  unsigned cpus() const noexcept {
    return cpus_;
  }
  std::uint32_t limit(unsigned cpu, std::size_t head) const noexcept {
    return is_used(cpu) ? per_cpu_read(number(head + 4), cpu) : 0;
  }
  /// Numbers on a stack: a hint while its CPU works.
  std::uint32_t count(unsigned cpu, std::size_t head) const noexcept {
    return is_used(cpu) ? per_cpu_read(number(head), cpu) : 0;
  }
  /// Grants room, within the stack's capacity, on a CPU that is ready.
  void set_limit(unsigned cpu, std::size_t head, std::uint32_t limit) noexcept;
  /// Takes everything off a stack; how many. `out` has room for kMostNumbers.
  unsigned drain(unsigned cpu, std::size_t head, std::uint32_t* out) noexcept;

  struct Counts {
    std::uint64_t allocations = 0, frees = 0, bytes = 0;  ///< bytes: allocated less freed
  };
  /// Exact at rest; otherwise frees are never more than allocations.
  Counts counts() const noexcept;
  std::size_t metadata_bytes() const noexcept;

  /// While one lives no stack changes: to look at all of them. One at a time.
  class Stopped {
   public:
    explicit Stopped(CpuStacks& stacks) noexcept;
    Stopped(const Stopped&) = delete;
    Stopped& operator=(const Stopped&) = delete;
    ~Stopped();
    /// The numbers on a stack.
    std::span<const std::uint32_t> numbers(unsigned cpu, std::size_t head) const noexcept;

   private:
    CpuStacks& stacks_;
  };

  /// In the child of a fork: lets go of records that other threads of the parent had locked.
  void unlock_in_child() noexcept;

 private:
  static constexpr std::size_t kAllocations = 16, kFrees = 32;  // each with bytes behind it

  [[gnu::always_inline]] bool try_add_pair(std::size_t at, std::size_t bytes) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    return detail::rseq::add_pair<kPercpuUnitStride>(word(at).unit0, 1, bytes);
#else
    return static_cast<void>(at), static_cast<void>(bytes), false;
#endif
  }
  PercpuPtr<std::uint64_t> word(std::size_t at) const noexcept {
    return percpu_cast<std::uint64_t>(PercpuPtr<std::byte>{records_.unit0 + at});
  }
  PercpuPtr<std::uint32_t> number(std::size_t at) const noexcept {
    return percpu_cast<std::uint32_t>(PercpuPtr<std::byte>{records_.unit0 + at});
  }
  enum class Use : std::uint8_t { none, in_memory, stopped };
  bool is_used(unsigned cpu) const noexcept {
    // Relaxed: a record that somebody has just begun to use is as good as one not used yet.
    return use_[cpu].load(std::memory_order_relaxed) != Use::none;
  }
  void lock(unsigned cpu) noexcept;
  void unlock(unsigned cpu) noexcept;

  PercpuPtr<std::byte> records_;
  std::size_t record_bytes_ = 0;
  unsigned cpus_ = 0;
  std::unique_ptr<std::atomic<Use>[]> use_;  // by CPU
};

}  // namespace mmkit
