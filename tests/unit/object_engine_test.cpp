// SPDX-License-Identifier: MIT
#include <mmkit/zpool/object_engine.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <thread>
#include <vector>

#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::PinnedThread;

class ObjectEngineTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kTag = 5;
  static constexpr std::size_t kHead = ObjectEngine::kFirstPlacementHead;

  void SetUp() override { ASSERT_TRUE(engine_.start(kHead + CpuStacks::stack_bytes(8))); }

  std::vector<std::uint32_t> take(std::size_t count, bool nowait = false) {
    std::vector<std::uint32_t> all;
    while (all.size() < count) {
      std::array<std::uint32_t, 40> batch{};
      const std::size_t wanted = std::min(batch.size(), count - all.size());
      const Result<std::size_t> taken = engine_.take_slots(std::span(batch).first(wanted), nowait);
      if (!taken) break;
      EXPECT_GE(*taken, 1u);
      all.insert(all.end(), batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(*taken));
    }
    return all;
  }
  bool is_valid(std::size_t placed) {
    const CpuStacks::Stopped stopped(engine_.stacks());
    return engine_.validate(stopped, placed);
  }

  PinnedThread pinned_;
  ObjectEngine engine_{kTag};
};

TEST_F(ObjectEngineTest, GivesEachSlotToOneAndTakesItBack) {
  for (int round = 0; round < 3; ++round) {
    const std::vector<std::uint32_t> slots = take(1000);
    ASSERT_EQ(slots.size(), 1000u);
    EXPECT_EQ(std::set<std::uint32_t>(slots.begin(), slots.end()).size(), slots.size());
    for (const std::uint32_t slot : slots) ASSERT_LT(slot, engine_.slots());
    engine_.give_slots(slots);
    EXPECT_TRUE(is_valid(0));
  }
  EXPECT_LT(engine_.slots(), 1300u) << "slots are used again";
}

TEST_F(ObjectEngineTest, PublishesUnderNamesThatAreUsedOnce) {
  std::set<Handle> names;
  for (int i = 0; i < 100; ++i) {
    const std::uint32_t slot = take(1).at(0);
    const Handle handle = engine_.publish(slot, /*place=*/1);
    EXPECT_TRUE(names.insert(handle).second);
    EXPECT_EQ(handle_bits::tag(handle), kTag);
    EXPECT_TRUE(engine_.is_live(handle));
    EXPECT_EQ(engine_.handle_of(slot), handle);
    EXPECT_TRUE(is_valid(1));
    ASSERT_TRUE(engine_.pins().take(handle, *engine_.find(handle), slot_word::kFree));
    EXPECT_FALSE(engine_.is_live(handle));
    engine_.give_slots({&slot, 1});
  }
  EXPECT_EQ(engine_.find(handle_bits::make(kTag, 1, 0x7fffffff)), nullptr);
}

// The last of 65,535 names: the slot is never used again, and nobody gets it.
TEST_F(ObjectEngineTest, RetiresASlotWhoseGenerationsAreUsedUp) {
  std::uint32_t worn = take(1).at(0);
  Handle handle{};
  for (int i = 0; i < 0xffff; ++i) {
    handle = engine_.publish(worn, 1);
    ASSERT_TRUE(engine_.pins().take(handle, *engine_.find(handle), slot_word::kCached));
  }
  EXPECT_EQ(handle_bits::generation(handle), handle_bits::kMaxGeneration);
  engine_.give_slots({&worn, 1});
  EXPECT_TRUE(is_valid(0));
  const std::vector<std::uint32_t> others = take(3000);
  EXPECT_EQ(std::count(others.begin(), others.end(), worn), 0);
  engine_.give_slots(others);
}

TEST_F(ObjectEngineTest, MakesNoNewSlotsForWhoMustNotWait) {
  const std::size_t before = engine_.slots();
  const std::vector<std::uint32_t> slots = take(10'000, /*nowait=*/true);
  EXPECT_EQ(slots.size(), before) << "all that there are";
  EXPECT_EQ(engine_.slots(), before);
  std::uint32_t one = 0;
  EXPECT_EQ(engine_.take_slots({&one, 1}, /*nowait=*/true).error(), Errc::out_of_memory);
  EXPECT_TRUE(engine_.take_slots({&one, 1}, /*nowait=*/false));
  engine_.give_slots({&one, 1});
  engine_.give_slots(slots);
}

TEST_F(ObjectEngineTest, KeepsSlotsOnThisCpuWithinWhatWasGranted) {
  const std::vector<std::uint32_t> slots = take(4);
  EXPECT_EQ(engine_.find_kept(kHead), ObjectEngine::kNoSlot);
  EXPECT_FALSE(engine_.keep(kHead, slots[0])) << "nothing was granted";
  const unsigned cpu = engine_.stacks().make_ready();
  engine_.stacks().set_limit(cpu, kHead, 2);
  EXPECT_TRUE(engine_.keep(kHead, slots[0]));
  EXPECT_TRUE(engine_.keep(kHead, slots[1]));
  EXPECT_FALSE(engine_.keep(kHead, slots[2]));
  EXPECT_EQ(engine_.stacks().count(cpu, kHead), 2u);
  EXPECT_EQ(engine_.find_kept(kHead), slots[1]);
  std::uint32_t drained[CpuStacks::kMostNumbers];
  unsigned count = 0;
  std::thread([&] { count = engine_.stacks().drain(cpu, kHead, drained); }).join();
  ASSERT_EQ(count, 1u);
  EXPECT_EQ(drained[0], slots[0] + 1);
  EXPECT_EQ(engine_.find_kept(kHead), ObjectEngine::kNoSlot);
  engine_.give_slots(slots);
}

TEST_F(ObjectEngineTest, CountsAllocationsAndFreesOverAllCpus) {
  CpuStacks& stacks = engine_.stacks();
  for (int i = 0; i < 10; ++i) stacks.count_allocation(100);
  std::thread([&] {
    for (int i = 0; i < 4; ++i) stacks.count_free(100);
  }).join();
  const CpuStacks::Counts counts = stacks.counts();
  EXPECT_EQ(counts.allocations, 10u);
  EXPECT_EQ(counts.frees, 4u);
  EXPECT_EQ(counts.bytes, 600u);
}

TEST_F(ObjectEngineTest, FindsAMappedObject) {
  const std::vector<std::uint32_t> slots = take(2);
  const Handle one = engine_.publish(slots[0], 1);
  const Handle two = engine_.publish(slots[1], 2);
  EXPECT_EQ(engine_.first_pinned(), Handle::none);
  ASSERT_TRUE(engine_.pins().pin(two, *engine_.find(two)));
  EXPECT_EQ(engine_.first_pinned(), two);
  EXPECT_TRUE(engine_.pins().unpin(two, *engine_.find(two)));
  EXPECT_FALSE(engine_.pins().unpin(one, *engine_.find(one)));
  EXPECT_EQ(engine_.first_pinned(), Handle::none);
}

}  // namespace
}  // namespace mmkit
