// SPDX-License-Identifier: MIT
//
// Memory - what an allocator holds. No clock is looked at: these decide the exit code.
//
//   resident    4096 x 64 B with 256 possible CPUs, of which one writes; and after they are freed
//   efficiency  of a mix of small sizes: what was asked for, by the pages it lies in
#pragma once

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "percpu/loops.hpp"
#include "support/harness.hpp"
#include "support/machine.hpp"
#include "support/random.hpp"
#include "support/table.hpp"

namespace mmkit::bench {
namespace detail {

/// KiB that are resident in the mappings which overlap [begin, end).
inline std::size_t resident_kib(std::uintptr_t begin, std::uintptr_t end) {
  std::ifstream maps("/proc/self/smaps");
  if (!maps) throw std::runtime_error("/proc/self/smaps: cannot be opened");
  std::size_t total = 0;
  bool within = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0, to = 0, kib = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      within = from < end && begin < to;
    } else if (within && std::sscanf(line.c_str(), "Rss: %lu kB", &kib) == 1) {
      total += kib;
    }
  }
  return total;
}

/// Keeps the calling thread on one CPU: the second it may use, because each CPU up to it has its part
/// of the allocator's reserve. So the figures do not depend on where the thread happens to be.
class StayHere {
 public:
  StayHere() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t here;
    CPU_ZERO(&here);
    const std::vector<int> cpus = usable_cpus();
    CPU_SET(static_cast<std::size_t>(cpus[cpus.size() > 1 ? 1 : 0]), &here);
    ::sched_setaffinity(0, sizeof here, &here);
  }
  StayHere(const StayHere&) = delete;
  StayHere& operator=(const StayHere&) = delete;
  ~StayHere() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_{};
};

// "at most 300" or a failure of the run.
inline std::string within_bound(bool met, const std::string& what, const std::string& bound) {
  if (!met) fail_run("percpu " + what + " is not " + bound);
  return bound + (met ? "" : " MISSED");
}

inline Section resident(::benchmark::State& state) {
  constexpr unsigned kUnits = 256;
  constexpr std::size_t kObjects = 4096, kBytes = 64;
  std::size_t written = 0, freed = 0, handed_back = 0;
  for (auto _ : state) {
    const StayHere here;
    const auto allocator = new_percpu_allocator(kUnits);
    std::vector<PercpuPtr<std::byte>> objects;
    std::uintptr_t lowest = UINTPTR_MAX, highest = 0;
    for (std::size_t i = 0; i < kObjects; ++i) {
      const Result<PercpuPtr<std::byte>> made = allocator->allocate(kBytes, 8);
      if (!made) throw std::runtime_error("no percpu memory");
      for (std::size_t at = 0; at < kBytes; at += 8) {
        this_cpu_write(PercpuPtr<std::uint64_t>{reinterpret_cast<std::uint64_t*>(made->unit0 + at)},
                       i + 1);
      }
      const auto address = reinterpret_cast<std::uintptr_t>(made->unit0);
      lowest = std::min(lowest, address);
      highest = std::max(highest, address + kUnits * kPercpuUnitStride);
      objects.push_back(*made);
    }
    written = resident_kib(lowest, highest);
    for (const PercpuPtr<std::byte> object : objects) allocator->free(object);
    freed = resident_kib(lowest, highest);
    allocator->balance();
    handed_back = resident_kib(lowest, highest);
  }
  state.counters["written_kib"] = static_cast<double>(written);
  state.counters["balanced_kib"] = static_cast<double>(handed_back);
  Table table;
  table.add_row({"", "KiB resident", "target"});
  table.add_row({"written by one CPU", std::to_string(written),
                 within_bound(written <= 300, "memory resident", "at most 300")});
  table.add_row({"all freed", std::to_string(freed), ""});
  table.add_row({"after balance()", std::to_string(handed_back),
                 within_bound(handed_back <= 64, "memory after balance()", "at most 64")});
  table.add_row(
      {"calloc(256, 4096 * 64) would be", std::to_string(kUnits * kObjects * kBytes / 1024), ""});
  return {"memory/resident: of the reservation; 4096 objects of 64 B, 256 possible CPUs\n" +
          table.render()};
}

inline Section efficiency(::benchmark::State& state) {
  constexpr std::size_t kSizes[] = {8, 24, 48, 72};
  constexpr std::size_t kObjects = 65536;
  double of_pages = 0;
  std::size_t payload = 0, pages = 0, metadata = 0;
  for (auto _ : state) {
    const auto allocator = new_percpu_allocator(0);
    SplitMix random(11);
    std::vector<PercpuPtr<std::byte>> objects;
    payload = 0;
    for (std::size_t i = 0; i < kObjects; ++i) {
      const std::size_t size = kSizes[random.below(std::size(kSizes))];
      const Result<PercpuPtr<std::byte>> made = allocator->allocate(size, 8);
      if (!made) throw std::runtime_error("no percpu memory");
      objects.push_back(*made);
      payload += size;
    }
    const PercpuStats stats = allocator->stats();
    pages = stats.populated_pages;
    metadata = stats.metadata_bytes;
    of_pages = static_cast<double>(payload) / static_cast<double>(pages * kPageSize);
    for (const PercpuPtr<std::byte> object : objects) allocator->free(object);
  }
  state.counters["efficiency"] = of_pages;
  Table table;
  table.add_row({"", "payload", "pages", "payload / pages", "target", "metadata"});
  table.add_row({"8, 24, 48, 72 B", std::to_string(payload), std::to_string(pages),
                 decimal(100 * of_pages, 1) + " %",
                 within_bound(of_pages >= 0.95, "efficiency", "at least 95 %"),
                 std::to_string(metadata)});
  return {"memory/efficiency: 65536 objects of random sizes; the allocator's reserve counts\n" +
          table.render()};
}

}  // namespace detail

/// Registers memory/resident and memory/efficiency.
inline void register_memory() {
  register_section("memory/resident", 1,
                   [](::benchmark::State& state) { return detail::resident(state); });
  register_section("memory/efficiency", 1,
                   [](::benchmark::State& state) { return detail::efficiency(state); });
}

}  // namespace mmkit::bench
