// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <unistd.h>

#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>

namespace mmkit {
namespace {

class Participant final : public ForkParticipant {
 public:
  void lock_for_fork() noexcept override {}
  void unlock_after_fork() noexcept override {}
};

class BaseForkDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(BaseForkDeathTest, AParticipantLeavesBeforeItEnds) {
  if constexpr (MMKIT_CHECK_LEVEL >= 1) {
    EXPECT_DEATH(
        {
          Participant one;
          static_cast<void>(one.join_fork(LockRank::pool));
        },
        "check failed: !is_linked");
  }
}

// A fork under a lock of the library would wait for itself: its handlers take every lock.
TEST_F(BaseForkDeathTest, ForkingUnderALockIsTakenOutOfOrder) {
  if constexpr (MMKIT_CHECK_LEVEL >= 1) {
    EXPECT_DEATH(
        {
          Participant one;
          static_cast<void>(one.join_fork(LockRank::pool));
          Mutex mutex(LockRank::registry);
          const MutexLock lock(mutex);
          ::fork();
        },
        "mmkit: lock: taken out of rank order 0x0");
  }
}

}  // namespace
}  // namespace mmkit
