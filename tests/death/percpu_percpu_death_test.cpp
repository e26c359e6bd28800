// SPDX-License-Identifier: MIT
//
// Misuse of Percpu and PercpuStack, by the message it ends with. A unit is out of range by their own
// allocator's units, though another allocator of the process may have more.
#include <gtest/gtest.h>

#include <array>
#include <mmkit/percpu/percpu.hpp>
#include <mmkit/percpu/stack.hpp>
#include <span>
#include <utility>

#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

class PercpuTypesDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  std::unique_ptr<PercpuAllocator> larger = testing::make_percpu_allocator(possible_cpus() + 64);
  std::unique_ptr<PercpuAllocator> allocator = testing::make_percpu_allocator(possible_cpus() + 2);
};

TEST_F(PercpuTypesDeathTest, AnObjectOfACpuThatIsNotThere) {
  auto made = std::move(Percpu<int>::create(allocator.get())).value();
  made.on(allocator->units() - 1) = 1;
  EXPECT_DEATH(made.on(allocator->units()) = 1, "^mmkit: percpu: cpu out of range");
  EXPECT_DEATH(made.on(~0u) = 1, "^mmkit: percpu: cpu out of range 0xffffffff\n$");
}

TEST_F(PercpuTypesDeathTest, AStackOfACpuThatIsNotThere) {
  auto stack = std::move(PercpuStack<int>::create(4, allocator.get())).value();
  std::array<int*, 4> out;
  EXPECT_EQ(stack.drain(allocator->units() - 1, out), 0u);
  EXPECT_DEATH(stack.drain(allocator->units(), out), "^mmkit: percpu: cpu out of range");
  EXPECT_DEATH(stack.drain(~0u, std::span<int*>()), "^mmkit: percpu: cpu out of range");
  EXPECT_DEATH(static_cast<void>(stack.size(allocator->units())),
               "^mmkit: percpu: cpu out of range");
}

TEST_F(PercpuTypesDeathTest, NothingPushed) {
  auto stack = std::move(PercpuStack<int>::create(4, allocator.get())).value();
  EXPECT_DEATH(static_cast<void>(stack.push(nullptr)), "^mmkit: percpu: null item");
}

}  // namespace
}  // namespace mmkit
