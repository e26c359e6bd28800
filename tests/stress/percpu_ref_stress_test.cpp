// SPDX-License-Identifier: MIT
//
// PercpuRef under many threads: release comes once for each kill, after the last put and not before.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/percpu/ref.hpp>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_storm.hpp"
#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::scaled;

std::unique_ptr<PercpuRef> make(std::function<void()> release) {
  return std::move(PercpuRef::create(std::move(release))).value();
}

// One ref that is killed and begins anew, over and over. Workers take references, hold some of them
// for long, across kills and CPUs, and look whether the object lives while they do. A second killer
// kills at any moment.
class Lives {
 public:
  void run(std::uint64_t kills) {
    {
      testing::Crew crew;
      for (unsigned t = 0; t < kWorkers; ++t) crew.add([this, t] { work(t); });
      crew.add([this] {
        while (!stop_.load(std::memory_order_relaxed)) {
          ref_->kill();
          std::this_thread::yield();
        }
      });
      crew.start();
      for (std::uint64_t round = 1; round <= kills && !::testing::Test::HasFailure(); ++round) {
        // In the midst of what the workers do, unless the other killer was first.
        const std::uint64_t seen = taken();
        while (taken() == seen && !ref_->is_dying()) std::this_thread::yield();
        ref_->kill_and_confirm([this] { EXPECT_FALSE(ref_->tryget_live()); });
        while (!(ref_->is_zero() && released_.load(std::memory_order_acquire) == round)) {
          std::this_thread::yield();
        }
        EXPECT_FALSE(ref_->tryget());
        EXPECT_EQ(alive_, 0);
        alive_ = 1;
        if (round == kills) stop_ = true;
        ref_->reinit();
      }
      stop_ = true;
    }
    const std::uint64_t before = released_;
    const bool dead = ref_->is_dying();  // by the second killer's last
    ref_->kill();
    EXPECT_EQ(released_, before + (dead ? 0 : 1));
    EXPECT_EQ(released_, kills + 1);
    EXPECT_GT(taken(), 0u);
  }

 private:
  static constexpr unsigned kWorkers = 3;

  void work(unsigned number) {
    std::mt19937_64 random(testing::test_seed(number));
    testing::Wanderer wanderer(random());
    unsigned held = 0;
    const auto drop = [&] {
      EXPECT_EQ(alive_, 1) << "released while a reference is held";
      ref_->put();
      --held;
    };
    for (std::uint64_t i = 0; !stop_.load(std::memory_order_relaxed); ++i) {
      if (i % 1024 == 0) wanderer.move();
      if (held < 4 && (random() & 1) != 0 ? ref_->tryget_live() : held != 0 && ref_->tryget()) {
        ++held;
        // Its own: one thread writes.
        taken_[number].store(taken_[number].load(std::memory_order_relaxed) + 1,
                             std::memory_order_relaxed);
        EXPECT_EQ(alive_, 1) << "taken of what is released";
      }
      if (held != 0 && random() % 4 == 0) {
        ref_->get();
        ++held;
      }
      while (held != 0 && (held > 8 || random() % 4 != 0)) drop();
    }
    while (held != 0) drop();
  }
  std::uint64_t taken() const {
    std::uint64_t sum = 0;
    for (const auto& one : taken_) sum += one.load(std::memory_order_relaxed);
    return sum;
  }

  // What the references protect: plain, written by release and by who begins a new life.
  int alive_ = 1;
  std::atomic<std::uint64_t> released_{0};
  std::array<std::atomic<std::uint64_t>, kWorkers> taken_{};
  std::atomic<bool> stop_{false};
  std::unique_ptr<PercpuRef> ref_ = make([this] {
    EXPECT_EQ(alive_, 1) << "released twice";
    alive_ = 0;
    released_.fetch_add(1, std::memory_order_release);
  });
};

TEST(PercpuRefStress, ReleasesOnceForEachKillAndNeverEarly) {
  Lives().run(scaled(20'000, 200));
}

// The count is right whatever it was switched between: gets and puts that do not match thread by
// thread, but do in the end.
TEST(PercpuRefStress, SwitchingToAndFroLosesNoGetAndNoPut) {
  constexpr unsigned kThreads = 3;
  const std::uint64_t rounds = scaled(40, 4);
  for (std::uint64_t round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    std::atomic<std::uint64_t> released{0};
    const auto ref = make([&] { ++released; });
    std::atomic<unsigned> busy{kThreads};
    std::atomic<std::int64_t> kept{0};
    {
      testing::Crew crew;
      for (unsigned t = 0; t < kThreads; ++t) {
        crew.add([&, t] {
          std::mt19937_64 random(testing::test_seed(round * kThreads + t));
          testing::Wanderer wanderer(random());
          std::int64_t held = 0;
          for (int i = 0; i < 20'000; ++i) {
            if (i % 4096 == 0) wanderer.move();
            if (held == 0 || (held < 16 && (random() & 1) != 0)) {
              ref->get();
              ++held;
            } else {
              ref->put();
              --held;
            }
          }
          kept += held;
          --busy;
        });
      }
      crew.start();
      while (busy.load() != 0) {
        ref->switch_to_atomic();
        ref->switch_to_percpu();
      }
    }
    ref->kill();
    std::int64_t left = kept.load();
    for (; left > 0; --left) {
      ASSERT_EQ(released, 0u) << left << " references are left";
      ref->put();
    }
    ASSERT_EQ(released, 1u);
    ASSERT_TRUE(ref->is_zero());
  }
}

// Objects that end in their last put, on whatever thread that is.
TEST(PercpuRefStress, ObjectsEndWithTheirLastReference) {
  constexpr unsigned kWorkers = 3;
  const std::uint64_t objects = scaled(5000, 100);
  static std::atomic<std::uint64_t> ended;
  ended = 0;
  struct Object {
    std::unique_ptr<PercpuRef> ref = make([this] { delete this; });
    std::uint64_t number = 7;
    ~Object() {
      number = 0;
      ++ended;
    }
  };
  // A worker's mailbox: an object, with a reference to it.
  std::array<std::atomic<Object*>, kWorkers> mailboxes{};
  std::atomic<bool> stop{false};
  {
    testing::Crew crew;
    for (unsigned t = 0; t < kWorkers; ++t) {
      crew.add([&, t] {
        std::mt19937_64 random(testing::test_seed(t));
        while (true) {
          const bool last = stop.load();
          Object* const object = mailboxes[t].exchange(nullptr, std::memory_order_acquire);
          if (object == nullptr) {
            if (last) return;
            std::this_thread::yield();
            continue;
          }
          for (std::uint64_t i = random() % 200; i != 0; --i) {
            object->ref->get();
            EXPECT_EQ(object->number, 7u);
            object->ref->put();
          }
          object->ref->put();
        }
      });
    }
    crew.start();
    for (std::uint64_t i = 0; i < objects; ++i) {
      auto* const object = new Object;
      for (auto& mailbox : mailboxes) {
        object->ref->get();
        Object* empty = nullptr;
        while (!mailbox.compare_exchange_weak(empty, object, std::memory_order_release)) {
          empty = nullptr;
          std::this_thread::yield();
        }
      }
      object->ref->kill();
    }
    stop = true;
  }
  EXPECT_EQ(ended, objects);
}

// Another thread switches without end: the child has not that thread, and must find no half of it.
TEST(PercpuRefStress, AForkFindsNoSwitchHalfDone) {
  const std::uint64_t forks = scaled(100, 10);
  std::atomic<std::uint64_t> released{0};
  const auto ref = make([&] { ++released; });
  ref->get();
  ref->get();
  std::atomic<bool> stop{false};
  testing::Crew crew;
  const testing::StopAtEnd stop_at_end(stop);
  crew.add([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      ref->switch_to_atomic();
      ref->switch_to_percpu();
      // Lets the fork have the lock: a mutex is not fair.
      for (int pause = 0; pause < 4; ++pause) std::this_thread::yield();
    }
  });
  crew.start();
  for (std::uint64_t i = 0; i < forks; ++i) {
    ASSERT_EQ(testing::run_in_child([&] {
                ::alarm(10);  // for a child that waits for ever
                ref->get();
                ref->kill();
                for (int left = 3; left != 0; --left) {
                  if (released != 0) return 1;
                  ref->put();
                }
                return released == 1 ? 0 : 2;
              }),
              0);
  }
  stop = true;
  crew.join();
  ref->kill();
  ref->put();
  EXPECT_EQ(released, 0u);
  ref->put();
  EXPECT_EQ(released, 1u);
}

struct ReferringSteps {
  static inline std::unique_ptr<PercpuRef> ref;
  static inline std::atomic<bool> released{false};
  static void step(unsigned) {
    // Gets and puts of one thread do not meet on one CPU.
    static thread_local bool holds = false;
    if (holds) {
      ref->put();
    } else {
      ref->get();
    }
    holds = !holds;
  }
  static void handler(unsigned) {
    ref->get();
    if (ref->tryget_live()) ref->put();
    ref->put();
  }
  static bool child() {
    ref->get();
    ref->kill();
    ref->put();
    return !released;  // the threads that are not here hold some, and the parent one more
  }
};

TEST(PercpuRefStress, LosesNothingToSignalsMovesAndForks) {
  ReferringSteps::released = false;
  ReferringSteps::ref = make([] { ReferringSteps::released = true; });
  ReferringSteps::ref->get();
  const testing::StormCounts counts =
      testing::PercpuStorm<ReferringSteps>::run(scaled(2'000'000, 100'000), /*forks=*/4);
  EXPECT_GT(counts.handled, 0u);
  // An even number of steps a thread: each has put what it took.
  ReferringSteps::ref->kill();
  EXPECT_FALSE(ReferringSteps::released);
  ReferringSteps::ref->put();
  EXPECT_TRUE(ReferringSteps::released);
  ReferringSteps::ref.reset();
}

}  // namespace
}  // namespace mmkit
