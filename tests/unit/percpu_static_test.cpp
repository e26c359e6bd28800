// SPDX-License-Identifier: MIT
//
// StaticPercpu: constant initialisation, first use, and what memory it takes.
#include <gtest/gtest.h>

#include <cstdint>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/static_percpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <type_traits>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {

// As its users declare it; not in an unnamed namespace, where `inline` would mean nothing.
inline constinit StaticPercpu<std::uint64_t> static_test_hits;

namespace {

static_assert(std::is_trivially_destructible_v<StaticPercpu<int>>);
static_assert(!std::is_copy_constructible_v<StaticPercpu<int>>);
static_assert(sizeof(StaticPercpu<int>) == sizeof(void*));

// In a constructor before main.
constinit StaticPercpu<std::uint32_t> early;
[[gnu::constructor]] void use_early() {
  this_cpu_inc(early.get());
}

TEST(StaticPercpu, MayBeUsedBeforeMain) {
  const unsigned units = PercpuAllocator::instance().units();
  std::uint32_t sum = 0;
  for (unsigned cpu = 0; cpu < units; ++cpu) sum += per_cpu_read(early.get(), cpu);
  EXPECT_EQ(sum, 1u);
}

TEST(StaticPercpu, AllocatesOnceAndIsZero) {
  static constinit StaticPercpu<std::uint64_t> fresh;
  PercpuAllocator& allocator = PercpuAllocator::instance();
  const std::uint64_t live = allocator.stats().live;
  const auto p = fresh.get();
  ASSERT_TRUE(p);
  EXPECT_TRUE(allocator.contains(p.unit0));
  EXPECT_EQ(allocator.stats().live, live + 1);
  for (unsigned cpu = 0; cpu < allocator.units(); ++cpu) EXPECT_EQ(per_cpu_read(p, cpu), 0u);
  EXPECT_EQ(fresh.get(), p);
  EXPECT_EQ(allocator.stats().live, live + 1);
}

TEST(StaticPercpu, CountsOnEachCpu) {
  for (const unsigned cpu : testing::allowed_cpus()) {
    testing::run_on(cpu, [&] {
      for (unsigned i = 0; i <= cpu; ++i) this_cpu_inc(static_test_hits.get());
    });
    EXPECT_EQ(per_cpu_read(static_test_hits.get(), cpu), cpu + 1);
  }
}

TEST(StaticPercpu, KeepsTheAlignmentOfItsType) {
  struct alignas(64) Line {
    std::uint64_t first;
    char rest[56];
  };
  static constinit StaticPercpu<char> odd;
  static constinit StaticPercpu<Line> line;
  static_cast<void>(odd.get());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(line.get().unit0) % 64, 0u);
  this_cpu_inc(PercpuPtr<std::uint64_t>{&line.get().unit0->first});
}

TEST(StaticPercpu, AForksChildHasItsOwnCopiesAndItsOwnFirstUse) {
  static constinit StaticPercpu<std::uint64_t> shared, unused;
  this_cpu_add(shared.get(), 3);
  const auto sum = [](PercpuPtr<std::uint64_t> p) {
    std::uint64_t total = 0;
    for (const unsigned cpu : testing::allowed_cpus()) total += per_cpu_read(p, cpu);
    return total;
  };
  EXPECT_EQ(testing::run_in_child([&] {
              this_cpu_add(shared.get(), 4);
              this_cpu_inc(unused.get());
              return sum(shared.get()) == 7 && sum(unused.get()) == 1 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(sum(shared.get()), 3u);
  EXPECT_EQ(sum(unused.get()), 0u);
}

}  // namespace
}  // namespace mmkit
