// SPDX-License-Identifier: MIT
//
// Mutex and ShortLock, which promise the same, and CondVar. One thread at a time, handed on by
// joining, so that nothing here depends on timing. Contention is in
// tests/stress/mutex_stress_test.cpp, wrong order in tests/death/base_mutex_death_test.cpp.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace mmkit {
namespace {

// "Forty-eight bytes", says its header; structures are laid out with it.
static_assert(sizeof(Mutex) == 48);
static_assert(sizeof(ShortLock) == 8);

constinit Mutex mutex_of_static_life{LockRank::leaf};
constinit ShortLock short_lock_of_static_life{LockRank::leaf};
constinit CondVar condition_of_static_life;

// Whether another thread could take the lock now.
template <class Lock>
bool is_free(Lock& lock) {
  bool taken = false;
  std::thread([&] {
    if (lock.try_lock()) {
      taken = true;
      lock.unlock();
    }
  }).join();
  return taken;
}

// A lock and what holds it for a scope.
template <class LockType, class GuardType>
struct Kind {
  using Lock = LockType;
  using Guard = GuardType;
};

template <class T>
class LockTest : public ::testing::Test {};
using Kinds = ::testing::Types<Kind<Mutex, MutexLock>, Kind<ShortLock, ShortLockGuard>>;
class KindNames {
 public:
  template <class T>
  static std::string GetName(int) {
    return std::is_same_v<typename T::Lock, Mutex> ? "Mutex" : "ShortLock";
  }
};
TYPED_TEST_SUITE(LockTest, Kinds, KindNames);

TEST(Mutex, IsReadyBeforeMain) {
  mutex_of_static_life.lock();
  mutex_of_static_life.unlock();
  short_lock_of_static_life.lock();
  short_lock_of_static_life.unlock();
  condition_of_static_life.notify_all();
}

TYPED_TEST(LockTest, StaysWhereItIs) {
  using Lock = typename TypeParam::Lock;
  static_assert(!std::is_copy_constructible_v<Lock> && !std::is_move_constructible_v<Lock>);
  static_assert(!std::is_convertible_v<LockRank, Lock>);
  const Lock lock(LockRank::page_source);
  EXPECT_EQ(lock.rank(), LockRank::page_source);
}

TYPED_TEST(LockTest, IsHeldFromLockToUnlock) {
  typename TypeParam::Lock lock(LockRank::pool);
  EXPECT_TRUE(is_free(lock));
  lock.lock();
  EXPECT_FALSE(is_free(lock));
  lock.unlock();
  EXPECT_TRUE(is_free(lock));
}

TYPED_TEST(LockTest, TryLockTakesAFreeLockAlone) {
  typename TypeParam::Lock lock(LockRank::pool);
  if (!lock.try_lock()) FAIL() << "a free lock was not taken";
  EXPECT_FALSE(is_free(lock));
  lock.unlock();
  EXPECT_TRUE(is_free(lock));
}

TYPED_TEST(LockTest, MayBeTakenAgainstTheOrderByATry) {
  typename TypeParam::Lock inner(LockRank::leaf);
  typename TypeParam::Lock outer(LockRank::pool);
  inner.lock();
  const bool taken = outer.try_lock();
  EXPECT_TRUE(taken);
  if (taken) outer.unlock();
  inner.unlock();
}

TYPED_TEST(LockTest, IsTakenInTheOrderOfRanks) {
  typename TypeParam::Lock outer(LockRank::registry);
  typename TypeParam::Lock middle(LockRank::pool);
  typename TypeParam::Lock inner(LockRank::leaf);
  outer.lock();
  middle.lock();
  inner.lock();
  middle.unlock();  // let go in any order
  outer.unlock();
  inner.unlock();
  inner.lock();  // nothing is held any more
  inner.unlock();
  outer.lock();
  outer.unlock();
}

TYPED_TEST(LockTest, ForgetsARankWhenItIsLetGo) {
  typename TypeParam::Lock first(LockRank::pool);
  typename TypeParam::Lock second(LockRank::pool);
  for (int i = 0; i < 100; ++i) {
    first.lock();
    first.unlock();
    second.lock();
    second.unlock();
  }
}

// More locks than the record of ranks has room for, as fork handlers take them. The analysis cannot
// follow locks in a loop.
template <class Lock, std::size_t... kIndex>
void hold_many(std::index_sequence<kIndex...>) MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  constexpr std::size_t kMany = sizeof...(kIndex);
  std::array<Lock, kMany> locks{Lock(kIndex < 30 ? LockRank::pool : LockRank::leaf)...};
  for (Lock& lock : locks) lock.lock_for_fork();
  for (Lock& lock : locks) EXPECT_FALSE(is_free(lock));
  for (std::size_t i = kMany; i-- != 0;) locks[i].unlock();
  for (Lock& lock : locks) lock.lock_for_fork();
  for (Lock& lock : locks) lock.unlock();
  Lock outermost(LockRank::fork);
  outermost.lock();  // in order, hence nothing is left in the record
  outermost.unlock();
}

TYPED_TEST(LockTest, MayBeHeldManyTimesByForkHandlers) {
  hold_many<typename TypeParam::Lock>(std::make_index_sequence<40>());
}

TYPED_TEST(LockTest, IsHeldForAScope) {
  typename TypeParam::Lock lock(LockRank::pool);
  {
    const typename TypeParam::Guard guard(lock);
    EXPECT_FALSE(is_free(lock));
  }
  EXPECT_TRUE(is_free(lock));
}

TYPED_TEST(LockTest, IsLetGoAndTakenAgainInAScope) {
  typename TypeParam::Lock lock(LockRank::pool);
  {
    typename TypeParam::Guard guard(lock);
    guard.unlock();
    EXPECT_TRUE(is_free(lock));
    guard.lock();
    EXPECT_FALSE(is_free(lock));
  }
  EXPECT_TRUE(is_free(lock));
}

// The analysis takes the end of the scope for the end of the lock.
template <class Lock, class Guard>
void let_go_then_take_for_longer() MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  Lock lock(LockRank::pool);
  {
    Guard guard(lock);
    guard.unlock();
    lock.lock();  // someone else's by now
  }
  EXPECT_FALSE(is_free(lock));
  lock.unlock();
}

TYPED_TEST(LockTest, IsLeftAloneByAScopeThatHasLetGo) {
  let_go_then_take_for_longer<typename TypeParam::Lock, typename TypeParam::Guard>();
}

// A thread that starts while the lock is held finds it held, and waits for it.
TYPED_TEST(LockTest, IsHeldForAThreadThatStartsLater) {
  typename TypeParam::Lock lock(LockRank::pool);
  lock.lock();
  std::atomic<bool> tried{false};
  bool saw_it_free = false;
  int guarded = 1;
  std::thread later([&] {
    if (lock.try_lock()) {
      saw_it_free = true;
      lock.unlock();
    }
    tried = true;
    lock.lock();
    guarded *= 10;
    lock.unlock();
  });
  while (!tried) std::this_thread::yield();
  guarded += 1;
  lock.unlock();
  later.join();
  EXPECT_FALSE(saw_it_free);
  EXPECT_EQ(guarded, 20);
}

TEST(CondVar, WakesAThreadThatWaits) {
  Mutex mutex(LockRank::pool);
  CondVar changed;
  int turn = 0;
  constexpr int kRounds = 200;
  std::thread other([&] {
    const MutexLock lock(mutex);
    for (int i = 0; i < kRounds; ++i) {
      while (turn % 2 == 0) changed.wait(mutex);
      ++turn;
      changed.notify_all();
    }
  });
  {
    const MutexLock lock(mutex);
    for (int i = 0; i < kRounds; ++i) {
      while (turn % 2 == 1) changed.wait(mutex);
      ++turn;
      changed.notify_all();
    }
  }
  other.join();
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST(CondVar, HoldsTheLockWhenItsWaitEnds) {
  Mutex mutex(LockRank::pool);
  CondVar changed;
  bool ready = false;
  bool was_free = true;
  std::thread waiter([&] {
    const MutexLock lock(mutex);
    while (!ready) changed.wait(mutex);
    was_free = is_free(mutex);
  });
  {
    const MutexLock lock(mutex);
    ready = true;
    changed.notify_all();
  }
  waiter.join();
  EXPECT_FALSE(was_free);
}

TEST(CondVar, WakesAllThatWait) {
  Mutex mutex(LockRank::pool);
  CondVar changed;
  bool open = false;
  int waiting = 0;
  int passed = 0;
  std::array<std::thread, 4> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      const MutexLock lock(mutex);
      ++waiting;
      changed.notify_all();
      while (!open) changed.wait(mutex);
      ++passed;
    });
  }
  {
    const MutexLock lock(mutex);
    while (waiting < 4) changed.wait(mutex);
    EXPECT_EQ(passed, 0);
    open = true;
    changed.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(passed, 4);
}

}  // namespace
}  // namespace mmkit
