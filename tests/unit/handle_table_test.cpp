// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <deque>
#include <mmkit/zpool/handle_table.hpp>
#include <random>
#include <thread>
#include <vector>

#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::uint16_t kTag = 0x7a9;
constexpr std::size_t kUnit = 64;

using Table = HandleTable<std::uint32_t>;

// Objects to point at, each at a place of its own.
class HandleTableTest : public ::testing::Test {
 protected:
  std::byte* object(std::size_t number) { return objects_.data() + kUnit * (1 + number % 100); }

  Handle publish(std::size_t number, unsigned pins = 0) {
    const std::uint32_t index = table_.reserve(/*may_grow=*/true).value();
    table_.set_side(index, static_cast<std::uint32_t>(number));
    return table_.publish(index, object(number), pins);
  }
  // As a driver frees: kill, then recycle under its lock.
  Status free(Handle handle) {
    const Result<std::byte*> killed = table_.kill(handle);
    if (!killed) return fail(killed.error());
    table_.recycle(handle_bits::index(handle));
    return {};
  }
  void expect_dead(Handle handle) {
    EXPECT_FALSE(table_.is_live(handle));
    EXPECT_EQ(table_.pin(handle).error(), Errc::not_found);
    EXPECT_FALSE(table_.unpin(handle));
    EXPECT_EQ(table_.kill(handle).error(), Errc::invalid_argument);
  }

  alignas(kUnit) std::array<std::byte, kUnit * 102> objects_{};
  Table table_{kTag};
};

TEST_F(HandleTableTest, NamesAnObjectAndItsSideWord) {
  const Handle handle = publish(5);
  EXPECT_NE(handle, Handle::none);
  EXPECT_EQ(handle_bits::tag(handle), kTag);
  EXPECT_EQ(handle_bits::generation(handle), 1u);
  EXPECT_TRUE(table_.is_live(handle));
  const std::uint32_t index = handle_bits::index(handle);
  EXPECT_TRUE(table_.is_live_slot(index));
  EXPECT_FALSE(table_.is_pinned_slot(index));
  EXPECT_EQ(table_.handle_of(index), handle);
  EXPECT_EQ(table_.address_of_slot(index), object(5));
  const auto pinned = table_.pin(handle);
  ASSERT_TRUE(pinned);
  EXPECT_EQ(pinned->address, object(5));
  EXPECT_EQ(pinned->side, 5u);
  EXPECT_TRUE(table_.is_pinned_slot(index));
  EXPECT_TRUE(table_.unpin(handle));
  EXPECT_FALSE(table_.is_pinned_slot(index));
  EXPECT_EQ(table_.kill(handle).value(), object(5));
  table_.recycle(index);
  expect_dead(handle);
  EXPECT_TRUE(table_.validate(0));
}

TEST_F(HandleTableTest, LocatesWhatFitsIntoFortyEightBits) {
  EXPECT_TRUE(Table::can_locate(object(0)));
  EXPECT_TRUE(Table::can_locate(reinterpret_cast<void*>((std::uintptr_t{1} << 48) - 1)));
  EXPECT_FALSE(Table::can_locate(reinterpret_cast<void*>(std::uintptr_t{1} << 48)));
  EXPECT_FALSE(Table::can_locate(reinterpret_cast<void*>(~std::uintptr_t{0})));
}

TEST_F(HandleTableTest, KnowsNoHandleThatItDidNotGive) {
  expect_dead(Handle::none);
  expect_dead(handle_bits::make(kTag, 1, 0));  // no slot at all yet
  const Handle live = publish(1);
  const std::uint32_t index = handle_bits::index(live);
  expect_dead(handle_bits::make(kTag + 1, 1, index));
  expect_dead(handle_bits::make(0, 1, index));
  expect_dead(handle_bits::make(kTag, 0, index));
  expect_dead(handle_bits::make(kTag, 2, index));
  expect_dead(handle_bits::make(kTag, 0xffff, index));
  expect_dead(handle_bits::make(kTag, 1, index + 1));  // free
  expect_dead(handle_bits::make(kTag, 1, 100'000));    // beyond the table
  expect_dead(handle_bits::make(kTag, 1, Table::kNoSlot));
  EXPECT_TRUE(table_.is_live(live));
  EXPECT_TRUE(table_.validate(1));
}

TEST_F(HandleTableTest, KeepsAReservedSlotDeadUntilItIsPublished) {
  const std::uint32_t index = table_.reserve(true).value();
  expect_dead(handle_bits::make(kTag, 1, index));
  EXPECT_FALSE(table_.is_live_slot(index));
  EXPECT_TRUE(table_.validate(0));
  const Handle handle = table_.publish(index, object(0), 0);
  EXPECT_TRUE(table_.is_live(handle));
  EXPECT_TRUE(free(handle));
}

TEST_F(HandleTableTest, TakesACancelledSlotBackAsItWas) {
  const Handle before = publish(0);
  ASSERT_TRUE(free(before));
  const std::uint32_t index = table_.reserve(true).value();
  EXPECT_EQ(index, handle_bits::index(before));
  table_.cancel(index);
  EXPECT_TRUE(table_.validate(0));
  const Handle after = publish(0);
  EXPECT_EQ(handle_bits::index(after), index);
  EXPECT_EQ(handle_bits::generation(after), handle_bits::generation(before) + 1);
}

TEST_F(HandleTableTest, PublishesAnObjectMapped) {
  const Handle handle = publish(3, /*pins=*/1);
  EXPECT_EQ(table_.kill(handle).error(), Errc::busy);
  EXPECT_TRUE(table_.unpin(handle));
  EXPECT_FALSE(table_.unpin(handle));
  EXPECT_TRUE(free(handle));
}

TEST_F(HandleTableTest, GrowsOnlyWhereItMay) {
  EXPECT_EQ(table_.slots(), 0u);
  EXPECT_EQ(table_.reserve(/*may_grow=*/false).error(), Errc::out_of_memory);
  ASSERT_TRUE(table_.prepare());
  const std::size_t prepared = table_.slots();
  EXPECT_GT(prepared, 0u);
  ASSERT_TRUE(table_.prepare());
  EXPECT_EQ(table_.slots(), prepared) << "there were some";

  std::vector<Handle> handles;
  while (true) {
    const Result<std::uint32_t> index = table_.reserve(/*may_grow=*/false);
    if (!index) break;
    handles.push_back(table_.publish(*index, object(0), 0));
  }
  EXPECT_EQ(handles.size(), prepared);
  EXPECT_EQ(table_.slots(), prepared);
  EXPECT_TRUE(table_.validate(prepared));
  const std::size_t before = table_.metadata_bytes();
  handles.push_back(publish(0));
  EXPECT_GT(table_.slots(), prepared);
  EXPECT_GT(table_.metadata_bytes(), before);
  for (const Handle handle : handles) EXPECT_TRUE(free(handle));
  EXPECT_TRUE(table_.validate(0));
}

TEST_F(HandleTableTest, KeepsSomeSlotsReadyForCallersThatMayNotGrowIt) {
  // Whoever may grow it leaves some behind at every moment.
  for (int i = 0; i < 5000; ++i) {
    publish(0);
    const Result<std::uint32_t> ready = table_.reserve(/*may_grow=*/false);
    ASSERT_TRUE(ready) << i;
    table_.cancel(*ready);
  }
}

// ---------------------------------------------------------------- generations

// One slot, reused for as long as it lasts: no handle it ever had is taken for a live one, then or
// later, and in the end the slot is given up.
TEST_F(HandleTableTest, RetiresASlotWhoseGenerationsAreUsedUp) {
  std::vector<Handle> dead;
  const std::uint32_t index = handle_bits::index(publish(0));
  ASSERT_TRUE(free(table_.handle_of(index)));
  dead.push_back(handle_bits::make(kTag, 1, index));
  while (table_.retired() == 0) {
    const Handle handle = publish(dead.size());
    ASSERT_EQ(handle_bits::index(handle), index);
    ASSERT_NE(handle, dead.back());
    ASSERT_FALSE(table_.is_live(dead.back()));
    ASSERT_FALSE(table_.is_live(dead[dead.size() / 2]));
    ASSERT_EQ(table_.kill(dead.back()).error(), Errc::invalid_argument);
    ASSERT_TRUE(free(handle));
    dead.push_back(handle);
  }
  EXPECT_EQ(dead.size(), handle_bits::kMaxGeneration);
  EXPECT_EQ(table_.retired(), 1u);
  EXPECT_TRUE(table_.validate(0));
  expect_dead(handle_bits::make(kTag, 0, index));

  // Nobody gets that slot any more.
  std::vector<Handle> live;
  for (int i = 0; i < 3000; ++i) live.push_back(publish(0));
  for (const Handle handle : live) ASSERT_NE(handle_bits::index(handle), index);
  for (const Handle handle : dead) expect_dead(handle);
  EXPECT_TRUE(table_.validate(live.size()));
  EXPECT_EQ(table_.retired(), 1u);
}

TEST_F(HandleTableTest, ForgetsNoDeadHandleInALongRandomLife) {
  std::vector<Handle> live;
  std::deque<Handle> dead;
  std::mt19937_64 random(testing::test_seed(1));
  for (std::uint64_t i = 0; i < testing::scaled(20000); ++i) {
    if (live.size() < 10 || random() % 2 == 0) {
      live.push_back(publish(i));
    } else {
      std::swap(live[random() % live.size()], live.back());
      ASSERT_TRUE(free(live.back()));
      dead.push_back(live.back());
      live.pop_back();
      if (dead.size() > 500) dead.pop_front();
    }
    if (!dead.empty()) {
      ASSERT_FALSE(table_.is_live(dead[random() % dead.size()]));
    }
    ASSERT_TRUE(table_.is_live(live[random() % live.size()]));
  }
  for (const Handle handle : dead) expect_dead(handle);
  EXPECT_TRUE(table_.validate(live.size()));
  EXPECT_FALSE(table_.validate(live.size() + 1));
}

// ---------------------------------------------------------------- pins

TEST_F(HandleTableTest, CountsAnyNumberOfPins) {
  for (const int count : {1, 2, 57, 58, 59, 60, 61, 62, 63, 64, 65, 128, 1000}) {
    const Handle handle = publish(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      const auto pinned = table_.pin(handle);
      ASSERT_TRUE(pinned);
      ASSERT_EQ(pinned->address, object(static_cast<std::size_t>(count)));
      ASSERT_EQ(pinned->side, static_cast<std::uint32_t>(count));
      ASSERT_EQ(table_.kill(handle).error(), Errc::busy);
    }
    ASSERT_EQ(table_.first_pinned(), handle);
    ASSERT_TRUE(table_.validate(1));
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(table_.kill(handle).error(), Errc::busy) << i << " of " << count;
      ASSERT_TRUE(table_.unpin(handle));
    }
    EXPECT_FALSE(table_.unpin(handle)) << "one too many of " << count;
    EXPECT_EQ(table_.first_pinned(), Handle::none);
    EXPECT_TRUE(free(handle));
  }
}

TEST_F(HandleTableTest, CountsPinsOfSeveralObjectsApart) {
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < 6; ++i) handles.push_back(publish(i));
  for (int pins = 0; pins < 200; ++pins) {
    for (std::size_t i = 0; i < handles.size(); i += 2) ASSERT_TRUE(table_.pin(handles[i]));
  }
  for (const std::size_t i : {4u, 0u, 2u}) {
    for (int pins = 0; pins < 200; ++pins) ASSERT_TRUE(table_.unpin(handles[i]));
    EXPECT_FALSE(table_.unpin(handles[i]));
    EXPECT_TRUE(free(handles[i]));
  }
  for (const std::size_t i : {1u, 3u, 5u}) EXPECT_TRUE(free(handles[i]));
}

TEST_F(HandleTableTest, MayEndWithManyPinsCounted) {
  const Handle handle = publish(0);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(table_.pin(handle));
  // What the side list holds goes with the table: leak checkers would tell.
}

// ---------------------------------------------------------------- threads

TEST_F(HandleTableTest, CountsPinsOfManyThreads) {
  const Handle handle = publish(0);
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([&] {
      // Thirty each: up to 120 together, across the edge at 60 in both directions.
      for (std::uint64_t round = 0; round < testing::scaled(500); ++round) {
        for (int i = 0; i < 30; ++i) ASSERT_TRUE(table_.pin(handle));
        for (int i = 0; i < 30; ++i) ASSERT_TRUE(table_.unpin(handle));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(table_.unpin(handle));
  EXPECT_TRUE(free(handle));
}

TEST_F(HandleTableTest, IsKilledByOneOfManyThreads) {
  for (std::uint64_t round = 0; round < testing::scaled(200); ++round) {
    const Handle handle = publish(0);
    std::atomic<int> killers{0};
    std::vector<std::thread> threads;
    for (int id = 0; id < 3; ++id) {
      threads.emplace_back([&] {
        const Result<std::byte*> killed = table_.kill(handle);
        if (killed) {
          ++killers;
        } else {
          EXPECT_EQ(killed.error(), Errc::invalid_argument);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(killers, 1);
    table_.recycle(handle_bits::index(handle));
    expect_dead(handle);
  }
}

// Whoever holds a pin may rely on the object; once it is killed nobody gets one.
TEST_F(HandleTableTest, IsPinnedOrKilledAndNeverBoth) {
  for (std::uint64_t round = 0; round < testing::scaled(100); ++round) {
    const Handle handle = publish(round);
    std::atomic<bool> killed{false};
    std::thread user([&] {
      for (unsigned visits = 1;; ++visits) {
        const bool was_killed = killed.load();
        const auto pinned = table_.pin(handle);
        if (!pinned) break;
        ASSERT_FALSE(was_killed) << "a dead object was pinned";
        ASSERT_FALSE(killed.load()) << "a pinned object was killed";
        ASSERT_TRUE(table_.unpin(handle));
        // Where threads take turns, as under valgrind, the other's must come while nothing is pinned.
        if (visits % 64 == 0) std::this_thread::yield();
      }
    });
    while (!table_.kill(handle)) {
    }
    killed = true;
    user.join();
    table_.recycle(handle_bits::index(handle));
  }
}

}  // namespace
}  // namespace mmkit
