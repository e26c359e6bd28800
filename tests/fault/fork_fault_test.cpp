// SPDX-License-Identifier: MIT
//
// The system takes no fork handler: pthread_atfork fails with ENOMEM. Handlers are registered once
// a process, by whoever joins first; so each case runs in a process of its own, which a death test
// of the threadsafe style is.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>

#include "fault/failing_atfork.hpp"
#include "support/child_process.hpp"

namespace mmkit {
namespace {

using testing::fail_registrations;
using testing::fork_registrations;
using testing::registration_failures_left;

class Participant final : public ForkParticipant {
 public:
  ~Participant() { leave_fork(); }
  void lock_for_fork() noexcept override { ++locked; }
  void unlock_after_fork() noexcept override { ++unlocked; }
  void on_child() noexcept override { ++in_child; }
  int locked = 0;
  int unlocked = 0;
  int in_child = 0;
};

class ForkFaultTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Ends the process with the line of the first expectation that does not hold, 0 when all do.
#define REQUIRE(condition)                                         \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      ::_exit(1);                                                  \
    }                                                              \
  } while (false)

[[noreturn]] void join_when_the_first_registration_fails() {
  Participant one;
  fail_registrations(1);
  const Status refused = one.join_fork(LockRank::pool);
  REQUIRE(!refused && refused.error() == Errc::out_of_memory);
  REQUIRE(!one.is_linked() && fork_registrations() == 0);
  REQUIRE(one.fork_rank() == LockRank::leaf);  // as it was
  const auto forked_without_handlers = [&] { return one.locked == 0 && one.in_child == 0 ? 0 : 1; };
  REQUIRE(testing::run_in_child(forked_without_handlers) == 0);
  REQUIRE(one.locked == 0);
  one.leave_fork();  // never joined, hence nothing

  // The next who asks tries again, and once it went well nobody does.
  REQUIRE(one.join_fork(LockRank::pool).has_value());
  REQUIRE(one.is_linked() && fork_registrations() == 1);
  Participant two;
  fail_registrations(1);
  REQUIRE(two.join_fork(LockRank::registry).has_value());
  REQUIRE(fork_registrations() == 1 && registration_failures_left() == 1);

  const auto once_each = [&] {
    const bool good =
        one.locked == 1 && one.unlocked == 1 && one.in_child == 1 && two.in_child == 1;
    return good ? 0 : 1;
  };
  REQUIRE(testing::run_in_child(once_each) == 0);
  REQUIRE(one.locked == 1 && one.unlocked == 1 && one.in_child == 0);
  ::_exit(0);
}

TEST_F(ForkFaultTest, JoinSaysOutOfMemoryAndChangesNothingWhenTheSystemTakesNoHandler) {
  EXPECT_EXIT(join_when_the_first_registration_fails(), ::testing::ExitedWithCode(0), "^$");
}

[[noreturn]] void join_when_registration_fails_for_ever() {
  fail_registrations(1 << 20);
  for (int i = 0; i < 100; ++i) {
    Participant one;
    const Status refused = one.join_fork(LockRank::pool);
    REQUIRE(!refused && refused.error() == Errc::out_of_memory && !one.is_linked());
  }
  REQUIRE(fork_registrations() == 0);
  Mutex mutex(LockRank::fork);  // no rank of a failed join is left behind
  mutex.lock();
  mutex.unlock();
  ::_exit(0);
}

TEST_F(ForkFaultTest, JoinFailsAsOftenAsTheSystemDoes) {
  EXPECT_EXIT(join_when_registration_fails_for_ever(), ::testing::ExitedWithCode(0), "^$");
}

}  // namespace
}  // namespace mmkit
