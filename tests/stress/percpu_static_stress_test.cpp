// SPDX-License-Identifier: MIT
//
// StaticPercpu: threads that are first together.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/percpu.hpp>
#include <mmkit/percpu/static_percpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <vector>

#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

constexpr std::size_t kVariables = 2000;
constexpr unsigned kThreads = 4;
constinit std::array<StaticPercpu<std::uint64_t>, kVariables> variables{};

// All threads go for the same variables in step: those who are late wait for no one, but the others
// wait for them at each.
TEST(StaticPercpuStress, OfThreadsThatAreFirstTogetherOneAllocates) {
  PercpuAllocator& allocator = PercpuAllocator::instance();
  const std::uint64_t live = allocator.stats().live;
  auto found = std::make_unique<std::array<std::array<void*, kVariables>, kThreads>>();
  std::vector<std::atomic<unsigned>> arrived(kVariables);
  {
    testing::Crew crew;
    for (unsigned t = 0; t < kThreads; ++t) {
      crew.add([&, t] {
        for (std::size_t i = 0; i < kVariables; ++i) {
          ++arrived[i];
          for (unsigned spins = 0; arrived[i].load() < kThreads;) {
            if (++spins % 1000 == 0) std::this_thread::yield();
          }
          const auto p = variables[i].get();
          this_cpu_inc(p);
          (*found)[t][i] = p.unit0;
        }
      });
    }
  }
  for (std::size_t i = 0; i < kVariables; ++i) {
    for (unsigned t = 1; t < kThreads; ++t) ASSERT_EQ((*found)[t][i], (*found)[0][i]) << i;
    ASSERT_EQ(percpu_sum(variables[i].get(), allocator.units()), kThreads) << i;
  }
  EXPECT_EQ(allocator.stats().live, live + kVariables);  // the others gave theirs back
}

}  // namespace
}  // namespace mmkit
