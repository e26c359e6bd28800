// SPDX-License-Identifier: MIT
#include <mmkit/zpool/cpu_stacks.hpp>

#include <sched.h>

#include <algorithm>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/short_lock.hpp>
#include <new>

namespace mmkit {

CpuStacks::~CpuStacks() {
  if (records_) PercpuAllocator::instance().free(records_);
}

Status CpuStacks::create(std::size_t record_bytes) noexcept {
  PercpuAllocator& memory = PercpuAllocator::instance();
  // Only CPUs that can exist ever get here; memory beyond them stays untouched.
  const unsigned cpus = std::min(memory.units(), possible_cpus());
  use_.reset(new (std::nothrow) std::atomic<Use>[cpus]());
  if (use_ == nullptr) return fail(Errc::out_of_memory);
  const Result<PercpuPtr<std::byte>> records = memory.allocate(record_bytes, kPercpuMaxAlign);
  if (!records) return fail(records.error());
  records_ = *records;
  record_bytes_ = record_bytes;
  cpus_ = cpus;
  return {};
}

bool CpuStacks::ready_now() const noexcept {
  if (percpu_mode() == PercpuMode::rseq && !detail::percpu_thread_ready()) return false;
  const unsigned cpu = this_cpu_index();
  return cpu < cpus_ && is_used(cpu);
}

unsigned CpuStacks::make_ready() noexcept {
  // Also registers the thread, where it has no area for sequences yet.
  this_cpu_add(word(kFrees), 0);
  const unsigned cpu = std::min(this_cpu_index(), cpus_ - 1);
  if (is_used(cpu)) return cpu;
  std::byte* const record = per_cpu_ptr(records_, cpu);
  for (std::size_t at = 0; at < record_bytes_; at += kPageSize) {
    // Adds nothing, but as a write, and in one piece: it undoes nothing that a sequence stores.
    __atomic_fetch_add(reinterpret_cast<std::uint32_t*>(record + at), 0, __ATOMIC_RELAXED);
  }
  auto* const last = reinterpret_cast<std::uint32_t*>(record + record_bytes_) - 1;
  __atomic_fetch_add(last, 0, __ATOMIC_RELAXED);
  Use before = Use::none;
  use_[cpu].compare_exchange_strong(before, Use::in_memory, std::memory_order_relaxed);
  return cpu;
}

void CpuStacks::set_limit(unsigned cpu, std::size_t head, std::uint32_t limit) noexcept {
  // Relaxed: a push that reads the old one is as good as one that came before.
  __atomic_store_n(per_cpu_ptr(number(head + 4), cpu), limit, __ATOMIC_RELAXED);
}

void CpuStacks::lock(unsigned cpu) noexcept {
  std::uint32_t* const word = per_cpu_ptr(number(0), cpu);
  while (!detail::fallback::lock_record(word, detail::fallback::kLockTries)) ::sched_yield();
}
void CpuStacks::unlock(unsigned cpu) noexcept {
  detail::fallback::unlock_record(per_cpu_ptr(number(0), cpu));
}

unsigned CpuStacks::drain(unsigned cpu, std::size_t head, std::uint32_t* out) noexcept {
  lock(cpu);
  // Sequences that begin from here on see the lock word. Where this thread is on that very CPU now,
  // none is under way there: who was interrupted in one begins it again.
  const bool here = detail::single_threaded() || this_cpu_index() == cpu;
  MMKIT_MUTATE(MMKIT_MUTANT_cpu_stacks_drain_without_barrier,
               if (!here) detail::percpu_barrier(cpu);
               , static_cast<void>(here);)
  std::uint32_t* const count = per_cpu_ptr(number(head), cpu);
  const std::uint32_t numbers = *count;
  std::copy_n(count + 2, numbers, out);
  __atomic_store_n(count, 0, __ATOMIC_RELAXED);  // others peek at it without the lock
  unlock(cpu);
  return numbers;
}

CpuStacks::Counts CpuStacks::counts() const noexcept {
  Counts sum;
  // Frees first: an object counted there was counted as allocated before. Acquire: so that these
  // loads come before those below.
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    sum.frees += __atomic_load_n(detail::unit_address(word(kFrees).unit0, cpu), __ATOMIC_ACQUIRE);
    sum.bytes -=
        __atomic_load_n(detail::unit_address(word(kFrees + 8).unit0, cpu), __ATOMIC_ACQUIRE);
  }
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    sum.allocations += per_cpu_read(word(kAllocations), cpu);
    sum.bytes += per_cpu_read(word(kAllocations + 8), cpu);
  }
  return sum;
}

std::size_t CpuStacks::metadata_bytes() const noexcept {
  std::size_t used = 0;
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) used += is_used(cpu) ? 1U : 0U;
  return cpus_ * sizeof(std::atomic<Use>) + used * record_bytes_;
}

void CpuStacks::unlock_in_child() noexcept {
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    if (is_used(cpu)) unlock(cpu);  // the only thread there is holds none
  }
}

CpuStacks::Stopped::Stopped(CpuStacks& stacks) noexcept : stacks_(stacks) {
  for (unsigned cpu = 0; cpu < stacks_.cpus_; ++cpu) {
    if (!stacks_.is_used(cpu)) continue;
    stacks_.lock(cpu);
    stacks_.use_[cpu].store(Use::stopped, std::memory_order_relaxed);
  }
  detail::percpu_barrier_everywhere();
}

CpuStacks::Stopped::~Stopped() {
  for (unsigned cpu = 0; cpu < stacks_.cpus_; ++cpu) {
    // Not one that somebody has begun to use meanwhile.
    if (stacks_.use_[cpu].load(std::memory_order_relaxed) != Use::stopped) continue;
    stacks_.use_[cpu].store(Use::in_memory, std::memory_order_relaxed);
    stacks_.unlock(cpu);
  }
}

std::span<const std::uint32_t> CpuStacks::Stopped::numbers(unsigned cpu,
                                                           std::size_t head) const noexcept {
  // One that somebody has begun to use meanwhile goes on: not for us to look at.
  if (stacks_.use_[cpu].load(std::memory_order_relaxed) != Use::stopped) return {};
  const std::uint32_t* const count = per_cpu_ptr(stacks_.number(head), cpu);
  return {count + 2, *count};
}

}  // namespace mmkit
