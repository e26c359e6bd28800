// SPDX-License-Identifier: MIT
//
// Interleavings of a pool's operations, chosen instead of hoped for: two and three fibers, up to
// three preemptions, at any access to shared memory. Each history must have a sequential order.
//
// A scenario first runs without preemption, which tells how many steps it has; then again and again
// from the same start with preemptions at random steps, or at every pair of steps there is.
// MMKIT_SCALE=20 is more than a million schedules.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support/fibers.hpp"
#include "support/genpool_scenario.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::Call;
using testing::FiberSchedule;
using testing::GenPoolScenario;
using testing::Preemption;
using testing::scaled;
using testing::ScenarioShape;
using testing::test_seed;

// One run; the number of steps it took.
std::uint64_t run_once(FiberSchedule& fibers, std::uint64_t seed, const ScenarioShape& shape,
                       const std::vector<Preemption>& preemptions, std::uint64_t* pairs) {
  GenPoolScenario scenario(seed, shape);
  std::vector<std::vector<Call>> made(shape.threads);
  std::uint64_t ticks = 0;  // calls of one instant are in the order of their ticks
  const std::uint64_t steps = fibers.run(preemptions, [&](unsigned fiber) {
    made[fiber] = scenario.run(fiber, [&] { return ++ticks; });
  });
  std::vector<Call> calls;
  for (const auto& some : made) calls.insert(calls.end(), some.begin(), some.end());
  *pairs += testing::concurrent_pairs(calls);
  for (const Call& call : scenario.run_after(ticks + 1)) calls.push_back(call);
  EXPECT_TRUE(testing::is_linearizable(scenario.before(), calls)) << testing::text_of(calls);
  EXPECT_TRUE(scenario.validate()) << testing::text_of(calls);
  return steps;
}

void explore(std::uint64_t stream, const ScenarioShape& shape, std::uint64_t schedules) {
  FiberSchedule fibers(shape.threads);
  std::mt19937_64 random(test_seed(stream));
  std::uint64_t pairs = 0;
  constexpr unsigned kSchedulesPerScenario = 40;
  for (std::uint64_t done = 0; done < schedules;) {
    const std::uint64_t seed = random();
    const std::uint64_t steps = run_once(fibers, seed, shape, {}, &pairs);
    for (unsigned i = 0; i < kSchedulesPerScenario; ++i, ++done) {
      std::vector<Preemption> preemptions(1 + random() % 3);
      for (Preemption& at : preemptions) {
        at = {1 + random() % (steps + 1), static_cast<unsigned>(random() % shape.threads)};
      }
      std::sort(preemptions.begin(), preemptions.end(),
                [](const Preemption& a, const Preemption& b) { return a.step < b.step; });
      run_once(fibers, seed, shape, preemptions, &pairs);
      if (::testing::Test::HasFailure()) {
        std::string text;
        for (const Preemption& at : preemptions) {
          text += " at step " + std::to_string(at.step) + " to " + std::to_string(at.fiber);
        }
        FAIL() << "scenario " << seed << text;
      }
    }
  }
  ::testing::Test::RecordProperty("concurrent_pairs", std::to_string(pairs));
  EXPECT_GT(pairs, schedules / 4) << "hardly anything overlapped";
}

// A gap moves about in a full pool while others look for it: every way to interrupt the one who
// moves it, and every way to interrupt who looks. The search must not conclude from two glances at
// different times that there is none; and whoever carries out another's change must not be late.
void explore_pairs(std::uint64_t stream, const ScenarioShape& shape, std::uint64_t schedules) {
  FiberSchedule fibers(shape.threads);
  std::mt19937_64 random(test_seed(stream));
  std::uint64_t pairs = 0;
  for (std::uint64_t done = 0; done < schedules;) {
    const std::uint64_t seed = random();
    const std::uint64_t steps = run_once(fibers, seed, shape, {}, &pairs);
    // Beyond some hundred steps not all pairs: then those of a random grid.
    const std::uint64_t stride = 1 + steps / 100;
    for (std::uint64_t first = 1 + random() % stride; first < steps; first += stride) {
      for (std::uint64_t second = first + 1 + random() % stride; second < steps; second += stride) {
        const unsigned starter = static_cast<unsigned>(random() % 2);
        run_once(fibers, seed, shape, {{1, starter}, {first, 1 - starter}, {second, starter}},
                 &pairs);
        ++done;
        ASSERT_FALSE(::testing::Test::HasFailure())
            << "scenario " << seed << " from " << starter << " at " << first << " and " << second;
      }
    }
  }
}

TEST(GenPoolSchedule, AGapThatMovesIsFoundByFirstFit) {
  explore_pairs(7, {.threads = 2, .calls_per_thread = 2, .policies = 1, .gap_leaves = 2},
                scaled(20'000));
}
TEST(GenPoolSchedule, AGapThatMovesIsFoundByBestFit) {
  explore_pairs(8, {.threads = 2, .calls_per_thread = 2, .policies = 2, .gap_leaves = 2},
                scaled(20'000));
}
// One preemption, before each step there is: the other fiber finds a change half carried out, or
// changes what a search has half looked at.
void explore_each(std::uint64_t stream, const ScenarioShape& shape, std::uint64_t schedules) {
  FiberSchedule fibers(shape.threads);
  std::mt19937_64 random(test_seed(stream));
  std::uint64_t pairs = 0;
  for (std::uint64_t done = 0; done < schedules;) {
    const std::uint64_t seed = random();
    const std::uint64_t steps = run_once(fibers, seed, shape, {}, &pairs);
    for (std::uint64_t at = 1; at < steps; ++at, ++done) {
      const unsigned starter = static_cast<unsigned>(at % 2);
      run_once(fibers, seed, shape, {{1, starter}, {at + 1, 1 - starter}}, &pairs);
      ASSERT_FALSE(::testing::Test::HasFailure())
          << "scenario " << seed << " from " << starter << " at " << at;
    }
  }
}

TEST(GenPoolSchedule, AGapThatMovesUnderSeveralLevelsOfHintsIsFound) {
  explore_each(9, {.threads = 2, .calls_per_thread = 1, .policies = 2, .gap_leaves = 40},
               scaled(12'000));
}
TEST(GenPoolSchedule, AGapThatMovesOnceIsFoundAtEveryStep) {
  explore_each(10, {.threads = 2, .calls_per_thread = 1, .policies = 3, .gap_leaves = 2},
               scaled(20'000));
}
// The same offset in two chunks, one of them always free: who looked into the first chunk before the
// free and into the second after the other was taken has seen none, and must not say so.
TEST(GenPoolSchedule, AFixedPlaceThatMovesBetweenChunksIsFoundAtEveryStep) {
  std::uint64_t steps = 2;
  FiberSchedule fibers(2);
  for (std::uint64_t at = 1; at < steps; ++at) {
    GenPoolScenario::Core core({.order = 0, .indexes = genalloc::kBoundsLive});
    const genalloc::ChunkGeometry* chunk = nullptr;
    for (const std::uintptr_t start : {0u, 1000u}) {
      genalloc::ChunkGeometry geometry;
      geometry.start = start;
      geometry.size_bytes = 100;
      ASSERT_TRUE(core.add_chunk(geometry));
      ASSERT_TRUE(core.take_at(start, 100));
    }
    ASSERT_EQ(core.give(10, 10, &chunk), genalloc::Fault::none);
    bool refused = false, moved = false;
    steps = fibers.run({{1, 1}, {at + 1, 0}}, [&](unsigned fiber) {
      if (fiber == 1) {
        refused = !core.take(10, FixedFit{10}, false);
        return;
      }
      const genalloc::ChunkGeometry* where = nullptr;
      moved = core.give(1010, 10, &where) == genalloc::Fault::none;
      static_cast<void>(core.take_at(10, 10));
    });
    ASSERT_TRUE(moved);
    ASSERT_FALSE(refused) << "at " << at;
  }
  EXPECT_GT(steps, 50u);
}

TEST(GenPoolSchedule, FirstFitHasAnOrder) {
  explore(1, {2, 2, 1, 1}, scaled(10'000));
}
TEST(GenPoolSchedule, BestFitHasAnOrder) {
  explore(2, {2, 2, 2, 1}, scaled(10'000));
}
TEST(GenPoolSchedule, EveryPolicyHasAnOrder) {
  explore(3, {2, 3, 31, 1}, scaled(10'000));
}
TEST(GenPoolSchedule, ThreeThreadsHaveAnOrder) {
  explore(4, {3, 2, 31, 1}, scaled(10'000));
}
TEST(GenPoolSchedule, SeveralChunksHaveAnOrder) {
  explore(5, {.threads = 3, .calls_per_thread = 2, .policies = 31, .chunks = 3}, scaled(5'000));
}
TEST(GenPoolSchedule, AChunkThatIsAddedHasItsPlaceInTheOrder) {
  explore(6, {.threads = 3, .calls_per_thread = 2, .policies = 31, .chunks = 1, .adds_chunk = true},
          scaled(5'000));
}

}  // namespace
}  // namespace mmkit
