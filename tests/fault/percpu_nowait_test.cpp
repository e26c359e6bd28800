// SPDX-License-Identifier: MIT
//
// Gfp::nowait on a PercpuAllocator - no system call, no wait, no page fault, in any state of it.
//
// Each state has a process of its own, so that no test before it has touched what it must find
// untouched: a child under a filter that kills on any system call, and one that counts the minor
// faults of each single call. That a lock which is taken gives try_again is shown inside of a fork,
// whose handlers hold the allocator's locks for certain.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <thread>
#include <vector>

#include "support/child_process.hpp"
#include "support/page_memory.hpp"
#include "support/percpu_memory.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

constexpr std::size_t kSizes[] = {64, 8, 4, 24, 200, 1, 48, 100};
constexpr std::size_t kObjects = 40;

std::unique_ptr<PercpuAllocator> make(PercpuBacking backing) {
  PercpuOptions options;
  options.backing = backing;
  return std::move(PercpuAllocator::create(options)).value();
}

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

// Allocates so many without waiting; how many of them were refused or not zero.
using Objects = std::array<PercpuPtr<std::byte>, kObjects>;
int allocate_all(PercpuAllocator& allocator, Objects& objects, std::uint64_t* faults = nullptr) {
  int bad = 0;
  for (std::size_t i = 0; i < kObjects; ++i) {
    const std::size_t size_bytes = kSizes[i % std::size(kSizes)];
    const std::uint64_t before = faults != nullptr ? testing::thread_faults() : 0;
    const auto p = allocator.allocate(size_bytes, 4, Gfp::nowait);
    if (faults != nullptr) *faults += testing::thread_faults() - before;
    objects[i] = p ? *p : PercpuPtr<std::byte>{};
    if (!p) {
      ++bad;
      continue;
    }
    for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
      bad += per_cpu_read(*p, cpu) == std::byte{0} ? 0 : 1;
      // Only where this cannot fault: elsewhere the memory may be absent, which is the user's
      // business.
      if (cpu == 0) *per_cpu_ptr(*p, cpu) = std::byte{0xaa};
    }
  }
  return bad;
}

// Steps through the code once, so that none of its own pages is absent, on another allocator.
void fault_the_code_in(PercpuBacking backing) {
  const auto other = make(backing);
  Objects objects;
  std::uint64_t faults = 0;
  static_cast<void>(allocate_all(*other, objects, &faults));
  for (const auto p : objects) other->free(p);
  static_cast<void>(allocate_all(*other, objects, &faults));
  for (const auto p : objects) other->free(p);
}

// The operating system takes pages back of its own accord now and then, and whoever touches one counts a
// fault. What we cause comes again: after a fault, none of many more processes may have one.
constexpr int kFaulted = 2;
template <typename Body>
int run_in_quiet_child(const Body& body) {
  constexpr int kMore = 20;
  int code = testing::run_in_child(body);
  if (code != kFaulted) return code;
  code = 0;
  for (int i = 0; i < kMore && code == 0; ++i) code = testing::run_in_child(body);
  return code;
}

class PercpuNowait : public ::testing::TestWithParam<PercpuBacking> {
 protected:
  static std::unique_ptr<PercpuAllocator> make_fresh() { return make(GetParam()); }
};

// In the child of a fork private memory is shared with the parent until it is written: so the child
// makes the allocator itself.
TEST_P(PercpuNowait, MakesNoSystemCallAndNoFaultInAFreshAllocator) {
  if (testing::kSanitized || MMKIT_CHECK_LEVEL >= 2) {
    GTEST_SKIP() << "sanitizers and audits make calls of their own";
  }
  EXPECT_EQ(run_in_quiet_child([] {
              fault_the_code_in(GetParam());
              const auto allocator = make_fresh();
              Objects objects;
              std::uint64_t faults = 0;
              if (allocate_all(*allocator, objects, &faults) != 0) return 1;
              return faults == 0 ? 0 : kFaulted;
            }),
            0);
  EXPECT_EQ(testing::run_in_child([] {
              const auto allocator = make_fresh();
              Objects objects;
              if (!forbid_system_calls()) return 3;
              const int bad = allocate_all(*allocator, objects);
              ::_exit(bad == 0 ? 0 : 1);
            }),
            0);
}

TEST_P(PercpuNowait, MakesNoSystemCallAndNoFaultWhenObjectsWereFreed) {
  if (testing::kSanitized || MMKIT_CHECK_LEVEL >= 2) {
    GTEST_SKIP() << "sanitizers and audits make calls of their own";
  }
  const auto used = [] {
    auto allocator = make_fresh();
    Objects objects;
    for (int round = 0; round < 3; ++round) {
      for (std::size_t i = 0; i < kObjects; ++i) {
        objects[i] = allocator->allocate(kSizes[i % std::size(kSizes)], 4).value();
        for (unsigned cpu = 0; cpu < possible_cpus(); ++cpu) {
          *per_cpu_ptr(objects[i], cpu) = std::byte{1};
        }
      }
      for (const auto p : objects) allocator->free(p);
      if (round == 1) allocator->balance();
    }
    return allocator;
  };
  EXPECT_EQ(run_in_quiet_child([&] {
              fault_the_code_in(GetParam());
              const auto allocator = used();
              Objects objects;
              std::uint64_t faults = 0;
              if (allocate_all(*allocator, objects, &faults) != 0) return 1;
              return faults == 0 ? 0 : kFaulted;
            }),
            0);
  EXPECT_EQ(testing::run_in_child([&] {
              const auto allocator = used();
              Objects objects;
              if (!forbid_system_calls()) return 3;
              const int bad = allocate_all(*allocator, objects);
              ::_exit(bad == 0 ? 0 : 1);
            }),
            0);
}

// A thread whose first act it is, even before it is known to the restartable sequences.
TEST_P(PercpuNowait, MakesNoSystemCallInAFreshThread) {
  if (testing::kSanitized || MMKIT_CHECK_LEVEL >= 2) {
    GTEST_SKIP() << "sanitizers and audits make calls of their own";
  }
  EXPECT_EQ(testing::run_in_child([] {
              const auto allocator = make_fresh();
              std::thread([&] {
                Objects objects;
                if (!forbid_system_calls()) ::_exit(3);
                const int bad = allocate_all(*allocator, objects);
                ::_exit(bad == 0 ? 0 : 1);
              }).join();
              return 4;
            }),
            0);
}

TEST_P(PercpuNowait, TheFilterWouldHaveKilled) {
  if (testing::kSanitized) GTEST_SKIP() << "sanitizers make calls of their own";
  EXPECT_EQ(testing::run_in_child([] {
              const auto allocator = make_fresh();
              if (!forbid_system_calls()) return 3;
              while (allocator->allocate(kPercpuMaxBytes, 8)) {
              }
              return 0;
            }),
            testing::kChildSignalled + SIGSYS);
}

// It takes what is there and no more; who may wait brings more, also for the next that may not.
TEST_P(PercpuNowait, RunsOutAndRecovers) {
  const auto allocator = make_fresh();
  std::vector<PercpuPtr<std::byte>> objects;
  Errc refusal{};
  while (true) {
    const auto p = allocator->allocate(1024, 8, Gfp::nowait);
    if (!p) {
      refusal = p.error();
      break;
    }
    objects.push_back(*p);
    ASSERT_LT(objects.size(), 1000u);
  }
  EXPECT_EQ(refusal, Errc::out_of_memory);
  EXPECT_GE(objects.size(), 8u);  // two pages are set aside, at least
  EXPECT_EQ(allocator->stats().nowait_failures, 1u);
  EXPECT_EQ(allocator->stats().failures, 1u);
  EXPECT_EQ(allocator->stats().chunks, 1u);
  EXPECT_TRUE(allocator->validate());
  objects.push_back(allocator->allocate(1024, 8).value());
  // After a failure four pages are set aside.
  for (int i = 0; i < 16; ++i) {
    const auto p = allocator->allocate(1024, 8, Gfp::nowait);
    ASSERT_TRUE(p) << i;
    objects.push_back(*p);
  }
  EXPECT_TRUE(allocator->validate());
  for (const auto p : objects) allocator->free(p);
}

// ---------------------------------------------------------------- from a signal handler

constinit std::atomic<PercpuAllocator*> handlers_allocator{nullptr};
constinit std::atomic<unsigned> signals{0}, handled{0}, handler_faults{0};

// Signals interrupt an allocation anywhere, the heap's lock held or not.
TEST_P(PercpuNowait, ServesSignalHandlers) {
  const auto allocator = make_fresh();
  handlers_allocator = allocator.get();
  signals = 0;
  handled = 0;
  handler_faults = 0;
  static std::array<std::atomic<std::byte*>, 4096> given;
  for (auto& slot : given) slot = nullptr;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    const int kept = errno;
    const auto p = handlers_allocator.load()->allocate(64, 8, Gfp::nowait);
    if (p) {
      if (this_cpu_read(percpu_cast<std::uint64_t>(*p)) != 0) ++handler_faults;
      const unsigned slot = handled++;
      given[slot % given.size()] = p->unit0;
    } else if (p.error() != Errc::try_again && p.error() != Errc::out_of_memory) {
      ++handler_faults;
    }
    ++signals;
    errno = kept;
  };
  ::sigaction(SIGUSR1, &action, &before);
  std::atomic<bool> stop{false};
  const pthread_t target = ::pthread_self();
  // Where both threads share a processor, each signal waits for a turn of the scheduler's.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  std::thread sender([&] {
    const auto is_enough = [&] {
      return handled > 200 && std::chrono::steady_clock::now() > deadline;
    };
    for (unsigned i = 0; i < 3000 && !is_enough(); ++i) {
      ::pthread_kill(target, SIGUSR1);
      while (signals <= i) std::this_thread::yield();
    }
    stop = true;
  });
  std::vector<PercpuPtr<std::byte>> objects;
  while (!stop) {
    for (const std::size_t size_bytes : kSizes) {
      objects.push_back(allocator->allocate(size_bytes, 4).value());
      *per_cpu_ptr(objects.back(), 0) = std::byte{1};
    }
    while (objects.size() > 100) {
      allocator->free(objects.back());
      objects.pop_back();
    }
  }
  sender.join();
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(handler_faults, 0u);
  EXPECT_GT(handled, 100u);
  for (auto& slot : given) {
    if (slot != nullptr) objects.push_back({slot.load()});
  }
  for (const auto p : objects) allocator->free(p);
  EXPECT_TRUE(allocator->validate());
  EXPECT_EQ(allocator->stats().live, 0u);
  allocator->balance();
  EXPECT_EQ(allocator->stats().live_bytes, 0u);
}

// ---------------------------------------------------------------- a lock that is taken

class InsideFork final : public ForkParticipant {
 public:
  explicit InsideFork(std::function<void()> body) : body_(std::move(body)) {}
  ~InsideFork() { leave_fork(); }
  void lock_for_fork() noexcept override { body_(); }
  void unlock_after_fork() noexcept override {}

 private:
  const std::function<void()> body_;
};

TEST_P(PercpuNowait, SaysTryAgainWhileTheLockIsTaken) {
  const auto allocator = make_fresh();
  std::vector<Errc> refused;
  InsideFork inside([&] {
    std::thread([&] {
      for (int i = 0; i < 100; ++i) {
        const auto p = allocator->allocate(2000, 8, Gfp::nowait);  // no class: the heap's
        refused.push_back(p ? Errc::io_error : p.error());
      }
    }).join();
  });
  ASSERT_TRUE(inside.join_fork(LockRank::leaf));
  EXPECT_EQ(testing::run_in_child([] { return 0; }), 0);
  inside.leave_fork();
  EXPECT_EQ(refused, std::vector<Errc>(100, Errc::try_again));
  EXPECT_EQ(allocator->stats().nowait_failures, 100u);
  EXPECT_EQ(allocator->stats().failures, 100u);
  EXPECT_TRUE(allocator->validate());
  const auto late = allocator->allocate(2000, 8, Gfp::nowait);
  ASSERT_TRUE(late);
  allocator->free(*late);
}

INSTANTIATE_TEST_SUITE_P(Backing, PercpuNowait,
                         ::testing::Values(PercpuBacking::lazy, PercpuBacking::mapped),
                         [](const auto& one) {
                           return one.param == PercpuBacking::lazy ? "Lazy" : "Mapped";
                         });

}  // namespace
}  // namespace mmkit
