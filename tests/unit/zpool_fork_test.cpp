// SPDX-License-Identifier: MIT
//
// Pools of every kind across a fork: private ones go on in the child, shareable ones are refused there
// by name. Listings and registries, which know no kind, are tested with one.
// A child reports by its exit code alone, because it may not use the test framework.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstdio>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/driver_variants.hpp"
#include "support/pattern.hpp"
#include "support/sanitized.hpp"
#include "support/scale.hpp"
#include "support/stub_driver.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::make_pattern;
using testing::run_in_child;

// Leaves the child, printing the first expectation that does not hold.
#define CHILD_EXPECT(condition)                                           \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition); \
      return 1;                                                           \
    }                                                                     \
  } while (false)

class ForkedPool : public ::testing::Test {
 protected:
  explicit ForkedPool(testing::DriverVariant variant) : variant_(std::move(variant)) {}

  void make(bool shareable, EvictFn evict = {}) {
    source_ =
        SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20, .shareable = shareable})
            .value();
    pool_ = make_another({.name = "forked", .evict = std::move(evict)}).value();
  }
  // Of the same kind, on the same source unless told otherwise.
  Result<std::unique_ptr<Zpool>> make_another(ZpoolOptions options = {}) {
    options.params = variant_.params;
    if (options.pages == nullptr) options.pages = source_.get();
    return Zpool::create(variant_.type, std::move(options));
  }
  std::vector<Handle> store_some() {
    std::vector<Handle> handles;
    for (std::uint64_t i = 0; i < 50; ++i) {
      handles.push_back(pool_->store(make_pattern(1 + i * 79, i)).value());
    }
    return handles;
  }
  bool intact(Handle handle, std::uint64_t number) {
    const Result<Mapping> mapping = pool_->try_map(handle, MapMode::read_only);
    return mapping && has_pattern(mapping->const_bytes().first(1 + number * 79), number);
  }

  const testing::DriverVariant variant_;
  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
};

class ZpoolFork : public ForkedPool, public ::testing::WithParamInterface<testing::DriverVariant> {
 protected:
  ZpoolFork() : ForkedPool(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Driver, ZpoolFork, ::testing::ValuesIn(testing::driver_variants()),
                         [](const auto& variant) { return variant.param.name(); });

class ZpoolForkRegistry : public ForkedPool {
 protected:
  ZpoolForkRegistry() : ForkedPool({"zbud", {}}) {}
};

TEST_P(ZpoolFork, LetsTheChildUseAndEndAPoolOfPrivatePages) {
  make(/*shareable=*/false);
  const std::vector<Handle> handles = store_some();
  const int code = run_in_child([&] {
    CHILD_EXPECT(pool_->validate());
    CHILD_EXPECT(pool_->stats().objects == handles.size());
    for (std::uint64_t i = 0; i < handles.size(); ++i) CHILD_EXPECT(intact(handles[i], i));
    const Result<Handle> fresh = pool_->store(make_pattern(3000, 99));
    CHILD_EXPECT(fresh);
    pool_->free(*fresh);
    std::size_t listed = 0;
    for_each_live_pool([&](const ZpoolInfo& info) {
      if (info.name == "forked") ++listed;
    });
    CHILD_EXPECT(listed == 1);
    for (const Handle handle : handles) pool_->free(handle);
    CHILD_EXPECT(pool_->total_bytes() == 0);
    CHILD_EXPECT(pool_->validate());
    pool_.reset();
    CHILD_EXPECT(source_->stats().held_pages == 0);
    // And one that begins there.
    const auto second = make_another();
    CHILD_EXPECT(second);
    const Result<Handle> one = (*second)->allocate(10);
    CHILD_EXPECT(one);
    (*second)->free(*one);
    return 0;
  });
  EXPECT_EQ(code, 0);
  // What the child did is the child's.
  EXPECT_TRUE(pool_->validate());
  for (std::uint64_t i = 0; i < handles.size(); ++i) {
    EXPECT_TRUE(intact(handles[i], i));
    pool_->free(handles[i]);
  }
}

TEST_P(ZpoolFork, GivesTheChildMappingsThatItMayEnd) {
  make(/*shareable=*/false);
  const Handle handle = pool_->store(make_pattern(500, 1)).value();
  std::vector<Mapping> mappings;
  for (int i = 0; i < 100; ++i) mappings.push_back(pool_->map(handle, MapMode::read_only));
  const int code = run_in_child([&] {
    CHILD_EXPECT(has_pattern(mappings.back().const_bytes().first(500), 1));
    CHILD_EXPECT(pool_->try_free(handle).error() == Errc::busy);
    mappings.clear();
    CHILD_EXPECT(pool_->try_free(handle));
    return 0;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(pool_->try_free(handle).error(), Errc::busy);
  mappings.clear();
  pool_->free(handle);
}

// The parent's threads are in the middle of everything when it forks: the child finds whole
// structures and free locks.
TEST_P(ZpoolFork, GivesTheChildOfABusyParentAWholePool) {
  make(/*shareable=*/false);
  const std::vector<Handle> handles = store_some();
  // The heaps of sanitizers do not hold their locks around a fork: there the threads leave them be.
  constexpr bool may_use_the_heap = !testing::kSanitized;
  constexpr std::size_t mappings = may_use_the_heap ? 70 : 50;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < 2; ++id) {
    threads.emplace_back([&, id] {
      std::array<Mapping, 70> many;
      while (!stop.load()) {
        // Sizes of two objects that stay, beside which there is room: no driver needs more of the heap.
        const Handle handle = pool_->allocate(1 + id * 25 * 79).value();
        for (std::size_t i = 0; i < mappings; ++i) {
          many[i] = pool_->map(handle, MapMode::read_only);
        }
        many = {};
        pool_->free(handle);
        if (may_use_the_heap) {
          const auto brief = make_another().value();
        }
      }
    });
  }
  for (std::uint64_t i = 0; i < testing::scaled(40, 5); ++i) {
    const int code = run_in_child([&] {
      CHILD_EXPECT(pool_->validate());
      CHILD_EXPECT(source_->validate());
      for (std::uint64_t at = 0; at < handles.size(); ++at) CHILD_EXPECT(intact(handles[at], at));
      const Result<Handle> fresh = pool_->allocate(1000);
      CHILD_EXPECT(fresh);
      pool_->free(*fresh);
      for (const Handle handle : handles) pool_->free(handle);
      const auto another = make_another();
      CHILD_EXPECT(another);
      // What the parent's threads held and mapped stays behind: a leak, and no misuse.
      set_leak_handler([](const FailureReport&) noexcept {});
      pool_.reset();
      return 0;
    });
    ASSERT_EQ(code, 0) << "fork " << i;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  for (const Handle handle : handles) pool_->free(handle);
  EXPECT_TRUE(pool_->validate());
  EXPECT_EQ(pool_->total_bytes(), 0u);
}

// A thread of the parent is inside an evict callback, its pages in no list. In the child there is no
// such thread: the objects are there, and the pages are some like any other.
TEST_P(ZpoolFork, GivesTheChildThePagesThatAreBeingEvicted) {
  std::barrier inside(2);
  std::barrier done(2);
  Handle asked_for = Handle::none;
  std::atomic<bool> first_call{true};
  make(/*shareable=*/false, [&](Zpool& pool, Handle handle) -> Status {
    if (first_call.exchange(false)) {
      asked_for = handle;
      inside.arrive_and_wait();
      done.arrive_and_wait();
    }
    return pool.try_free(handle);
  });
  const std::vector<Handle> handles = store_some();
  std::thread evictor([&] { EXPECT_TRUE(pool_->shrink(1).status); });
  inside.arrive_and_wait();
  const int code = run_in_child([&] {
    CHILD_EXPECT(pool_->validate());
    for (std::uint64_t i = 0; i < handles.size(); ++i) CHILD_EXPECT(intact(handles[i], i));
    CHILD_EXPECT(pool_->try_free(asked_for));
    CHILD_EXPECT(pool_->validate());
    CHILD_EXPECT(pool_->stats().objects == handles.size() - 1);
    CHILD_EXPECT(pool_->total_bytes() == source_->stats().held_pages * kPageSize);
    while (pool_->total_bytes() != 0) CHILD_EXPECT(pool_->shrink(1).status);
    CHILD_EXPECT(pool_->stats().objects == 0);
    CHILD_EXPECT(source_->stats().held_pages == 0);
    CHILD_EXPECT(pool_->validate());
    return 0;
  });
  EXPECT_EQ(code, 0);
  done.arrive_and_wait();
  evictor.join();
  EXPECT_LT(pool_->stats().objects, handles.size());
  for (const Handle handle : handles) static_cast<void>(pool_->try_free(handle));
  EXPECT_EQ(pool_->total_bytes(), 0u);
}

// ---------------------------------------------------------------- shareable pages

// What the child hears when it does `use` to a pool whose pages it does not have: the exit code.
constexpr int kNamed = 42;

template <class Use>
int in_child_with_named_misuse(std::string_view type, Use&& use) {
  static std::string_view part;
  part = type;
  return run_in_child([&] {
    set_failure_handler([](const FailureReport& report) noexcept {
      const bool named =
          report.fault == "used after fork" && report.part == part && report.object == "forked";
      ::_exit(named ? kNamed : 3);
    });
    use();
    return 0;
  });
}

// A page source whose next call is still under way when the process forks.
class HeldUpSource final : public PageSource {
 public:
  explicit HeldUpSource(PageSource& source) : source_(source) {}
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    hold_up();
    return source_.allocate_pages(request);
  }
  void free_pages(PageRun run) noexcept override {
    hold_up();
    source_.free_pages(run);
  }
  PageSourceStats stats() const noexcept override { return source_.stats(); }

  std::atomic<bool> hold_next{false};
  std::atomic<bool> held{false};
  std::atomic<bool> let_go{false};

 private:
  void hold_up() noexcept {
    if (!hold_next.exchange(false)) return;
    held = true;
    while (!let_go) std::this_thread::yield();
  }
  PageSource& source_;
};

TEST_P(ZpoolFork, GivesTheChildEveryPlaceUnderTheLimit) {
  const auto pages = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  for (const bool taking : {true, false}) {
    HeldUpSource source(*pages);
    const auto pool = make_another({.pages = &source, .limit_bytes = kPageSize}).value();
    Handle handle = taking ? Handle::none : pool->allocate(100).value();
    source.hold_next = true;
    std::thread other([&] {
      if (taking) {
        handle = pool->allocate(100).value();
      } else {
        pool->free(handle);
      }
    });
    while (!source.held) std::this_thread::yield();
    const int code = run_in_child([&] {
      CHILD_EXPECT(pool->total_bytes() == 0);
      const Result<Handle> mine = pool->allocate(100);
      CHILD_EXPECT(mine.has_value());
      CHILD_EXPECT(pool->total_bytes() == kPageSize);
      pool->free(*mine);
      return 0;
    });
    EXPECT_EQ(code, 0);
    source.let_go = true;
    other.join();
    if (taking) pool->free(handle);
    EXPECT_EQ(pages->stats().held_pages, 0u);
  }
}

TEST_P(ZpoolFork, NamesEveryUseOfAPoolWhosePagesAreNotInherited) {
  make(/*shareable=*/true, [](Zpool&, Handle) -> Status { return fail(Errc::busy); });
  const Handle handle = pool_->store(make_pattern(100, 1)).value();
  const auto expect_named = [&](const char* what, auto&& use) {
    EXPECT_EQ(in_child_with_named_misuse(variant_.type, use), kNamed) << what;
  };
  expect_named("allocate", [&] { static_cast<void>(pool_->allocate(1)); });
  expect_named("store", [&] { static_cast<void>(pool_->store(make_pattern(10, 1))); });
  expect_named("free", [&] { pool_->free(handle); });
  expect_named("try_free", [&] { static_cast<void>(pool_->try_free(handle)); });
  expect_named("map", [&] { const Mapping mapping = pool_->map(handle); });
  expect_named("try_map", [&] { static_cast<void>(pool_->try_map(handle)); });
  expect_named("touch", [&] { pool_->touch(handle); });
  expect_named("shrink", [&] { static_cast<void>(pool_->shrink(1)); });
  expect_named("compact", [&] { static_cast<void>(pool_->compact()); });
  expect_named("total_bytes", [&] { static_cast<void>(pool_->total_bytes()); });
  expect_named("stats", [&] { static_cast<void>(pool_->stats()); });
  expect_named("validate", [&] { static_cast<void>(pool_->validate()); });
  auto mapping = std::make_unique<Mapping>(pool_->map(handle, MapMode::read_only));
  expect_named("the end of a mapping", [&] { mapping.reset(); });
  mapping.reset();
  pool_->free(handle);
}

TEST_P(ZpoolFork, TellsTheChildWhatAPoolWasThatItLost) {
  make(/*shareable=*/true);
  const std::size_t most_bytes = default_registry().traits(variant_.type).value().max_object_bytes;
  const Handle handle = pool_->allocate(100).value();
  EXPECT_EQ(in_child_with_named_misuse(
                variant_.type,
                [&] {
                  if (pool_->type() != variant_.type || pool_->name() != "forked") ::_exit(4);
                  if (pool_->max_object_bytes() != most_bytes || pool_->evictable()) ::_exit(5);
                  for_each_live_pool([](const ZpoolInfo&) { ::_exit(6); });
                }),
            0);
  pool_->free(handle);
}

TEST_P(ZpoolFork, LetsTheChildForgetAPoolThatItLost) {
  make(/*shareable=*/true);
  const Handle handle = pool_->allocate(100).value();
  const int code = in_child_with_named_misuse(variant_.type, [&] {
    pool_.reset();
    // And begin again.
    const auto fresh = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20});
    if (!fresh) ::_exit(4);
    const auto pool = make_another({.pages = fresh->get()});
    if (!pool) ::_exit(5);
    const Result<Handle> one = (*pool)->allocate(10);
    if (!one) ::_exit(6);
    (*pool)->free(*one);
  });
  EXPECT_EQ(code, 0);
  // The parent never noticed.
  EXPECT_TRUE(pool_->validate());
  pool_->free(handle);
}

// ---------------------------------------------------------------- listings, registries

// A thread of the parent is in the middle of a listing: its place in the list is not in the child.
TEST_F(ZpoolForkRegistry, LetsTheChildListPoolsWhileAThreadOfTheParentDoes) {
  make(/*shareable=*/false);
  const auto second = make_another({.name = "second"}).value();
  std::barrier inside(2);
  std::barrier done(2);
  std::vector<std::string> listed_in_parent;
  std::thread lister([&] {
    for_each_live_pool([&](const ZpoolInfo& info) {
      listed_in_parent.emplace_back(info.name);
      if (info.name != "forked") return;
      inside.arrive_and_wait();
      done.arrive_and_wait();
    });
  });
  inside.arrive_and_wait();
  const int code = run_in_child([&] {
    int listed = 0;
    for_each_live_pool([&](const ZpoolInfo&) { ++listed; });
    CHILD_EXPECT(listed == 2);
    pool_.reset();
    for_each_live_pool([&](const ZpoolInfo& info) { listed += info.name == "second" ? 10 : 100; });
    CHILD_EXPECT(listed == 12);
    return 0;
  });
  EXPECT_EQ(code, 0);
  done.arrive_and_wait();
  lister.join();
  EXPECT_EQ(listed_in_parent, (std::vector<std::string>{"forked", "second"}));
}

TEST_F(ZpoolForkRegistry, LetsTheListingThreadItselfGoOnInTheChild) {
  make(/*shareable=*/false);
  const auto second = make_another({.name = "second"}).value();
  bool is_child = false;
  int listed = 0;
  pid_t child = -1;
  std::fflush(nullptr);
  for_each_live_pool([&](const ZpoolInfo&) {
    if (++listed != 1) return;
    child = ::fork();
    is_child = child == 0;
  });
  if (is_child) ::_exit(listed == 2 ? 0 : 1);
  ASSERT_GT(child, 0);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(listed, 2);
}

// A thread of the parent is inside a loader: in the child nobody is, and the type can be asked for.
TEST_F(ZpoolForkRegistry, LetsTheChildLoadWhatAThreadOfTheParentWasLoading) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(testing::make_stub("known")));
  std::barrier inside(2);
  std::barrier done(2);
  std::atomic<bool> first{true};
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    if (first.exchange(false)) {
      inside.arrive_and_wait();
      done.arrive_and_wait();
    }
    return asker.register_driver(testing::make_stub(std::string(type)));
  });
  std::thread loading([&] { EXPECT_TRUE(registry.has_pool("slow")); });
  inside.arrive_and_wait();
  const int code = run_in_child([&] {
    CHILD_EXPECT(registry.has_pool("known"));
    CHILD_EXPECT(registry.has_pool("slow"));
    CHILD_EXPECT(registry.unregister_driver("slow"));
    return 0;
  });
  EXPECT_EQ(code, 0);
  done.arrive_and_wait();
  loading.join();
}

TEST_F(ZpoolForkRegistry, LetsTheLoadingThreadItselfGoOnInTheChild) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(testing::make_stub("known")));
  int code = -1;
  registry.set_loader([&](DriverRegistry& asker, std::string_view type) -> Status {
    code = run_in_child([&] {
      CHILD_EXPECT(!asker.has_pool(type));  // still its own load, and still not done
      CHILD_EXPECT(asker.register_driver(testing::make_stub(std::string(type))));
      CHILD_EXPECT(asker.has_pool(type));
      return 0;
    });
    return {};
  });
  EXPECT_FALSE(registry.has_pool("forking"));
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace mmkit
