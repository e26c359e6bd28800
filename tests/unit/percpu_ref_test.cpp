// SPDX-License-Identifier: MIT
//
// PercpuRef, one thread at a time: each state, each way from one to the other, and when release is
// called. Threads against each other are in tests/stress, misuse in tests/death.
#include <gtest/gtest.h>

#include <csignal>
#include <memory>
#include <mmkit/percpu/ref.hpp>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::allowed_cpus;
using testing::make_percpu_allocator;
using testing::make_unopened_percpu_allocator;
using testing::run_on;

static_assert(!std::is_move_constructible_v<PercpuRef> && !std::is_copy_constructible_v<PercpuRef>);

// A ref and what it called: "r" for release, "c" for confirm.
struct Watched {
  std::string calls;
  std::unique_ptr<PercpuRef> ref;

  explicit Watched(PercpuAllocator* allocator = nullptr)
      : ref(std::move(PercpuRef::create([this] { calls += 'r'; }, allocator)).value()) {}
  PercpuRef* operator->() { return ref.get(); }
  void kill_and_confirm() {
    ref->kill_and_confirm([this] { calls += 'c'; });
  }
};

TEST(PercpuRef, BeginsAliveWithOneReference) {
  Watched ref;
  EXPECT_FALSE(ref->is_zero());
  EXPECT_FALSE(ref->is_dying());
  ref->kill();
  EXPECT_EQ(ref.calls, "r");
  EXPECT_TRUE(ref->is_zero());
  EXPECT_TRUE(ref->is_dying());
}

TEST(PercpuRef, TheLastPutAfterTheKillReleases) {
  Watched ref;
  ref->get();
  EXPECT_TRUE(ref->tryget());
  EXPECT_TRUE(ref->tryget_live());
  ref->put();
  ref->kill();
  EXPECT_EQ(ref.calls, "");
  EXPECT_FALSE(ref->is_zero());
  EXPECT_TRUE(ref->is_dying());
  ref->put();
  EXPECT_EQ(ref.calls, "");
  ref->put();
  EXPECT_EQ(ref.calls, "r");
  EXPECT_TRUE(ref->is_zero());
}

TEST(PercpuRef, AfterTheKillOnlyLivingOnesAreRefused) {
  Watched ref;
  ref->get();
  ref->kill();
  EXPECT_FALSE(ref->tryget_live());
  EXPECT_TRUE(ref->tryget());
  ref->get();
  ref->put();
  ref->put();
  EXPECT_EQ(ref.calls, "");
  ref->put();
  EXPECT_EQ(ref.calls, "r");
  EXPECT_FALSE(ref->tryget());
  EXPECT_FALSE(ref->tryget_live());
  EXPECT_EQ(ref.calls, "r");
}

TEST(PercpuRef, ConfirmsBeforeItDropsTheFirstReference) {
  Watched ref;
  std::string seen;
  ref->kill_and_confirm([&] {
    ref.calls += 'c';
    EXPECT_TRUE(ref->is_dying());
    EXPECT_FALSE(ref->is_zero());
    EXPECT_FALSE(ref->tryget_live());
    EXPECT_TRUE(ref->tryget());
    ref->put();
  });
  EXPECT_EQ(ref.calls, "cr");
}

TEST(PercpuRef, ASecondKillDoesNothing) {
  Watched ref;
  ref->get();
  ref.kill_and_confirm();
  ref.kill_and_confirm();
  ref->kill();
  EXPECT_EQ(ref.calls, "c");
  ref->put();
  EXPECT_EQ(ref.calls, "cr");
  ref->kill();
  EXPECT_EQ(ref.calls, "cr");
  EXPECT_TRUE(ref->is_zero());
}

// One unit ends far above zero and the others below.
TEST(PercpuRef, CountsAreSharedByAllCpus) {
  const auto allocator = make_percpu_allocator(256);
  Watched ref(allocator.get());
  constexpr int kEach = 1000;
  int taken = 0;
  for (const unsigned cpu : allowed_cpus()) {
    run_on(cpu, [&] {
      for (int i = 0; i < kEach; ++i) ref->get();
    });
    taken += kEach;
  }
  run_on(allowed_cpus().front(), [&] {
    for (; taken > 1; --taken) ref->put();
  });
  ref->kill();
  EXPECT_EQ(ref.calls, "");
  run_on(allowed_cpus().back(), [&] { ref->put(); });
  EXPECT_EQ(ref.calls, "r");
}

TEST(PercpuRef, OpensNoUnit) {
  const auto allocator = make_unopened_percpu_allocator();
  const unsigned open = detail::open_units();
  Watched ref(allocator.get());
  ref->get();
  ref->kill();
  ref->put();
  ref->reinit();
  EXPECT_EQ(detail::open_units(), open);
}

TEST(PercpuRef, ReleaseMayDestroyTheRef) {
  const auto allocator = make_percpu_allocator(2);
  struct Object {
    std::unique_ptr<PercpuRef> ref;
    std::string name = "a name long enough to lie on the heap, so that its end would be seen";
  };
  std::string last;
  auto* const object = new Object;
  object->ref = std::move(PercpuRef::create(
                              [object, &last, kept = object->name] {
                                last = object->name;
                                delete object;
                                EXPECT_EQ(last, kept);  // what runs is not destroyed with the ref
                              },
                              allocator.get()))
                    .value();
  PercpuRef& ref = *object->ref;
  ref.get();
  ref.kill();
  EXPECT_EQ(last, "");
  std::thread([&] { ref.put(); }).join();
  EXPECT_NE(last, "");
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuRef, KillMayEndInTheDestructionOfTheRef) {
  const auto allocator = make_percpu_allocator(2);
  std::unique_ptr<PercpuRef> ref;
  ref = std::move(PercpuRef::create([&] { ref.reset(); }, allocator.get())).value();
  ref->kill();
  EXPECT_EQ(ref, nullptr);
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuRef, MayBeDestroyedAliveOrDeadAndTellsNobody) {
  const auto allocator = make_percpu_allocator(2);
  {
    Watched alive(allocator.get()), dying(allocator.get());
    alive->get();
    dying->get();
    dying->kill();
    alive.ref.reset();
    dying.ref.reset();
    EXPECT_EQ(alive.calls + dying.calls, "");
  }
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuRef, ReleaseMayBeEmpty) {
  auto ref = PercpuRef::create({});
  ASSERT_TRUE(ref);
  (*ref)->kill();
  EXPECT_TRUE((*ref)->is_zero());
}

TEST(PercpuRef, ReinitMakesItAsNewAsOftenAsOneLikes) {
  Watched ref;
  std::string expected;
  for (int round = 0; round < 50; ++round) {
    for (int i = 0; i < round; ++i) ref->get();
    ref.kill_and_confirm();
    for (int i = 0; i < round; ++i) {
      ASSERT_FALSE(ref->is_zero());
      ref->put();
    }
    expected += "cr";
    ASSERT_EQ(ref.calls, expected);
    ref->reinit();
    ASSERT_FALSE(ref->is_zero());
    ASSERT_FALSE(ref->is_dying());
    ASSERT_TRUE(ref->tryget_live());
    ref->put();
  }
}

TEST(PercpuRef, ReleaseMayReinit) {
  int lives = 0;
  std::unique_ptr<PercpuRef> ref;
  ref = std::move(PercpuRef::create([&] {
          ++lives;
          ref->reinit();
        })).value();
  for (int round = 1; round <= 10; ++round) {
    ref->get();
    ref->kill();
    EXPECT_EQ(lives, round - 1);
    ref->put();
    EXPECT_EQ(lives, round);
    EXPECT_FALSE(ref->is_dying());
  }
}

TEST(PercpuRef, ResurrectTakesAKillBack) {
  Watched ref;
  ref->get();
  ref->get();
  ref->kill();
  ref->put();  // one is left
  ref->resurrect();
  EXPECT_FALSE(ref->is_dying());
  EXPECT_TRUE(ref->tryget_live());
  ref->put();
  ref->put();  // none but the first
  ref->kill();
  EXPECT_EQ(ref.calls, "r");
  ref->resurrect();  // at zero it is what reinit is
  EXPECT_TRUE(ref->tryget_live());
  ref->kill();
  ref->put();
  EXPECT_EQ(ref.calls, "rr");
}

TEST(PercpuRef, SwitchedToAtomicItCountsTheSameAndIsAlive) {
  Watched ref;
  ref->get();
  ref->switch_to_atomic();
  ref->switch_to_atomic();
  EXPECT_FALSE(ref->is_dying());
  EXPECT_TRUE(ref->tryget_live());
  ref->put();
  ref->switch_to_percpu();
  ref->switch_to_percpu();
  ref->get();
  ref->switch_to_atomic();
  ref.kill_and_confirm();
  EXPECT_EQ(ref.calls, "c");
  EXPECT_FALSE(ref->tryget_live());
  ref->put();
  EXPECT_EQ(ref.calls, "c");
  ref->put();
  EXPECT_EQ(ref.calls, "cr");
}

// What per-CPU counting cannot tell: that the owner dropped the first reference by a put.
TEST(PercpuRef, SwitchedToAtomicALivingCountIsReleasedAtZero) {
  Watched ref;
  ref->switch_to_atomic();
  ref->put();
  EXPECT_EQ(ref.calls, "r");
  EXPECT_TRUE(ref->is_zero());
  EXPECT_FALSE(ref->is_dying());
  EXPECT_FALSE(ref->tryget_live());

  Watched late;
  late->put();
  EXPECT_EQ(late.calls, "");
  late->switch_to_atomic();
  EXPECT_EQ(late.calls, "r");
}

TEST(PercpuRef, ReinitKeepsToAtomicUntilItIsSwitchedBack) {
  Watched ref;
  ref->switch_to_atomic();
  ref->kill();
  ref->reinit();
  ref->put();  // the first reference: only a central count sees it go
  EXPECT_EQ(ref.calls, "rr");

  Watched back;
  back->switch_to_atomic();
  back->kill();
  back->switch_to_percpu();  // dead yet: takes effect when it lives
  EXPECT_TRUE(back->is_zero());
  EXPECT_FALSE(back->tryget());
  back->reinit();
  back->put();
  EXPECT_EQ(back.calls, "r");
  back->get();
  back->kill();
  EXPECT_EQ(back.calls, "rr");
}

PercpuRef* signalled = nullptr;
TEST(PercpuRef, GetsAndPutsInASignalHandlerThatIsAThreadsFirstOperation) {
  Watched ref;
  signalled = ref.ref.get();
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { signalled->get(); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  std::thread([] { ::raise(SIGUSR1); }).join();
  action.sa_handler = [](int) { signalled->put(); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, nullptr), 0);
  ref->kill();
  EXPECT_EQ(ref.calls, "");
  std::thread([] { ::raise(SIGUSR1); }).join();
  ASSERT_EQ(::sigaction(SIGUSR1, &before, nullptr), 0);
  EXPECT_EQ(ref.calls, "r");
}

TEST(PercpuRef, AForksChildGoesOnWithACountOfItsOwn) {
  Watched alive, dying;
  alive->get();
  dying->get();
  dying->kill();
  EXPECT_EQ(testing::run_in_child([&] {
              alive->kill();
              alive->put();
              dying->put();
              if (alive.calls != "r" || dying.calls != "r") return 1;
              alive->reinit();
              alive->kill();
              return alive.calls == "rr" ? 0 : 2;
            }),
            0);
  EXPECT_EQ(alive.calls + dying.calls, "");
  alive->kill();
  EXPECT_EQ(alive.calls, "");
  alive->put();
  dying->put();
  EXPECT_EQ(alive.calls + dying.calls, "rr");
}

}  // namespace
}  // namespace mmkit
