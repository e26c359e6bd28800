// SPDX-License-Identifier: MIT
//
// Two shared objects with a static mmkit each, loaded by dlopen(RTLD_LOCAL): what docs/package.md
// says of them.
//
// This program has no mmkit. All it does, it does through the functions of copy.hpp.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "package/copies/copy.hpp"
#include "support/scale.hpp"

namespace {

struct Loaded {
  explicit Loaded(const char* file)
      : handle(::dlopen(file, RTLD_NOW | RTLD_LOCAL)),
        copy(handle == nullptr ? nullptr
                               : static_cast<const Copy*>(::dlsym(handle, "copy_of_mmkit"))) {
    if (copy == nullptr) ADD_FAILURE() << ::dlerror();
  }
  void* handle;
  const Copy* copy;
};

// One after the other, by the same thread; never closed, but by the test of closing.
const Copy& a() {
  static const Loaded loaded(MMKIT_COPY_A);
  return *loaded.copy;
}
const Copy& b() {
  static const Loaded loaded = [] {
    a();
    return Loaded(MMKIT_COPY_B);
  }();
  return *loaded.copy;
}

// Whether the child of a fork ends with 0, having done `what`.
template <class What>
bool child_succeeds(What what) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(what() ? 0 : 1);
  int status = -1;
  return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

TEST(Copies, ShowNoSymbolToEachOther) {
  const Loaded again(MMKIT_COPY_A);
  ASSERT_NE(again.copy, nullptr);
  EXPECT_EQ(::dlsym(again.handle, "mmkit_percpu_area"), nullptr);
  EXPECT_EQ(::dlsym(again.handle, "_ZN5mmkit16default_registryEv"), nullptr);
}

TEST(Copies, HaveRegistriesOfTheirOwn) {
  EXPECT_TRUE(a().register_driver("mine"));
  EXPECT_TRUE(a().knows_driver("mine"));
  EXPECT_FALSE(b().knows_driver("mine"));
  EXPECT_TRUE(b().register_driver("mine"));
  EXPECT_FALSE(b().register_driver("mine"));
}

TEST(Copies, HaveHandlersOfTheirOwn) {
  void* const in_a = a().make_pool("zbud");
  void* const in_b = b().make_pool("zbud");
  ASSERT_TRUE(a().store_and_forget(in_a));
  ASSERT_TRUE(b().store_and_free(in_b));
  const unsigned before_a = a().leaks(), before_b = b().leaks();
  a().end_pool(in_a);
  b().end_pool(in_b);
  EXPECT_EQ(a().leaks(), before_a + 1);
  EXPECT_EQ(b().leaks(), before_b);
}

// The kernel knows one area a thread. The C library's serves all copies; of their own ones, the
// first copy's is registered and the second uses atomics.
TEST(Copies, ChooseModesThatGoTogether) {
  const std::string_view first = a().mode_reason(), second = b().mode_reason();
  if (first.find("an area of our own") != std::string_view::npos) {
    EXPECT_NE(second.find("the kernel refuses to register an rseq area"), std::string_view::npos)
        << second;
  } else {
    EXPECT_EQ(first, second);
  }
}

// A copy that a thread loads which the first has not registered yet finds the kernel willing, and
// then not so in the thread that is registered already.
void load_the_second_elsewhere() {
  a();
  std::thread([] { b(); }).join();
  void* const in_b = b().make_count();
  b().count(in_b);
  ::_exit(b().sum(in_b) == 1 ? 0 : 1);
}
TEST(CopiesDeathTest, LoadedByDifferentThreadsNeedTheAreaOfTheCLibrary) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  if (std::string_view(a().mode_reason()).find("an area of our own") != std::string_view::npos) {
    EXPECT_DEATH(load_the_second_elsewhere(), "rseq registration refused");
  } else {
    EXPECT_EXIT(load_the_second_elsewhere(), testing::ExitedWithCode(0), "");
  }
}

TEST(Copies, CountPerCpuInTheSameThreads) {
  constexpr long kThreads = 4;
  const auto times = static_cast<long>(mmkit::testing::scaled(100'000));
  void* const in_a = a().make_count();
  void* const in_b = b().make_count();
  ASSERT_TRUE(in_a != nullptr && in_b != nullptr);
  std::vector<std::thread> threads;
  for (long i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (long n = 0; n < times; ++n) {
        a().count(in_a);
        b().count(in_b);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(a().sum(in_a), kThreads * times);
  EXPECT_EQ(b().sum(in_b), kThreads * times);
}

// Threads are in the middle of calls into both when the process forks: the child can go on with the
// pools of both only if the handlers of both took their locks.
TEST(Copies, TakePartInAForkBoth) {
  void* const in_a = a().make_pool("zsmalloc");
  void* const in_b = b().make_pool("z3fold");
  ASSERT_TRUE(in_a != nullptr && in_b != nullptr);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        if (!a().store_and_free(in_a) || !b().store_and_free(in_b)) std::abort();
      }
    });
  }
  const auto forks = mmkit::testing::scaled(50);
  for (std::uint64_t n = 0; n < forks; ++n) {
    EXPECT_TRUE(child_succeeds([&] {
      for (int i = 0; i < 10; ++i) {
        if (!a().store_and_free(in_a) || !b().store_and_free(in_b)) return false;
      }
      a().end_pool(in_a);
      b().end_pool(in_b);
      return true;
    }));
  }
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  a().end_pool(in_a);
  b().end_pool(in_b);
}

// One that has restartable sequences stays where it is; its state with it.
TEST(Copies, ClosingOneLeavesBothAsTheyWere) {
  ASSERT_TRUE(b().knows_driver("zbud"));
  Loaded first(MMKIT_COPY_A);
  ASSERT_NE(first.copy, nullptr);
  void* const count = first.copy->make_count();
  first.copy->count(count);
  ::dlclose(first.handle);
  ::dlclose(first.handle);  // that of a(), too
  void* const still = ::dlopen(MMKIT_COPY_A, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(still, nullptr) << ::dlerror();
  EXPECT_EQ(static_cast<const Copy*>(::dlsym(still, "copy_of_mmkit")), &a());
  EXPECT_EQ(a().sum(count), 1);
  void* const pool = b().make_pool("zheap");
  EXPECT_TRUE(b().store_and_free(pool));
  EXPECT_TRUE(child_succeeds([&] { return b().store_and_free(pool); }));
  b().end_pool(pool);
}

// One without any goes for good, and a fork does not call its handlers.
TEST(Copies, AnObjectWithoutSequencesIsUnloaded) {
  for (int times = 0; times < 3; ++times) {
    void* const object = ::dlopen(MMKIT_COPY_RANGES, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(object, nullptr) << ::dlerror();
    const auto use = reinterpret_cast<bool (*)()>(::dlsym(object, "use_ranges"));
    ASSERT_NE(use, nullptr);
    EXPECT_TRUE(use());
    EXPECT_TRUE(child_succeeds(use));
    ASSERT_EQ(::dlclose(object), 0);
    EXPECT_EQ(::dlopen(MMKIT_COPY_RANGES, RTLD_NOW | RTLD_NOLOAD), nullptr);
    EXPECT_TRUE(child_succeeds([] { return b().knows_driver("zbud"); }));
  }
}

}  // namespace
