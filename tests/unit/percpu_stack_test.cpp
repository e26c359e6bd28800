// SPDX-License-Identifier: MIT
//
// PercpuStack by one thread at a time: order, room, draining from another CPU, locks that are held
// and locks that a fork left behind.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/stack.hpp>
#include <numeric>
#include <span>
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

static_assert(!std::is_copy_constructible_v<PercpuStack<int>>);
static_assert(std::is_nothrow_move_constructible_v<PercpuStack<int>>);
static_assert(std::is_nothrow_move_assignable_v<PercpuStack<int>>);

template <class T = int>
PercpuStack<T> make(std::size_t capacity, PercpuAllocator* allocator = nullptr) {
  return std::move(PercpuStack<T>::create(capacity, allocator)).value();
}

// Things to push: items(i) is the i-th.
int* item(std::size_t i) {
  static std::array<int, 5000> things;
  return &things.at(i);
}

std::vector<int*> drained(PercpuStack<int>& stack, unsigned cpu, std::size_t room) {
  std::vector<int*> out(room);
  out.resize(stack.drain(cpu, out));
  return out;
}

// The lock word of this CPU's record.
std::uint32_t* lock_word(const PercpuStack<int>& stack) {
  return this_cpu_ptr(percpu_cast<std::uint32_t>(stack.get()));
}
std::uint32_t stale_token() {
  return detail::percpu_lock_token() + 7;
}

TEST(PercpuStack, GivesBackTheNewestFirst) {
  const PinnedThread pinned;
  auto stack = make(8);
  EXPECT_EQ(stack.pop(), nullptr);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_TRUE(stack.push(item(i)));
  EXPECT_EQ(stack.pop(), item(4));
  EXPECT_TRUE(stack.push(item(5)));
  for (const std::size_t i : {5u, 3u, 2u, 1u, 0u}) EXPECT_EQ(stack.pop(), item(i));
  EXPECT_EQ(stack.pop(), nullptr);
}

TEST(PercpuStack, HoldsItsCapacityAndNoMore) {
  const PinnedThread pinned;
  for (const std::size_t capacity :
       {std::size_t{1}, std::size_t{2}, PercpuStack<int>::kMaxCapacity}) {
    auto stack = make(capacity);
    EXPECT_EQ(stack.capacity(), capacity);
    for (int round = 0; round < 2; ++round) {
      for (std::size_t i = 0; i < capacity; ++i) ASSERT_TRUE(stack.push(item(i)));
      EXPECT_FALSE(stack.push(item(capacity)));
      EXPECT_EQ(stack.size(PinnedThread::cpu()), capacity);
      for (std::size_t i = capacity; i-- != 0;) ASSERT_EQ(stack.pop(), item(i));
      EXPECT_EQ(stack.size(PinnedThread::cpu()), 0u);
    }
  }
}

TEST(PercpuStack, RefusesARoomOfNothingAndOneTooLarge) {
  static_assert(PercpuStack<int>::kMaxCapacity == 4094);
  for (const std::size_t capacity :
       {std::size_t{0}, std::size_t{4095}, ~std::size_t{0}, (~std::size_t{0} - 15) / 8 + 1}) {
    const auto stack = PercpuStack<int>::create(capacity);
    ASSERT_FALSE(stack) << capacity;
    EXPECT_EQ(stack.error(), Errc::invalid_argument);
  }
}

TEST(PercpuStack, EachCpuHasItsOwn) {
  auto stack = make(4);
  for (const unsigned cpu : allowed_cpus()) {
    run_on(cpu, [&] {
      EXPECT_EQ(stack.pop(), nullptr);
      EXPECT_TRUE(stack.push(item(cpu)));
    });
  }
  for (const unsigned cpu : allowed_cpus()) {
    EXPECT_EQ(stack.size(cpu), 1u);
    run_on(cpu, [&] { EXPECT_EQ(stack.pop(), item(cpu)); });
  }
}

TEST(PercpuStack, DrainsAnyCpuFromAnyOther) {
  auto stack = make(100);
  for (const unsigned cpu : allowed_cpus()) {
    run_on(cpu, [&] {
      for (std::size_t i = 0; i < 100; ++i) EXPECT_TRUE(stack.push(item(i)));
    });
    EXPECT_TRUE(drained(stack, cpu, 0).empty());
    EXPECT_EQ(drained(stack, cpu, 2), (std::vector<int*>{item(99), item(98)}));
    const auto most = drained(stack, cpu, 97);
    ASSERT_EQ(most.size(), 97u);
    EXPECT_EQ(most.front(), item(97));
    EXPECT_EQ(most.back(), item(1));
    run_on(cpu, [&] {
      EXPECT_TRUE(stack.push(item(100)));  // open again, on top of what is left
      EXPECT_EQ(stack.pop(), item(100));
    });
    EXPECT_EQ(drained(stack, cpu, 1000), (std::vector<int*>{item(0)}));
    EXPECT_TRUE(drained(stack, cpu, 1000).empty());
  }
}

TEST(PercpuStack, DrainsAllCpusOnceEach) {
  const auto allocator = make_percpu_allocator(16);
  auto stack = make(200, allocator.get());
  std::vector<int> seen(5000);
  std::size_t pushed = 0;
  for (const unsigned cpu : allowed_cpus()) {
    run_on(cpu, [&] {
      for (int i = 0; i < 150; ++i) EXPECT_TRUE(stack.push(item(pushed++)));
    });
    if (pushed > 4000) break;
  }
  EXPECT_EQ(stack.drain_all([&](int* one) { ++seen[static_cast<std::size_t>(one - item(0))]; }),
            pushed);
  EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), std::size_t{0}), pushed);
  for (std::size_t i = 0; i < pushed; ++i) EXPECT_EQ(seen[i], 1) << i;
  EXPECT_EQ(stack.drain_all([](int*) { ADD_FAILURE(); }), 0u);
}

// f pushes what it gets: each call takes what was there when it came to that CPU.
TEST(PercpuStack, DrainingAllEndsThoughTheItemsComeBack) {
  const PinnedThread pinned;
  auto stack = make(128);
  for (std::size_t i = 0; i < 128; ++i) ASSERT_TRUE(stack.push(item(i)));
  EXPECT_EQ(stack.drain_all([&](int* one) { EXPECT_TRUE(stack.push(one)); }), 128u);
  EXPECT_EQ(stack.size(PinnedThread::cpu()), 128u);
  stack.drain_all([](int*) {});
}

TEST(PercpuStack, UnitsThatNobodyOpenedAreEmptyAndStayClosed) {
  const auto allocator = make_unopened_percpu_allocator();
  const unsigned open = detail::open_units();
  auto stack = make(4, allocator.get());
  EXPECT_TRUE(drained(stack, stack.units() - 1, 4).empty());
  EXPECT_EQ(stack.size(stack.units() - 1), 0u);
  EXPECT_EQ(stack.drain_all([](int*) {}), 0u);
  EXPECT_EQ(detail::open_units(), open);
}

TEST(PercpuStack, RefusesWhileItIsDrained) {
  const PinnedThread pinned;
  auto stack = make(4);
  ASSERT_TRUE(stack.push(item(0)));
  *lock_word(stack) = detail::percpu_lock_token();
  EXPECT_FALSE(stack.push(item(1)));
  EXPECT_EQ(stack.pop(), nullptr);
  EXPECT_EQ(*lock_word(stack), detail::percpu_lock_token());
  *lock_word(stack) = 0;
  EXPECT_EQ(stack.pop(), item(0));
}

TEST(PercpuStack, ALockLeftByAForksParentIsCleared) {
  const PinnedThread pinned;
  auto stack = make(1);
  *lock_word(stack) = stale_token();
  EXPECT_TRUE(stack.push(item(0)));
  EXPECT_EQ(*lock_word(stack), 0u);
  *lock_word(stack) = stale_token();
  EXPECT_FALSE(stack.push(item(1)));  // cleared, and found full
  EXPECT_EQ(*lock_word(stack), 0u);
  *lock_word(stack) = stale_token();
  EXPECT_EQ(stack.pop(), item(0));
  *lock_word(stack) = stale_token();
  EXPECT_EQ(stack.pop(), nullptr);
  EXPECT_EQ(*lock_word(stack), 0u);
  ASSERT_TRUE(stack.push(item(2)));
  *lock_word(stack) = stale_token();
  EXPECT_EQ(drained(stack, PinnedThread::cpu(), 4), (std::vector<int*>{item(2)}));
  EXPECT_EQ(*lock_word(stack), 0u);
}

// What this process holds, its child finds stale, and the other way round never.
TEST(PercpuStack, AForksChildGoesOnThoughItsParentWasDraining) {
  const PinnedThread pinned;
  auto stack = make(4);
  ASSERT_TRUE(stack.push(item(0)));
  *lock_word(stack) = detail::percpu_lock_token();
  EXPECT_EQ(testing::run_in_child([&] {
              if (stack.pop() != item(0) || !stack.push(item(1))) return 1;
              return drained(stack, PinnedThread::cpu(), 4) == std::vector<int*>{item(1)} ? 0 : 2;
            }),
            0);
  EXPECT_EQ(stack.pop(), nullptr);
  *lock_word(stack) = 0;
  EXPECT_EQ(stack.pop(), item(0));
}

TEST(PercpuStack, MovesWithItsItemsAndGivesItsMemoryBackOnce) {
  const PinnedThread pinned;
  const auto allocator = make_percpu_allocator(2);
  {
    auto first = make(4, allocator.get());
    ASSERT_TRUE(first.push(item(0)));
    auto second = std::move(first);
    EXPECT_FALSE(first.get());  // NOLINT: moved from is empty
    ASSERT_TRUE(second.push(item(1)));
    auto third = make(9, allocator.get());
    third = std::move(second);
    EXPECT_EQ(allocator->stats().live, 1u);
    EXPECT_EQ(third.capacity(), 4u);
    EXPECT_EQ(third.pop(), item(1));
    auto& same = third;
    third = std::move(same);
    EXPECT_EQ(third.pop(), item(0));
  }
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuStack, TakesPointersToConstAndToVoid) {
  const PinnedThread pinned;
  const int number = 5;
  auto constants = make<const int>(1);
  EXPECT_TRUE(constants.push(&number));
  EXPECT_EQ(constants.pop(), &number);
  int variable = 6;
  auto anything = make<void>(1);
  EXPECT_TRUE(anything.push(&variable));
  EXPECT_EQ(anything.pop(), &variable);
}

}  // namespace
}  // namespace mmkit
