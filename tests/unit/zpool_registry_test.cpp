// SPDX-License-Identifier: MIT
//
// Which kinds of pool there are, who fetches a missing one, and who may go first.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/registry.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/stub_driver.hpp"

namespace mmkit {
namespace {

using testing::make_stub;

std::vector<std::string> types_of(const DriverRegistry& registry) {
  std::vector<std::string> types;
  registry.for_each_type([&](std::string_view type) { types.emplace_back(type); });
  return types;
}

Result<std::unique_ptr<Zpool>> make_pool(DriverRegistry& registry, std::string_view type) {
  return Zpool::create(type, {.registry = &registry});
}

// ---------------------------------------------------------------- who is known

TEST(DriverRegistry, KnowsNothingWhenNew) {
  DriverRegistry registry;
  EXPECT_TRUE(types_of(registry).empty());
  EXPECT_FALSE(registry.has_pool("zbud"));
  EXPECT_EQ(registry.traits("zbud").error(), Errc::not_found);
  EXPECT_EQ(registry.unregister_driver("zbud").error(), Errc::not_found);
  EXPECT_EQ(make_pool(registry, "zbud").error(), Errc::not_found);
}

TEST(DriverRegistry, KnowsWhatIsRegisteredUntilItIsUnregistered) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(make_stub("one")));
  EXPECT_TRUE(registry.has_pool("one"));
  EXPECT_TRUE(make_pool(registry, "one"));
  EXPECT_FALSE(registry.has_pool("on"));
  EXPECT_FALSE(registry.has_pool("one1"));
  EXPECT_FALSE(registry.has_pool("ONE"));
  ASSERT_TRUE(registry.unregister_driver("one"));
  EXPECT_FALSE(registry.has_pool("one"));
  EXPECT_EQ(registry.unregister_driver("one").error(), Errc::not_found);
  ASSERT_TRUE(registry.register_driver(make_stub("one")));
  EXPECT_TRUE(registry.has_pool("one"));
}

TEST(DriverRegistry, ListsTypesInTheOrderOfRegistration) {
  DriverRegistry registry;
  for (const char* type : {"m", "b", "z", "a"}) {
    ASSERT_TRUE(registry.register_driver(make_stub(type)));
  }
  EXPECT_EQ(types_of(registry), (std::vector<std::string>{"m", "b", "z", "a"}));
  ASSERT_TRUE(registry.unregister_driver("b"));
  ASSERT_TRUE(registry.register_driver(make_stub("b")));
  EXPECT_EQ(types_of(registry), (std::vector<std::string>{"m", "z", "a", "b"}));
}

TEST(DriverRegistry, ListsWhatIsKnownWhenItIsAskedAndStillIs) {
  DriverRegistry registry;
  for (const char* type : {"a", "b", "c"}) ASSERT_TRUE(registry.register_driver(make_stub(type)));
  std::vector<std::string> seen;
  registry.for_each_type([&](std::string_view type) {
    if (type == "a") {
      EXPECT_TRUE(registry.unregister_driver("b"));
      EXPECT_TRUE(registry.register_driver(make_stub("d")));
    }
    seen.emplace_back(type);
  });
  EXPECT_EQ(seen, (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(types_of(registry), (std::vector<std::string>{"a", "c", "d"}));
}

TEST(DriverRegistry, TellsWhatAKindCanDo) {
  DriverRegistry registry;
  const DriverTraits traits{.max_object_bytes = 123, .can_compact = true, .highmem = true};
  ASSERT_TRUE(registry.register_driver(make_stub(
      "special",
      [](BackendEnv&&) -> Result<std::unique_ptr<ZpoolBackend>> { return fail(Errc::io_error); },
      traits)));
  const DriverTraits told = registry.traits("special").value();
  EXPECT_EQ(told.max_object_bytes, 123u);
  EXPECT_FALSE(told.can_shrink);
  EXPECT_TRUE(told.can_compact);
  EXPECT_TRUE(told.highmem);
}

TEST(DriverRegistry, RefusesASecondDriverOfAType) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(make_stub("twice")));
  const auto second = make_stub("twice");
  EXPECT_EQ(registry.register_driver(second).error(), Errc::already_exists);
  EXPECT_EQ(second.use_count(), 1) << "the refused one is not kept";
  EXPECT_EQ(types_of(registry).size(), 1u);
}

TEST(DriverRegistry, RefusesNoDriverAtAll) {
  DriverRegistry registry;
  EXPECT_EQ(registry.register_driver(nullptr).error(), Errc::invalid_argument);
}

TEST(DriverRegistry, TakesTypeNamesOfThePatternAndNoOthers) {
  DriverRegistry registry;
  const std::string longest = "a" + std::string(31, 'x');
  for (const std::string& type :
       {std::string("a"), std::string("z"), std::string("a_b"), std::string("z3fold"),
        std::string("a_"), std::string("a0123456789"), std::string("x__9"), longest}) {
    EXPECT_TRUE(registry.register_driver(make_stub(type))) << type;
    EXPECT_TRUE(registry.has_pool(type)) << type;
  }
  for (const std::string& type :
       {std::string(), std::string("_a"), std::string("0a"), std::string("A"), std::string("aB"),
        std::string("a-b"), std::string("a b"), std::string(" a"), std::string("a "),
        std::string("a.b"), std::string("a\n"), std::string("a\0b", 3), std::string("\xc3\xa4"),
        std::string("a{"), std::string("a`"), std::string("a/"), std::string("a:"), longest + "x",
        std::string(1000, 'a')}) {
    EXPECT_EQ(registry.register_driver(make_stub(type)).error(), Errc::invalid_argument) << type;
    EXPECT_FALSE(registry.has_pool(type)) << type;
    EXPECT_EQ(make_pool(registry, type).error(), Errc::not_found) << type;
    EXPECT_EQ(registry.unregister_driver(type).error(), Errc::not_found) << type;
  }
}

TEST(DriverRegistry, OfTheProcessHasTheBuiltInDrivers) {
  EXPECT_EQ(&default_registry(), &default_registry());
  EXPECT_TRUE(default_registry().has_pool("zbud"));
  EXPECT_EQ(default_registry().register_driver(make_stub("zbud")).error(), Errc::already_exists);
  const auto pool = Zpool::create("zbud");
  ASSERT_TRUE(pool);
  EXPECT_EQ(default_registry().unregister_driver("zbud").error(), Errc::busy);
}

// ---------------------------------------------------------------- who lives how long

// A driver that says when it ends.
std::shared_ptr<const ZpoolDriver> make_mortal(std::string type, std::atomic<bool>* ended) {
  auto* stub = new testing::StubDriver(std::move(type));
  return {stub, [ended](const ZpoolDriver* driver) {
            *ended = true;
            delete static_cast<const testing::StubDriver*>(driver);
          }};
}

TEST(DriverRegistry, LetsADriverGoWhenItIsUnregistered) {
  DriverRegistry registry;
  std::atomic<bool> ended{false};
  ASSERT_TRUE(registry.register_driver(make_mortal("mortal", &ended)));
  EXPECT_FALSE(ended);
  ASSERT_TRUE(registry.unregister_driver("mortal"));
  EXPECT_TRUE(ended);
}

TEST(DriverRegistry, LetsItsDriversGoWhenItEnds) {
  std::atomic<bool> ended{false};
  {
    DriverRegistry registry;
    ASSERT_TRUE(registry.register_driver(make_mortal("mortal", &ended)));
  }
  EXPECT_TRUE(ended);
}

TEST(DriverRegistry, IsBusyWhileAPoolOfTheTypeLives) {
  DriverRegistry registry;
  std::atomic<bool> ended{false};
  ASSERT_TRUE(registry.register_driver(make_mortal("mortal", &ended)));
  ASSERT_TRUE(registry.register_driver(make_stub("other")));
  std::unique_ptr<Zpool> first = make_pool(registry, "mortal").value();
  std::unique_ptr<Zpool> second = make_pool(registry, "mortal").value();
  EXPECT_EQ(registry.unregister_driver("mortal").error(), Errc::busy);
  EXPECT_TRUE(registry.unregister_driver("other"));
  first.reset();
  EXPECT_EQ(registry.unregister_driver("mortal").error(), Errc::busy);
  second.reset();
  EXPECT_FALSE(ended);
  EXPECT_TRUE(registry.unregister_driver("mortal"));
  EXPECT_TRUE(ended);
}

TEST(DriverRegistry, IsNotHeldByAPoolThatCouldNotBeMade) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(
      make_stub("sterile", [](BackendEnv&&) -> Result<std::unique_ptr<ZpoolBackend>> {
        return fail(Errc::out_of_memory);
      })));
  EXPECT_EQ(make_pool(registry, "sterile").error(), Errc::out_of_memory);
  EXPECT_TRUE(registry.unregister_driver("sterile"));
}

TEST(DriverRegistry, MayEndBeforeThePoolsMadeFromIt) {
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  std::atomic<bool> ended{false};
  std::unique_ptr<Zpool> pool;
  {
    DriverRegistry registry;
    const std::shared_ptr<const ZpoolDriver> driver(&zbud_driver(),
                                                    [&](const ZpoolDriver*) { ended = true; });
    ASSERT_TRUE(registry.register_driver(driver));
    pool = Zpool::create("zbud", {.pages = source.get(), .registry = &registry}).value();
  }
  EXPECT_FALSE(ended) << "the pool keeps its driver";
  EXPECT_EQ(pool->type(), "zbud");
  const Handle handle = pool->allocate(100).value();
  EXPECT_TRUE(pool->validate());
  pool->free(handle);
  pool.reset();
  EXPECT_TRUE(ended);
}

// ---------------------------------------------------------------- the loader

TEST(DriverRegistry, AsksTheLoaderForWhatItDoesNotKnow) {
  DriverRegistry registry;
  std::vector<std::string> asked;
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    EXPECT_EQ(&asker, &registry);
    asked.emplace_back(type);
    return asker.register_driver(make_stub(std::string(type)));
  });
  EXPECT_TRUE(asked.empty());
  EXPECT_TRUE(registry.has_pool("first"));
  EXPECT_TRUE(registry.traits("second"));
  EXPECT_TRUE(make_pool(registry, "third"));
  EXPECT_EQ(asked, (std::vector<std::string>{"first", "second", "third"}));
  // Known from here on.
  EXPECT_TRUE(registry.has_pool("first"));
  EXPECT_TRUE(make_pool(registry, "second"));
  EXPECT_EQ(asked.size(), 3u);
  EXPECT_EQ(types_of(registry), asked);
}

TEST(DriverRegistry, DoesNotAskForNamesThatNoTypeCanHave) {
  DriverRegistry registry;
  int asked = 0;
  registry.set_loader([&](DriverRegistry&, std::string_view) -> Status {
    ++asked;
    return {};
  });
  for (const char* type : {"", "A", "../x", "a b", "-"}) EXPECT_FALSE(registry.has_pool(type));
  EXPECT_EQ(registry.unregister_driver("unknown").error(), Errc::not_found);
  EXPECT_EQ(asked, 0);
}

TEST(DriverRegistry, AsksAgainAfterALoaderFailed) {
  DriverRegistry registry;
  int asked = 0;
  registry.set_loader([&](DriverRegistry&, std::string_view) -> Status {
    ++asked;
    return fail(Errc::io_error);
  });
  EXPECT_FALSE(registry.has_pool("absent"));
  EXPECT_EQ(make_pool(registry, "absent").error(), Errc::not_found);
  EXPECT_EQ(registry.traits("absent").error(), Errc::not_found);
  EXPECT_EQ(asked, 3);
}

TEST(DriverRegistry, BelievesWhatIsKnownAndNotWhatTheLoaderSays) {
  DriverRegistry registry;
  registry.set_loader([](DriverRegistry& asker, std::string_view type) -> Status {
    if (type == "honest_failure") {
      static_cast<void>(asker.register_driver(make_stub(std::string(type))));
      return fail(Errc::io_error);
    }
    return asker.register_driver(make_stub("something_else"));
  });
  EXPECT_FALSE(registry.has_pool("wanted")) << "success, but another type";
  EXPECT_TRUE(registry.has_pool("something_else"));
  EXPECT_TRUE(registry.has_pool("honest_failure")) << "failure, but it is there";
}

TEST(DriverRegistry, AsksNobodyOnceTheLoaderIsTakenAway) {
  DriverRegistry registry;
  int asked = 0;
  registry.set_loader([&](DriverRegistry&, std::string_view) -> Status {
    ++asked;
    return {};
  });
  registry.set_loader({});
  EXPECT_FALSE(registry.has_pool("absent"));
  EXPECT_EQ(asked, 0);
}

TEST(DriverRegistry, EndsTheLoaderBeforeWhenItGetsAnother) {
  DriverRegistry registry;
  const auto held = std::make_shared<int>(1);
  registry.set_loader([held](DriverRegistry&, std::string_view) -> Status { return {}; });
  EXPECT_EQ(held.use_count(), 2);
  registry.set_loader({});
  EXPECT_EQ(held.use_count(), 1);
}

TEST(DriverRegistry, FinishesALoadWithTheLoaderItBeganWith) {
  DriverRegistry registry;
  const auto held = std::make_shared<int>(1);
  registry.set_loader([held](DriverRegistry& asker, std::string_view type) -> Status {
    asker.set_loader([](DriverRegistry&, std::string_view) -> Status { return {}; });
    EXPECT_EQ(held.use_count(), 2) << "what is running lives on";
    return asker.register_driver(make_stub(std::string(type)));
  });
  EXPECT_TRUE(registry.has_pool("first"));
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(registry.has_pool("second")) << "the new one loads nothing";
}

TEST(DriverRegistry, TellsALoaderThatWhatItIsLoadingIsNotThere) {
  DriverRegistry registry;
  int asked = 0;
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    ++asked;
    EXPECT_FALSE(asker.has_pool(type));
    EXPECT_EQ(asker.traits(type).error(), Errc::not_found);
    EXPECT_EQ(make_pool(asker, type).error(), Errc::not_found);
    EXPECT_TRUE(asker.register_driver(make_stub(std::string(type))));
    EXPECT_TRUE(asker.has_pool(type)) << "now it is";
    return {};
  });
  EXPECT_TRUE(registry.has_pool("recursive"));
  EXPECT_EQ(asked, 1);
}

TEST(DriverRegistry, LoadsOneTypeFromTheLoaderOfAnother) {
  DriverRegistry registry;
  std::vector<std::string> asked;
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    asked.emplace_back(type);
    if (type == "upper") {
      EXPECT_TRUE(asker.has_pool("lower"));
    }
    return asker.register_driver(make_stub(std::string(type)));
  });
  EXPECT_TRUE(make_pool(registry, "upper"));
  EXPECT_EQ(asked, (std::vector<std::string>{"upper", "lower"}));
  EXPECT_EQ(types_of(registry), (std::vector<std::string>{"lower", "upper"}));
}

TEST(DriverRegistry, LoadsATypeOnceHoweverManyThreadsAsk) {
  constexpr int kThreads = 8;
  for (int round = 0; round < 20; ++round) {
    DriverRegistry registry;
    std::atomic<int> asked{0};
    std::barrier all_here(kThreads);
    registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
      ++asked;
      for (int i = 0; i < 100; ++i) std::this_thread::yield();  // the others come up meanwhile
      return asker.register_driver(make_stub(std::string(type)));
    });
    std::vector<std::thread> threads;
    for (int id = 0; id < kThreads; ++id) {
      threads.emplace_back([&, id] {
        all_here.arrive_and_wait();
        if (id % 2 == 0) {
          EXPECT_TRUE(registry.has_pool("shared"));
        } else {
          EXPECT_TRUE(make_pool(registry, "shared"));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(asked, 1);
  }
}

TEST(DriverRegistry, LoadsTwoTypesAtOnce) {
  DriverRegistry registry;
  std::barrier both_loading(2);
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    both_loading.arrive_and_wait();  // for ever, if one load waited for the other
    return asker.register_driver(make_stub(std::string(type)));
  });
  std::thread other([&] { EXPECT_TRUE(registry.has_pool("one")); });
  EXPECT_TRUE(registry.has_pool("two"));
  other.join();
}

// One thread loads what the other one waits for, and the other way round: somebody must be told
// that there is nothing to wait for.
TEST(DriverRegistry, IsNotHeldUpByLoadersThatWaitForEachOther) {
  for (int round = 0; round < 20; ++round) {
    DriverRegistry registry;
    std::barrier all_loading(3);
    std::atomic<int> refused{0};
    registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
      all_loading.arrive_and_wait();
      const std::string_view needed = type == "a" ? "b" : type == "b" ? "c" : "a";
      if (!asker.has_pool(needed)) ++refused;
      return asker.register_driver(make_stub(std::string(type)));
    });
    std::vector<std::thread> threads;
    for (const char* type : {"a", "b", "c"}) {
      threads.emplace_back([&, type] { EXPECT_TRUE(registry.has_pool(type)); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(refused, 1) << "the one that would have closed the ring";
  }
}

TEST(DriverRegistry, TellsThoseWhoWaitedThatALoadFailed) {
  constexpr int kThreads = 4;
  DriverRegistry registry;
  std::atomic<int> asked{0};
  std::barrier all_here(kThreads);
  registry.set_loader([&](DriverRegistry&, std::string_view) -> Status {
    ++asked;
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    return fail(Errc::io_error);
  });
  std::vector<std::thread> threads;
  for (int id = 0; id < kThreads; ++id) {
    threads.emplace_back([&] {
      all_here.arrive_and_wait();
      EXPECT_FALSE(registry.has_pool("absent"));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(asked, 1);
  EXPECT_LE(asked, kThreads);
}

// ---------------------------------------------------------------- threads

TEST(DriverRegistry, LetsOneOfManyThreadsRegisterAType) {
  for (int round = 0; round < 20; ++round) {
    DriverRegistry registry;
    std::atomic<int> registered{0};
    std::vector<std::thread> threads;
    for (int id = 0; id < 4; ++id) {
      threads.emplace_back([&] {
        const Status status = registry.register_driver(make_stub("contested"));
        if (status) {
          ++registered;
        } else {
          EXPECT_EQ(status.error(), Errc::already_exists);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(registered, 1);
  }
}

// A type is unregistered or pools are made from it; never both.
TEST(DriverRegistry, MakesPoolsWhileTheirTypeComesAndGoes) {
  DriverRegistry registry;
  std::atomic<bool> stop{false};
  std::vector<std::thread> makers;
  for (int id = 0; id < 3; ++id) {
    makers.emplace_back([&] {
      while (!stop.load()) {
        const auto pool = make_pool(registry, "fleeting");
        if (!pool) {
          EXPECT_EQ(pool.error(), Errc::not_found);
          continue;
        }
        EXPECT_EQ((*pool)->type(), "fleeting");
        EXPECT_EQ(registry.unregister_driver("fleeting").error(), Errc::busy);
      }
    });
  }
  for (int i = 0; i < 500; ++i) {
    std::atomic<bool> ended{false};
    ASSERT_TRUE(registry.register_driver(make_mortal("fleeting", &ended)));
    while (true) {
      const Status gone = registry.unregister_driver("fleeting");
      if (gone) break;
      ASSERT_EQ(gone.error(), Errc::busy);
    }
    // Whoever held it has let go of it, or does so within the instant.
    while (!ended.load()) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& maker : makers) maker.join();
}

}  // namespace
}  // namespace mmkit
