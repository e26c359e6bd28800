// SPDX-License-Identifier: MIT
//
// PercpuRef - a reference count that costs no shared cache line while its object lives.
//
//   per-CPU   get and put change the count of this CPU's unit. Nobody knows the total, and nobody
//             needs to: the first reference is held until kill(), so it cannot be zero.
//   central   they change one atomic number, which says when it comes to zero.
//
//             kill() or switch_to_atomic()
//   per-CPU ------------------------------> central            a ref begins here: per-CPU, at one
//           <------------------------------
//             reinit(), resurrect(), switch_to_percpu()
//
// The switch to central, step by step:
//
//   1 the gate is shut      every sequence tests it inside: from now on gets and puts go to central_
//   2 barrier               no sequence is left that saw the gate open; the units stand still
//   3 the units are summed  first all of them,
//   4 central_ += sum - kBias   then in one step. Until then central_ holds kBias, far more than
//                           any count, so the puts of the meantime cannot bring it to zero.
//
// and back: central_ += kBias, units to zero, gate open. In fallback mode nothing excludes a get or
// put that has seen the gate open; there step 3 puts kClosed into each unit by an exchange. An
// addition that then finds kClosed there counts as not done, and is done on central_. So at every
// moment, in either mode, the number of references is central_ (less kBias) plus the open units, and
// each get or put is free to go either way.
//
// kDead is a bit of central_ itself: tryget_live() and kill() cannot pass each other unseen.
// Invariants: 1 gate_ is 0: central_ holds kBias; gate_ is 1 and no switch is under way: it does not
//             2 without kBias the lower 63 bits are the number of references: from 0 on
//             3 kDead implies gate_ 1, once kill() has switched
//             4 in fallback mode a unit holds kClosed and some garbage, or is open and within
//               2^61 of zero
// Locking:    one lock in the process for all switches, held around fork: so a child finds none half
//             done. get, put and their like take none
// Complexity: get and put O(1): nine instructions each. A switch: O(open units) and about 1 us
// Source:     the kernel's percpu_ref; the barrier stands for its grace period
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <mmkit/percpu/tsan.hpp>

namespace mmkit {

/// A reference count, which begins with one reference: the one that kill() drops. Never moves.
/// A forked child has a copy, with all the references that its parent had; it may go on with it.
///
/// Who may call what: get() needs a reference that the caller holds; tryget(), tryget_live() and the
/// questions need the PercpuRef to exist, which is for the owner of the memory to see to. More puts
/// than gets are misuse: `reference count below zero`, found at the put that does it, or when the
/// units are summed.
class alignas(64) PercpuRef {
 public:
  /// Makes one, of `allocator` (null: the process's), which outlives it. `release` is called when
  /// the count comes to zero: once for each kill, in the thread that dropped the last reference. It
  /// may destroy the PercpuRef, or reinit() it; it may be empty, and must not throw. Errors:
  /// out_of_memory. Thread safety: safe.
  static Result<std::unique_ptr<PercpuRef>> create(std::function<void()> release,
                                                   PercpuAllocator* allocator = nullptr) noexcept;
  PercpuRef(const PercpuRef&) = delete;
  PercpuRef& operator=(const PercpuRef&) = delete;
  /// Ends it, at whatever count; nobody is told. No call may be under way.
  ~PercpuRef();

  /// Takes a reference; the caller holds one already. With none left in the world, which can only be
  /// seen after a kill, it is misuse: `reference taken from zero`. Thread safety: safe, also in
  /// signal handlers.
  void get() noexcept {
    if (!count_here(1)) [[unlikely]]
      get_centrally();
  }
  /// Drops a reference. After a kill the last one calls release, in this thread. Thread safety: safe,
  /// also in signal handlers as far as release is.
  void put() noexcept {
    if (!count_here(std::uint64_t{0} - 1)) [[unlikely]]
      put_centrally();
  }
  /// Takes a reference unless there is none left; what was done before the last reinit() is seen
  /// then. Thread safety: safe, also in signal handlers.
  [[nodiscard]] bool tryget() noexcept {
    return (count_here(1) && seen()) || tryget_centrally(Of::any);
  }
  /// Takes a reference unless it was killed; otherwise as tryget(). False for sure once the kill is
  /// confirmed. Thread safety: safe, also in signal handlers.
  [[nodiscard]] bool tryget_live() noexcept {
    return (count_here(1) && seen()) || tryget_centrally(Of::live);
  }

  /// From now on it counts centrally, tryget_live() fails, and the first reference is dropped: the
  /// last put calls release, this one if there is no other. A second kill does nothing. The caller
  /// has what a reference gives: the ref lives at least until this drops the first one. Not from
  /// signal handlers. Thread safety: safe.
  void kill() noexcept { kill_and_confirm({}); }
  /// The same; `confirmed` runs when no tryget_live() can succeed any more, in this thread, before
  /// the first reference is dropped. A second kill does not call it. It must not throw.
  void kill_and_confirm(const std::function<void()>& confirmed) noexcept;

  /// As new, with one reference, after a kill whose references are all gone: anything else is
  /// misuse, `reference count in use`. Thread safety: safe; release may be running yet.
  void reinit() noexcept;
  /// Takes a kill back, whatever references there are: alive, with the first reference again. Not
  /// killed is misuse: `reference count not killed`. Thread safety: safe.
  void resurrect() noexcept;
  /// Counts centrally until switch_to_percpu(), and after reinit() and resurrect() too: for who
  /// wants to know the moment a living count comes to zero. Thread safety: safe.
  void switch_to_atomic() noexcept;
  /// Counts per CPU again; when it was killed, once it is reinit() or resurrect(). Thread safety:
  /// safe; the caller holds a reference.
  void switch_to_percpu() noexcept;

  /// Whether there is no reference left. Never of a ref that counts per CPU. True of what was before
  /// the last put. Thread safety: safe.
  bool is_zero() const noexcept {
    // Acquire: pairs with the release of each put.
    return (central_.load(std::memory_order_acquire) & ~kDead) == 0;
  }
  /// Whether it was killed. Thread safety: safe.
  bool is_dying() const noexcept {
    return (central_.load(std::memory_order_acquire) & kDead) != 0;  // pairs with kill()
  }

 private:
  enum class Of : std::uint8_t { any, live };
  struct Ending;

  static constexpr std::uint64_t kDead = std::uint64_t{1} << 63;
  // Half way up, so that counts have as much room below as above.
  static constexpr std::uint64_t kBias = std::uint64_t{1} << 61;
  // The middle of the numbers that begin with 01, which no open unit reaches from either side.
  static constexpr std::uint64_t kClosed = std::uint64_t{3} << 61;

  PercpuRef(PercpuPtr<std::uint64_t> counts, Ending* ending, PercpuAllocator& allocator) noexcept;

  // Adds to this CPU's unit; false when it is not there that is counted.
  [[gnu::always_inline]] bool count_here(std::uint64_t amount) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
    std::uint64_t* const unit0 = counts_.unit0;
    detail::tsan_release(this);  // the last look at *this that it sees: a put may be the end of it
    const auto outcome = detail::rseq::add_through_gate<kPercpuUnitStride>(unit0, amount, &gate_);
    if (outcome == detail::rseq::Outcome::done) [[likely]]
      return true;
    if (outcome == detail::rseq::Outcome::refused) return false;
#endif
    return count_here_unready(amount);
  }
  // After a count on this CPU. What a new life made ready is seen as a sequence that finds the gate
  // open comes after the store that opened it.
  bool seen() const noexcept {
    detail::tsan_acquire(this);
    return true;
  }
  bool count_here_unready(std::uint64_t amount) noexcept;
  void get_centrally() noexcept;
  void put_centrally() noexcept;
  bool tryget_centrally(Of which) noexcept;

  std::int64_t close_units() noexcept;
  void open_units() noexcept;
  void revive(bool only_at_zero) noexcept;
  static void finish(Ending& ending) noexcept;
  static void drop(Ending& ending) noexcept;

  PercpuPtr<std::uint64_t> counts_;
  std::uint32_t gate_ = 0;      // not 0: count centrally
  bool stays_central_ = false;  // under the lock of the switches
  unsigned units_;
  std::atomic<std::uint64_t> central_{kBias + 1};
  Ending* ending_;
  PercpuAllocator* allocator_;
};

}  // namespace mmkit
