// SPDX-License-Identifier: MIT
//
// Code against the lock annotations fails under clang.
// compilers: clang
// flags: -Wthread-safety
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>

using mmkit::CondVar;
using mmkit::LockRank;
using mmkit::Mutex;
using mmkit::MutexLock;
using mmkit::ShortLock;
using mmkit::ShortLockGuard;

class Account {
 public:
  void add(int amount) {
    const MutexLock lock(mutex_);
    balance_ += amount;
    add_locked(amount);
    wait_locked();
#if WRONG == 1
    // expect: acquiring mutex .* that is already held
    const MutexLock twice(mutex_);
#endif
#if WRONG == 2
    // expect: cannot call function 'add_unlocked' while mutex .* is held
    add_unlocked(amount);
#endif
  }
  void by_hand() {
    mutex_.lock();
    balance_ = 0;
    mutex_.unlock();
#if WRONG == 3
    // expect: writing variable 'balance_' requires holding mutex
    balance_ = 1;
#endif
#if WRONG == 4
    // expect: releasing mutex .* that was not held
    mutex_.unlock();
#endif
  }
  int read() {
#if WRONG == 5
    // expect: reading variable 'balance_' requires holding mutex
    return balance_;
#endif
    const MutexLock lock(mutex_);
    return balance_;
  }
  void outside() {
#if WRONG == 6
    // expect: calling function 'add_locked' requires holding mutex
    add_locked(1);
#endif
#if WRONG == 7
    // expect: calling function 'wait' requires holding mutex
    changed_.wait(mutex_);
#endif
    add_unlocked(1);
  }
  void forgets() {
    mutex_.lock();
    balance_ = 2;
#if WRONG == 8
    // expect: mutex .* is still held at the end of function
  }
#else
    mutex_.unlock();
  }
#endif
  void tries() {
    if (mutex_.try_lock()) {
      balance_ = 3;
      mutex_.unlock();
    }
#if WRONG == 9
    // expect: writing variable 'balance_' requires holding mutex
    balance_ = 4;
#endif
  }
  void lets_go() {
    MutexLock lock(mutex_);
    balance_ = 5;
    lock.unlock();
#if WRONG == 10
    // expect: writing variable 'balance_' requires holding mutex
    balance_ = 6;
#endif
#if WRONG == 11
    // expect: releasing mutex .* that was not held
    lock.unlock();
#endif
    lock.lock();
    balance_ = 7;
  }
  void of_short_lock() {
    ShortLockGuard guard(short_lock_);
    count_ = 1;
    guard.unlock();
#if WRONG == 12
    // expect: writing variable 'count_' requires holding mutex
    count_ = 2;
#endif
#if WRONG == 13
    // expect: reading the value pointed to by 'pointer_' requires holding mutex
    if (*pointer_ == 0) return;
#endif
  }
  int guards_what_it_points_at() {
    const ShortLockGuard guard(short_lock_);
    return *pointer_;
  }

 private:
  void add_locked(int amount) MMKIT_REQUIRES(mutex_) {
    balance_ += amount;
  }
  void add_unlocked(int amount) MMKIT_EXCLUDES(mutex_) {
    add(amount);
  }
  void wait_locked() MMKIT_REQUIRES(mutex_) {
    while (balance_ < 0) changed_.wait(mutex_);
  }

  Mutex mutex_{LockRank::pool};
  CondVar changed_;
  ShortLock short_lock_{LockRank::leaf};
  int balance_ MMKIT_GUARDED_BY(mutex_) = 0;
  int count_ MMKIT_GUARDED_BY(short_lock_) = 0;
  int* pointer_ MMKIT_PT_GUARDED_BY(short_lock_) = nullptr;
};

// Every function above is used, so that none is unused.
int use(Account& account) {
  account.by_hand();
  account.outside();
  account.forgets();
  account.tries();
  account.lets_go();
  account.of_short_lock();
  return account.read() + account.guards_what_it_points_at();
}
