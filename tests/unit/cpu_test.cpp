// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <charconv>
#include <filesystem>
#include <mmkit/base/cpu.hpp>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace mmkit {
namespace {

// Room for 8192 CPUs, the most a kernel of today is built for.
class CpuSet {
 public:
  static constexpr unsigned kMostCpus = 8192;

  bool read_own() { return ::sched_getaffinity(0, bytes(), first()) == 0; }
  bool apply() const { return ::sched_setaffinity(0, bytes(), words_.data()) == 0; }
  bool has(unsigned cpu) const { return CPU_ISSET_S(cpu, bytes(), words_.data()) != 0; }
  void add(unsigned cpu) { CPU_SET_S(cpu, bytes(), first()); }
  std::vector<unsigned> members() const {
    std::vector<unsigned> all;
    for (unsigned cpu = 0; cpu < kMostCpus; ++cpu) {
      if (has(cpu)) all.push_back(cpu);
    }
    return all;
  }

 private:
  std::size_t bytes() const { return words_.size() * sizeof words_[0]; }
  cpu_set_t* first() { return words_.data(); }

  std::vector<cpu_set_t> words_ = std::vector<cpu_set_t>(kMostCpus / CPU_SETSIZE);
};

TEST(Cpu, PossibleCpusCoverThoseThisProcessMayUse) {
  CpuSet own;
  ASSERT_TRUE(own.read_own());
  const std::vector<unsigned> allowed = own.members();
  ASSERT_FALSE(allowed.empty());
  EXPECT_GE(possible_cpus(), allowed.size());
  EXPECT_GT(possible_cpus(), allowed.back());
}

TEST(Cpu, PossibleCpusCoverThoseTheSystemLists) {
  EXPECT_GE(possible_cpus(), 1u);
  EXPECT_GE(possible_cpus(), std::thread::hardware_concurrency());
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/cpu", error)) {
    const std::string word = entry.path().filename().string();
    unsigned number = 0;
    if (!word.starts_with("cpu")) continue;
    const auto [end, code] = std::from_chars(word.data() + 3, word.data() + word.size(), number);
    if (code != std::errc{} || end != word.data() + word.size()) continue;  // cpufreq, cpuidle
    EXPECT_GT(possible_cpus(), number);
  }
}

TEST(Cpu, PossibleCpusAreTheSameForEveryThread) {
  const unsigned count = possible_cpus();
  std::vector<unsigned> seen(8);
  std::vector<std::thread> threads;
  for (unsigned& place : seen) threads.emplace_back([&place] { place = possible_cpus(); });
  for (std::thread& thread : threads) thread.join();
  for (const unsigned other : seen) EXPECT_EQ(other, count);
}

TEST(Cpu, CurrentCpuIsTheOneTheThreadIsBoundTo) {
  CpuSet own;
  ASSERT_TRUE(own.read_own());
  for (const unsigned cpu : own.members()) {
    std::thread([cpu] {
      CpuSet one;
      one.add(cpu);
      ASSERT_TRUE(one.apply());
      for (int i = 0; i < 100; ++i) ASSERT_EQ(current_cpu(), cpu);
    }).join();
  }
}

TEST(Cpu, CurrentCpuMayBeAskedInASignalHandler) {
  static volatile sig_atomic_t seen;
  seen = -1;
  struct sigaction action {};
  action.sa_handler = [](int) { seen = static_cast<sig_atomic_t>(current_cpu()); };
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  ::raise(SIGUSR1);
  ::sigaction(SIGUSR1, &before, nullptr);
  const sig_atomic_t cpu = seen;
  EXPECT_GE(cpu, 0);
  EXPECT_LT(static_cast<unsigned>(cpu), possible_cpus());
}

}  // namespace
}  // namespace mmkit
