// SPDX-License-Identifier: MIT
//
// The system takes no fork handler: pthread_atfork fails with ENOMEM. Handlers are registered once
// a process, by whoever joins first; so each case runs in a process of its own, which a death test
// of the threadsafe style is.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>

#include "support/child_process.hpp"

// The linker's --wrap=pthread_atfork sends the library's call here.
namespace {
int failures_to_come = 0;
int registrations = 0;
}  // namespace

extern "C" int __real_pthread_atfork(void (*)(), void (*)(), void (*)());  // NOLINT
extern "C" int __wrap_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)());
extern "C" int __wrap_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) {
  if (failures_to_come > 0) {
    --failures_to_come;
    return ENOMEM;
  }
  ++registrations;
  return __real_pthread_atfork(prepare, parent, child);
}

namespace mmkit {
namespace {

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
  failures_to_come = 1;
  const Status refused = one.join_fork(LockRank::pool);
  REQUIRE(!refused && refused.error() == Errc::out_of_memory);
  REQUIRE(!one.is_linked() && registrations == 0);
  REQUIRE(one.fork_rank() == LockRank::leaf);  // as it was
  const auto forked_without_handlers = [&] { return one.locked == 0 && one.in_child == 0 ? 0 : 1; };
  REQUIRE(testing::run_in_child(forked_without_handlers) == 0);
  REQUIRE(one.locked == 0);
  one.leave_fork();  // never joined, hence nothing

  // The next who asks tries again, and once it went well nobody does.
  REQUIRE(one.join_fork(LockRank::pool).has_value());
  REQUIRE(one.is_linked() && registrations == 1);
  Participant two;
  failures_to_come = 1;
  REQUIRE(two.join_fork(LockRank::registry).has_value());
  REQUIRE(registrations == 1 && failures_to_come == 1);

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
  failures_to_come = 1 << 20;
  for (int i = 0; i < 100; ++i) {
    Participant one;
    const Status refused = one.join_fork(LockRank::pool);
    REQUIRE(!refused && refused.error() == Errc::out_of_memory && !one.is_linked());
  }
  REQUIRE(registrations == 0);
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
