// SPDX-License-Identifier: MIT
//
// PercpuStack under many threads and drainers: each item is in one place at a time.
//
// An item belongs to whoever took it off a stack, and has a plain number that its owner changes: a
// second owner at the same time shows as a taken mark, and to ThreadSanitizer as a race.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/stack.hpp>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::scaled;

struct Item {
  std::atomic<bool> owned{true};
  std::uint64_t owners = 0;  // of whoever owns it
};

void take(Item& item) {
  ASSERT_FALSE(item.owned.exchange(true, std::memory_order_relaxed)) << "an item has two owners";
  ++item.owners;
}
void give(Item& item) {
  ASSERT_TRUE(item.owned.exchange(false, std::memory_order_relaxed));
}

TEST(PercpuStackStress, EachItemIsInOnePlaceWhoeverDrains) {
  constexpr unsigned kThreads = 6, kDrainers = 2;
  constexpr std::size_t kItems = 256, kCapacity = 32;
  const std::uint64_t steps = scaled(400'000, 5000);
  auto stack = std::move(PercpuStack<Item>::create(kCapacity)).value();
  const std::unique_ptr<Item[]> items = std::make_unique<Item[]>(kItems);
  std::vector<std::vector<Item*>> held(kThreads + kDrainers);
  for (std::size_t i = 0; i < kItems; ++i) held[i % kThreads].push_back(&items[i]);
  std::atomic<unsigned> busy{kThreads};
  {
    testing::Crew crew;
    for (unsigned t = 0; t < kThreads; ++t) {
      crew.add([&, t] {
        std::mt19937_64 random(testing::test_seed(t));
        testing::Wanderer wanderer(random());
        std::vector<Item*>& mine = held[t];
        for (std::uint64_t i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i) {
          if (i % 8192 == 0) wanderer.move();
          if (!mine.empty() && random() % 2 == 0) {
            Item* const item = mine.back();
            give(*item);
            if (stack.push(item)) {
              mine.pop_back();
            } else {
              take(*item);
            }
          } else if (Item* const item = stack.pop()) {
            take(*item);
            mine.push_back(item);
          }
        }
        --busy;
      });
    }
    for (unsigned d = 0; d < kDrainers; ++d) {
      crew.add([&, d] {
        std::mt19937_64 random(testing::test_seed(100 + d));
        testing::Wanderer wanderer(random());
        std::vector<Item*>& mine = held[kThreads + d];
        Item* out[kCapacity];
        for (std::uint64_t i = 0; busy.load() != 0; ++i) {
          if (i % 256 == 0) wanderer.move();
          const auto& cpus = testing::allowed_cpus();
          const unsigned cpu = cpus[random() % cpus.size()];
          const std::size_t taken = stack.drain(cpu, std::span<Item*>(out, random() % kCapacity));
          for (std::size_t at = 0; at < taken; ++at) {
            take(*out[at]);
            mine.push_back(out[at]);
          }
          // Back to where the others are.
          while (!mine.empty()) {
            give(*mine.back());
            if (!stack.push(mine.back())) {
              take(*mine.back());
              break;
            }
            mine.pop_back();
          }
        }
      });
    }
  }
  std::size_t total = stack.drain_all([](Item* item) { take(*item); });
  for (const auto& one : held) total += one.size();
  EXPECT_EQ(total, kItems);
  for (std::size_t i = 0; i < kItems; ++i) EXPECT_TRUE(items[i].owned) << i;
}

// A drainer is in the middle of it at most forks: the child, which lacks it, must get on.
TEST(PercpuStackStress, AForkInTheMiddleOfADrainLeavesTheChildAStackThatWorks) {
  const std::uint64_t forks = scaled(100, 10);
  auto stack = std::move(PercpuStack<Item>::create(64)).value();
  const std::unique_ptr<Item[]> items = std::make_unique<Item[]>(64);
  std::atomic<bool> stop{false};
  testing::Crew crew;
  const testing::StopAtEnd stop_at_end(stop);
  crew.add([&] {
    std::size_t at = 0;
    while (!stop.load(std::memory_order_relaxed)) {
      static_cast<void>(stack.push(&items[at++ % 64]));
      stack.drain_all([](Item*) {});
    }
  });
  crew.start();
  for (std::uint64_t i = 0; i < forks; ++i) {
    ASSERT_EQ(testing::run_in_child([&] {
                ::alarm(10);  // for a child that waits for ever
                for (const unsigned cpu : testing::allowed_cpus()) {
                  testing::bind_thread(::pthread_self(), {cpu});
                  while (stack.pop() != nullptr) {
                  }
                  for (std::size_t n = 0; n < 64; ++n) {
                    if (!stack.push(&items[n])) return 1;
                  }
                  Item* out[64];
                  if (stack.drain(cpu, out) != 64 || out[63] != &items[0]) return 2;
                }
                return 0;
              }),
              0);
  }
  stop = true;
}

}  // namespace
}  // namespace mmkit
