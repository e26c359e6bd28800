// SPDX-License-Identifier: MIT
//
// Sum - over 256 units that all have been written, beside a dense array of padded counters.
//
// It opens units beyond the machine's CPUs, and the mark is the process's: from here on every
// allocation zeroes them too. So it is registered last.
#pragma once

#include <memory>
#include <vector>

#include "percpu/loops.hpp"

namespace mmkit::bench {
namespace detail {

inline constexpr unsigned kSummedUnits = 256;
struct alignas(64) PaddedAddend {
  std::uint64_t value = 1;
};

}  // namespace detail

/// Registers sum/256.
inline void register_sum(const Options& options) {
  const std::size_t count = options.scale(1 << 10, 1 << 6);
  Comparison sum;
  sum.name = "sum/256";
  sum.title = "ns for the sum of 256 numbers";
  sum.columns = {"sum"};
  sum.references = {"dense padded array"};
  sum.make = [count] {
    const auto allocator = new_percpu_allocator(detail::kSummedUnits);
    const PercpuPtr<std::uint64_t> number = new_number(*allocator);
    for (unsigned unit = 0; unit < detail::kSummedUnits; ++unit) *per_cpu_ptr(number, unit) = 1;
    const auto dense = std::make_shared<std::vector<detail::PaddedAddend>>(detail::kSummedUnits);
    const auto check = [](std::uint64_t total) {
      asm volatile("" : "+r"(total));
      if (total != detail::kSummedUnits) std::abort();
    };
    std::vector<Contender> all;
    const std::shared_ptr<void> owner(
        nullptr, [allocator, number](void*) { allocator->free(percpu_cast<std::byte>(number)); });
    all.push_back(timed("percpu_sum", count, [owner, number, check] {
      check(percpu_sum(number, detail::kSummedUnits));
    }));
    all.push_back(timed("dense padded array", count, [dense, check] {
      // As many chains of additions as percpu_sum() has, and loads that must happen.
      std::uint64_t sums[4] = {};
      const detail::PaddedAddend* at = dense->data();
      for (unsigned unit = 0; unit < detail::kSummedUnits; unit += 4) {
        for (unsigned i = 0; i < 4; ++i) {
          sums[i] += __atomic_load_n(&at[unit + i].value, __ATOMIC_RELAXED);
        }
      }
      check(sums[0] + sums[1] + sums[2] + sums[3]);
    }));
    return all;
  };
  sum.targets = {{"percpu_sum", "dense padded array", 1.3}};
  register_comparison(std::move(sum), options);
}

}  // namespace mmkit::bench
