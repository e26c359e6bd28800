// SPDX-License-Identifier: MIT
//
// The registry under threads - types that come, go and are fetched while pools of them are made.
//
// Loads are in operations, scaled by MMKIT_SCALE.
#include <gtest/gtest.h>

#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <memory>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/child_process.hpp"
#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr unsigned kThreads = 4;

template <class Body>
void run_threads(unsigned count, Body&& body) {
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < count; ++t) threads.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : threads) thread.join();
}

// zbud under another name; counts itself, so that one that is lost or ended twice is noticed.
class NamedDriver final : public ZpoolDriver {
 public:
  explicit NamedDriver(std::string type) : type_(std::move(type)) { alive.fetch_add(1); }
  ~NamedDriver() override { alive.fetch_sub(1); }
  std::string_view type() const noexcept override { return type_; }
  DriverTraits traits() const noexcept override { return zbud_driver().traits(); }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    return zbud_driver().create_pool(std::move(env));
  }

  static inline std::atomic<int> alive{0};

 private:
  const std::string type_;
};

std::shared_ptr<const ZpoolDriver> driver(std::string type) {
  return std::make_shared<NamedDriver>(std::move(type));
}

std::size_t count_types(const DriverRegistry& registry) {
  std::size_t count = 0;
  registry.for_each_type([&count](std::string_view) { ++count; });
  return count;
}

TEST(RegistryStress, TypesComeAndGoWhilePoolsOfThemLive) {
  const std::uint64_t operations = testing::scaled(60'000, 4000) / kThreads;
  constexpr unsigned kTypes = 3;
  const auto name = [](std::uint64_t n) { return "type" + std::to_string(n % kTypes); };
  {
    DriverRegistry registry;
    std::atomic<std::int64_t> known{0};
    run_threads(kThreads, [&](unsigned t) {
      std::mt19937_64 random(testing::test_seed(t));
      for (std::uint64_t i = 0; i < operations; ++i) {
        const std::string type = name(random());
        switch (random() % 6) {
          case 0: {
            const Status added = registry.register_driver(driver(type));
            if (added) known.fetch_add(1);
            EXPECT_TRUE(added || added.error() == Errc::already_exists);
            break;
          }
          case 1: {
            const Status removed = registry.unregister_driver(type);
            if (removed) known.fetch_sub(1);
            EXPECT_TRUE(removed || removed.error() == Errc::not_found ||
                        removed.error() == Errc::busy);
            break;
          }
          case 2: {
            Result<std::unique_ptr<Zpool>> pool = Zpool::create(type, {.registry = &registry});
            if (!pool) {
              EXPECT_EQ(pool.error(), Errc::not_found);
              break;
            }
            EXPECT_EQ((*pool)->type(), type);
            // While it lives the type stays, whoever asks.
            const Status removed = registry.unregister_driver(type);
            EXPECT_TRUE(!removed && removed.error() == Errc::busy);
            EXPECT_TRUE(registry.has_pool(type));
            const Handle handle = (*pool)->store(testing::make_pattern(100, i)).value();
            (*pool)->free(handle);
            break;
          }
          case 3: {
            const Result<DriverTraits> traits = registry.traits(type);
            EXPECT_TRUE(!traits || traits->can_shrink);
            break;
          }
          case 4:
            EXPECT_LE(count_types(registry), kTypes);
            break;
          default:
            static_cast<void>(registry.has_pool(type));
            break;
        }
      }
    });
    EXPECT_EQ(static_cast<std::int64_t>(count_types(registry)), known.load());
    EXPECT_EQ(NamedDriver::alive.load(), known.load());
    for (unsigned n = 0; n < kTypes; ++n) {
      const bool is_known = registry.has_pool(name(n));
      EXPECT_EQ(registry.unregister_driver(name(n)).has_value(), is_known);
    }
    EXPECT_EQ(NamedDriver::alive.load(), 0);
  }
}

// All threads ask for one unknown type at once, and the loader holds it back until all have: it is
// called once, and all get the type.
TEST(RegistryStress, ATypeThatAllAskForIsLoadedOnce) {
  const std::uint64_t rounds = testing::scaled(1500, 100);
  DriverRegistry registry;
  std::atomic<unsigned> asking{0}, loads{0}, got{0};
  registry.set_loader([&](DriverRegistry& to, std::string_view type) {
    loads.fetch_add(1);
    while (asking.load() != kThreads) std::this_thread::yield();
    // Those who have said so are about to ask; let them.
    for (int i = 0; i < 20; ++i) std::this_thread::yield();
    return to.register_driver(driver(std::string(type)));
  });
  std::barrier meet(kThreads);
  run_threads(kThreads, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      const std::string type = "fetched" + std::to_string(r);
      meet.arrive_and_wait();
      asking.fetch_add(1);
      if (t % 2 == 0) {
        got.fetch_add(registry.has_pool(type) ? 1 : 0);
      } else {
        got.fetch_add(Zpool::create(type, {.registry = &registry}) ? 1 : 0);
      }
      meet.arrive_and_wait();
      if (t != 0) continue;
      EXPECT_EQ(loads.exchange(0), 1u);
      EXPECT_EQ(got.exchange(0), kThreads);
      asking = 0;
      EXPECT_TRUE(registry.unregister_driver(type));
    }
  });
  EXPECT_EQ(NamedDriver::alive.load(), 0);
}

// A loader that finds nothing: nobody gets the type, nobody waits for ever, and the next ask asks
// again. Beside it the loader is exchanged all the time.
TEST(RegistryStress, WhatCannotBeLoadedIsMissingForAll) {
  const std::uint64_t rounds = testing::scaled(6000, 400);
  DriverRegistry registry;
  std::atomic<std::uint64_t> loads{0};
  const auto failing = [&loads](DriverRegistry&, std::string_view) -> Status {
    loads.fetch_add(1);
    return fail(Errc::not_found);
  };
  registry.set_loader(failing);
  std::atomic<unsigned> askers{kThreads - 1};
  run_threads(kThreads, [&](unsigned t) {
    if (t == 0) {
      while (askers.load() != 0) {
        // What it captured ends while it may be running.
        auto captured = std::make_shared<std::string>("nothing");
        registry.set_loader([&loads, captured](DriverRegistry&, std::string_view) -> Status {
          if (*captured == "nothing") loads.fetch_add(1);
          return {};
        });
      }
      return;
    }
    for (std::uint64_t r = 0; r < rounds / (kThreads - 1); ++r) {
      EXPECT_FALSE(registry.has_pool("missing" + std::to_string(r % 2)));
    }
    askers.fetch_sub(1);
  });
  const std::uint64_t before = loads.load();
  EXPECT_GT(before, 0u);
  EXPECT_FALSE(registry.has_pool("missing0"));
  EXPECT_EQ(loads.load(), before + 1);
}

// The registry may end before the pools that were made from it, on any thread.
TEST(RegistryStress, PoolsOutliveTheirRegistry) {
  const std::uint64_t rounds = testing::scaled(2000, 100);
  std::array<std::unique_ptr<Zpool>, kThreads> pools;
  std::barrier meet(kThreads);
  std::unique_ptr<DriverRegistry> registry;
  run_threads(kThreads, [&](unsigned t) {
    for (std::uint64_t r = 0; r < rounds; ++r) {
      if (t == 0) {
        registry = std::make_unique<DriverRegistry>();
        EXPECT_TRUE(registry->register_driver(driver("passing")));
      }
      meet.arrive_and_wait();
      pools[t] = Zpool::create("passing", {.registry = registry.get()}).value();
      meet.arrive_and_wait();
      if (t == 0) registry.reset();
      const Handle handle = pools[t]->store(testing::make_pattern(50, r)).value();
      EXPECT_EQ(pools[t]->type(), "passing");
      pools[t]->free(handle);
      pools[t].reset();
      meet.arrive_and_wait();
      EXPECT_EQ(NamedDriver::alive.load(), 0);
      meet.arrive_and_wait();
    }
  });
}

// A fork while other threads are inside the loader: in the child nobody loads, so who asks there
// does not wait for them.
TEST(RegistryStress, AForkInTheMiddleOfALoadLeavesARegistryThatLoads) {
  const std::uint64_t forks = testing::scaled(100, 10);
  const pid_t parent = ::getpid();
  DriverRegistry registry;
  registry.set_loader([parent](DriverRegistry& to, std::string_view) -> Status {
    if (::getpid() == parent) {
      for (int i = 0; i < 50; ++i) std::this_thread::yield();
      return fail(Errc::not_found);
    }
    // An aliasing pointer: an allocator is no part of this test.
    return to.register_driver({std::shared_ptr<void>(), &zbud_driver()});
  });
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) EXPECT_FALSE(registry.has_pool("zbud"));
    });
  }
  int code = 0;
  for (std::uint64_t i = 0; i < forks && code == 0; ++i) {
    code = testing::run_in_child([&registry] {
      ::alarm(30);  // a child that waits for what is not there is a failure, and no orphan
      if (!registry.has_pool("zbud")) return 1;
      auto pool = Zpool::create("zbud", {.registry = &registry});
      if (!pool) return 2;
      const Result<Handle> handle = (*pool)->allocate(100);
      if (!handle || !(*pool)->try_free(*handle)) return 3;
      pool->reset();
      return registry.unregister_driver("zbud") ? 0 : 4;
    });
    EXPECT_EQ(code, 0) << "fork " << i;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace mmkit
