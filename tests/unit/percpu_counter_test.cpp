// SPDX-License-Identifier: MIT
//
// PercpuCounter by one thread at a time: what goes where, how far off read() is, extreme amounts.
//
// A pinned thread has one local, so each fold can be foretold. Its first addition may fold early
// (own areas are registered then): adding nothing gets that over with.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <limits>
#include <mmkit/percpu/counter.hpp>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::allowed_cpus;
using testing::make_percpu_allocator;
using testing::make_unopened_percpu_allocator;
using testing::PinnedThread;
using testing::run_on;

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

static_assert(!std::is_copy_constructible_v<PercpuCounter>);
static_assert(std::is_nothrow_move_constructible_v<PercpuCounter>);
static_assert(std::is_nothrow_move_assignable_v<PercpuCounter>);

PercpuCounter make(std::int64_t initial = 0, std::int32_t batch = 32,
                   PercpuAllocator* allocator = nullptr) {
  PercpuCounter counter = std::move(PercpuCounter::create(initial, batch, allocator)).value();
  counter.add(0);
  return counter;
}

std::int64_t wrapping_add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

TEST(PercpuCounter, BeginsWhereItIsToldTo) {
  for (const std::int64_t initial : {std::int64_t{0}, std::int64_t{-5}, kMin, kMax}) {
    const PercpuCounter counter = make(initial);
    EXPECT_EQ(counter.read(), initial);
    EXPECT_EQ(counter.sum(), initial);
  }
}

TEST(PercpuCounter, RefusesABatchBelowZero) {
  for (const std::int32_t batch : {-1, std::numeric_limits<std::int32_t>::min()}) {
    const auto counter = PercpuCounter::create(0, batch);
    ASSERT_FALSE(counter);
    EXPECT_EQ(counter.error(), Errc::invalid_argument);
  }
}

TEST(PercpuCounter, FoldsWhenALocalComesToTheBatch) {
  const PinnedThread pinned;
  for (const std::int64_t sign : {1, -1}) {
    PercpuCounter counter = make(1000);
    for (int i = 0; i < 31; ++i) counter.add(sign);
    EXPECT_EQ(counter.read(), 1000);
    EXPECT_EQ(counter.sum(), 1000 + 31 * sign);
    counter.add(sign);
    EXPECT_EQ(counter.read(), 1000 + 32 * sign);
    EXPECT_EQ(counter.sum(), 1000 + 32 * sign);
    counter.add(31 * sign);
    EXPECT_EQ(counter.read(), 1000 + 32 * sign);
    counter.add(-62 * sign);  // from one end of the reach to the other
    EXPECT_EQ(counter.read(), 1000 + 32 * sign);
    counter.add(-sign);
    EXPECT_EQ(counter.read(), 1000);
    EXPECT_EQ(counter.sum(), 1000);
  }
}

TEST(PercpuCounter, ABatchOfOneKeepsNothingBack) {
  PercpuCounter counter = make(0, 1);
  for (const std::int64_t amount : {1, 2, -7, 100}) {
    const std::int64_t before = counter.read();
    counter.add(amount);
    EXPECT_EQ(counter.read(), before + amount);
  }
}

TEST(PercpuCounter, ABatchOfZeroIsTheLargerOfThirtyTwoAndTwiceTheCpus) {
  const PinnedThread pinned;
  PercpuCounter counter = make(0, 0);
  const std::int64_t batch = std::max<std::int64_t>(32, 2 * std::int64_t{possible_cpus()});
  counter.add(batch - 1);
  EXPECT_EQ(counter.read(), 0);
  counter.add(1);
  EXPECT_EQ(counter.read(), batch);
}

TEST(PercpuCounter, ExtremeAmountsWrapAroundAndAreExact) {
  constexpr std::int64_t kTwo31 = std::int64_t{1} << 31;
  constexpr std::int64_t kTwo32 = std::int64_t{1} << 32;
  const std::vector<std::int64_t> amounts = {
      kMin,   kMax,    kMin + 1,    -1,           1,    kTwo31, -kTwo31, kTwo31 - 1, -kTwo31 - 1,
      kTwo32, -kTwo32, kTwo32 + 31, -kTwo32 - 31, kMin, kMax,   31};
  for (const std::int32_t batch : {1, 32, std::numeric_limits<std::int32_t>::max()}) {
    PercpuCounter counter = make(0, batch);
    std::int64_t expected = 0;
    for (const std::int64_t amount : amounts) {
      counter.add(amount);
      expected = wrapping_add(expected, amount);
      ASSERT_EQ(counter.sum(), expected) << "after " << amount << " at batch " << batch;
      const auto off = static_cast<std::int64_t>(static_cast<std::uint64_t>(counter.read()) -
                                                 static_cast<std::uint64_t>(expected));
      const std::int64_t bound = std::int64_t{batch} * PercpuAllocator::instance().units();
      ASSERT_LT(off, bound);
      ASSERT_GT(off, -bound);
    }
  }
}

// A local next to the end of its reach and a fold on each CPU.
TEST(PercpuCounter, ReadIsOffByLessThanTheBatchOnEachCpu) {
  constexpr std::int32_t kBatch = 100;
  PercpuCounter counter = make(0, kBatch);
  std::int64_t expected = 0;
  for (const unsigned cpu : allowed_cpus()) {
    run_on(cpu, [&] {
      counter.add(0);
      counter.add(kBatch - 1);
    });
    expected += kBatch - 1;
  }
  EXPECT_EQ(counter.read(), 0);
  EXPECT_EQ(counter.sum(), expected);
  EXPECT_LT(expected, std::int64_t{kBatch} * PercpuAllocator::instance().units());
}

TEST(PercpuCounter, ComparesByTheSumWhereTheRoughNumberWillNotDo) {
  const auto allocator = make_percpu_allocator(4);
  PercpuCounter counter = make(0, 10, allocator.get());
  counter.add(9);  // in the local
  EXPECT_EQ(counter.compare(9), 0);
  EXPECT_EQ(counter.compare(8), 1);
  EXPECT_EQ(counter.compare(10), -1);
  const std::int64_t bound = 10 * std::int64_t{allocator->units()};
  for (const std::int64_t value : {bound - 1, bound, bound + 1, bound + 10, kMax}) {
    EXPECT_EQ(counter.compare(value), -1) << value;
    EXPECT_EQ(counter.compare(-value), 1) << value;
  }
  EXPECT_EQ(counter.compare(kMin), 1);
  const PercpuCounter least = make(kMin), most = make(kMax);
  EXPECT_EQ(least.compare(kMax), -1);
  EXPECT_EQ(least.compare(kMin), 0);
  EXPECT_EQ(most.compare(kMin), 1);
  EXPECT_EQ(most.compare(kMax), 0);
}

TEST(PercpuCounter, SetMakesTheSumWhateverTheLocalsHold) {
  PercpuCounter counter = make(17);
  for (const std::int64_t value : {std::int64_t{0}, std::int64_t{-40}, kMin, kMax}) {
    for (const unsigned cpu : allowed_cpus()) {
      run_on(cpu, [&] { counter.add(20 + cpu); });
    }
    counter.set(value);
    EXPECT_EQ(counter.sum(), value);
    counter.add(-3);
    EXPECT_EQ(counter.sum(), wrapping_add(value, -3));
  }
}

TEST(PercpuCounter, SumOpensNoUnit) {
  const auto allocator = make_unopened_percpu_allocator();
  const unsigned open = detail::open_units();
  PercpuCounter counter = make(5, 32, allocator.get());
  counter.add(6);
  EXPECT_EQ(counter.sum(), 11);
  counter.set(2);
  EXPECT_EQ(counter.compare(2), 0);
  EXPECT_EQ(detail::open_units(), open);
}

TEST(PercpuCounter, MovesWithItsCountAndGivesItsMemoryBackOnce) {
  const auto allocator = make_percpu_allocator(2);
  {
    PercpuCounter first = make(100, 32, allocator.get());
    first.add(7);
    PercpuCounter second = std::move(first);
    second.add(1);
    EXPECT_EQ(second.sum(), 108);
    first = make(1, 5, allocator.get());  // moved from, then filled
    EXPECT_EQ(allocator->stats().live, 2u);
    first = std::move(second);
    EXPECT_EQ(allocator->stats().live, 1u);
    first.add(-8);
    EXPECT_EQ(first.sum(), 100);
    auto& same = first;
    first = std::move(same);
    EXPECT_EQ(first.sum(), 100);
  }
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuCounter, AThreadAddsInItsFirstOperation) {
  PercpuCounter counter = make();
  for (int i = 0; i < 10; ++i) std::thread([&] { counter.add(3); }).join();
  EXPECT_EQ(counter.sum(), 30);
}

PercpuCounter* signalled = nullptr;
TEST(PercpuCounter, AddsInASignalHandlerThatIsAThreadsFirstOperation) {
  PercpuCounter counter = make();
  signalled = &counter;
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { signalled->add(kMin); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  std::thread([] { ::raise(SIGUSR1); }).join();
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_EQ(counter.sum(), kMin);
}

TEST(PercpuCounter, AForksChildHasACounterOfItsOwn) {
  PercpuCounter counter = make(10);
  counter.add(5);
  EXPECT_EQ(testing::run_in_child([&] {
              counter.add(100);
              return counter.sum() == 115 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(counter.sum(), 15);
}

}  // namespace
}  // namespace mmkit
