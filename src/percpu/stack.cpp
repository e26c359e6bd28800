// SPDX-License-Identifier: MIT
#include <mmkit/percpu/stack.hpp>

#include <sched.h>

#include <cstring>
#include <mmkit/base/mutant.hpp>

namespace mmkit::detail {
namespace {

PercpuPtr<std::uint32_t> lock_of(PercpuPtr<std::byte> record) noexcept {
  return percpu_cast<std::uint32_t>(record);
}
PercpuPtr<std::uint64_t> count_of(PercpuPtr<std::byte> record) noexcept {
  return percpu_cast<std::uint64_t>(PercpuPtr<std::byte>{record.unit0 + kStackHeadBytes});
}

}  // namespace

bool percpu_stack_unlock_stale(PercpuPtr<std::byte> record) noexcept {
  std::uint32_t* const lock = this_cpu_ptr(lock_of(record));
  std::uint32_t seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
  if (seen == 0 || seen == percpu_lock_token()) return false;
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_stack_keeps_stale_locks, static_cast<void>(0), return false);
  // Of several that come here one succeeds; the others find it done. Relaxed: whoever held the lock
  // is in another process, and has nothing to tell this one.
  __atomic_compare_exchange_n(lock, &seen, 0, /*weak=*/false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return true;
}

std::size_t percpu_stack_drain(PercpuPtr<std::byte> record, unsigned cpu, void* out,
                               std::size_t room) noexcept {
  // Also keeps a unit that nobody opened from being opened.
  if (room == 0 || percpu_stack_size(record, cpu) == 0) return 0;
  std::uint32_t* const lock = per_cpu_ptr(lock_of(record), cpu);
  std::uint64_t* const count = per_cpu_ptr(count_of(record), cpu);

  MMKIT_MUTATE(
      MMKIT_MUTANT_percpu_stack_drain_unlocked,
      while (!fallback::lock_record(lock, fallback::kLockTries)) static_cast<void>(::sched_yield()),
      static_cast<void>(lock));
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_stack_drain_without_barrier, percpu_barrier(cpu),
               static_cast<void>(0));

  const std::uint64_t items = *count;
  const std::size_t taken = items < room ? static_cast<std::size_t>(items) : room;
  for (std::size_t i = 0; i < taken; ++i) {
    // The last slot lies right below count[1 + items].
    std::memcpy(static_cast<std::byte*>(out) + i * sizeof(void*), count + items - i, sizeof(void*));
  }
  __atomic_store_n(count, items - taken, __ATOMIC_RELAXED);  // others peek at it without the lock
  fallback::unlock_record(lock);
  return taken;
}

std::size_t percpu_stack_size(PercpuPtr<std::byte> record, unsigned cpu) noexcept {
  return static_cast<std::size_t>(per_cpu_read(count_of(record), cpu));
}

}  // namespace mmkit::detail
