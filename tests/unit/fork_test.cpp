// SPDX-License-Identifier: MIT
//
// Real forks. A child reports by its exit code alone, because it may not use the test framework.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>
#include <string_view>
#include <thread>
#include <vector>

#include "support/child_process.hpp"

namespace mmkit {
namespace {

using testing::run_in_child;

// What the handlers did, in order: a letter a participant and what was done to it. Of fixed size:
// it is written between fork and exec.
class Journal {
 public:
  void add(char who, char what) noexcept {
    if (length_ + 3 > sizeof text_) return;
    text_[length_++] = who;
    text_[length_++] = what;
    text_[length_++] = ' ';
  }
  void clear() noexcept { length_ = 0; }
  std::string_view text() const noexcept { return {text_, length_}; }

 private:
  char text_[512] = {};
  std::size_t length_ = 0;
};

Journal journal;

// Writes down what is asked of it. Has no lock: some tests change the order, and a lock taken in
// two orders looks like a deadlock to ThreadSanitizer, which does not see that the handlers take
// turns.
class Participant final : public ForkParticipant {
 public:
  explicit Participant(char letter, LockRank rank) noexcept : name_(letter), rank_(rank) {}
  ~Participant() { leave_fork(); }

  Status join() noexcept { return join_fork(rank_); }
  bool leaves_in_child = false;

  void lock_for_fork() noexcept override { journal.add(name_, 'L'); }
  void unlock_after_fork() noexcept override { journal.add(name_, 'U'); }
  void on_child() noexcept override {
    journal.add(name_, 'C');
    if (leaves_in_child) leave_fork();
  }

 private:
  char name_;
  LockRank rank_;
};

// Has a lock, as pools do.
class LockedParticipant final : public ForkParticipant {
 public:
  ~LockedParticipant() { leave_fork(); }

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex.lock_for_fork(); }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS { mutex.unlock(); }
  void on_child() noexcept override { lock_was_free_for_child = is_free(); }

  // Whether this thread, which does not hold it, could take the lock.
  bool is_free() noexcept {
    if (!mutex.try_lock()) return false;
    mutex.unlock();
    return true;
  }

  Mutex mutex{LockRank::pool};
  bool lock_was_free_for_child = false;
};

// The journals of the parent and of the child of one fork.
struct Journals {
  std::string parent;
  std::string child;
};

Journals journals_of_a_fork() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  journal.clear();
  const int code = run_in_child([&] {
    const std::string_view text = journal.text();
    return ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
  ::close(ends[1]);
  Journals both{std::string(journal.text()), {}};
  std::array<char, 512> buffer{};
  const ssize_t length = ::read(ends[0], buffer.data(), buffer.size());
  if (length > 0) both.child.assign(buffer.data(), static_cast<std::size_t>(length));
  ::close(ends[0]);
  return both;
}

TEST(Fork, LocksByRankThenUnlocksInReverseOnBothSides) {
  Participant pool('p', LockRank::pool);
  Participant leaf('l', LockRank::leaf);
  Participant registry('r', LockRank::registry);
  Participant source('s', LockRank::page_source);
  for (Participant* each : {&pool, &leaf, &registry, &source}) ASSERT_TRUE(each->join());
  const Journals both = journals_of_a_fork();
  EXPECT_EQ(both.parent, "rL pL sL lL lU sU pU rU ");
  EXPECT_EQ(both.child, "rL pL sL lL lU sU pU rU rC pC sC lC ");
}

TEST(Fork, LocksThoseOfOneRankInTheOrderTheyJoined) {
  Participant first('1', LockRank::pool);
  Participant second('2', LockRank::pool);
  Participant third('3', LockRank::pool);
  ASSERT_TRUE(second.join());
  ASSERT_TRUE(first.join());
  ASSERT_TRUE(third.join());
  EXPECT_EQ(journals_of_a_fork().parent, "2L 1L 3L 3U 1U 2U ");
  second.leave_fork();
  ASSERT_TRUE(second.join());
  EXPECT_EQ(journals_of_a_fork().parent, "1L 3L 2L 2U 3U 1U ");
}

TEST(Fork, CallsEachParticipantOnceAFork) {
  Participant one('a', LockRank::pool);
  ASSERT_TRUE(one.join());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(journals_of_a_fork().child, "aL aU aC ");
}

TEST(Fork, CallsNobodyWhoHasLeftOrNeverJoined) {
  Participant never('n', LockRank::pool);
  Participant left('g', LockRank::pool);
  ASSERT_TRUE(left.join());
  left.leave_fork();
  const Journals both = journals_of_a_fork();
  EXPECT_EQ(both.parent, "");
  EXPECT_EQ(both.child, "");
}

TEST(Fork, MayBeLeftTwice) {
  Participant twice('t', LockRank::pool);
  twice.leave_fork();
  ASSERT_TRUE(twice.join());
  EXPECT_TRUE(twice.is_linked());
  twice.leave_fork();
  twice.leave_fork();
  EXPECT_FALSE(twice.is_linked());
  EXPECT_EQ(journals_of_a_fork().parent, "");
}

TEST(Fork, CallsOnceWhoHasJoinedTwice) {
  Participant twice('t', LockRank::pool);
  ASSERT_TRUE(twice.join());
  ASSERT_TRUE(twice.join_fork(LockRank::leaf));
  EXPECT_EQ(twice.fork_rank(), LockRank::pool);
  EXPECT_EQ(journals_of_a_fork().child, "tL tU tC ");
}

TEST(Fork, TakesAParticipantThatComesBackWithAnotherRank) {
  Participant stays('s', LockRank::page_source);
  ASSERT_TRUE(stays.join());
  auto moves = std::make_unique<Participant>('m', LockRank::pool);
  ASSERT_TRUE(moves->join_fork(LockRank::pool));
  EXPECT_EQ(moves->fork_rank(), LockRank::pool);
  EXPECT_EQ(journals_of_a_fork().parent, "mL sL sU mU ");
  moves->leave_fork();
  ASSERT_TRUE(moves->join_fork(LockRank::leaf));
  EXPECT_EQ(moves->fork_rank(), LockRank::leaf);
  EXPECT_EQ(journals_of_a_fork().parent, "sL mL mU sU ");
}

TEST(Fork, LetsParticipantsLeaveInTheChild) {
  Participant first('1', LockRank::pool);
  Participant second('2', LockRank::pool);
  Participant third('3', LockRank::pool);
  for (Participant* each : {&first, &second, &third}) {
    each->leaves_in_child = each != &second;
    ASSERT_TRUE(each->join());
  }
  EXPECT_EQ(journals_of_a_fork().child, "1L 2L 3L 3U 2U 1U 1C 2C 3C ");
  // The parent's list is as it was; the child's forks know the second alone.
  EXPECT_TRUE(first.is_linked());
  const int code = run_in_child([] {
    journal.clear();
    const int grandchild = run_in_child([] { return journal.text() == "2L 2U 2C " ? 0 : 1; });
    return grandchild == 0 && journal.text() == "2L 2U " ? 0 : 1;
  });
  EXPECT_EQ(code, 0);
}

TEST(Fork, GivesBothSidesFreeLocks) {
  LockedParticipant one;
  ASSERT_TRUE(one.join_fork(LockRank::pool));
  const int code =
      run_in_child([&] { return one.lock_was_free_for_child && one.is_free() ? 0 : 1; });
  EXPECT_EQ(code, 0);
  EXPECT_TRUE(one.is_free());
}

// Two numbers that are equal whenever the lock is free: a child that sees them differ was forked
// in the middle of a critical section.
TEST(Fork, GivesTheChildOfAThreadedParentWholeStructures) {
  LockedParticipant one;
  ASSERT_TRUE(one.join_fork(LockRank::pool));
  std::uint64_t left = 0;
  std::uint64_t right = 0;
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int i = 0; i < 2; ++i) {
    writers.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        const MutexLock lock(one.mutex);
        ++left;
        ++right;
      }
    });
  }
  for (int i = 0; i < 40; ++i) {
    const int code = run_in_child([&] {
      if (!one.mutex.try_lock()) return 1;
      const int whole = left == right ? 0 : 2;
      one.mutex.unlock();
      return whole;
    });
    ASSERT_EQ(code, 0) << "fork " << i;
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

TEST(Fork, MayBeCalledByAnyThread) {
  Participant one('a', LockRank::pool);
  ASSERT_TRUE(one.join());
  std::thread([] { EXPECT_EQ(journals_of_a_fork().child, "aL aU aC "); }).join();
}

}  // namespace
}  // namespace mmkit
