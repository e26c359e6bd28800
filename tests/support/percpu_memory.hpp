// SPDX-License-Identifier: MIT
//
// PercpuMemory - units of plain memory, to use per-CPU operations on without an allocator.
//
// Private pages of the process: a fork's child gets its own.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mmkit/base/cpu.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>
#include <mmkit/percpu/stride.hpp>
#include <vector>

#include "percpu/open_units.hpp"

namespace mmkit::testing {

/// So many units, zero, declared to the library as an allocator would.
class PercpuMemory {
 public:
  explicit PercpuMemory(unsigned units = possible_cpus()) : units_(units) {
    void* const memory = ::mmap(nullptr, size_bytes(), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    unit0_ = static_cast<std::byte*>(memory);
    detail::percpu_announce_units(units);
  }
  PercpuMemory(const PercpuMemory&) = delete;
  PercpuMemory& operator=(const PercpuMemory&) = delete;
  ~PercpuMemory() { ::munmap(unit0_, size_bytes()); }

  unsigned units() const { return units_; }
  /// The variable at an offset, which the caller chooses; it is aligned as T wants.
  template <class T>
  PercpuPtr<T> at(std::size_t offset_bytes) const {
    return {reinterpret_cast<T*>(unit0_ + offset_bytes)};
  }
  /// All copies together, in wrapping arithmetic.
  std::uint64_t sum(PercpuPtr<std::uint64_t> p) const {
    std::uint64_t total = 0;
    for (unsigned cpu = 0; cpu < units_; ++cpu) total += per_cpu_read(p, cpu);
    return total;
  }

 private:
  std::size_t size_bytes() const { return units_ * kPercpuUnitStride; }

  unsigned units_;
  std::byte* unit0_ = nullptr;
};

/// The CPUs that this process could use when it asked first.
inline const std::vector<unsigned>& allowed_cpus() {
  static const std::vector<unsigned> cpus = [] {
    std::vector<unsigned> found;
    cpu_set_t set;
    if (::sched_getaffinity(0, sizeof set, &set) != 0) std::abort();
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
    }
    return found;
  }();
  return cpus;
}

/// Binds a thread to one CPU, or to several.
inline void bind_thread(pthread_t thread, const std::vector<unsigned>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) CPU_SET(cpu, &set);
  if (::pthread_setaffinity_np(thread, sizeof set, &set) != 0) std::abort();
}

/// Keeps the calling thread on one CPU while it lives: the highest that it may use.
class PinnedThread {
 public:
  PinnedThread() { bind_thread(::pthread_self(), {cpu()}); }
  PinnedThread(const PinnedThread&) = delete;
  PinnedThread& operator=(const PinnedThread&) = delete;
  ~PinnedThread() { bind_thread(::pthread_self(), allowed_cpus()); }

  static unsigned cpu() { return allowed_cpus().back(); }
};

}  // namespace mmkit::testing
