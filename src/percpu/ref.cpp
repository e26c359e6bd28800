// SPDX-License-Identifier: MIT
//
// PercpuRef - the switches, and what is done on the central count.
//
// Order. What a thread did with the object before its put must be seen by who runs release:
//
//   put on a unit      x86 keeps stores in order, and an atomic of the fallback releases: so whoever
//                      reads the unit after it, as close_units() does, sees what came before it
//   close_units()      hands that on by its addition to central_, a release
//   put on central_    releases its own, and acquires what all before it released
#include <mmkit/percpu/ref.hpp>

#include <mmkit/base/check.hpp>
#include <mmkit/base/cpu.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/percpu/percpu.hpp>
#include <new>
#include <utility>

namespace mmkit {
namespace {

// One for all refs: switches are rare and short, a ref is small, and a fork needs to take but one.
class SwitchLock final : public ForkParticipant {
 public:
  Mutex mutex{LockRank::leaf};

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_forks_in_a_switch, mutex.lock_for_fork(),
                 static_cast<void>(0));
  }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_forks_in_a_switch, mutex.unlock(), static_cast<void>(0));
  }
};

SwitchLock& switches() noexcept {
  alignas(SwitchLock) static std::byte storage[sizeof(SwitchLock)];  // never destroyed
  static SwitchLock* const lock = ::new (storage) SwitchLock;
  return *lock;
}

[[noreturn]] void report(std::string_view fault, std::uint64_t count) noexcept {
  report_failure({"percpu", {}, fault, count});
}
constexpr std::string_view kBelowZero = "reference count below zero";

bool is_closed(std::uint64_t unit) noexcept {
  return unit >> 62 == 1;
}

}  // namespace

// What is called at the end. Apart from the ref, which may be destroyed while it runs.
struct PercpuRef::Ending {
  std::function<void()> release;
  std::atomic<unsigned> holders{1};  // the ref, and each call under way
};

Result<std::unique_ptr<PercpuRef>> PercpuRef::create(std::function<void()> release,
                                                     PercpuAllocator* allocator) noexcept {
  if (Status joined = switches().join_fork(LockRank::leaf); !joined) return fail(joined.error());
  const Result<PercpuPtr<std::uint64_t>> counts = detail::percpu_allocate<std::uint64_t>(allocator);
  if (!counts) return fail(counts.error());
  auto* const ending = new (std::nothrow) Ending{std::move(release)};
  if (ending != nullptr) {
    auto* const ref = new (std::nothrow) PercpuRef(*counts, ending, *allocator);
    if (ref != nullptr) return std::unique_ptr<PercpuRef>(ref);
    drop(*ending);
  }
  allocator->free(percpu_cast<std::byte>(*counts));
  return fail(Errc::out_of_memory);
}

PercpuRef::PercpuRef(PercpuPtr<std::uint64_t> counts, Ending* ending,
                     PercpuAllocator& allocator) noexcept
    : counts_(counts), units_(allocator.units()), ending_(ending), allocator_(&allocator) {}

PercpuRef::~PercpuRef() {
  allocator_->free(percpu_cast<std::byte>(counts_));
  drop(*ending_);
}

// ---------------------------------------------------------------- counting

bool PercpuRef::count_here_unready(std::uint64_t amount) noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  while (detail::percpu_enter_thread()) {
    std::uint64_t* const unit0 = counts_.unit0;
    detail::tsan_release(this);
    const auto outcome = detail::rseq::add_through_gate<kPercpuUnitStride>(unit0, amount, &gate_);
    if (outcome == detail::rseq::Outcome::done) return true;
    if (outcome == detail::rseq::Outcome::refused) return false;
  }
#endif
  // A hint that saves an addition for nothing: the unit itself says whether it is open. Relaxed.
  if (__atomic_load_n(&gate_, __ATOMIC_RELAXED) != 0) return false;
  std::uint64_t* const unit = detail::unit_address(counts_.unit0, current_cpu());
  // Release: for a put, see above; pairs with the exchange in close_units(). Acquire: pairs with that
  // in open_units(), so that what follows on central_ finds kBias there.
  return !is_closed(__atomic_fetch_add(unit, amount, __ATOMIC_ACQ_REL));
}

void PercpuRef::get_centrally() noexcept {
  // Relaxed: the caller holds a reference, so nothing ends and nothing needs to be seen.
  const std::uint64_t before = central_.fetch_add(1, std::memory_order_relaxed);
  if ((before & ~kDead) == 0) report("reference taken from zero", 0);
}

void PercpuRef::put_centrally() noexcept {
  Ending& ending = *ending_;
  // Release and acquire: see above.
  const std::uint64_t before = central_.fetch_sub(1, std::memory_order_acq_rel);
  // From here on somebody else may have dropped the last one: nothing of *this is touched.
  if ((before & ~kDead) == 0) report(kBelowZero, before & ~kDead);
  if ((before & ~kDead) == 1) finish(ending);
}

bool PercpuRef::tryget_centrally(Of which) noexcept {
  std::uint64_t seen = central_.load(std::memory_order_relaxed);
  do {
    if ((seen & ~kDead) == 0) return false;
    if (which == Of::live && (seen & kDead) != 0) return false;
    // Acquire: pairs with the release in revive().
  } while (!central_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire,
                                           std::memory_order_relaxed));
  return true;
}

// Calls release, which may destroy the ref: but not the function that is running.
void PercpuRef::finish(Ending& ending) noexcept {
  ending.holders.fetch_add(1, std::memory_order_relaxed);  // the ref still is a holder
  if (ending.release) ending.release();
  drop(ending);
}

// Acquire and release: whoever deletes comes after all calls.
void PercpuRef::drop(Ending& ending) noexcept {
  if (ending.holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete &ending;
}

// ---------------------------------------------------------------- switching, under the lock

// To central: the steps of the header. Returns how many references there are then: below zero is
// misuse, for the caller to report.
std::int64_t PercpuRef::close_units() noexcept {
  // Relaxed: the barrier orders it, and in fallback mode it is a hint.
  __atomic_store_n(&gate_, 1, __ATOMIC_RELAXED);
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_gate_without_barrier, detail::percpu_barrier_everywhere(),
               static_cast<void>(0));
  detail::tsan_acquire(this);
  const bool atomics = percpu_mode() == PercpuMode::fallback;
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_sum_after_adding, static_cast<void>(0),
               (central_.fetch_sub(kBias), detail::hold_window_open()));
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_forks_in_a_switch, static_cast<void>(0),
               detail::hold_window_open());
  std::uint64_t sum = 0;
  for (unsigned cpu = 0; cpu < detail::open_units_of(units_); ++cpu) {
    std::uint64_t* const unit = per_cpu_ptr(counts_, cpu);
    // Acquire: pairs with the put of the fallback. The sequences have ended before the barrier did.
    sum += atomics ? __atomic_exchange_n(unit, kClosed, __ATOMIC_ACQ_REL)
                   : __atomic_load_n(unit, __ATOMIC_RELAXED);
  }
  const std::uint64_t missing =
      sum - MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_sum_after_adding, kBias, std::uint64_t{0});
  // Release: hands on what was done before the puts on units. Acquire: from the puts on central_.
  const std::uint64_t before = central_.fetch_add(missing, std::memory_order_acq_rel);
  return static_cast<std::int64_t>((before & ~kDead) + missing);
}

// Back to per-CPU.
void PercpuRef::open_units() noexcept {
  // Relaxed: the stores below release it.
  central_.fetch_add(kBias, std::memory_order_relaxed);
  for (unsigned cpu = 0; cpu < detail::open_units_of(units_); ++cpu) {
    // Release: who counts on the unit finds kBias. An exchange, which no addition in the fallback
    // can fall between: those before it went to central_, those after it count.
    static_cast<void>(__atomic_exchange_n(per_cpu_ptr(counts_, cpu), 0, __ATOMIC_RELEASE));
  }
  // Release: pairs with the test inside a sequence, which finds its unit at zero and kBias in place.
  __atomic_store_n(&gate_, 0, __ATOMIC_RELEASE);
}

void PercpuRef::kill_and_confirm(const std::function<void()>& confirmed) noexcept {
  std::int64_t count = 1;
  {
    MutexLock lock(switches().mutex);
    // Release: pairs with is_dying(). Before the gate shuts: who is sent to central_ finds it there.
    if ((central_.fetch_or(kDead, std::memory_order_acq_rel) & kDead) != 0) return;
    MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_first_dropped_early, static_cast<void>(0), put());
    // When it counts centrally already, no sequence is under way: the one who shut the gate waited.
    if (__atomic_load_n(&gate_, __ATOMIC_RELAXED) == 0) count = close_units();
  }
  if (count < 0) report(kBelowZero, static_cast<std::uint64_t>(count));
  if (confirmed) confirmed();
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_first_dropped_early, put(), static_cast<void>(0));
}

void PercpuRef::revive(bool only_at_zero) noexcept {
  MutexLock lock(switches().mutex);
  // Acquire: pairs with the puts of the life before.
  const std::uint64_t seen = central_.load(std::memory_order_acquire);
  if ((seen & kDead) == 0 || (only_at_zero && (seen & ~kDead) != 0)) {
    lock.unlock();
    report(only_at_zero ? "reference count in use" : "reference count not killed", seen & ~kDead);
  }
  detail::tsan_release(this);
  // The first reference comes back in the same step as kDead goes. Release: pairs with is_dying() and
  // tryget_live().
  central_.fetch_add(kDead + 1, std::memory_order_acq_rel);
  if (!stays_central_) open_units();
}

void PercpuRef::reinit() noexcept {
  revive(MMKIT_MUTATE(MMKIT_MUTANT_percpu_ref_reinit_in_use, /*only_at_zero=*/true, false));
}

void PercpuRef::resurrect() noexcept {
  revive(/*only_at_zero=*/false);
}

void PercpuRef::switch_to_atomic() noexcept {
  Ending& ending = *ending_;
  std::int64_t count = 1;
  {
    MutexLock lock(switches().mutex);
    stays_central_ = true;
    if (__atomic_load_n(&gate_, __ATOMIC_RELAXED) == 0) count = close_units();
  }
  if (count < 0) report(kBelowZero, static_cast<std::uint64_t>(count));
  if (count == 0) finish(ending);  // the last reference was dropped before the switch
}

void PercpuRef::switch_to_percpu() noexcept {
  MutexLock lock(switches().mutex);
  stays_central_ = false;
  // Relaxed: both change under the lock alone.
  const bool dead = (central_.load(std::memory_order_relaxed) & kDead) != 0;
  if (!dead && __atomic_load_n(&gate_, __ATOMIC_RELAXED) != 0) open_units();
}

}  // namespace mmkit
