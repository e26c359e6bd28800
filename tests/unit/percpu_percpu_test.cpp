// SPDX-License-Identifier: MIT
//
// Percpu<T>: construction and destruction on every CPU, access, sums, moves, and which units it
// opens.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <mmkit/percpu/percpu.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::make_percpu_allocator;
using testing::make_unopened_percpu_allocator;
using testing::PinnedThread;

static_assert(!std::is_copy_constructible_v<Percpu<int>>);
static_assert(std::is_nothrow_move_constructible_v<Percpu<int>>);
static_assert(std::is_nothrow_move_assignable_v<Percpu<int>>);

TEST(PercpuOfT, OfAPlainTypeIsZeroEverywhereAndOpensNoUnit) {
  struct Plain {
    std::uint64_t a;
    std::uint32_t b[3];
  };
  const auto allocator = make_unopened_percpu_allocator();
  const unsigned open = detail::open_units();
  {
    auto made = Percpu<Plain>::create(allocator.get());
    ASSERT_TRUE(made);
    EXPECT_EQ(made->units(), allocator->units());
    unsigned seen = 0;
    made->for_each_open([&](unsigned cpu, const Plain& plain) {
      EXPECT_EQ(cpu, seen++);
      EXPECT_EQ(plain.a, 0u);
    });
    EXPECT_EQ(seen, open);
    for (unsigned cpu = 0; cpu < made->units(); ++cpu) {
      EXPECT_EQ(per_cpu_read(made->get(), cpu).b[2], 0u);
    }
  }
  EXPECT_EQ(detail::open_units(), open);
  EXPECT_EQ(allocator->stats().live, 0u);
}

// Where an object lives, of all that do.
std::set<const void*>& living() {
  static std::set<const void*> objects;
  return objects;
}
struct Counted {
  Counted() noexcept { living().insert(this); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { EXPECT_EQ(living().erase(this), 1u); }
  int value = 5;
};

TEST(PercpuOfT, WithAConstructorIsMadeAndEndedInEveryUnit) {
  const auto allocator = make_unopened_percpu_allocator();
  {
    auto made = Percpu<Counted>::create(allocator.get());
    ASSERT_TRUE(made);
    EXPECT_EQ(detail::open_units(), allocator->units());
    std::set<const void*> expected;
    made->for_each([&](unsigned cpu, Counted& counted) {
      EXPECT_EQ(&counted, per_cpu_ptr(made->get(), cpu));
      EXPECT_EQ(counted.value, 5);
      expected.insert(&counted);
    });
    EXPECT_EQ(expected.size(), allocator->units());
    EXPECT_EQ(living(), expected);
  }
  EXPECT_TRUE(living().empty());
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuOfT, AnInitialiserOfAMemberCountsAsAConstructor) {
  struct Five {
    int value = 5;
  };
  const auto allocator = make_percpu_allocator(8);
  auto made = Percpu<Five>::create(allocator.get());
  ASSERT_TRUE(made);
  unsigned seen = 0;
  made->for_each([&](unsigned, Five& five) { seen += five.value == 5; });
  EXPECT_EQ(seen, allocator->units());
}

TEST(PercpuOfT, OnAndForEachReachTheSameObjectsAndOpenThem) {
  const auto allocator = make_unopened_percpu_allocator();
  auto made = Percpu<std::uint64_t>::create(allocator.get());
  ASSERT_TRUE(made);
  const unsigned last = made->units() - 1;
  made->on(last - 1) = 7;
  EXPECT_EQ(detail::open_units(), last);
  unsigned next = 0;
  made->for_each([&](unsigned cpu, std::uint64_t& value) {
    EXPECT_EQ(cpu, next++);
    EXPECT_EQ(value, cpu == last - 1 ? 7u : 0u);
    EXPECT_EQ(&value, &made->on(cpu));
    value += cpu;
  });
  EXPECT_EQ(next, made->units());
  EXPECT_EQ(detail::open_units(), last + 1);
  EXPECT_EQ(made->sum(), 7u + std::uint64_t{last} * (last + 1) / 2);
}

TEST(PercpuOfT, LocalIsTheObjectOfThisCpu) {
  const PinnedThread pinned;
  auto made = Percpu<int>::create();
  ASSERT_TRUE(made);
  EXPECT_EQ(made->units(), PercpuAllocator::instance().units());
  made->local() = 3;
  this_cpu_add(made->get(), 4);
  EXPECT_EQ(made->on(PinnedThread::cpu()), 7);
  EXPECT_EQ(made->sum(), 7);
}

TEST(PercpuOfT, KeepsTheAlignmentOfItsTypeInEveryUnit) {
  struct alignas(64) Line {
    char bytes[64];
  };
  const auto allocator = make_percpu_allocator(16);
  auto odd = Percpu<char>::create(allocator.get());
  auto made = Percpu<Line>::create(allocator.get());
  ASSERT_TRUE(odd && made);
  made->for_each(
      [](unsigned, Line& line) { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&line) % 64, 0u); });
}

TEST(PercpuOfT, AsLargeAsItGetsWorks) {
  struct Large {
    std::byte bytes[kPercpuMaxBytes];
  };
  const auto allocator = make_percpu_allocator(2);
  auto made = Percpu<Large>::create(allocator.get());
  ASSERT_TRUE(made);
  EXPECT_EQ(made->on(0).bytes[kPercpuMaxBytes - 1], std::byte{0});
  made->on(1).bytes[kPercpuMaxBytes - 1] = std::byte{1};
  EXPECT_EQ(made->on(0).bytes[kPercpuMaxBytes - 1], std::byte{0});
}

// The sum takes four at a time and then the rest: every remainder.
TEST(PercpuSum, TakesEachOpenUnitOnce) {
  for (unsigned more = 0; more < 9; ++more) {
    const auto allocator = make_percpu_allocator(possible_cpus() + more);
    auto made = Percpu<std::uint64_t>::create(allocator.get());
    ASSERT_TRUE(made);
    std::uint64_t expected = 0;
    made->for_each([&](unsigned cpu, std::uint64_t& value) {
      value = std::uint64_t{1} << (cpu % 60);
      expected += value;
    });
    EXPECT_EQ(made->sum(), expected) << allocator->units();
    // Fewer units than there are: it ends before the last.
    const unsigned fewer = allocator->units() - 1;
    EXPECT_EQ(percpu_sum(made->get(), fewer), expected - made->on(fewer));
  }
}

TEST(PercpuSum, IsOfSixtyFourBitsAndWrapsAround) {
  const auto allocator = make_percpu_allocator(6);
  auto narrow = Percpu<std::int32_t>::create(allocator.get());
  auto bytes = Percpu<std::uint8_t>::create(allocator.get());
  auto wide = Percpu<std::uint64_t>::create(allocator.get());
  ASSERT_TRUE(narrow && bytes && wide);
  narrow->for_each(
      [](unsigned, std::int32_t& value) { value = std::numeric_limits<std::int32_t>::min(); });
  bytes->for_each([](unsigned, std::uint8_t& value) { value = 200; });
  wide->for_each([](unsigned, std::uint64_t& value) { value = ~std::uint64_t{0}; });
  const auto units = static_cast<std::int64_t>(allocator->units());
  static_assert(std::is_same_v<decltype(narrow->sum()), std::int64_t>);
  static_assert(std::is_same_v<decltype(bytes->sum()), std::uint64_t>);
  EXPECT_EQ(narrow->sum(), units * std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(bytes->sum(), static_cast<std::uint64_t>(units) * 200);
  EXPECT_EQ(wide->sum(), std::uint64_t{0} - static_cast<std::uint64_t>(units));
}

TEST(PercpuOfT, MovesWithoutMovingTheObjects) {
  const auto allocator = make_percpu_allocator(4);
  {
    auto first = std::move(Percpu<std::uint64_t>::create(allocator.get())).value();
    first.on(1) = 11;
    const auto place = first.get();
    Percpu<std::uint64_t> second = std::move(first);
    EXPECT_FALSE(first.get());  // NOLINT: moved from is empty
    EXPECT_EQ(second.get(), place);
    auto third = std::move(Percpu<std::uint64_t>::create(allocator.get())).value();
    EXPECT_EQ(allocator->stats().live, 2u);
    third = std::move(second);
    EXPECT_EQ(allocator->stats().live, 1u);
    EXPECT_EQ(third.get(), place);
    EXPECT_EQ(third.on(1), 11u);
    auto& same = third;
    third = std::move(same);
    EXPECT_EQ(third.on(1), 11u);
    first = std::move(third);  // an empty one can be filled again
    EXPECT_EQ(first.on(1), 11u);
  }
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuOfT, MovedFromEndsNoObjectTwice) {
  const auto allocator = make_percpu_allocator(4);
  auto first = Percpu<Counted>::create(allocator.get());
  ASSERT_TRUE(first);
  {
    Percpu<Counted> second = std::move(*first);
    EXPECT_EQ(living().size(), allocator->units());
  }
  EXPECT_TRUE(living().empty());
}

TEST(PercpuOfT, IsZeroAgainWhereAnotherOneWas) {
  const auto allocator = make_percpu_allocator(32);
  for (int round = 0; round < 20; ++round) {
    auto made = Percpu<std::uint64_t>::create(allocator.get());
    ASSERT_TRUE(made);
    made->for_each([](unsigned, std::uint64_t& value) {
      EXPECT_EQ(value, 0u);
      value = ~std::uint64_t{0};
    });
  }
}

}  // namespace
}  // namespace mmkit
