// SPDX-License-Identifier: MIT
//
// The registry and the list of live pools without memory, and where the system takes no fork
// handler: each call says so, changes nothing, and works when it is repeated. No exception leaves.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <string>
#include <utility>

#include "fault/failing_atfork.hpp"
#include "fault/zpool_failing_heap.hpp"
#include "zpool/live_pools.hpp"

namespace mmkit {
namespace {

using testing::FailingHeap;

constexpr FailingHeap::Failing kBoth[] = {FailingHeap::Failing::once,
                                          FailingHeap::Failing::for_ever};

// A share of zbud that owns nothing, so that making it allocates nothing.
std::shared_ptr<const ZpoolDriver> zbud() {
  return {std::shared_ptr<void>(), &zbud_driver()};
}

std::size_t count_types(const DriverRegistry& registry) {
  std::size_t count = 0;
  registry.for_each_type([&count](std::string_view) { ++count; });
  return count;
}

// Calls `body` with each allocation failing in turn, until none is left to fail; how many there
// were. The body makes everything anew; nothing of it may be left.
template <class Body>
std::uint64_t deny_each(Body&& body) {
  body();  // what is made once and kept
  std::uint64_t points = 0;
  for (const FailingHeap::Failing how : kBoth) {
    for (std::uint64_t n = 1;; ++n) {
      const std::size_t blocks = FailingHeap::live_blocks();
      FailingHeap::fail_nth(n, how);
      body();
      FailingHeap::succeed();
      EXPECT_EQ(FailingHeap::live_blocks(), blocks) << "allocation " << n;
      if (FailingHeap::failed() == 0) break;
      points = n;
    }
  }
  return points;
}

TEST(RegistryFault, RegisterDriverKeepsNothingWhenItFails) {
  const std::uint64_t points = deny_each([] {
    DriverRegistry registry;
    const Status added = registry.register_driver(zbud());
    if (added) return;
    EXPECT_EQ(added.error(), Errc::out_of_memory);
    EXPECT_NE(FailingHeap::failed(), 0u);
    FailingHeap::succeed();
    EXPECT_EQ(count_types(registry), 0u);
    EXPECT_TRUE(registry.register_driver(zbud()));
    EXPECT_EQ(count_types(registry), 1u);
    EXPECT_TRUE(registry.has_pool("zbud"));
  });
  EXPECT_EQ(points, 1u);
}

// The loader registers, and has no memory for that: the type is missing, and can be loaded later.
TEST(RegistryFault, ALoadThatHasNoMemoryCanBeRepeated) {
  DriverRegistry registry;
  Errc why{};
  registry.set_loader([&why](DriverRegistry& to, std::string_view) {
    const Status added = to.register_driver(zbud());
    why = added ? Errc{} : added.error();
    return added;
  });
  const std::uint64_t points = deny_each([&] {
    const bool known = registry.has_pool("zbud");
    EXPECT_EQ(known, why == Errc{});
    if (!known) {
      EXPECT_EQ(why, Errc::out_of_memory);
      FailingHeap::succeed();
      EXPECT_TRUE(registry.has_pool("zbud"));
    }
    EXPECT_TRUE(registry.unregister_driver("zbud"));
  });
  EXPECT_EQ(points, 1u);
}

TEST(RegistryFault, TypesAreListedWithoutMemory) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(zbud()));
  std::size_t seen = 0;
  const std::function<void(std::string_view)> count = [&seen](std::string_view type) {
    EXPECT_EQ(type, "zbud");
    ++seen;
  };
  FailingHeap::fail_nth(1, FailingHeap::Failing::for_ever);
  registry.for_each_type(count);
  FailingHeap::succeed();
  EXPECT_EQ(seen, 1u);
}

TEST(LivePoolsFault, PoolsAreListedWithoutMemory) {
  // Longer than what a string keeps in itself.
  const std::string name = "a pool with a name of more than a few characters";
  const auto pool = Zpool::create("zbud", {.name = name}).value();
  std::size_t seen = 0;
  const std::function<void(const ZpoolInfo&)> count = [&](const ZpoolInfo& info) {
    seen += info.name == name && info.type == "zbud" ? 1u : 0u;
  };
  FailingHeap::fail_nth(1, FailingHeap::Failing::for_ever);
  for_each_live_pool(count);
  FailingHeap::succeed();
  EXPECT_EQ(seen, 1u);
}

// ---------------------------------------------------------------- no fork handlers

// A page source that takes no part in forks, so that the pool is the first to ask.
class HeapPages final : public PageSource {
 public:
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    void* data = std::aligned_alloc(kPageSize, request.pages * kPageSize);
    if (data == nullptr) return fail(Errc::out_of_memory);
    ++held;
    return PageRun{static_cast<std::byte*>(data), request.pages, Pfn{}};
  }
  void free_pages(PageRun run) noexcept override {
    --held;
    std::free(run.data);
  }
  PageSourceStats stats() const noexcept override { return {}; }

  int held = 0;
};

// Ends the process with the line of the first expectation that does not hold, 0 when all do.
#define REQUIRE(condition)                                         \
  do {                                                             \
    if (!(condition)) {                                            \
      std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      ::_exit(1);                                                  \
    }                                                              \
  } while (false)

[[noreturn]] void register_without_handlers() {
  DriverRegistry registry;
  testing::fail_registrations(1);
  const Status refused = registry.register_driver(zbud());
  REQUIRE(!refused && refused.error() == Errc::out_of_memory);
  REQUIRE(count_types(registry) == 0);
  REQUIRE(registry.register_driver(zbud()).has_value());
  REQUIRE(testing::fork_registrations() == 1);
  ::_exit(0);
}

[[noreturn]] void make_backend_without_handlers() {
  HeapPages pages;
  const auto env = [&pages] {
    return BackendEnv{
        .name = "lone", .params = {}, .pages = &pages, .gfp = {}, .pool_tag = 7, .evict = {}};
  };
  testing::fail_registrations(2);
  for (int i = 0; i < 2; ++i) {
    const auto refused = ZbudPool::create(env());
    REQUIRE(!refused && refused.error() == Errc::out_of_memory);
  }
  {
    const auto pool = ZbudPool::create(env());
    REQUIRE(pool.has_value() && testing::fork_registrations() == 1);
    const Result<Handle> handle = (*pool)->allocate(100, Gfp::kernel);
    REQUIRE(handle.has_value() && pages.held == 1);
    REQUIRE((*pool)->free(*handle).has_value());
  }
  REQUIRE(pages.held == 0);
  ::_exit(0);
}

[[noreturn]] void claim_a_tag_without_handlers() {
  testing::fail_registrations(1);
  const Result<std::uint16_t> refused = claim_pool_tag();
  REQUIRE(!refused && refused.error() == Errc::out_of_memory);
  const Result<std::uint16_t> tag = claim_pool_tag();
  REQUIRE(tag.has_value() && *tag == 1);  // none was lost
  release_pool_tag(*tag);
  ::_exit(0);
}

[[noreturn]] void set_a_loader_without_handlers() {
  DriverRegistry registry;
  testing::fail_registrations(1);
  registry.set_loader(
      [](DriverRegistry& to, std::string_view) { return to.register_driver(zbud()); });
  REQUIRE(testing::fork_registrations() == 0);
  REQUIRE(registry.has_pool("zbud"));
  REQUIRE(testing::fork_registrations() == 1);
  ::_exit(0);
}

[[noreturn]] void set_a_loader_without_memory() {
  DriverRegistry registry;
  DriverRegistry::Loader loader = [](DriverRegistry&, std::string_view) -> Status { return {}; };
  FailingHeap::fail_nth(1, FailingHeap::Failing::once);
  registry.set_loader(std::move(loader));
  ::_exit(0);
}

[[noreturn]] void first_use_without_handlers() {
  testing::fail_registrations(1);
  static_cast<void>(default_registry());
  ::_exit(0);
}

class ForkHandlerFault : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
using ::testing::ExitedWithCode;

TEST_F(ForkHandlerFault, RegisterDriverFailsAndCanBeRepeated) {
  EXPECT_EXIT(register_without_handlers(), ExitedWithCode(0), "^$");
}
TEST_F(ForkHandlerFault, ABackendIsNotMadeAndLeavesNothing) {
  EXPECT_EXIT(make_backend_without_handlers(), ExitedWithCode(0), "^$");
}
TEST_F(ForkHandlerFault, NoTagIsLost) {
  EXPECT_EXIT(claim_a_tag_without_handlers(), ExitedWithCode(0), "^$");
}
TEST_F(ForkHandlerFault, ALoaderIsSetAllTheSame) {
  EXPECT_EXIT(set_a_loader_without_handlers(), ExitedWithCode(0), "^$");
}
// Neither has a way to say so: fatal, by name.
TEST_F(ForkHandlerFault, ALoaderNeedsMemory) {
  EXPECT_DEATH(set_a_loader_without_memory(), "mmkit: zpool.*no memory for the loader");
}
TEST_F(ForkHandlerFault, TheDefaultRegistryCannotBeMade) {
  EXPECT_DEATH(first_use_without_handlers(), "mmkit: zpool.*no memory for the built-in drivers");
}

}  // namespace
}  // namespace mmkit
