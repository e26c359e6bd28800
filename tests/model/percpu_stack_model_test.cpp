// SPDX-License-Identifier: MIT
//
// PercpuStack against a vector per CPU: one thread, bound to one CPU after the other.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <mmkit/percpu/stack.hpp>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::allowed_cpus;

void compare_with_vectors(std::size_t capacity, unsigned units, std::uint64_t stream) {
  const auto allocator = testing::make_percpu_allocator(units);
  std::mt19937_64 random(testing::test_seed(stream));
  static std::array<char, 5000> things;
  auto stack = std::move(PercpuStack<char>::create(capacity, allocator.get())).value();
  std::vector<std::vector<char*>> expected(allocator->units());
  std::vector<char*> out(2 * capacity);
  unsigned here = 0;
  bool growing = true;
  const std::uint64_t operations = testing::scaled(200'000, 5000);
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (i == 0 || random() % 512 == 0) {
      here = allowed_cpus()[random() % allowed_cpus().size()];
      testing::bind_thread(::pthread_self(), {here});
    }
    if (random() % (4 * capacity) == 0) growing = !growing;  // so that both ends are met
    std::vector<char*>& mine = expected[here];
    const std::uint64_t what = random() % 256;
    if (what == 0) {
      const unsigned cpu = static_cast<unsigned>(random() % allocator->units());
      const std::size_t room = random() % out.size();
      const std::size_t taken = stack.drain(cpu, std::span<char*>(out.data(), room));
      ASSERT_EQ(taken, std::min(room, expected[cpu].size()));
      for (std::size_t at = 0; at < taken; ++at) {
        ASSERT_EQ(out[at], expected[cpu].back());
        expected[cpu].pop_back();
      }
    } else if (what == 1 && random() % 16 == 0) {
      std::size_t left = 0;
      for (const auto& one : expected) left += one.size();
      ASSERT_EQ(stack.drain_all([](char*) {}), left);
      for (auto& one : expected) one.clear();
    } else if (what % 4 == 0 ? !growing : growing) {
      char* const thing = &things[random() % things.size()];
      ASSERT_EQ(stack.push(thing), mine.size() < capacity);
      if (mine.size() < capacity) mine.push_back(thing);
    } else {
      char* const thing = stack.pop();
      ASSERT_EQ(thing, mine.empty() ? nullptr : mine.back());
      if (thing != nullptr) mine.pop_back();
    }
    ASSERT_EQ(stack.size(here), mine.size());
  }
  testing::bind_thread(::pthread_self(), allowed_cpus());
}

TEST(PercpuStackModel, AgreesWithAVectorPerCpu) {
  compare_with_vectors(/*capacity=*/20, /*units=*/0, 1);
}
TEST(PercpuStackModel, AgreesWithRoomForOne) {
  compare_with_vectors(/*capacity=*/1, /*units=*/3, 2);
}
TEST(PercpuStackModel, AgreesAtItsLargestOnManyUnits) {
  compare_with_vectors(PercpuStack<char>::kMaxCapacity, /*units=*/64, 3);
}

}  // namespace
}  // namespace mmkit
