// SPDX-License-Identifier: MIT
//
// What ends the program in the operations: a CPU that no allocator has, and a thread that cannot
// run sequences in a process that does.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <mmkit/percpu/this_cpu.hpp>
#include <optional>
#include <string>
#include <thread>

#include "support/percpu_memory.hpp"
#include "support/refused_call.hpp"

namespace mmkit {
namespace {

using ::testing::KilledBySignal;

class PercpuOpsDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(PercpuOpsDeathTest, ACpuThatNoAllocatorHasIsNamed) {
  testing::PercpuMemory memory(possible_cpus() + 3);
  const PercpuPtr<long> p = memory.at<long>(64);
  EXPECT_EQ(per_cpu_read(p, possible_cpus() + 2), 0);
  const unsigned beyond = memory.units();
  const std::string message = "^mmkit: percpu: cpu out of range 0x";
  EXPECT_EXIT(*per_cpu_ptr(p, beyond) = 1, KilledBySignal(SIGABRT), message);
  EXPECT_EXIT(static_cast<void>(per_cpu_read(p, beyond)), KilledBySignal(SIGABRT), message);
  EXPECT_EXIT(static_cast<void>(per_cpu_read(p, std::numeric_limits<unsigned>::max())),
              KilledBySignal(SIGABRT), message + "ffffffff\n$");
}

#if MMKIT_PERCPU_HAS_RSEQ

// A variable of the environment, which death tests' children inherit, while this lives.
class ChildEnvironment {
 public:
  ChildEnvironment(const char* name, const char* value) : name_(name) {
    if (const char* const before = std::getenv(name)) before_ = before;
    ::setenv(name, value, /*overwrite=*/1);
  }
  ChildEnvironment(const ChildEnvironment&) = delete;
  ChildEnvironment& operator=(const ChildEnvironment&) = delete;
  ~ChildEnvironment() {
    if (before_) {
      ::setenv(name_, before_->c_str(), /*overwrite=*/1);
    } else {
      ::unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// The child begins anew and finds no area of the C library, so that each thread registers its own.
// One that was registered before the system refuses goes on; a new one cannot.
TEST_F(PercpuOpsDeathTest, AThreadThatCannotRegisterIsNamed) {
  if (percpu_mode() != PercpuMode::rseq) GTEST_SKIP() << percpu_mode_reason();
  const ChildEnvironment no_area("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
  const ChildEnvironment no_expectation("MMKIT_EXPECT_MODE", "our own");
  EXPECT_EXIT(
      {
        testing::PercpuMemory memory;
        const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(64);
        this_cpu_add(p, 1);
        if (!testing::refuse_call(SYS_rseq, EPERM)) std::exit(2);
        this_cpu_add(p, 1);
        if (memory.sum(p) != 2) std::exit(3);
        std::thread([&] { this_cpu_add(p, 1); }).join();
      },
      KilledBySignal(SIGABRT), "^mmkit: percpu: rseq registration refused 0x1\n$");
}

TEST_F(PercpuOpsDeathTest, ABarrierThatIsRefusedLaterIsNamed) {
  if (percpu_mode() != PercpuMode::rseq) GTEST_SKIP() << percpu_mode_reason();
  EXPECT_EXIT(
      {
        if (!testing::refuse_call(SYS_membarrier, EPERM)) std::exit(2);
        detail::percpu_barrier(0);
      },
      KilledBySignal(SIGABRT), "^mmkit: percpu: membarrier refused 0x1\n$");
}

#endif

}  // namespace
}  // namespace mmkit
