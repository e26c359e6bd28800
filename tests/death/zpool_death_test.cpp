// SPDX-License-Identifier: MIT
//
// Every misuse of a pool ends the program with a line that names fault, pool and value.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/z3fold.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/captured_failure.hpp"
#include "support/child_process.hpp"
#include "support/driver_variants.hpp"
#include "support/pattern.hpp"
#include "support/percpu_memory.hpp"

namespace mmkit {
namespace {

using ::testing::KilledBySignal;
using testing::make_pattern;

// A handle as it is printed. Its tag is any: the child that dies has made fewer pools before.
std::string hex(Handle handle) {
  if (handle == Handle::none) return "0x0";
  char text[16];
  std::snprintf(text, sizeof text, "%012llx",
                static_cast<unsigned long long>(handle_bits::raw(handle) & 0xffff'ffff'ffff));
  return std::string("0x[0-9a-f]{1,4}") + text;
}

class ZpoolDeathTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
    pool_ = make("cache");
  }

  std::unique_ptr<Zpool> make(std::string name, EvictFn evict = {}) {
    return Zpool::create(
               GetParam(),
               {.name = std::move(name), .evict = std::move(evict), .pages = source_.get()})
        .value();
  }
  // A pool without its front end.
  std::unique_ptr<ZpoolBackend> make_backend() {
    for (const ZpoolDriver* driver :
         {&zbud_driver(), &z3fold_driver(), &zsmalloc_driver(), &zheap_driver()}) {
      if (driver->type() != GetParam()) continue;
      return driver
          ->create_pool({.name = "cache",
                         .params = {},
                         .pages = source_.get(),
                         .gfp = {},
                         .pool_tag = 7,
                         .evict = {}})
          .value();
    }
    throw std::logic_error("a driver that this test does not know");
  }
  // The whole of what is printed.
  static std::string line(const std::string& fault, Handle handle) {
    return "^mmkit: " + GetParam() + " pool 'cache': " + fault + " " + hex(handle) + "\n$";
  }

  // A handle's slot depends on the CPU that takes it, and the child makes its handles anew.
  testing::PinnedThread pinned_;
  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
};

INSTANTIATE_TEST_SUITE_P(Driver, ZpoolDeathTest, ::testing::ValuesIn(testing::registered_types()),
                         [](const auto& type) { return type.param; });

// ---------------------------------------------------------------- handles

TEST_P(ZpoolDeathTest, ANullHandleIsNamed) {
  const std::string expected = line("null handle", Handle::none);
  EXPECT_EXIT(pool_->free(Handle::none), KilledBySignal(SIGABRT), expected);
  EXPECT_DEATH(static_cast<void>(pool_->map(Handle::none)), expected);
  EXPECT_DEATH(pool_->touch(Handle::none), expected);
}

TEST_P(ZpoolDeathTest, AHandleOfAnotherPoolIsNamed) {
  const std::unique_ptr<Zpool> other = make("other");
  const Handle foreign = other->allocate(100).value();
  const std::string expected = line("foreign handle", foreign);
  EXPECT_DEATH(pool_->free(foreign), expected);
  EXPECT_DEATH(static_cast<void>(pool_->map(foreign)), expected);
  EXPECT_DEATH(pool_->touch(foreign), expected);
  other->free(foreign);
}

TEST_P(ZpoolDeathTest, AHandleOfAPoolThatEndedIsForeign) {
  std::unique_ptr<Zpool> other = make("other");
  const Handle handle = other->allocate(100).value();
  other->free(handle);
  other.reset();
  EXPECT_DEATH(pool_->free(handle), line("foreign handle", handle));
}

TEST_P(ZpoolDeathTest, ASecondFreeIsNamed) {
  const Handle handle = pool_->allocate(100).value();
  pool_->free(handle);
  EXPECT_DEATH(pool_->free(handle), line("dead handle", handle));
  EXPECT_DEATH(static_cast<void>(pool_->map(handle)), line("dead handle", handle));
  pool_->touch(handle);  // an eviction may have come first
}

TEST_P(ZpoolDeathTest, ASecondFreeIsNamedThoughTheSlotIsUsedAgain) {
  const Handle dead = pool_->allocate(100).value();
  pool_->free(dead);
  const Handle live = pool_->allocate(100).value();
  ASSERT_EQ(handle_bits::index(live), handle_bits::index(dead));
  EXPECT_DEATH(pool_->free(dead), line("dead handle", dead));
  EXPECT_DEATH(static_cast<void>(pool_->map(dead)), line("dead handle", dead));
  pool_->free(live);
}

TEST_P(ZpoolDeathTest, ASecondFreeInAnotherThreadIsNamed) {
  const Handle handle = pool_->allocate(100).value();
  pool_->free(handle);
  EXPECT_DEATH(std::thread([&] { pool_->free(handle); }).join(), line("dead handle", handle));
}

TEST_P(ZpoolDeathTest, AHandleThatWasNeverGivenIsDead) {
  const Handle live = pool_->allocate(100).value();
  const Handle never{handle_bits::raw(live) + 1000};
  EXPECT_DEATH(pool_->free(never), line("dead handle", never));
  EXPECT_DEATH(static_cast<void>(pool_->map(never)), line("dead handle", never));
  pool_->free(live);
}

TEST_P(ZpoolDeathTest, AMappedHandleThatIsFreedIsNamed) {
  const Handle handle = pool_->allocate(100).value();
  {
    const Mapping mapping = pool_->map(handle, MapMode::read_only);
    EXPECT_DEATH(pool_->free(handle), line("mapped handle freed", handle));
    std::vector<Mapping> many;
    for (int i = 0; i < 100; ++i) many.push_back(pool_->map(handle, MapMode::read_only));
    EXPECT_DEATH(pool_->free(handle), line("mapped handle freed", handle));
  }
  pool_->free(handle);
}

TEST_P(ZpoolDeathTest, APoolWithoutANameIsNamedByItsType) {
  const std::unique_ptr<Zpool> nameless = make("");
  EXPECT_DEATH(nameless->free(Handle::none), "^mmkit: " + GetParam() + ": null handle 0x0\n$");
}

TEST_P(ZpoolDeathTest, AFailureHandlerHearsTheFieldsAndMayAskThePool) {
  static Zpool* asked = nullptr;
  asked = pool_.get();
  const Handle handle = pool_->allocate(100).value();
  EXPECT_DEATH(
      {
        pool_->free(handle);
        set_failure_handler([](const FailureReport& report) noexcept {
          testing::print_failure_fields(report);
          // No lock is held.
          const Result<Handle> another = asked->allocate(10);
          std::fprintf(stderr, "%s %zu", asked->validate() ? "sound" : "broken",
                       another ? asked->stats().objects : 0);
        });
        pool_->free(handle);
      },
      "^\\[" + GetParam() + "\\|cache\\|dead handle\\|[0-9]+\\]\nsound 1$");
  pool_->free(handle);
}

// ---------------------------------------------------------------- mappings

TEST_P(ZpoolDeathTest, AMappingThatEndsTwiceIsNamed) {
  const auto pool = make_backend();
  const Handle handle = pool->allocate(100, Gfp::kernel).value();
  EXPECT_DEATH(pool->unmap(handle), line("handle not mapped", handle));
  EXPECT_DEATH(
      {
        static_cast<void>(pool->map(handle, MapMode::read_only));
        pool->unmap(handle);
        pool->unmap(handle);
      },
      line("handle not mapped", handle));
  EXPECT_DEATH(
      {
        static_cast<void>(pool->free(handle));
        pool->unmap(handle);
      },
      line("handle not mapped", handle));
  EXPECT_DEATH(pool->unmap(Handle::none), line("handle not mapped", Handle::none));
  ASSERT_TRUE(pool->free(handle));
}

TEST_P(ZpoolDeathTest, APoolThatEndsWithALiveMappingIsNamed) {
  for (const int count : {1, 100}) {
    const Handle handle = pool_->allocate(100).value();
    std::vector<Mapping> mappings;
    for (int i = 0; i < count; ++i) mappings.push_back(pool_->map(handle, MapMode::read_only));
    EXPECT_DEATH(pool_.reset(), line("pool destroyed with live mapping", handle));
    mappings.clear();
    pool_->free(handle);
  }
}

TEST_P(ZpoolDeathTest, TheObjectThatIsMappedIsNamedAmongThoseLeft) {
  const Handle left = pool_->allocate(100).value();
  const Handle mapped = pool_->allocate(100).value();
  {
    const Mapping mapping = pool_->map(mapped, MapMode::read_only);
    EXPECT_DEATH(pool_.reset(), line("pool destroyed with live mapping", mapped));
  }
  pool_->free(left);
  pool_->free(mapped);
}

TEST_P(ZpoolDeathTest, AWriteThroughAReadOnlyMappingIsNamedInAuditBuilds) {
  const Handle handle = pool_->store(make_pattern(256, 1)).value();
  const auto write = [&](std::size_t at) {
    Mapping mapping = pool_->map(handle, MapMode::read_only);
    mapping.bytes()[at] ^= std::byte{1};
  };
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    const std::string expected = line("written through a read-only mapping", handle);
    EXPECT_DEATH(write(0), expected);
    EXPECT_DEATH(write(100), expected);
    EXPECT_DEATH(write(255), expected);
    // Seen through a mapping that moved, too.
    EXPECT_DEATH(
        {
          Mapping mapping = pool_->map(handle, MapMode::read_only);
          mapping.bytes()[7] ^= std::byte{1};
          const Mapping moved(std::move(mapping));
        },
        expected);
  } else {
    write(0);
  }
  pool_->free(handle);
}

// ---------------------------------------------------------------- what is only a leak

TEST_P(ZpoolDeathTest, ObjectsLeftBehindAreReportedAndTheProgramGoesOn) {
  EXPECT_EXIT(
      {
        for (int i = 0; i < 12; ++i) static_cast<void>(pool_->allocate(100));
        pool_.reset();
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0),
      "^mmkit: " + GetParam() + " pool 'cache': objects left at destruction: 12\n$");
}

// ---------------------------------------------------------------- fork

TEST_P(ZpoolDeathTest, APoolThatAForkLeftBehindIsNamed) {
  const auto shareable =
      SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20, .shareable = true}).value();
  const auto lost = Zpool::create(GetParam(), {.name = "cache", .pages = shareable.get()}).value();
  const Handle handle = lost->allocate(100).value();
  // The death of a child of the dying process, whose signal is passed on.
  const auto in_child = [](auto&& use) {
    const int code = testing::run_in_child([&] {
      use();
      return 0;
    });
    if (code == testing::kChildSignalled + SIGABRT) std::abort();
  };
  const std::string expected = line("used after fork", Handle::none);
  EXPECT_DEATH(in_child([&] { lost->free(handle); }), expected);
  EXPECT_DEATH(in_child([&] { static_cast<void>(lost->map(handle)); }), expected);
  EXPECT_DEATH(in_child([&] { static_cast<void>(lost->allocate(1)); }), expected);
  lost->free(handle);
}

// ---------------------------------------------------------------- callbacks

TEST_P(ZpoolDeathTest, AnEvictCallbackThatThrowsEndsTheProgram) {
  const auto pool = make("cache", [](Zpool&, Handle) -> Status {
    throw std::runtime_error("thrown by the callback");
  });
  const Handle handle = pool->allocate(100).value();
  EXPECT_EXIT(static_cast<void>(pool->shrink(1)), KilledBySignal(SIGABRT),
              "thrown by the callback");
  pool->free(handle);
}

TEST(ZpoolRegistryDeathTest, ALoaderThatThrowsEndsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  DriverRegistry registry;
  registry.set_loader([](DriverRegistry&, std::string_view) -> Status {
    throw std::runtime_error("thrown by the loader");
  });
  EXPECT_EXIT(static_cast<void>(registry.has_pool("absent")), KilledBySignal(SIGABRT),
              "thrown by the loader");
}

// ---------------------------------------------------------------- red zones

TEST_P(ZpoolDeathTest, AnOverrunOfThePageBeforeIsFoundInAuditBuilds) {
  if (GetParam() == ZsmallocPool::kType) GTEST_SKIP() << "its pages have nothing but objects";
  const Handle handle = pool_->allocate(100).value();
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    EXPECT_DEATH(
        {
          pool_->map(handle).bytes().data()[-1] ^= std::byte{1};
          pool_->free(handle);
        },
        "check failed: (red_zone|block)_is_whole");
  }
  pool_->free(handle);
}

}  // namespace
}  // namespace mmkit
