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

using testing::AskingSync;
using testing::Call;
using testing::FiberSchedule;
using testing::GenPoolScenario;
using testing::GenPoolScenarioOf;
using testing::Preemption;
using testing::scaled;
using testing::ScenarioShape;
using testing::SteppedSync;
using testing::test_seed;

// One run; the number of steps it took.
template <class Sync = SteppedSync>
std::uint64_t run_once(FiberSchedule& fibers, std::uint64_t seed, const ScenarioShape& shape,
                       const std::vector<Preemption>& preemptions, std::uint64_t* pairs) {
  GenPoolScenarioOf<Sync> scenario(seed, shape);
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

template <class Sync = SteppedSync>
void explore(std::uint64_t stream, const ScenarioShape& shape, std::uint64_t schedules) {
  FiberSchedule fibers(shape.threads);
  std::mt19937_64 random(test_seed(stream));
  std::uint64_t pairs = 0;
  constexpr unsigned kSchedulesPerScenario = 40;
  for (std::uint64_t done = 0; done < schedules;) {
    const std::uint64_t seed = random();
    const std::uint64_t steps = run_once<Sync>(fibers, seed, shape, {}, &pairs);
    for (unsigned i = 0; i < kSchedulesPerScenario; ++i, ++done) {
      std::vector<Preemption> preemptions(1 + random() % 3);
      for (Preemption& at : preemptions) {
        at = {1 + random() % (steps + 1), static_cast<unsigned>(random() % shape.threads)};
      }
      std::sort(preemptions.begin(), preemptions.end(),
                [](const Preemption& a, const Preemption& b) { return a.step < b.step; });
      run_once<Sync>(fibers, seed, shape, preemptions, &pairs);
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

// More leaves than the top of either kind of hint has room for.
TEST(GenPoolSchedule, AGapThatMovesUnderSeveralLevelsOfHintsIsFound) {
  explore_each(9, {.threads = 2, .calls_per_thread = 2, .policies = 1, .gap_leaves = 70},
               scaled(6'000));
  explore_each(14, {.threads = 2, .calls_per_thread = 1, .policies = 2, .gap_leaves = 70},
               scaled(6'000));
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

// A search has found a high place; a low one becomes free, and somebody sees that both are. Whoever
// takes a place after that takes the low one, though nothing near the high one has changed.
TEST(GenPoolSchedule, WhoLostToAFreeBelowTakesTheLowerPlace) {
  const Fit fits[] = {FirstFit{}, FirstFitAlign{16}, FirstFitOrderAlign{}};
  for (const Fit& fit : fits) {
    FiberSchedule fibers(2);
    std::uint64_t steps = 2, after = 0;
    for (std::uint64_t at = 1; at < steps; ++at) {
      GenPoolScenario::Core core({.order = 0, .indexes = genalloc::kBoundsLive});
      const genalloc::ChunkGeometry* chunk = nullptr;
      genalloc::ChunkGeometry geometry;
      geometry.size_bytes = 512 * 20;
      ASSERT_TRUE(core.add_chunk(geometry));
      ASSERT_TRUE(core.take_at(0, 512 * 20));
      ASSERT_EQ(core.give(512 * 15 + 64, 16, &chunk), genalloc::Fault::none);
      std::size_t seen = 0;
      std::uintptr_t place = 0;
      steps = fibers.run({{1, 1}, {at + 1, 0}}, [&](unsigned fiber) {
        if (fiber == 1) {
          const auto taken = core.take(16, fit, false);
          if (taken) place = taken->start;
          return;
        }
        const genalloc::ChunkGeometry* where = nullptr;
        static_cast<void>(core.give(512 * 3 + 32, 16, &where));
        seen = core.available_bytes();
      });
      if (seen == 32) {
        ASSERT_EQ(place, 512u * 3 + 32) << "at " << at;
        ++after;
      } else {
        ASSERT_EQ(place, 512u * 15 + 64) << "at " << at;
      }
    }
    EXPECT_GT(after, 20u);
  }
}

// Each take is a request, which others fulfil, or are in the middle of when they are interrupted.
TEST(GenPoolFairness, RequestsHaveAnOrder) {
  explore<AskingSync>(11, {.threads = 2, .calls_per_thread = 3, .policies = 31}, scaled(10'000));
  explore<AskingSync>(12, {.threads = 3, .calls_per_thread = 2, .policies = 31, .chunks = 2},
                      scaled(10'000));
}
// Who answers a request is stopped in the middle of it, and goes on when the same slot asks again.
TEST(GenPoolFairness, ALateAnswerIsNotTakenForTheNextOne) {
  FiberSchedule fibers(2);
  std::mt19937_64 random(test_seed(13));
  const std::uint64_t schedules = scaled(40'000);
  for (std::uint64_t done = 0; done < schedules; ++done) {
    genalloc::PoolCore<AskingSync> core({.order = 0, .indexes = genalloc::kBoundsLive});
    genalloc::ChunkGeometry geometry;
    geometry.size_bytes = 100;
    ASSERT_TRUE(core.add_chunk(geometry));
    std::vector<std::uintptr_t> taken[2];
    const std::uint64_t first = 1 + random() % 60, second = first + 1 + random() % 250;
    const std::uint64_t third = second + 1 + random() % 250;
    fibers.run({{1, 0}, {first, 1}, {second, 0}, {third, 1}}, [&](unsigned fiber) {
      for (int i = 0; i < 3 - static_cast<int>(fiber); ++i) {
        const auto place = core.take(7, FirstFit{}, false);
        if (place) taken[fiber].push_back(place->start);
      }
    });
    std::vector<std::uintptr_t> all = taken[0];
    all.insert(all.end(), taken[1].begin(), taken[1].end());
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all, (std::vector<std::uintptr_t>{0, 7, 14, 21, 28}))
        << "at " << first << ", " << second << ", " << third;
    ASSERT_TRUE(genalloc::validate(core));
  }
}

// Interrupts a search again and again, each time with a whole operation, as a signal handler might,
// or a thread on another processor whose searches are short.
template <class Core>
class Interrupting final : public testing::StepHook {
 public:
  Interrupting(Core& core, std::uint64_t every) : core_(core), every_(every) {}
  void step() noexcept override {
    if (++steps_ % every_ != 0 || interruptions_ == kMost) return;
    const testing::Hooked unhooked(nullptr);
    interrupts_ = true;
    const genalloc::ChunkGeometry* chunk = nullptr;
    const auto place = core_.take(1, FirstFit{}, false);
    if (place) static_cast<void>(core_.give(place->start, 1, &chunk));
    interrupts_ = false;
    ++interruptions_;
  }
  bool interrupts() const { return interrupts_; }
  std::uint64_t interruptions() const { return interruptions_; }
  static constexpr std::uint64_t kMost = 20'000;

 private:
  Core& core_;
  const std::uint64_t every_;
  std::uint64_t steps_ = 0, interruptions_ = 0;
  bool interrupts_ = false;
};

// One granule of each leaf but the last fifty is taken: runs that are long enough, and none of them
// has an aligned place.
void take_the_aligned_places(GenPoolScenario::Core& core, std::size_t leaves) {
  genalloc::ChunkGeometry geometry;
  geometry.size_bytes = 512 * (leaves + 50);
  ASSERT_TRUE(core.add_chunk(geometry));
  for (std::size_t leaf = 0; leaf < leaves; ++leaf) ASSERT_TRUE(core.take_at(512 * leaf + 50, 1));
}

TEST(GenPoolFairness, ALongSearchIsNotBegunAgainForEver) {
  using Core = GenPoolScenario::Core;
  for (const std::uint64_t every : {100u, 200u, 500u}) {
    Core core({.order = 0, .indexes = genalloc::kBoundsLive});
    take_the_aligned_places(core, 300);
    Interrupting hook(core, every);
    {
      const testing::Hooked hooked(&hook);
      const auto place = core.take(100, FirstFitAlign{512}, false);
      ASSERT_TRUE(place);
      ASSERT_EQ(place->start, 512u * 300);
    }
    // A search has more steps than that; two are lost here, a request too.
    EXPECT_GE(hook.interruptions(), 3u) << "every " << every;
    EXPECT_LT(hook.interruptions(), 1000u) << "every " << every;
    EXPECT_EQ(core.available_bytes(), 512u * 350 - 400);
    EXPECT_TRUE(genalloc::validate(core));
  }
}

// What a search of the caller's own sees: the hook, which knows when another call runs.
struct OwnSearch {
  const Interrupting<GenPoolScenario::Core>* hook;
  mutable std::uint64_t calls, by_others;
};
std::size_t look_at_everything(const BitmapView& bitmap, std::size_t start, std::size_t run,
                               const void* data, std::uintptr_t) noexcept {
  const auto& own = *static_cast<const OwnSearch*>(data);
  ++own.calls;
  if (own.hook->interrupts()) ++own.by_others;
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < bitmap.bits() / 64; ++i) all |= bitmap.word(i);
  return all == 0 ? bitmap.bits() : bitmap.next_free_run(start, run);
}

// However often it loses: nobody else may be in a function that is the caller's, at data which may be
// gone when his call has returned.
TEST(GenPoolFairness, ASearchOfTheCallersOwnIsRunByNobodyElse) {
  GenPoolScenario::Core core({.order = 0, .indexes = genalloc::kBoundsLive});
  take_the_aligned_places(core, 20);
  Interrupting hook(core, 100);
  const OwnSearch own{&hook, 0, 0};
  {
    const testing::Hooked hooked(&hook);
    const auto place = core.take(600, Fit::custom(&look_at_everything, &own), false);
    ASSERT_TRUE(place);
    ASSERT_EQ(place->start, 512u * 19 + 51);
  }
  EXPECT_EQ(hook.interruptions(), hook.kMost) << "it lost until nobody interrupted";
  EXPECT_GT(own.calls, 100u);
  EXPECT_EQ(own.by_others, 0u);
  EXPECT_TRUE(genalloc::validate(core));
}

// A hint that says too much is lowered by who finds nothing, while what it says comes true again: at
// every step of the search.
TEST(GenPoolSchedule, AGapThatComesWhileItsHintIsLoweredIsFound) {
  FiberSchedule fibers(2);
  for (const Fit fit : {Fit(FirstFit{}), Fit(BestFit{})}) {
    std::uint64_t steps = 1;
    for (std::uint64_t at = 1; at <= steps; ++at) {
      GenPoolScenario::Core core(
          {.order = 0, .indexes = genalloc::kBoundsLive | genalloc::kLengthsLive});
      genalloc::ChunkGeometry geometry;
      geometry.size_bytes = 512 * 3;
      ASSERT_TRUE(core.add_chunk(geometry));
      ASSERT_TRUE(core.take_at(0, 512 * 2));
      const genalloc::ChunkGeometry* chunk = nullptr;
      ASSERT_EQ(core.give(100, 10, &chunk), genalloc::Fault::none);
      ASSERT_TRUE(core.take_at(100, 10));
      std::uintptr_t found = 0;
      steps = fibers.run({{at, 1}}, [&](unsigned fiber) {
        if (fiber == 1) {
          const genalloc::ChunkGeometry* place = nullptr;
          EXPECT_EQ(core.give(100, 10, &place), genalloc::Fault::none);
          return;
        }
        const auto taken = core.take(10, fit, false);
        ASSERT_TRUE(taken);
        found = taken->start;
      });
      ASSERT_TRUE(found == 100 || found == 512 * 2) << "step " << at;
      const auto next = core.take(10, fit, false);
      ASSERT_TRUE(next);
      EXPECT_EQ(next->start, found == 100 ? 512u * 2 : 100u) << "step " << at;
      EXPECT_TRUE(genalloc::validate(core));
    }
    EXPECT_GT(steps, 50u);
  }
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
// Leaves enough that who lost to somebody far away may go on with what he had made ready.
TEST(GenPoolSchedule, OperationsFarApartHaveAnOrder) {
  for (const std::uint32_t policies : {1u, 12u, 31u}) {
    explore(15 + policies,
            {.threads = 2, .calls_per_thread = 3, .policies = policies, .chunks = 1, .leaves = 14},
            scaled(8'000));
  }
}
TEST(GenPoolSchedule, AChunkThatIsAddedHasItsPlaceInTheOrder) {
  explore(6, {.threads = 3, .calls_per_thread = 2, .policies = 31, .chunks = 1, .adds_chunk = true},
          scaled(5'000));
}

}  // namespace
}  // namespace mmkit
