// SPDX-License-Identifier: MIT
//
// Pools under threads that run freely, threads that stop for ever, and signal handlers.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <random>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/genpool_scenario.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::scaled;
using testing::test_seed;

// Every granule has an owner who writes his number there when he has it.
class Ownership {
 public:
  explicit Ownership(std::size_t granules) : owner_(granules) {}
  bool take(std::size_t start, std::size_t count, int who) { return turn(start, count, 0, who); }
  bool give(std::size_t start, std::size_t count, int who) { return turn(start, count, who, 0); }

 private:
  bool turn(std::size_t start, std::size_t count, int from, int to) {
    bool well = true;
    for (std::size_t i = start; i < start + count; ++i) {
      well = owner_[i].exchange(to, std::memory_order_relaxed) == from && well;
    }
    return well;
  }
  std::vector<std::atomic<int>> owner_;
};

// Each thread has at most one block, and there is room for all: nobody may ever be refused.
void seats(unsigned threads, std::size_t run, const Fit& fit, std::uint64_t rounds) {
  const auto pool = GenPool::create({.fit = fit}).value();
  const std::size_t granules = threads * run;
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = granules}));
  Ownership owners(granules);
  std::atomic<std::uint64_t> refused{0}, elsewhere{0}, wild{0};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < rounds; ++i) {
        const auto place = pool->allocate(run);
        if (!place) {
          ++refused;
          continue;
        }
        // Blocks of one size from the beginning on: nowhere else is there a lowest or shortest.
        if (*place % run != 0 || !owners.take(*place, run, static_cast<int>(t) + 1)) ++elsewhere;
        if (i % 16 == 0 && pool->available_bytes() > granules) ++wild;
        if (!owners.give(*place, run, static_cast<int>(t) + 1)) ++elsewhere;
        if (!pool->try_free(*place, run)) ++elsewhere;
      }
    });
  }
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(elsewhere, 0u);
  EXPECT_EQ(wild, 0u);
  EXPECT_EQ(pool->available_bytes(), granules);
  EXPECT_TRUE(pool->validate());
}

// Ten million operations; MMKIT_SCALE=100 is a thousand million.
TEST(GenPoolStress, NobodyIsRefusedWhereThereIsRoomForAll) {
  for (const std::size_t run : {16u, 64u, 100u, 300u}) {
    for (const unsigned threads : {2u, 4u, 8u}) {
      seats(threads, run, FirstFit{}, scaled(210'000) / threads);
      seats(threads, run, BestFit{}, scaled(210'000) / threads);
    }
  }
}

TEST(GenPoolStress, GranulesHaveOneOwnerAtATimeUnderEveryPolicy) {
  constexpr std::size_t kGranules = 40'000;
  constexpr unsigned kThreads = 4;
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules / 2 + 7}));
  ASSERT_TRUE(pool->add_chunk({.start = kGranules / 2 + 7, .size_bytes = kGranules / 2 - 7}));
  Ownership owners(kGranules);
  std::atomic<std::uint64_t> overlaps{0}, refused_frees{0};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < kThreads; ++t) {
    all.emplace_back([&, t] {
      std::mt19937_64 random(test_seed(t));
      const int who = static_cast<int>(t) + 1;
      std::vector<std::pair<std::size_t, std::size_t>> live;
      const std::uint64_t rounds = scaled(100'000);
      for (std::uint64_t i = 0; i < rounds; ++i) {
        const std::size_t size = 1 + random() % (random() % 20 == 0 ? 2000 : 60);
        const Fit fits[] = {FirstFit{},           BestFit{},    FirstFitAlign{16},
                            FirstFitOrderAlign{}, RelaxedFit{}, FixedFit{random() % 20'000}};
        const auto place = pool->allocate(size, fits[random() % 6]);
        if (place) {
          if (!owners.take(*place, size, who)) ++overlaps;
          live.emplace_back(*place, size);
        }
        while (live.size() > 100 || (!live.empty() && random() % 2 == 0)) {
          std::swap(live[random() % live.size()], live.back());
          if (!owners.give(live.back().first, live.back().second, who)) ++overlaps;
          if (!pool->try_free(live.back().first, live.back().second)) ++refused_frees;
          live.pop_back();
        }
      }
      for (const auto& [start, size] : live) {
        if (!owners.give(start, size, who)) ++overlaps;
        if (!pool->try_free(start, size)) ++refused_frees;
      }
    });
  }
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(overlaps, 0u);
  EXPECT_EQ(refused_frees, 0u);
  EXPECT_EQ(pool->available_bytes(), kGranules);
  EXPECT_TRUE(pool->validate());
  EXPECT_EQ(pool->allocate(kGranules / 2 + 7).value(), 0u) << "everything is one run again";
  pool->free(0, kGranules / 2 + 7);
}

// ---------------------------------------------------------------- histories of real threads

class YieldNowAndThen final : public testing::StepHook {
 public:
  explicit YieldNowAndThen(std::uint64_t seed) : random_(seed) {}
  void step() noexcept override {
    if (random_() % 24 == 0) std::this_thread::yield();
  }

 private:
  std::minstd_rand random_;
};

TEST(GenPoolStress, HistoriesOfThreadsThatYieldAtEveryStepHaveAnOrder) {
  std::uint64_t pairs = 0;
  const std::uint64_t wanted = scaled(4'000);
  for (std::uint64_t round = 0; round < wanted; ++round) {
    const unsigned threads = 2 + static_cast<unsigned>(round % 3);
    const unsigned chunks = 1 + static_cast<unsigned>(round / 3 % 2);
    testing::GenPoolScenario scenario(test_seed(round), {.threads = threads, .chunks = chunks});
    std::vector<std::vector<testing::Call>> made(threads);
    std::atomic<std::uint64_t> clock{0};
    std::atomic<unsigned> ready{0};
    std::vector<std::thread> all;
    for (unsigned t = 0; t < threads; ++t) {
      all.emplace_back([&, t] {
        YieldNowAndThen hook(test_seed(round * 8 + t));
        const testing::Hooked hooked(&hook);
        ++ready;
        while (ready != threads) std::this_thread::yield();
        made[t] = scenario.run(t, [&] { return ++clock; });
      });
    }
    for (std::thread& thread : all) thread.join();
    std::vector<testing::Call> calls;
    for (const auto& some : made) calls.insert(calls.end(), some.begin(), some.end());
    pairs += testing::concurrent_pairs(calls);
    for (const testing::Call& call : scenario.run_after(clock + 1)) calls.push_back(call);
    ASSERT_TRUE(testing::is_linearizable(scenario.before(), calls)) << testing::text_of(calls);
    ASSERT_TRUE(scenario.validate());
  }
  RecordProperty("concurrent_pairs", std::to_string(pairs));
}

// ---------------------------------------------------------------- threads that stop

// Stops the thread at one step until it is let go.
class StopAt final : public testing::StepHook {
 public:
  explicit StopAt(std::uint64_t step) : left_(step) {}
  void step() noexcept override {
    if (--left_ != 0) return;
    stopped = true;
    stopped.notify_all();
    go.wait(false);
  }
  std::atomic<bool> stopped{false}, go{false};

 private:
  std::uint64_t left_;
};

// Each step of a take and a give of two leaves, of several shapes.
template <class Sync>
void stop_at_each_step(const Fit& fit, std::size_t run) {
  using Core = genalloc::PoolCore<Sync>;
  bool went_through = false;
  std::uint64_t steps = 0;
  for (std::uint64_t step = 1; !went_through; ++step) {
    Core core({.order = 0, .indexes = genalloc::kBoundsLive | genalloc::kLengthsLive});
    genalloc::ChunkGeometry geometry;
    geometry.size_bytes = 2000;
    ASSERT_TRUE(core.add_chunk(geometry));
    const genalloc::ChunkGeometry* chunk = nullptr;
    StopAt hook(step);
    std::atomic<bool> ended{false};
    std::thread stopping([&] {
      const testing::Hooked hooked(&hook);
      const genalloc::ChunkGeometry* mine = nullptr;
      const auto place = core.take(run, fit, false);
      if (place) static_cast<void>(core.give(place->start, run, &mine));
      ended = true;
      hook.stopped = true;
      hook.stopped.notify_all();
    });
    hook.stopped.wait(false);
    went_through = ended;
    // The others go on, whatever was left half done.
    for (int i = 0; i < 50; ++i) {
      const auto place = core.take(300, i % 2 == 0 ? Fit(FirstFit{}) : Fit(BestFit{}), false);
      ASSERT_TRUE(place) << "step " << step;
      ASSERT_EQ(core.give(place->start, 300, &chunk), genalloc::Fault::none) << "step " << step;
    }
    hook.go = true;
    hook.go.notify_all();
    stopping.join();
    ASSERT_EQ(core.available_bytes(), 2000u) << "step " << step;
    ASSERT_TRUE(genalloc::validate(core)) << "step " << step;
    steps = step;
  }
  EXPECT_GT(steps, 50u);
}

TEST(GenPoolStress, AThreadThatStopsAtAnyStepHoldsNobodyUp) {
  for (const std::size_t run : {1u, 700u}) {
    stop_at_each_step<testing::SteppedSync>(FirstFit{}, run);
    stop_at_each_step<testing::SteppedSync>(BestFit{}, run);
    stop_at_each_step<testing::SteppedSync>(FirstFitAlign{16}, run);
    stop_at_each_step<testing::SteppedSync>(RelaxedFit{}, run);
  }
}
// Here a take is made by whoever comes: also when who asked for it is stopped, or who is at it.
TEST(GenPoolStress, AThreadThatStopsAtAnyStepOfARequestHoldsNobodyUp) {
  stop_at_each_step<testing::AskingSync>(FirstFit{}, 700);
  stop_at_each_step<testing::AskingSync>(BestFit{}, 1);
}

// A slot that is claimed and not given back is what a stopped operation leaves.
TEST(GenPoolStress, BeyondTheSlotsAllocationsFailAndFreesGoOn) {
  using Core = testing::GenPoolScenario::Core;
  Core core({.order = 0, .indexes = genalloc::kBoundsLive});
  genalloc::ChunkGeometry geometry;
  geometry.size_bytes = 100'000;
  ASSERT_TRUE(core.add_chunk(geometry));
  const genalloc::ChunkGeometry* chunk = nullptr;
  ASSERT_TRUE(core.take(10, FirstFit{}, false));
  auto& slots = core.commit().slots();
  std::vector<unsigned> stopped;
  for (unsigned i = 0; i < genalloc::kSlots - genalloc::kSlotsForFrees; ++i) {
    ASSERT_TRUE(core.take(1, FirstFit{}, false)) << i;
    stopped.push_back(slots.claim(/*may_fail=*/true));
  }
  EXPECT_EQ(core.take(1, FirstFit{}, false).error(), Errc::try_again);
  EXPECT_EQ(core.take_at(5000, 1).error(), Errc::try_again);
  for (unsigned i = 0; i + 1 < genalloc::kSlotsForFrees; ++i) {
    stopped.push_back(slots.claim(/*may_fail=*/false));
  }
  EXPECT_EQ(core.give(0, 10, &chunk), genalloc::Fault::none) << "one slot is left for it";
  for (const unsigned number : stopped) slots.release(number);
  EXPECT_TRUE(core.take(1, FirstFit{}, false));
  EXPECT_TRUE(genalloc::validate(core));
}

// ---------------------------------------------------------------- fork

TEST(GenPoolStress, AForkedChildGoesOnWhateverOthersWereDoing) {
  constexpr std::size_t kGranules = 5000;
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules}));
  std::atomic<bool> end{false};
  std::vector<std::thread> all;
  for (int t = 0; t < 2; ++t) {
    all.emplace_back([&] {
      for (std::size_t i = 0; !end; ++i) {
        const std::size_t size = 1 + i * 7919 % 1500;
        const auto place = pool->allocate(size, i % 2 == 0 ? Fit(FirstFit{}) : Fit(BestFit{}));
        if (place) pool->free(*place, size);
      }
    });
  }
  const std::uint64_t forks = scaled(40);
  for (std::uint64_t i = 0; i < forks; ++i) {
    // What the others had allocated is lost to the child; all the rest it can have.
    EXPECT_EQ(testing::run_in_child([&] {
                // Whatever others had asked for and not got yet is done by the first who comes.
                const auto first = pool->allocate(1);
                if (!first || !pool->try_free(*first, 1)) return 4;
                std::size_t left = pool->available_bytes();
                for (; left != 0; --left) {
                  if (!pool->allocate(1)) return 1;
                }
                if (pool->allocate(1).has_value()) return 2;
                const Status sound = pool->validate();
                return sound || sound.error() == Errc::busy ? 0 : 3;
              }),
              0);
  }
  end = true;
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(pool->available_bytes(), kGranules);
  EXPECT_TRUE(pool->validate());
}

// ---------------------------------------------------------------- signal handlers

GenPool* interrupted = nullptr;
Ownership* interrupted_owners = nullptr;
std::atomic<std::uint64_t> handled{0}, handler_faults{0};

void allocate_in_handler(int) {
  const std::size_t size = 1 + handled.load(std::memory_order_relaxed) * 37 % 200;
  const int who = 1000;
  const auto place = interrupted->allocate(size);
  if (!place || !interrupted_owners->take(*place, size, who) ||
      !interrupted_owners->give(*place, size, who) || !interrupted->try_free(*place, size)) {
    ++handler_faults;
  }
  ++handled;
}

TEST(GenPoolStress, ASignalHandlerAllocatesInTheMiddleOfAnything) {
  constexpr std::size_t kGranules = 60'000;
  for (const Fit& fit : {Fit(FirstFit{}), Fit(BestFit{})}) {
    const auto pool = GenPool::create({.fit = fit}).value();
    ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules}));
    Ownership owners(kGranules);
    interrupted = pool.get();
    interrupted_owners = &owners;
    handled = handler_faults = 0;
    struct sigaction action = {}, before = {};
    action.sa_handler = &allocate_in_handler;
    action.sa_flags = SA_RESTART;
    ASSERT_EQ(::sigaction(SIGALRM, &action, &before), 0);
    itimerval timer{{0, 73}, {0, 73}};
    ASSERT_EQ(::setitimer(ITIMER_REAL, &timer, nullptr), 0);
    std::vector<std::thread> all;
    std::atomic<std::uint64_t> faults{0};
    for (int t = 1; t <= 2; ++t) {
      all.emplace_back([&, t] {
        const std::uint64_t rounds = scaled(200'000);
        for (std::uint64_t i = 0; i < rounds; ++i) {
          const std::size_t size = 1 + i * 7919 % (i % 50 == 0 ? 3000 : 100);
          const auto place = pool->allocate(size);
          if (!place || !owners.take(*place, size, t) || !owners.give(*place, size, t) ||
              !pool->try_free(*place, size)) {
            ++faults;
          }
        }
      });
    }
    for (std::thread& thread : all) thread.join();
    timer = {};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
    ::sigaction(SIGALRM, &before, nullptr);
    EXPECT_EQ(faults, 0u);
    EXPECT_EQ(handler_faults, 0u);
    EXPECT_GT(handled, 0u);
    EXPECT_EQ(pool->available_bytes(), kGranules);
    EXPECT_TRUE(pool->validate());
  }
}

}  // namespace
}  // namespace mmkit
