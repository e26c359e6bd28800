// SPDX-License-Identifier: MIT
#include "percpu/caches.hpp"

#include <sched.h>

#include <algorithm>
#include <mmkit/base/bits.hpp>
#include <new>

namespace mmkit::percpu {

Caches::Caches(unsigned units, os::Range records,
               std::unique_ptr<std::atomic<bool>[]> touched) noexcept
    : units_(units),
      cpus_(std::min(units, possible_cpus())),
      records_(records),
      touched_(std::move(touched)) {}

Result<std::unique_ptr<Caches>> Caches::create(unsigned units) noexcept {
  const Result<os::Range> records =
      os::map_private(align_up<std::size_t>(units * kStride, kPageSize));
  if (!records) return fail(records.error());
  std::unique_ptr<std::atomic<bool>[]> touched(new (std::nothrow) std::atomic<bool>[units]());
  std::unique_ptr<Caches> caches;
  if (touched != nullptr) {
    caches.reset(new (std::nothrow) Caches(units, *records, std::move(touched)));
  }
  if (caches == nullptr) {
    static_cast<void>(os::unmap(*records));
    return fail(Errc::out_of_memory);
  }
  const unsigned allowed = std::min(units, os::allowed_cpus_end());
  const std::size_t bytes = align_up<std::size_t>(allowed * kStride, kPageSize);
  if (const Status status = os::make_present({records->data, bytes}); !status) {
    return fail(status.error());
  }
  for (unsigned cpu = 0; cpu < allowed; ++cpu) {
    caches->touched_[cpu].store(true, std::memory_order_relaxed);
  }
  return caches;
}

Caches::~Caches() {
  static_cast<void>(os::unmap(records_));
}

void Caches::raise_peak(std::int64_t live) noexcept {
  // Racing threads of one CPU may each write; the highest may lose to a lower one, which then is
  // raised again by the next allocation. Only as long as the race lasts it is one too low.
  auto* const word = reinterpret_cast<std::uint64_t*>(records_.data + record::kPeak);
  const auto value = static_cast<std::uint64_t>(live);
  MMKIT_PERCPU_RUN(detail::rseq::write<kStride>(word, value),
                   detail::fallback::write<kStride>(word, value))
}

Caches::Counts Caches::counts() const noexcept {
  Counts counts;
  counts.allocations = allocations_aside_.load(std::memory_order_relaxed);
  counts.peak = counts.allocations;
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    counts.allocations += peek(record_of(cpu), record::kAllocations);
    counts.frees += peek(record_of(cpu), record::kFrees);
    counts.peak += peek(record_of(cpu), record::kPeak);
  }
  counts.peak = std::max(counts.peak, counts.allocations - counts.frees);
  return counts;
}

std::size_t Caches::kept_bytes() const noexcept {
  std::size_t bytes = 0;
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    for (unsigned c = 1; c < kSizeClasses; ++c) {
      bytes += peek(record_of(cpu), record::kHeads[c]) * size_class::bytes(c);
    }
  }
  return bytes;
}

std::size_t Caches::metadata_bytes() const noexcept {
  return sizeof *this + units_ + cpus_ * kStride;
}

std::span<void* const> Caches::stack(unsigned cpu, unsigned size_class) const noexcept {
  const std::byte* const head = record_of(cpu) + record::kHeads[size_class];
  return {reinterpret_cast<void* const*>(head + 8),
          static_cast<std::size_t>(peek(record_of(cpu), record::kHeads[size_class]))};
}

void Caches::set_count(unsigned cpu, unsigned size_class, std::uint64_t count) noexcept {
  auto* const word = reinterpret_cast<std::uint64_t*>(record_of(cpu) + record::kHeads[size_class]);
  if (*word != count) __atomic_store_n(word, count, __ATOMIC_RELAXED);
}

void Caches::lock_for_ever() noexcept {
  for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
    __atomic_store_n(lock_of(cpu), detail::percpu_lock_token(), __ATOMIC_RELAXED);
  }
}

Caches::Stopped::Stopped(Caches& caches) noexcept : caches_(caches) {
  const bool by_lock = percpu_mode() == PercpuMode::fallback;
  for (unsigned cpu = 0; cpu < caches_.cpus_; ++cpu) {
    std::uint32_t* const lock = caches_.lock_of(cpu);
    if (by_lock) {
      while (!detail::fallback::lock_record(lock, detail::fallback::kLockTries)) ::sched_yield();
    } else {
      __atomic_store_n(lock, detail::percpu_lock_token(), __ATOMIC_RELAXED);  // then the barrier
    }
  }
  if (!by_lock) detail::percpu_barrier_everywhere();
}

Caches::Stopped::~Stopped() {
  for (unsigned cpu = 0; cpu < caches_.cpus_; ++cpu) {
    detail::fallback::unlock_record(caches_.lock_of(cpu));
  }
}

}  // namespace mmkit::percpu
