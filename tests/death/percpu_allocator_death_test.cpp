// SPDX-License-Identifier: MIT
//
// What ends the program in a PercpuAllocator, each by its message, with both backings; and what does
// not: objects left at destruction are reported, and the program goes on.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <string>
#include <vector>

#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

using ::testing::KilledBySignal;

std::unique_ptr<PercpuAllocator> make(PercpuBacking backing) {
  PercpuOptions options{.backing = backing, .reserved_bytes = kPageSize};
  return std::move(PercpuAllocator::create(options)).value();
}
PercpuPtr<std::byte> allocate(PercpuAllocator& allocator, std::size_t size_bytes) {
  return allocator.allocate(size_bytes, 4).value();
}

class PercpuAllocatorDeathTest : public ::testing::TestWithParam<PercpuBacking> {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    if (GetParam() == PercpuBacking::mapped && possible_cpus() > 16) {
      GTEST_SKIP() << "a mapped backing has at most 16 units";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Each, PercpuAllocatorDeathTest,
                         ::testing::Values(PercpuBacking::lazy, PercpuBacking::mapped),
                         [](const auto& made) {
                           return made.param == PercpuBacking::lazy ? "Lazy" : "Mapped";
                         });

TEST_P(PercpuAllocatorDeathTest, AForeignAddressIsNamed) {
  const std::string message = "^mmkit: percpu: address not of this allocator 0x";
  const auto allocator = make(GetParam());
  static std::byte elsewhere[64];
  EXPECT_EXIT(allocator->free({elsewhere}), KilledBySignal(SIGABRT), message);
  EXPECT_EXIT(allocator->free({reinterpret_cast<std::byte*>(8)}), KilledBySignal(SIGABRT),
              message + "8\n$");
  const auto other = make(PercpuBacking::lazy);
  const PercpuPtr<std::byte> foreign = allocate(*other, 64);
  EXPECT_EXIT(allocator->free(foreign), KilledBySignal(SIGABRT), message);
  // Behind a unit there is a page that is nobody's.
  const PercpuPtr<std::byte> p = allocate(*allocator, 64);
  EXPECT_EXIT(allocator->free({p.unit0 + kPercpuUnitBytes}), KilledBySignal(SIGABRT), message);
  other->free(foreign);
  allocator->free(p);
}

TEST_P(PercpuAllocatorDeathTest, WhatIsNotLiveIsNamed) {
  const std::string message = "^mmkit: percpu: free of memory not allocated 0x";
  for (const std::size_t size_bytes : {4u, 8u, 64u, 200u, 1024u, 3000u}) {
    SCOPED_TRACE(size_bytes);
    const auto allocator = make(GetParam());
    const PercpuPtr<std::byte> p = allocate(*allocator, size_bytes);
    EXPECT_EXIT(allocator->free({p.unit0 + 1}), KilledBySignal(SIGABRT), message) << "inside";
    EXPECT_EXIT(allocator->free({p.unit0 + kPercpuUnitStride}), KilledBySignal(SIGABRT), message)
        << "of another unit";
    EXPECT_EXIT(
        {
          allocator->free(p);
          allocator->free(p);
        },
        KilledBySignal(SIGABRT), message)
        << "twice";
    EXPECT_EXIT(
        {
          allocator->free(p);
          allocator->balance();
          allocator->free(p);
        },
        KilledBySignal(SIGABRT), message)
        << "twice, and given back in between";
    allocator->free(p);
  }
}

TEST_P(PercpuAllocatorDeathTest, ACpuOutOfRangeIsNamed) {
  const auto allocator = make(GetParam());
  const PercpuPtr<std::byte> p = allocate(*allocator, 64);
  const std::string message = "^mmkit: percpu: cpu out of range 0x";
  EXPECT_EXIT(*per_cpu_ptr(p, allocator->units()) = std::byte{1}, KilledBySignal(SIGABRT), message);
  EXPECT_EXIT(static_cast<void>(per_cpu_read(p, allocator->units())), KilledBySignal(SIGABRT),
              message);
  allocator->free(p);
}

TEST_P(PercpuAllocatorDeathTest, ObjectsLeftAreReportedAndThatIsAll) {
  testing::CapturedLeaks leaks;
  {
    const auto allocator = make(GetParam());
    allocate(*allocator, 8);
    allocate(*allocator, 3000);
    allocator->free(allocate(*allocator, 100));
    allocator->allocate_reserved(4, 4).value();
  }
  std::vector<testing::CapturedReport> reports = leaks.reports();
  std::erase_if(reports, [](const auto& report) { return report.part != "percpu"; });
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].fault, "objects left at destruction");
  EXPECT_EQ(reports[0].value, 3u);
}

TEST_P(PercpuAllocatorDeathTest, NothingIsReportedWhenAllIsFreed) {
  testing::CapturedLeaks leaks;
  {
    const auto allocator = make(GetParam());
    for (const std::size_t size_bytes : {4u, 64u, 3000u}) {
      allocator->free(allocate(*allocator, size_bytes));
    }
  }
  EXPECT_TRUE(leaks.reports().empty());
}

// In the child of a fork, on behalf of a death test: how that child ended, this process ends too.
[[noreturn]] void in_child(const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) ::_exit(2);
  if (WIFSIGNALED(status)) {
    ::signal(WTERMSIG(status), SIG_DFL);
    ::raise(WTERMSIG(status));
  }
  ::_exit(WEXITSTATUS(status));
}

TEST_P(PercpuAllocatorDeathTest, AfterAForkLazyMemoryGoesOnAndMappedMemoryIsNamed) {
  const auto allocator = make(GetParam());
  const PercpuPtr<std::byte> kept = allocate(*allocator, 64);
  const PercpuPtr<std::byte> large = allocate(*allocator, 3000);
  for (int i = 0; i < 20; ++i) allocator->free(allocate(*allocator, 64));
  const std::vector<std::pair<const char*, std::function<void()>>> uses{
      {"allocate", [&] { static_cast<void>(allocator->allocate(64, 8)); }},
      {"allocate large", [&] { static_cast<void>(allocator->allocate(3000, 8)); }},
      {"allocate of a class without a fast path",
       [&] { static_cast<void>(allocator->allocate(512, 8)); }},
      {"nowait", [&] { static_cast<void>(allocator->allocate(64, 8, Gfp::nowait)); }},
      {"reserved", [&] { static_cast<void>(allocator->allocate_reserved(64, 8)); }},
      {"free", [&] { allocator->free(kept); }},
      {"free large", [&] { allocator->free(large); }},
      {"try_free", [&] { static_cast<void>(allocator->try_free(kept)); }},
      {"balance", [&] { allocator->balance(); }},
      {"chunks", [&] { allocator->for_each_chunk([](PercpuChunk&) {}); }},
      {"stats", [&] { static_cast<void>(allocator->stats()); }},
      {"validate", [&] { static_cast<void>(allocator->validate()); }},
  };
  for (const auto& [name, use] : uses) {
    SCOPED_TRACE(name);
    if (GetParam() == PercpuBacking::lazy) {
      EXPECT_EXIT(in_child(use), ::testing::ExitedWithCode(0), "");
    } else {
      EXPECT_EXIT(in_child(use), KilledBySignal(SIGABRT), "^mmkit: percpu: used after fork");
    }
  }
  allocator->free(kept);
  allocator->free(large);
}

TEST_P(PercpuAllocatorDeathTest, AfterAForkItCanBeDestroyed) {
  auto allocator = make(GetParam());
  EXPECT_EXIT(in_child([&] { allocator.reset(); }), ::testing::ExitedWithCode(0), "");
  allocator->free(allocate(*allocator, 64));
}

}  // namespace
}  // namespace mmkit
