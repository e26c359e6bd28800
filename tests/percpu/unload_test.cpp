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

#include <mmkit/percpu/this_cpu.hpp>
#include <thread>
#include <vector>

#include "support/percpu_memory.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using Add = void (*)(long*, long);
using AddReturn = long (*)(long*, long);

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
#endif

}  // namespace
}  // namespace mmkit
