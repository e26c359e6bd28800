// SPDX-License-Identifier: MIT
//
// Memory that goes from one thread to another by way of the allocator alone: freed here as objects
// of one size, given back by a balance elsewhere, handed out there as objects of another. The two
// threads share nothing else, so ThreadSanitizer sees an order only if the allocator made one.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <thread>
#include <vector>

#include "support/percpu_threads.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

// Turns are taken by relaxed stores, which order nothing.
class Turns {
 public:
  void wait_for(unsigned turn) const {
    while (turn_.load(std::memory_order_relaxed) != turn) std::this_thread::yield();
  }
  void pass_to(unsigned turn) { turn_.store(turn, std::memory_order_relaxed); }

 private:
  std::atomic<unsigned> turn_{0};
};

class PercpuHandoverStress : public ::testing::TestWithParam<PercpuBacking> {};
INSTANTIATE_TEST_SUITE_P(Backing, PercpuHandoverStress,
                         ::testing::Values(PercpuBacking::lazy, PercpuBacking::mapped),
                         [](const auto& made) {
                           return made.param == PercpuBacking::lazy ? "Lazy" : "Mapped";
                         });

TEST_P(PercpuHandoverStress, WhatOneThreadWroteAnotherFindsZero) {
  if (GetParam() == PercpuBacking::mapped && possible_cpus() > 16) {
    GTEST_SKIP() << "a mapped backing has at most 16 units";
  }
  constexpr std::size_t kSizes[] = {64, 8, 200, 24, 3000, 128, 4, 1024};
  const std::uint64_t rounds = testing::scaled(300, 40);
  const auto allocator = std::move(PercpuAllocator::create({.backing = GetParam()})).value();
  Turns turns;
  testing::Crew crew;
  const auto use = [&](std::uint64_t round, unsigned thread) {
    const std::size_t size_bytes = kSizes[(round * 2 + thread) % std::size(kSizes)];
    // Few enough that nothing is given back on the way, or many.
    const std::size_t total_bytes = round % 4 == 3 ? 6000 : 500;
    std::vector<PercpuPtr<std::byte>> all;
    for (std::size_t bytes = 0; bytes < total_bytes; bytes += size_bytes) {
      all.push_back(allocator->allocate(size_bytes, 4).value());
      for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
        std::byte* const copy = per_cpu_ptr(all.back(), cpu);
        for (std::size_t at = 0; at < size_bytes; ++at) {
          ASSERT_EQ(copy[at], std::byte{0}) << "round " << round;
        }
        std::memset(copy, 0x3c, size_bytes);
      }
    }
    for (const PercpuPtr<std::byte> p : all) allocator->free(p);
  };
  for (unsigned thread = 0; thread < 2; ++thread) {
    crew.add([&, thread] {
      for (std::uint64_t round = 0; round < rounds; ++round) {
        turns.wait_for(thread * 2);
        use(round, thread);
        turns.pass_to(thread * 2 + 1);
      }
    });
  }
  crew.add([&] {
    for (std::uint64_t turn = 0; turn < 2 * rounds; ++turn) {
      turns.wait_for(turn % 2 == 0 ? 1 : 3);
      if (turn % 5 < 3) allocator->balance();
      turns.pass_to(turn % 2 == 0 ? 2 : 0);
    }
  });
  crew.join();
  EXPECT_EQ(allocator->stats().live, 0u);
  EXPECT_TRUE(allocator->validate());
}

}  // namespace
}  // namespace mmkit
