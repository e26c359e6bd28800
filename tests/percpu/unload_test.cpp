// SPDX-License-Identifier: MIT
//
// dlclose() of a shared object, while threads that ran its sequences sleep and wake.
//
// Each of these threads has left rseq_cs pointing into the object, and the kernel reads what it
// points at when the thread wakes: if that were unmapped, the kernel would end the program.
// The only mmkit of the process is the object's, so that in every mode it is its sequences that run.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <time.h>

#include <cstdlib>
#include <mmkit/percpu/mode.hpp>
#include <string_view>
#include <thread>
#include <vector>

#include "support/scale.hpp"

namespace mmkit {
namespace {

// The object, loaded, and what it has to call.
struct Plugin {
  void* handle = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL);
  const char* (*mode_reason)() = symbol<const char* (*)()>("plugin_mode_reason");
  long* (*allocate)() = symbol<long* (*)()>("plugin_allocate");
  void (*free)(long*) = symbol<void (*)(long*)>("plugin_free");
  void (*add)(long*, long) = symbol<void (*)(long*, long)>("plugin_add");
  long (*add_return)(long*, long) = symbol<long (*)(long*, long)>("plugin_add_return");
  long* (*hit)() = symbol<long* (*)()>("plugin_hit");
  long (*sum)(const long*) = symbol<long (*)(const long*)>("plugin_sum");

  bool is_loaded() const { return handle != nullptr; }
  void close() const { EXPECT_EQ(::dlclose(handle), 0); }

 private:
  template <class Function>
  Function symbol(const char* name) const {
    return handle == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(handle, name));
  }
};

// MMKIT_EXPECT_MODE as in expected_mode.cpp, which looks at a mmkit of the program's.
TEST(PercpuUnload, TheObjectIsInTheModeThatIsAskedFor) {
  const Plugin plugin;
  ASSERT_TRUE(plugin.is_loaded()) << ::dlerror();
  const char* const expected = std::getenv("MMKIT_EXPECT_MODE");
  const std::string_view reason = plugin.mode_reason();
  EXPECT_NE(reason.find(expected != nullptr ? expected : ":"), std::string_view::npos) << reason;
  plugin.close();
}

TEST(PercpuUnload, ThreadsThatRanSequencesOfAClosedObjectWake) {
  constexpr unsigned kThreads = 4;
  const auto rounds = static_cast<unsigned>(testing::scaled(20, 2));
  Plugin plugin;
  ASSERT_TRUE(plugin.is_loaded()) << ::dlerror();
  long* const unit0 = plugin.allocate();
  ASSERT_NE(unit0, nullptr);
  plugin.close();
  pthread_barrier_t barrier;
  ::pthread_barrier_init(&barrier, nullptr, kThreads + 1);

  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (unsigned round = 0; round < rounds; ++round) {
        ::pthread_barrier_wait(&barrier);  // loaded
        if (i % 2 == 0) {
          plugin.add(unit0, 1);
        } else {
          plugin.add_return(unit0, 1);
        }
        ::pthread_barrier_wait(&barrier);  // used
        ::pthread_barrier_wait(&barrier);  // closed: here the threads sleep and wake
        const timespec moment{0, 100'000};
        ::nanosleep(&moment, nullptr);
      }
    });
  }
  for (unsigned round = 0; round < rounds; ++round) {
    plugin = Plugin();
    ASSERT_TRUE(plugin.is_loaded()) << ::dlerror();
    ::pthread_barrier_wait(&barrier);
    ::pthread_barrier_wait(&barrier);
    plugin.close();
    ::pthread_barrier_wait(&barrier);
  }
  for (std::thread& thread : threads) thread.join();
  ::pthread_barrier_destroy(&barrier);
  plugin = Plugin();
  EXPECT_EQ(plugin.sum(unit0), static_cast<long>(rounds * kThreads));
  plugin.free(unit0);
}

#if MMKIT_PERCPU_HAS_RSEQ
TEST(PercpuUnload, AClosedObjectIsStillThere) {
  const Plugin plugin;
  ASSERT_TRUE(plugin.is_loaded()) << ::dlerror();
  plugin.close();
  void* const again = ::dlopen(MMKIT_PERCPU_PLUGIN, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  EXPECT_NE(again, nullptr);
  if (again != nullptr) ::dlclose(again);
}

// Its statics are those that they were when it is loaded again.
TEST(PercpuUnload, StaticsOfAClosedObjectKeepTheirValues) {
  long* first = nullptr;
  long before = 0;
  constexpr long kTimes = 10;
  for (long i = 0; i < kTimes; ++i) {
    const Plugin plugin;
    ASSERT_TRUE(plugin.is_loaded()) << ::dlerror();
    long* const hits = plugin.hit();
    if (first == nullptr) {
      first = hits;
      before = plugin.sum(hits) - 1;
    }
    EXPECT_EQ(hits, first);
    EXPECT_EQ(plugin.sum(hits), before + i + 1);
    plugin.close();
  }
}
#endif

}  // namespace
}  // namespace mmkit
