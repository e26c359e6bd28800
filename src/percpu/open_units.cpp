// SPDX-License-Identifier: MIT
#include "percpu/open_units.hpp"

#include <mmkit/base/check.hpp>
#include <mmkit/base/cpu.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>

namespace mmkit::detail {
namespace {

// The most units any allocator of this process had.
constinit std::atomic<unsigned> announced_units{0};

void raise_to(std::atomic<unsigned>& mark, unsigned value) noexcept {
  // Relaxed: the marks carry numbers alone; see percpu_ptr.hpp for who comes before whom.
  unsigned seen = mark.load(std::memory_order_relaxed);
  while (seen < value && !mark.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

[[gnu::constructor(101)]] void open_possible_cpus() noexcept {
  raise_to(percpu_open_units, possible_cpus());
}

}  // namespace

constinit std::atomic<unsigned> percpu_open_units{0};

void percpu_announce_units(unsigned units) noexcept {
  raise_to(percpu_open_units, possible_cpus());
  raise_to(announced_units, units);
}

void percpu_check_unit(unsigned cpu) noexcept {
  if (cpu >= announced_units.load(std::memory_order_relaxed)) {
    report_failure({"percpu", {}, "cpu out of range", cpu});
  }
}

void percpu_open_unit(unsigned cpu) noexcept {
  percpu_check_unit(cpu);
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_unit_not_opened, raise_to(percpu_open_units, cpu + 1),
               static_cast<void>(raise_to));
}

}  // namespace mmkit::detail
