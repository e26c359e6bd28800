// SPDX-License-Identifier: MIT
//
// Mutex, ShortLock, CondVar and the fork handlers under contention. The load is said in operations.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <random>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

// Joined when it goes, so that a failed assertion leaves no thread behind.
class Threads {
 public:
  ~Threads() { join(); }
  template <class Body>
  void add(Body body) {
    threads_.emplace_back(std::move(body));
  }
  void join() {
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

 private:
  std::vector<std::thread> threads_;
};

// Plain numbers under the locks, taken in every way there is. A lost increment is a wrong sum, and
// ThreadSanitizer sees the race.
template <class Lock, class Guard>
void count_under_locks() {
  constexpr unsigned kThreads = 4;
  const std::uint64_t rounds = testing::scaled(200'000, 1000);
  struct Sums {
    std::uint64_t outer = 0;
    std::uint64_t inner = 0;
  };
  Lock outer(LockRank::pool);
  Lock inner(LockRank::leaf);
  Sums shared;  // outer under `outer`, inner under `inner`
  std::array<Sums, kThreads> own;
  Threads threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.add([&, t] {
      std::mt19937_64 random(testing::test_seed(t));
      Sums mine;
      for (std::uint64_t i = 0; i < rounds; ++i) {
        switch (random() % 4) {
          case 0: {
            const Guard first(outer);
            const Guard second(inner);
            ++shared.outer;
            ++shared.inner;
            ++mine.outer;
            ++mine.inner;
            break;
          }
          case 1: {
            Guard lock(inner);
            ++shared.inner;
            lock.unlock();
            lock.lock();
            ++shared.inner;
            mine.inner += 2;
            break;
          }
          case 2:
            if (inner.try_lock()) {
              ++shared.inner;
              inner.unlock();
              ++mine.inner;
            }
            break;
          default: {
            const Guard lock(outer);
            ++shared.outer;
            ++mine.outer;
            break;
          }
        }
      }
      own[t] = mine;
    });
  }
  threads.join();
  Sums expected;
  for (const Sums& each : own) {
    expected.outer += each.outer;
    expected.inner += each.inner;
  }
  EXPECT_EQ(shared.outer, expected.outer);
  EXPECT_EQ(shared.inner, expected.inner);
}

// Nothing but the lock and one number, from as many threads as hardly wait for each other: what
// lies between looking at a lock and taking it is a few instructions, and must be hit.
template <class Lock, class Guard>
void count_as_fast_as_can_be() {
  constexpr unsigned kThreads = 2;
  const std::uint64_t rounds = testing::scaled(8'000'000, 10'000);
  Lock lock(LockRank::leaf);
  std::uint64_t sum = 0;
  std::atomic<unsigned> ready{0};
  Threads threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.add([&] {
      for (++ready; ready != kThreads;) std::this_thread::yield();
      for (std::uint64_t i = 0; i < rounds; ++i) {
        const Guard guard(lock);
        ++sum;
      }
    });
  }
  threads.join();
  EXPECT_EQ(sum, kThreads * rounds);
}

TEST(MutexStress, LosesNoIncrementHoweverTheLocksAreTaken) {
  count_under_locks<Mutex, MutexLock>();
}

TEST(MutexStress, LosesNoIncrementAtFullSpeed) {
  count_as_fast_as_can_be<Mutex, MutexLock>();
}

TEST(ShortLockStress, LosesNoIncrementHoweverTheLocksAreTaken) {
  count_under_locks<ShortLock, ShortLockGuard>();
}

TEST(ShortLockStress, LosesNoIncrementAtFullSpeed) {
  count_as_fast_as_can_be<ShortLock, ShortLockGuard>();
}

// Who takes a lock over and over, for so long that others sleep, lets them in all the same.
TEST(ShortLockStress, WhoGivesWayLetsOthersIn) {
  constexpr unsigned kWanted = 50;
  constexpr unsigned kMostSlices = 20'000;  // a second
  constexpr auto kSlice = std::chrono::microseconds(50);
  ShortLock lock(LockRank::leaf);
  std::atomic<unsigned> slices{0}, had{0};
  std::atomic<bool> is_over{false};
  Threads threads;
  threads.add([&] {
    while (had < kWanted && !is_over) {
      // Once a slice: what is had between two of them says nothing.
      for (const unsigned begun = slices; slices == begun && !is_over;) std::this_thread::yield();
      const ShortLockGuard guard(lock);
      ++had;
    }
  });
  while (had < kWanted && slices < kMostSlices) {
    {
      const ShortLockGuard guard(lock);
      ++slices;
      const auto end = std::chrono::steady_clock::now() + kSlice;
      while (std::chrono::steady_clock::now() < end) {
      }
    }
    lock.give_way();
  }
  is_over = true;
  threads.join();
  EXPECT_EQ(had, kWanted) << "in " << slices << " slices";
}

// A thread of the parent that waited when a child was made never comes: the child goes on.
TEST(ShortLockStress, GivesUpOnWhoIsNotInThisProcess) {
  ShortLock lock(LockRank::leaf);
  std::atomic<bool> is_held{false}, is_over{false};
  std::atomic<unsigned> waits{0};
  Threads threads;
  threads.add([&] {
    const ShortLockGuard guard(lock);
    for (is_held = true; !is_over;) std::this_thread::yield();
  });
  while (!is_held) std::this_thread::yield();
  threads.add([&] {
    ++waits;
    const ShortLockGuard guard(lock);
  });
  while (waits == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(testing::run_in_child([&lock] {
              for (int i = 0; i < 1000; ++i) lock.give_way();
              return 0;
            }),
            0);
  is_over = true;
}

// A ring of four places between producers and consumers: each number comes out once.
TEST(CondVarStress, HandsOverEachItemOnce) {
  constexpr std::size_t kPlaces = 4;
  constexpr unsigned kSides = 2;
  const std::uint64_t items = testing::scaled(20'000, 200);
  Mutex mutex(LockRank::pool);
  CondVar changed;
  std::array<std::uint64_t, kPlaces> ring{};
  std::uint64_t put = 0;
  std::uint64_t got = 0;
  std::vector<unsigned> seen(kSides * items);
  Threads threads;
  for (unsigned side = 0; side < kSides; ++side) {
    threads.add([&, side] {
      for (std::uint64_t i = 0; i < items; ++i) {
        const MutexLock lock(mutex);
        while (put - got == kPlaces) changed.wait(mutex);
        ring[put++ % kPlaces] = side * items + i;
        changed.notify_all();
      }
    });
    threads.add([&] {
      for (std::uint64_t i = 0; i < items; ++i) {
        const MutexLock lock(mutex);
        while (put == got) changed.wait(mutex);
        ++seen[ring[got++ % kPlaces]];
        changed.notify_all();
      }
    });
  }
  threads.join();
  EXPECT_EQ(put, kSides * items);
  EXPECT_EQ(got, kSides * items);
  for (std::uint64_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], 1u) << "item " << i;
}

class Participant final : public ForkParticipant {
 public:
  explicit Participant(LockRank rank) noexcept : mutex(rank) {}
  ~Participant() { leave_fork(); }
  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex.lock_for_fork(); }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex.unlock(); }

  Mutex mutex;
  std::uint64_t left = 0;  // equal whenever the lock is free
  std::uint64_t right = 0;
};

// Forks while threads hold locks, and while other participants join and leave.
TEST(ForkStress, FindsEveryLockFreeAndEveryPairWhole) {
  const std::uint64_t forks = testing::scaled(300, 20);
  Participant pool(LockRank::pool);
  Participant leaf(LockRank::leaf);
  ASSERT_TRUE(pool.join_fork(LockRank::pool));
  ASSERT_TRUE(leaf.join_fork(LockRank::leaf));
  std::atomic<bool> stop{false};
  Threads threads;
  threads.add([&] {
    while (!stop) {
      const MutexLock outer(pool.mutex);
      ++pool.left;
      const MutexLock inner(leaf.mutex);
      ++leaf.left;
      ++leaf.right;
      ++pool.right;
    }
  });
  threads.add([&] {
    while (!stop) {
      const MutexLock lock(leaf.mutex);  // without the other, which would guard it too
      ++leaf.left;
      ++leaf.right;
    }
  });
  threads.add([&] {
    while (!stop) {
      Participant passing(LockRank::pool);
      if (!passing.join_fork(LockRank::pool)) break;
      passing.leave_fork();
    }
  });
  for (std::uint64_t i = 0; i < forks; ++i) {
    const int code = testing::run_in_child([&] {
      int wrong = 0;
      for (Participant* each : {&pool, &leaf}) {
        if (!each->mutex.try_lock()) return 1;
        if (each->left != each->right) wrong = 2;
        each->mutex.unlock();
      }
      return wrong;
    });
    EXPECT_EQ(code, 0) << "fork " << i;
    if (code != 0) break;
  }
  stop = true;
}

}  // namespace
}  // namespace mmkit
