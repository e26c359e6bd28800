// SPDX-License-Identifier: MIT
//
// CpuStacks under threads that change their CPU and others that empty the stacks: each number is in
// one place at a time.
//
// A number belongs to whoever took it off a stack. Who finds it owned already, by the mark in a table
// beside it, has a number that is twice there; one that is nowhere at the end is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/zpool/cpu_stacks.hpp>
#include <random>
#include <vector>

#include "support/object_field.hpp"
#include "support/percpu_threads.hpp"
#include "support/race.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::size_t kHead = CpuStacks::kFirstHead;
constexpr unsigned kCapacity = 16;

TEST(CpuStacksStress, EachNumberIsInOnePlaceWhoeverDrains) {
  constexpr unsigned kThreads = 6;  // the first two drain
  constexpr std::uint32_t kEach = 24;
  const std::uint64_t steps = testing::scaled(400'000, 20'000);
  CpuStacks stacks;
  ASSERT_TRUE(stacks.create(CpuStacks::kFirstHead + CpuStacks::stack_bytes(kCapacity)));
  std::vector<std::atomic<bool>> owned(kThreads * kEach + 1);
  testing::Verdict verdict;
  std::atomic<unsigned> busy{kThreads - 2};
  std::atomic<std::uint64_t> held_at_end{0};
  std::atomic<bool> limiting{false};  // set_limit() and the drain after it: one at a time
  testing::run_threads(kThreads, [&](unsigned t) {
    std::mt19937_64 random(testing::test_seed(t));
    testing::Wanderer wanderer(random());
    std::vector<std::uint32_t> mine;
    for (std::uint32_t n = 0; n < kEach; ++n) {
      mine.push_back(t * kEach + n + 1);
      owned[mine.back()] = true;
    }
    const auto take = [&](std::uint32_t number) {
      verdict.require(!owned[number].exchange(true), "a number has one owner");
      mine.push_back(number);
    };
    const auto give = [&] {
      owned[mine.back()] = false;
      if (stacks.push(kHead, mine.back())) {
        mine.pop_back();
      } else {
        owned[mine.back()] = true;
      }
    };
    if (t < 2) {
      std::uint32_t out[CpuStacks::kMostNumbers];
      while (busy.load() != 0) {
        const auto cpu = static_cast<unsigned>(random() % stacks.cpus());
        if (limiting.exchange(true)) continue;
        if (stacks.limit(cpu, kHead) != 0) {
          stacks.set_limit(cpu, kHead, 0);
          const unsigned count = stacks.drain(cpu, kHead, out);
          for (unsigned i = 0; i < count; ++i) take(out[i]);
          verdict.require(stacks.count(cpu, kHead) == 0, "what has no room holds nothing");
        } else {
          stacks.set_limit(stacks.make_ready(), kHead, kCapacity);
        }
        limiting = false;
        for (unsigned i = 0; i < kCapacity && !mine.empty(); ++i) give();
      }
    } else {
      for (std::uint64_t i = 0; i < steps && verdict.good(); ++i) {
        if (i % 4096 == 0) wanderer.move();
        if (!mine.empty() && random() % 2 == 0) {
          give();
        } else if (const std::uint32_t number = stacks.pop(kHead)) {
          take(number);
        }
      }
      busy.fetch_sub(1);
    }
    held_at_end.fetch_add(mine.size());
  });
  verdict.expect_good();
  std::uint32_t out[CpuStacks::kMostNumbers];
  for (unsigned cpu = 0; cpu < stacks.cpus(); ++cpu) {
    if (stacks.limit(cpu, kHead) != 0) held_at_end.fetch_add(stacks.drain(cpu, kHead, out));
  }
  EXPECT_EQ(held_at_end.load(), std::uint64_t{kThreads} * kEach) << "a number is lost";
}

}  // namespace
}  // namespace mmkit
