// SPDX-License-Identifier: MIT
//
// dlclose() of a shared object, while threads that ran its sequences sleep and wake.
//
// Each of these threads has left rseq_cs pointing into the object, and the kernel reads what it
// points at when the thread wakes: if that were unmapped, the kernel would end the program.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <time.h>

#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/static_percpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <thread>
#include <vector>

#include "support/percpu_memory.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using Add = void (*)(long*, long);
using AddReturn = long (*)(long*, long);
using Hit = long* (*)();

template <class Function>
Function symbol(void* plugin, const char* name) {
  return reinterpret_cast<Function>(::dlsym(plugin, name));
}

TEST(PercpuUnload, ThreadsThatRanSequencesOfAClosedObjectWake) {
  constexpr unsigned kThreads = 4;
  const auto rounds = static_cast<unsigned>(testing::scaled(20, 2));
  testing::PercpuMemory memory;
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(128);
  long* const unit0 = reinterpret_cast<long*>(p.unit0);
  void* plugin = nullptr;
  pthread_barrier_t barrier;
  ::pthread_barrier_init(&barrier, nullptr, kThreads + 1);

  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (unsigned round = 0; round < rounds; ++round) {
        ::pthread_barrier_wait(&barrier);  // loaded
        if (i % 2 == 0) {
          symbol<Add>(plugin, "plugin_add")(unit0, 1);
        } else {
          symbol<AddReturn>(plugin, "plugin_add_return")(unit0, 1);
        }
        ::pthread_barrier_wait(&barrier);  // used
        ::pthread_barrier_wait(&barrier);  // closed: here the threads sleep and wake
        const timespec moment{0, 100'000};
        ::nanosleep(&moment, nullptr);
      }
    });
  }
  for (unsigned round = 0; round < rounds; ++round) {
    plugin = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(plugin, nullptr) << ::dlerror();
    ::pthread_barrier_wait(&barrier);
    ::pthread_barrier_wait(&barrier);
    EXPECT_EQ(::dlclose(plugin), 0);
    ::pthread_barrier_wait(&barrier);
  }
  for (std::thread& thread : threads) thread.join();
  ::pthread_barrier_destroy(&barrier);
  EXPECT_EQ(memory.sum(p), std::uint64_t{rounds} * kThreads);
}

#if MMKIT_PERCPU_HAS_RSEQ
TEST(PercpuUnload, AClosedObjectIsStillThere) {
  void* const plugin = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(plugin, nullptr) << ::dlerror();
  EXPECT_EQ(::dlclose(plugin), 0);
  void* const again = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  EXPECT_NE(again, nullptr);
  if (again != nullptr) ::dlclose(again);
}

// Its statics are those that they were when it is loaded again, and lie apart from the program's.
TEST(PercpuUnload, StaticsOfAClosedObjectKeepTheirValues) {
  static constinit StaticPercpu<long> of_the_program;
  this_cpu_inc(of_the_program.get());
  long* first = nullptr;
  constexpr long kTimes = 10;
  for (long i = 0; i < kTimes; ++i) {
    void* const plugin = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(plugin, nullptr) << ::dlerror();
    long* const hits = symbol<Hit>(plugin, "plugin_hit")();
    if (first == nullptr) first = hits;
    EXPECT_EQ(hits, first);
    EXPECT_EQ(::dlclose(plugin), 0);
  }
  EXPECT_NE(first, of_the_program.get().unit0);
  EXPECT_TRUE(PercpuAllocator::instance().contains(first));
  long sum = 0;
  for (unsigned cpu = 0; cpu < PercpuAllocator::instance().units(); ++cpu) {
    sum += per_cpu_read(PercpuPtr<long>{first}, cpu);
  }
  EXPECT_EQ(sum % kTimes, 0) << "repeated tests go on counting";
  EXPECT_GE(sum, kTimes);
}
#endif

}  // namespace
}  // namespace mmkit
