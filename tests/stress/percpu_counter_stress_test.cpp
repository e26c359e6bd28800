// SPDX-License-Identifier: MIT
//
// PercpuCounter under many threads: nothing is lost by adding, folding, setting, moving about,
// signals or forks.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <limits>
#include <mmkit/percpu/counter.hpp>
#include <optional>
#include <random>
#include <utility>

#include "support/percpu_storm.hpp"
#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::scaled;

PercpuCounter make(std::int32_t batch) {
  return std::move(PercpuCounter::create(0, batch)).value();
}

TEST(PercpuCounterStress, LosesNothingWhereverTheThreadsGo) {
  constexpr unsigned kThreads = 8;
  const std::uint64_t steps = scaled(400'000, 5000);
  for (const std::int32_t batch : {1, 2, 32}) {
    PercpuCounter counter = make(batch);
    std::atomic<std::uint64_t> expected{0};
    {
      testing::Crew crew;
      for (unsigned t = 0; t < kThreads; ++t) {
        crew.add([&, t] {
          std::mt19937_64 random(testing::test_seed(t));
          testing::Wanderer wanderer(random());
          std::uint64_t mine = 0;
          for (std::uint64_t i = 0; i < steps; ++i) {
            if (i % 4096 == 0) wanderer.move();
            const auto amount = static_cast<std::int64_t>(random() >> 58) - 20;
            counter.add(amount);
            mine += static_cast<std::uint64_t>(amount);
          }
          expected += mine;
        });
      }
    }
    const auto sum = static_cast<std::int64_t>(expected.load());
    EXPECT_EQ(counter.sum(), sum) << "batch " << batch;
    const std::int64_t bound = std::int64_t{batch} * PercpuAllocator::instance().units();
    EXPECT_LT(counter.read(), sum + bound);
    EXPECT_GT(counter.read(), sum - bound);
  }
}

// set() beside a thread that adds one after the other. The batch is so large that nothing is folded:
// what was added before a set stands in the local, and must not come back. After a set to zero the
// sum is what was added since it began, or less.
TEST(PercpuCounterStress, SetCountsEachAddAtMostOnceAndForgetsNoLaterOne) {
  PercpuCounter counter = make(std::numeric_limits<std::int32_t>::max());
  std::atomic<std::uint64_t> begun{0}, ended{0};
  std::atomic<bool> stop{false};
  testing::Crew crew;
  const testing::StopAtEnd stop_at_end(stop);
  crew.add([&] {
    // Beside the setter, not in turns with it.
    testing::bind_thread(::pthread_self(), {testing::allowed_cpus().back()});
    counter.add(0);  // the first operation of a thread may fold
    for (std::uint64_t i = 1; !stop.load(std::memory_order_relaxed); ++i) {
      // Release: whoever sees that it ended sees what it added, and that it begun.
      begun.store(i, std::memory_order_release);
      counter.add(1);
      ended.store(i, std::memory_order_release);
    }
  });
  testing::bind_thread(::pthread_self(), {testing::allowed_cpus().front()});
  crew.start();
  constexpr std::uint64_t kBetween = 500;
  const std::uint64_t sets = scaled(20'000, 200);
  std::uint64_t begun_at_last = 0;
  for (std::uint64_t i = 0; i < sets; ++i) {
    // More in the local than can be added while a set is under way.
    const std::uint64_t begun_before = begun.load();
    while (ended.load() < begun_before + kBetween) std::this_thread::yield();
    const std::uint64_t ended_before = ended.load();
    counter.set(0);
    begun_at_last = begun.load();
    const std::int64_t sum = counter.sum();
    const std::uint64_t begun_after = begun.load();
    ASSERT_GE(sum, 0) << "set " << i;
    ASSERT_LE(sum, static_cast<std::int64_t>(begun_after - ended_before)) << "set " << i;
  }
  stop = true;
  crew.join();
  testing::bind_thread(::pthread_self(), testing::allowed_cpus());
  // What began after the last set is there to the last one.
  EXPECT_GE(counter.sum(), static_cast<std::int64_t>(ended.load() - begun_at_last));
}

struct CountingSteps {
  static inline std::optional<PercpuCounter> counter;
  static void step(unsigned) { counter->add(1); }
  static void handler(unsigned) { counter->add(1000); }
  // Of its own memory; the counts of its parent's other threads go no further here.
  static bool child() {
    const std::int64_t before = counter->sum();
    for (int i = 0; i < 1000; ++i) counter->add(3);
    return counter->sum() == before + 3000;
  }
};

TEST(PercpuCounterStress, LosesNothingToSignalsMovesAndForks) {
  CountingSteps::counter.emplace(make(32));
  const testing::StormCounts counts =
      testing::PercpuStorm<CountingSteps>::run(scaled(2'000'000, 100'000), /*forks=*/4);
  EXPECT_EQ(CountingSteps::counter->sum(),
            static_cast<std::int64_t>(counts.steps + 1000 * counts.handled));
  EXPECT_GT(counts.handled, 0u);
  CountingSteps::counter.reset();
}

}  // namespace
}  // namespace mmkit
