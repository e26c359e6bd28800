// SPDX-License-Identifier: MIT
//
// Gfp::nowait - no system call, no wait, no page fault, in any state of the pool.
//
// A child under a filter that kills on any system call does what nowait callers do, on a pool that
// has been used; minor faults are counted around the same calls. That a lock which is taken gives
// try_again is shown with the pool's lock held for certain: by the fork handlers, which hold it
// while the system forks, and run the test's own handler inside.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/driver_variants.hpp"
#include "support/page_memory.hpp"
#include "support/pattern.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

constexpr std::size_t kObjects = 400;
constexpr std::size_t kSizes[] = {2016, 1, 3000, 900, 64, 1500, 3968, 100};

// A pool that has held twice so many objects, and holds none now: its pages are retained by the
// source. Twice, as a driver may spend pages on what it must not ask the heap for.
struct WarmPool {
  explicit WarmPool(const testing::DriverVariant& variant)
      : pool(Zpool::create(variant.type, {.pages = source.get(), .params = variant.params})
                 .value()) {
    objects.reserve(kObjects);
    for (std::size_t i = 0; i < kObjects; ++i) {
      objects.push_back(testing::make_pattern(kSizes[i % std::size(kSizes)], i));
      handles[i] = pool->store(objects[i]).value();
    }
    std::array<Handle, kObjects> more{};
    for (std::size_t i = 0; i < kObjects; ++i) more[i] = pool->store(objects[i]).value();
    for (const Handle handle : more) pool->free(handle);
    for (const Handle handle : handles) pool->free(handle);
  }

  // What a caller that must not wait may do; 0 when all went well.
  int use() noexcept {
    for (std::size_t i = 0; i < kObjects; ++i) {
      const bool stored = i % 3 != 0;
      const std::size_t size_bytes = objects[i].size();
      const Result<Handle> handle = stored ? pool->store(objects[i], Gfp::nowait)
                                           : pool->allocate(size_bytes, Gfp::nowait | Gfp::zero);
      if (!handle) return 10;
      handles[i] = *handle;
      Result<Mapping> mapping = pool->try_map(*handle);
      if (!mapping) return 11;
      const std::span<std::byte> bytes = mapping->bytes().first(size_bytes);
      if (!stored) std::memcpy(bytes.data(), objects[i].data(), size_bytes);
      if (!testing::has_pattern(bytes, i)) return 12;
      // Free some at once, so that places are used again.
      *mapping = Mapping();
      if (i % 5 == 0 && !pool->try_free(*handle)) return 13;
    }
    for (std::size_t i = 0; i < kObjects; ++i) {
      if (i % 5 != 0 && !pool->try_free(handles[i])) return 14;
      if (pool->try_map(handles[i])) return 15;
    }
    return 0;
  }

  std::unique_ptr<SimPageAllocator> source =
      SimPageAllocator::create(
          {.capacity_bytes = std::size_t{8} << 20, .retain_bytes = std::size_t{4} << 20})
          .value();
  std::unique_ptr<Zpool> pool;
  std::vector<std::vector<std::byte>> objects;
  std::array<Handle, kObjects> handles{};
};

// From here on any system call of this thread but write and exit_group kills the process.
bool forbid_system_calls() noexcept {
  const sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_exit_group},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_write},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
  };
  sock_fprog filter{sizeof program / sizeof program[0], const_cast<sock_filter*>(program)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

class ZpoolNowait : public ::testing::TestWithParam<testing::DriverVariant> {};

// Named here and not asked of the default registry, as in zpool_fault_test.cpp.
INSTANTIATE_TEST_SUITE_P(Driver, ZpoolNowait,
                         ::testing::ValuesIn(testing::variants_of({"zbud", "z3fold", "zsmalloc",
                                                                   "zheap"})),
                         [](const auto& variant) { return variant.param.name(); });

TEST_P(ZpoolNowait, MakesNoSystemCall) {
  if (testing::kSanitized || MMKIT_CHECK_LEVEL >= 2) {
    GTEST_SKIP() << "sanitizers and audits make calls of their own";
  }
  WarmPool warm(GetParam());
  EXPECT_EQ(testing::run_in_child([&] { return forbid_system_calls() ? warm.use() : 3; }), 0);
}

TEST(ZpoolNowaitFilter, WouldHaveKilled) {
  if (testing::kSanitized) GTEST_SKIP() << "sanitizers make calls of their own";
  const int code = testing::run_in_child([] {
    if (!forbid_system_calls()) return 3;
    return static_cast<int>(::syscall(SYS_getppid)) * 0;
  });
  EXPECT_EQ(code, testing::kChildSignalled + SIGSYS);
}

TEST_P(ZpoolNowait, FaultsNoPageIn) {
  if (testing::kSanitized) GTEST_SKIP() << "sanitizers fault on their own account";
  WarmPool warm(GetParam());
  ASSERT_EQ(warm.use(), 0);  // the test's own code and stack
  testing::thread_faults();
  const std::uint64_t before = testing::thread_faults();
  const int code = warm.use();
  const std::uint64_t after = testing::thread_faults();
  EXPECT_EQ(code, 0);
  EXPECT_EQ(after, before);
}

// A page that another caller took and never wrote is no page that was never touched.
TEST_P(ZpoolNowait, FaultsNoPageInWhenItJoinsOneThatNobodyWrote) {
  if (testing::kSanitized) GTEST_SKIP() << "sanitizers fault on their own account";
  constexpr std::size_t kKept = 100;
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  const auto pool =
      Zpool::create(GetParam().type, {.pages = source.get(), .params = GetParam().params}).value();
  const std::vector<std::byte> object(1500, std::byte{1});
  std::array<Handle, 2 * kKept> handles{};
  for (Handle& handle : handles) handle = pool->allocate(object.size()).value();
  // Every other one makes room, in pages that nobody has written to.
  for (std::size_t i = 1; i < handles.size(); i += 2) pool->free(handles[i]);
  handles[1] = pool->store(object, Gfp::nowait).value();  // the code itself is faulted in
  testing::thread_faults();
  const std::uint64_t before = testing::thread_faults();
  for (std::size_t i = 3; i < handles.size(); i += 2) {
    handles[i] = pool->store(object, Gfp::nowait).value();
  }
  const std::uint64_t after = testing::thread_faults();
  EXPECT_EQ(after, before);
  for (const Handle handle : handles) pool->free(handle);
}

// Nothing warm: it fails at once, and changes nothing; who may wait succeeds.
TEST_P(ZpoolNowait, HasNoPageWhereNoneWasTouched) {
  const auto source = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  const auto pool =
      Zpool::create(GetParam().type, {.pages = source.get(), .params = GetParam().params}).value();
  const Result<Handle> refused = pool->allocate(100, Gfp::nowait);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), Errc::out_of_memory);
  EXPECT_EQ(pool->total_bytes(), 0u);
  EXPECT_TRUE(pool->validate());
  const Handle first = pool->allocate(100).value();
  // Now there is room in a page that was touched.
  const Handle second = pool->allocate(100, Gfp::nowait).value();
  pool->free(first);
  pool->free(second);
}

// While a fork is under way every pool is locked. What the test locks is locked after the pool and
// let go of before it, so inside its handler the pool is locked for certain.
class InsideFork final : public ForkParticipant {
 public:
  explicit InsideFork(std::function<void()> body) : body_(std::move(body)) {}
  ~InsideFork() { leave_fork(); }
  void lock_for_fork() noexcept override { body_(); }
  void unlock_after_fork() noexcept override {}

 private:
  const std::function<void()> body_;
};

TEST_P(ZpoolNowait, SaysTryAgainWhileTheLockIsTaken) {
  WarmPool warm(GetParam());
  // An object whose page has room, so that it is the lock alone that stands in the way.
  const Handle held = warm.pool->store(warm.objects[4]).value();
  std::vector<Errc> refused;
  bool mapped = false;
  InsideFork inside([&] {
    // Another thread, since this one holds the lock by rank.
    std::thread other([&] {
      for (int i = 0; i < 100; ++i) {
        const Result<Handle> stored = warm.pool->store(warm.objects[4], Gfp::nowait);
        const Result<Handle> made = warm.pool->allocate(10, Gfp::nowait | Gfp::zero);
        refused.push_back(stored ? Errc::io_error : stored.error());
        refused.push_back(made ? Errc::io_error : made.error());
      }
      // Mapping takes no lock at all; but audits note it under one that a fork holds, too.
      if (MMKIT_CHECK_LEVEL >= 2) return;
      const Result<Mapping> mapping = warm.pool->try_map(held, MapMode::read_only);
      mapped =
          mapping && testing::has_pattern(mapping->const_bytes().first(warm.objects[4].size()), 4);
    });
    other.join();
  });
  ASSERT_TRUE(inside.join_fork(LockRank::leaf));  // after every pool
  const ZpoolStats before = warm.pool->stats();
  EXPECT_EQ(testing::run_in_child([] { return 0; }), 0);
  inside.leave_fork();

  EXPECT_EQ(refused, std::vector<Errc>(200, Errc::try_again));
  EXPECT_EQ(mapped, MMKIT_CHECK_LEVEL < 2);
  const ZpoolStats after = warm.pool->stats();
  EXPECT_EQ(after.objects, before.objects);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.failures, before.failures + 200);
  EXPECT_TRUE(warm.pool->validate());
  const Result<Handle> late = warm.pool->store(warm.objects[4], Gfp::nowait);
  ASSERT_TRUE(late);
  warm.pool->free(*late);
  warm.pool->free(held);
}

}  // namespace
}  // namespace mmkit
