// SPDX-License-Identifier: MIT
//
// CpuStacks by one thread at a time: room that is granted and taken back, CPUs that begin, stacks that
// are emptied or stopped from elsewhere, locks that a fork left behind.
#include <mmkit/zpool/cpu_stacks.hpp>

#include <gtest/gtest.h>

#include <barrier>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::allowed_cpus;
using testing::PinnedThread;
using testing::run_on;

using Numbers = std::vector<std::uint32_t>;

class CpuStacksTest : public ::testing::Test {
 protected:
  static constexpr unsigned kFirstCapacity = 5;
  static constexpr std::size_t kFirst = CpuStacks::kFirstHead;
  static constexpr std::size_t kSecond = kFirst + CpuStacks::stack_bytes(kFirstCapacity);
  static constexpr std::size_t kRecordBytes =
      kSecond + CpuStacks::stack_bytes(CpuStacks::kMostNumbers);

  void SetUp() override { ASSERT_TRUE(stacks_.create(kRecordBytes)); }

  // Room on this CPU.
  unsigned grant(std::size_t head, std::uint32_t limit) {
    const unsigned cpu = stacks_.make_ready();
    stacks_.set_limit(cpu, head, limit);
    return cpu;
  }
  void push_all(std::size_t head, const Numbers& numbers) {
    for (const std::uint32_t number : numbers) EXPECT_TRUE(stacks_.push(head, number));
  }
  Numbers pop_all(std::size_t head) {
    Numbers popped;
    while (const std::uint32_t number = stacks_.pop(head)) popped.push_back(number);
    return popped;
  }
  Numbers drain(unsigned cpu, std::size_t head) {
    Numbers out(CpuStacks::kMostNumbers);
    out.resize(stacks_.drain(cpu, head, out.data()));
    return out;
  }
  static bool has_another_cpu() { return allowed_cpus().size() > 1; }
  static unsigned other_cpu() { return allowed_cpus().front(); }

  PinnedThread pinned_;
  CpuStacks stacks_;
};

// ---------------------------------------------------------------- this CPU

TEST_F(CpuStacksTest, HaveNoRoomUntilSomeIsGranted) {
  EXPECT_FALSE(stacks_.push(kFirst, 1));
  EXPECT_EQ(stacks_.pop(kFirst), 0u);
  const unsigned cpu = grant(kFirst, 2);
  EXPECT_EQ(cpu, PinnedThread::cpu());
  EXPECT_EQ(stacks_.limit(cpu, kFirst), 2u);
  EXPECT_EQ(stacks_.limit(cpu, kSecond), 0u);
  push_all(kFirst, {7, 8});
  EXPECT_FALSE(stacks_.push(kFirst, 9));
  EXPECT_FALSE(stacks_.push(kSecond, 9));
  EXPECT_EQ(stacks_.count(cpu, kFirst), 2u);
  EXPECT_EQ(pop_all(kFirst), (Numbers{8, 7})) << "what was pushed last comes first";
  EXPECT_EQ(stacks_.count(cpu, kFirst), 0u);
}

TEST_F(CpuStacksTest, KeepStacksApartUpToTheirCapacities) {
  grant(kFirst, kFirstCapacity);
  grant(kSecond, CpuStacks::kMostNumbers);
  Numbers second;
  for (std::uint32_t n = CpuStacks::kMostNumbers; n != 0; --n) second.push_back(~n);
  for (int round = 0; round < 3; ++round) {
    push_all(kFirst, {1, 2, 3, 4, 5});
    push_all(kSecond, second);
    EXPECT_FALSE(stacks_.push(kFirst, 6));
    EXPECT_FALSE(stacks_.push(kSecond, 6));
    EXPECT_EQ(pop_all(kFirst), (Numbers{5, 4, 3, 2, 1}));
    EXPECT_EQ(pop_all(kSecond), Numbers(second.rbegin(), second.rend()));
  }
}

TEST_F(CpuStacksTest, LetOutWhatIsAboveALimitThatWasLowered) {
  grant(kFirst, 4);
  push_all(kFirst, {1, 2, 3, 4});
  grant(kFirst, 0);
  EXPECT_FALSE(stacks_.push(kFirst, 5));
  EXPECT_EQ(stacks_.pop(kFirst), 4u);
  EXPECT_FALSE(stacks_.push(kFirst, 5));
  EXPECT_EQ(pop_all(kFirst), (Numbers{3, 2, 1}));
}

// The forms without a call in them do nothing, or the same.
TEST_F(CpuStacksTest, TryToDoTheSameWithoutACall) {
  const unsigned cpu = grant(kFirst, 2);
  const bool pushed = stacks_.try_push(kFirst, 3);
  EXPECT_EQ(pushed, percpu_mode() == PercpuMode::rseq);
  EXPECT_EQ(stacks_.count(cpu, kFirst), pushed ? 1u : 0u);
  EXPECT_EQ(stacks_.try_pop(kFirst), pushed ? 3u : 0u);
  EXPECT_EQ(stacks_.try_pop(kFirst), 0u);
  EXPECT_EQ(stacks_.try_count_allocation(10), pushed);
  EXPECT_EQ(stacks_.try_count_free(4), pushed);
  EXPECT_EQ(stacks_.counts().allocations, pushed ? 1u : 0u);
  EXPECT_EQ(stacks_.counts().frees, pushed ? 1u : 0u);
  EXPECT_EQ(stacks_.counts().bytes, pushed ? 6u : 0u);
}

// ---------------------------------------------------------------- CPUs that begin

TEST_F(CpuStacksTest, AreReadyOnACpuOnceItHasBegun) {
  EXPECT_FALSE(stacks_.ready_now());
  const std::size_t before = stacks_.metadata_bytes();
  EXPECT_EQ(stacks_.make_ready(), PinnedThread::cpu());
  EXPECT_TRUE(stacks_.ready_now());
  EXPECT_EQ(stacks_.metadata_bytes(), before + kRecordBytes) << "a CPU costs its record";
  EXPECT_EQ(stacks_.make_ready(), PinnedThread::cpu());
  EXPECT_EQ(stacks_.metadata_bytes(), before + kRecordBytes);
  if (!has_another_cpu()) GTEST_SKIP() << "there is one CPU";
  run_on(other_cpu(), [&] {
    EXPECT_FALSE(stacks_.ready_now());
    EXPECT_EQ(stacks_.make_ready(), other_cpu());
    EXPECT_TRUE(stacks_.ready_now());
  });
  EXPECT_EQ(stacks_.metadata_bytes(), before + 2 * kRecordBytes);
}

TEST_F(CpuStacksTest, HoldNothingOnACpuThatNeverWorked) {
  if (!has_another_cpu()) GTEST_SKIP() << "there is one CPU";
  grant(kFirst, 3);
  push_all(kFirst, {1, 2});
  EXPECT_EQ(stacks_.limit(other_cpu(), kFirst), 0u);
  EXPECT_EQ(stacks_.count(other_cpu(), kFirst), 0u);
  run_on(other_cpu(), [&] {
    EXPECT_EQ(stacks_.pop(kFirst), 0u) << "each CPU has its own";
    EXPECT_FALSE(stacks_.push(kFirst, 3));
  });
  EXPECT_EQ(pop_all(kFirst), (Numbers{2, 1}));
}

TEST_F(CpuStacksTest, CountOverAllCpus) {
  for (int i = 0; i < 10; ++i) stacks_.count_allocation(100);
  run_on(other_cpu(), [&] {
    for (int i = 0; i < 4; ++i) stacks_.count_free(25);
    stacks_.count_allocation(0);
  });
  const CpuStacks::Counts counts = stacks_.counts();
  EXPECT_EQ(counts.allocations, 11u);
  EXPECT_EQ(counts.frees, 4u);
  EXPECT_EQ(counts.bytes, 900u);
}

// ---------------------------------------------------------------- from elsewhere

TEST_F(CpuStacksTest, AreEmptiedFromAnyCpu) {
  const unsigned cpu = grant(kFirst, kFirstCapacity);
  grant(kSecond, 3);
  for (const unsigned from : {allowed_cpus().front(), allowed_cpus().back()}) {
    push_all(kFirst, {4, 2, 9});
    push_all(kSecond, {6});
    run_on(from, [&] { EXPECT_EQ(drain(cpu, kFirst), (Numbers{4, 2, 9})); });
    EXPECT_EQ(stacks_.count(cpu, kFirst), 0u);
    EXPECT_EQ(stacks_.pop(kFirst), 0u);
    EXPECT_EQ(pop_all(kSecond), (Numbers{6})) << "one stack at a time";
    EXPECT_EQ(stacks_.limit(cpu, kFirst), kFirstCapacity) << "the room stays granted";
  }
  EXPECT_EQ(drain(cpu, kFirst), Numbers{});
}

TEST_F(CpuStacksTest, DoNotChangeWhileTheyAreStopped) {
  const unsigned cpu = grant(kFirst, kFirstCapacity);
  push_all(kFirst, {4, 2});
  {
    const CpuStacks::Stopped stopped(stacks_);
    EXPECT_FALSE(stacks_.push(kFirst, 9));
    EXPECT_EQ(stacks_.pop(kFirst), 0u);
    EXPECT_EQ(stacks_.try_pop(kFirst), 0u);
    const auto seen = stopped.numbers(cpu, kFirst);
    EXPECT_EQ(Numbers(seen.begin(), seen.end()), (Numbers{4, 2}));
    EXPECT_TRUE(stopped.numbers(cpu, kSecond).empty());
    stacks_.count_allocation(8);  // counts go on
    for (unsigned other = 0; other < stacks_.cpus(); ++other) {
      if (other != cpu) {
        EXPECT_TRUE(stopped.numbers(other, kFirst).empty());
      }
    }
  }
  EXPECT_EQ(stacks_.counts().allocations, 1u);
  push_all(kFirst, {7});
  EXPECT_EQ(pop_all(kFirst), (Numbers{7, 2, 4}));
}

// It is not stopped, so it is not looked at, and nobody lets go of a lock that nobody took.
TEST_F(CpuStacksTest, LetACpuBeginWhileTheyAreStopped) {
  if (!has_another_cpu()) GTEST_SKIP() << "there is one CPU";
  const unsigned cpu = grant(kFirst, 1);
  std::optional<CpuStacks::Stopped> stopped(stacks_);
  run_on(other_cpu(), [&] {
    grant(kFirst, 2);
    push_all(kFirst, {5});
    EXPECT_TRUE(stopped->numbers(other_cpu(), kFirst).empty());
  });
  EXPECT_FALSE(stacks_.push(kFirst, 3)) << "this one is";
  stopped.reset();
  EXPECT_TRUE(stacks_.push(kFirst, 3));
  EXPECT_EQ(drain(cpu, kFirst), (Numbers{3}));
  EXPECT_EQ(drain(other_cpu(), kFirst), (Numbers{5}));
  const CpuStacks::Stopped again(stacks_);
  EXPECT_TRUE(again.numbers(other_cpu(), kFirst).empty());
}

// A thread that is not in the child holds all records there.
TEST_F(CpuStacksTest, AreLetGoOfInTheChildOfAFork) {
  grant(kFirst, kFirstCapacity);
  push_all(kFirst, {4, 2});
  std::barrier step(2);
  std::thread other([&] {
    const CpuStacks::Stopped stopped(stacks_);
    step.arrive_and_wait();
    step.arrive_and_wait();
  });
  step.arrive_and_wait();
  const int code = testing::run_in_child([&] {
    stacks_.unlock_in_child();
    if (!stacks_.push(kFirst, 9)) return 1;
    if (pop_all(kFirst) != Numbers{9, 2, 4}) return 2;
    const CpuStacks::Stopped stopped(stacks_);
    return stopped.numbers(PinnedThread::cpu(), kFirst).empty() ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
  step.arrive_and_wait();
  other.join();
  EXPECT_EQ(pop_all(kFirst), (Numbers{2, 4}));
}

// ---------------------------------------------------------------- records

TEST(CpuStacks, HaveRecordsUpToTheLargestPercpuObject) {
  CpuStacks largest;
  ASSERT_TRUE(largest.create(kPercpuMaxBytes));
  const PinnedThread pinned;
  const std::size_t last = kPercpuMaxBytes - CpuStacks::stack_bytes(1);
  largest.set_limit(largest.make_ready(), last, 1);
  EXPECT_TRUE(largest.push(last, 0xffffffff));
  EXPECT_FALSE(largest.push(last, 1));
  EXPECT_EQ(largest.pop(last), 0xffffffff);
  CpuStacks too_large;
  EXPECT_FALSE(too_large.create(kPercpuMaxBytes + 1));
}

TEST(CpuStacks, BeginWithZeroesWhereOthersEnded) {
  const PinnedThread pinned;
  constexpr std::size_t kHead = CpuStacks::kFirstHead;
  constexpr std::size_t kBytes = kHead + CpuStacks::stack_bytes(20);
  for (int round = 0; round < 3; ++round) {
    CpuStacks stacks;
    ASSERT_TRUE(stacks.create(kBytes));
    EXPECT_EQ(stacks.pop(kHead), 0u);
    EXPECT_FALSE(stacks.push(kHead, 1)) << "no room, whatever was granted to the ones before";
    EXPECT_EQ(stacks.counts().allocations, 0u);
    stacks.set_limit(stacks.make_ready(), kHead, 20);
    stacks.count_allocation(5);
    for (std::uint32_t n = 1; n <= 20; ++n) EXPECT_TRUE(stacks.push(kHead, n));
  }
}

}  // namespace
}  // namespace mmkit
