// SPDX-License-Identifier: MIT
//
// A lock that three fibers take, in interleavings that are chosen: one at a time is inside, and whoever
// waits gets in.
// Load: schedules, times MMKIT_SCALE.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/base/step.hpp>
#include <random>
#include <vector>

#include "support/fibers.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

TEST(ShortLockSchedule, OneIsInsideWhoeverComesWhen) {
  constexpr unsigned kFibers = 3, kVisits = 2;
  testing::FiberSchedule fibers(kFibers);
  std::mt19937_64 random(testing::test_seed(1));
  const std::uint64_t schedules = testing::scaled(20'000);
  for (std::uint64_t done = 0; done < schedules; ++done) {
    ShortLock lock(LockRank::leaf);
    unsigned inside = 0, visits = 0;
    std::vector<testing::Preemption> preemptions(1 + random() % 5);
    for (testing::Preemption& at : preemptions) {
      at = {1 + random() % 16, static_cast<unsigned>(random() % kFibers)};
    }
    std::sort(preemptions.begin(), preemptions.end(),
              [](const auto& a, const auto& b) { return a.step < b.step; });
    fibers.run(preemptions, [&](unsigned fiber) {
      for (unsigned i = 0; i < kVisits; ++i) {
        // Each way to take it.
        if (fiber != 0 || !lock.try_lock()) lock.lock();
        EXPECT_EQ(++inside, 1u);
        detail::step();
        --inside;
        ++visits;
        lock.unlock();
        if (fiber == 1) lock.give_way();
      }
    });
    ASSERT_EQ(visits, kFibers * kVisits);
    ASSERT_FALSE(HasFailure()) << "schedule " << done;
  }
}

}  // namespace
}  // namespace mmkit
