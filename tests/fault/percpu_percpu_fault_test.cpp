// SPDX-License-Identifier: MIT
//
// The per-CPU types without memory: an allocator that has none left, and a heap that fails each
// allocation in turn. What fails says out_of_memory and leaves nothing.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/counter.hpp>
#include <mmkit/percpu/percpu.hpp>
#include <mmkit/percpu/ref.hpp>
#include <mmkit/percpu/stack.hpp>
#include <mmkit/percpu/static_percpu.hpp>
#include <vector>

#include "fault/page_failing_system.hpp"
#include "fault/zpool_failing_heap.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::Failing;
using testing::FailingHeap;
using testing::FailingSystem;

// All that an allocator can give without the system's help is taken, down to the last granule.
class Exhausted {
 public:
  Exhausted() {
    system_.fail_nth(1, Failing::for_ever);
    for (std::size_t size_bytes = kPercpuMaxBytes; size_bytes >= 4; size_bytes /= 2) {
      while (const auto part = allocator_->allocate(size_bytes, 1)) taken_.push_back(*part);
    }
  }
  PercpuAllocator* allocator() { return allocator_.get(); }
  std::uint64_t live() const { return taken_.size(); }
  // The system has memory again.
  void end() { system_.succeed(); }

 private:
  FailingSystem system_;
  std::unique_ptr<PercpuAllocator> allocator_ = testing::make_percpu_allocator(4);
  std::vector<PercpuPtr<std::byte>> taken_;

 public:
  ~Exhausted() {
    for (const auto part : taken_) allocator_->free(part);
    EXPECT_EQ(allocator_->stats().live, 0u);
  }
};

// `create` fails without memory, leaves nothing, and succeeds with memory.
template <class Create>
void expect_out_of_memory(Create create) {
  Exhausted none;
  for (int i = 0; i < 3; ++i) {
    const auto made = create(none.allocator());
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error(), Errc::out_of_memory);
    EXPECT_EQ(none.allocator()->stats().live, none.live());
  }
  none.end();
  EXPECT_TRUE(create(none.allocator()));
  EXPECT_EQ(none.allocator()->stats().live, none.live());
}

TEST(PercpuTypesFault, EachTypeSaysThatThereIsNoMemory) {
  struct Seven {
    int value = 7;
  };
  expect_out_of_memory([](PercpuAllocator* from) { return Percpu<Seven>::create(from); });
  expect_out_of_memory([](PercpuAllocator* from) { return Percpu<int>::create(from); });
  expect_out_of_memory([](PercpuAllocator* from) { return PercpuCounter::create(5, 32, from); });
  expect_out_of_memory([](PercpuAllocator* from) { return PercpuStack<int>::create(1, from); });
  expect_out_of_memory([](PercpuAllocator* from) { return PercpuRef::create({}, from); });
}

// The ref's own memory, past the allocator's: all of it is given back.
TEST(PercpuTypesFault, ARefThatIsNotMadeLeavesNothing) {
  const auto allocator = testing::make_percpu_allocator(4);
  ASSERT_TRUE(PercpuCounter::create(0, 32, allocator.get()));  // the allocator has what it needs
  std::uint64_t steps = 0;
  for (std::uint64_t n = 1;; ++n) {
    const std::size_t before = FailingHeap::live_blocks();
    FailingHeap::fail_nth(n, FailingHeap::Failing::once);
    {
      const auto made = PercpuRef::create({}, allocator.get());
      FailingHeap::succeed();
      if (FailingHeap::failed() == 0) {
        EXPECT_TRUE(made);
        break;
      }
      ASSERT_FALSE(made);
      EXPECT_EQ(made.error(), Errc::out_of_memory);
    }
    EXPECT_EQ(FailingHeap::live_blocks(), before);
    EXPECT_EQ(allocator->stats().live, 0u);
    ++steps;
  }
  EXPECT_EQ(steps, 2u);
}

// Nothing but the first get() needs memory; none then is the end, and says so.
TEST(StaticPercpuFaultDeathTest, NoMemoryIsFatalByName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  struct Large {
    std::byte bytes[kPercpuMaxBytes];
  };
  static constinit std::array<StaticPercpu<Large>, 256> variables{};
  static_cast<void>(PercpuAllocator::instance());
  ASSERT_TRUE(variables[0].get());
  const auto use_all = [] {
    FailingSystem system;
    system.fail_nth(1, Failing::for_ever);
    for (auto& variable : variables) static_cast<void>(variable.get());
  };
  EXPECT_DEATH(use_all(), "^mmkit: percpu: no memory for a static per-CPU variable 0x8000\n$");
}

}  // namespace
}  // namespace mmkit
