// SPDX-License-Identifier: MIT
//
// Locks against their order. Below check level 1 the same calls must go through.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <thread>

namespace mmkit {
namespace {

constexpr bool kChecksRanks = MMKIT_CHECK_LEVEL >= 1;

class BaseMutexDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// The ranks alone decide: nothing here would deadlock. The analysis sees no ranks.
template <class Lock>
void take_both(LockRank first, LockRank second) MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  Lock a(first);
  Lock b(second);
  a.lock();
  b.lock();
  b.unlock();
  a.unlock();
}

template <class Lock>
void expect_order() {
  if constexpr (kChecksRanks) {
    EXPECT_DEATH(take_both<Lock>(LockRank::leaf, LockRank::pool),
                 "^mmkit: lock: taken out of rank order 0x3\n$");
    EXPECT_DEATH(take_both<Lock>(LockRank::pool, LockRank::fork), "taken out of rank order 0x0");
    EXPECT_DEATH(take_both<Lock>(LockRank::pool, LockRank::pool), "taken out of rank order 0x3");
  } else {
    take_both<Lock>(LockRank::leaf, LockRank::pool);
    take_both<Lock>(LockRank::pool, LockRank::fork);
    take_both<Lock>(LockRank::pool, LockRank::pool);
  }
}

TEST_F(BaseMutexDeathTest, AMutexOfTheSameOrALowerRankIsTakenOutOfOrder) {
  expect_order<Mutex>();
}

TEST_F(BaseMutexDeathTest, AShortLockOfTheSameOrALowerRankIsTakenOutOfOrder) {
  expect_order<ShortLock>();
}

TEST_F(BaseMutexDeathTest, BothKindsOfLockShareOneOrder) {
  const auto body = []() MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    ShortLock leaf(LockRank::leaf);
    Mutex pool(LockRank::pool);
    leaf.lock();
    pool.lock();
    pool.unlock();
    leaf.unlock();
  };
  if constexpr (kChecksRanks) {
    EXPECT_DEATH(body(), "taken out of rank order 0x3");
  } else {
    body();
  }
}

TEST_F(BaseMutexDeathTest, EveryLockHeldCountsNotTheLastAlone) {
  const auto body = []() MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    Mutex registry(LockRank::registry);
    Mutex leaf(LockRank::leaf);
    Mutex pool(LockRank::pool);
    leaf.lock();
    if (!registry.try_lock()) return;  // against the order, as a try may
    pool.lock();                       // above registry, yet below leaf
    pool.unlock();
    registry.unlock();
    leaf.unlock();
  };
  if constexpr (kChecksRanks) {
    EXPECT_DEATH(body(), "taken out of rank order 0x3");
  } else {
    body();
  }
}

TEST_F(BaseMutexDeathTest, TheOrderIsOfEachThreadForItself) {
  Mutex leaf(LockRank::leaf);
  Mutex pool(LockRank::pool);
  leaf.lock();
  std::thread([&] {
    pool.lock();
    pool.unlock();
  }).join();
  leaf.unlock();
}

TEST_F(BaseMutexDeathTest, ALockTakenTwiceIsNamedInsteadOfADeadlock) {
  if constexpr (kChecksRanks) {
    Mutex mutex(LockRank::pool);
    EXPECT_DEATH(([&]() MMKIT_NO_THREAD_SAFETY_ANALYSIS {
                   mutex.lock();
                   mutex.lock();
                 }()),
                 "taken out of rank order");
  }
}

// ShortLock saves its read-modify-write in a process of one thread: a lock taken then must be held
// for the threads that start later. A process of its own, since this one has started threads.
[[noreturn]] void take_alone_then_start_a_thread() MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  ShortLock lock(LockRank::pool);
  const bool alone = detail::single_threaded();
  lock.lock();
  bool saw_it_free = true;
  std::thread([&] { saw_it_free = lock.try_lock(); }).join();
  lock.unlock();
  if (!lock.try_lock()) ::_exit(1);
  lock.unlock();
  std::fprintf(stderr, "%s", alone ? "alone" : "not alone");  // a sanitizer may have a thread
  ::_exit(saw_it_free ? 2 : 0);
}

TEST_F(BaseMutexDeathTest, AShortLockTakenByTheOnlyThreadIsHeldForThoseThatStartLater) {
  EXPECT_EXIT(take_alone_then_start_a_thread(), ::testing::ExitedWithCode(0), "alone$");
}

struct Item : ListNode<> {};

TEST_F(BaseMutexDeathTest, AListElementIsInOneListAtATime) {
  if constexpr (MMKIT_CHECK_LEVEL >= 1) {
    IntrusiveList<Item> list;
    IntrusiveList<Item> other;
    Item item;
    EXPECT_DEATH(list.remove(item), "check failed: gone->is_linked");
    list.push_back(item);
    EXPECT_DEATH(other.push_back(item), "check failed: !fresh->is_linked");
    EXPECT_DEATH(list.push_front(item), "check failed: !fresh->is_linked");
    list.remove(item);
  }
}

}  // namespace
}  // namespace mmkit
