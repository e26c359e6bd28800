// SPDX-License-Identifier: MIT
//
// Nothing is lost: every operation, by 64 threads that share few CPUs, are moved among them, are
// interrupted by signals whose handlers do the same, and fork.
//
// Load: 10 million additions and 2 million of every other operation, times MMKIT_SCALE. The same
// additions without protection are printed beside them: what there was to lose.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mmkit/percpu/this_cpu.hpp>
#include <thread>
#include <vector>

#include "support/percpu_memory.hpp"
#include "support/percpu_storm.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using testing::PercpuMemory;
using testing::PercpuStorm;
using testing::scaled;
using testing::StormCounts;

constexpr std::size_t kCounters = 4096;
constexpr std::size_t kOther = 8192;
constexpr unsigned kForks = 16;

PercpuMemory& memory() {
  static PercpuMemory instance;
  return instance;
}
PercpuPtr<std::uint64_t> counter() {
  static const PercpuPtr<std::uint64_t> p = memory().at<std::uint64_t>(kCounters);
  return p;
}
void clear_counter() {
  for (unsigned cpu = 0; cpu < memory().units(); ++cpu) *per_cpu_ptr(counter(), cpu) = 0;
}

// Ways to add one. A child of a fork adds some more, alone.
template <class Way>
struct Counting {
  static void step(unsigned) { Way::increment(counter()); }
  static void handler(unsigned) { Way::increment(counter()); }
  static bool child() {
    const std::uint64_t before = memory().sum(counter());
    for (int i = 0; i < 1000; ++i) Way::increment(counter());
    return memory().sum(counter()) - before == 1000;
  }
};
struct Add {
  static constexpr const char* kName = "this_cpu_add";
  static void increment(PercpuPtr<std::uint64_t> p) { this_cpu_add(p, 1); }
};
struct AddReturn {
  static constexpr const char* kName = "this_cpu_add_return";
  static void increment(PercpuPtr<std::uint64_t> p) {
    if (this_cpu_add_return(p, 1) == 0) std::abort();
  }
};
struct CompareExchange {
  static constexpr const char* kName = "this_cpu_cmpxchg";
  static void increment(PercpuPtr<std::uint64_t> p) {
    for (std::uint64_t seen = this_cpu_read(p);;) {
      const std::uint64_t before = this_cpu_cmpxchg(p, seen, seen + 1);
      if (before == seen) return;
      seen = before;
    }
  }
};
struct Unprotected {
  static constexpr const char* kName = "unprotected";
  static void increment(PercpuPtr<std::uint64_t> p) {
    std::uint64_t* const here = this_cpu_ptr(p);
    // As plain instructions, yet no data race in the language's sense.
    __atomic_store_n(here, __atomic_load_n(here, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
  }
};

template <class Way>
std::int64_t lost(std::uint64_t steps, unsigned forks) {
  clear_counter();
  const StormCounts counts = PercpuStorm<Counting<Way>>::run(scaled(steps), forks);
  const std::int64_t loss =
      static_cast<std::int64_t>(counts.steps + counts.handled - memory().sum(counter()));
  std::printf("[ LOSS     ] %-20s %" PRId64 " of %" PRIu64 " (%" PRIu64 " in handlers, %" PRIu64
              " signals and %" PRIu64 " moves by threads, %u forks)\n",
              Way::kName, loss, counts.steps + counts.handled, counts.handled, counts.signals,
              counts.moves, counts.forks);
  EXPECT_GT(counts.handled, 0u) << "no handler ran: not much of a storm";
  return loss;
}

TEST(PercpuOpsStress, NoIncrementIsLost) {
  EXPECT_EQ(lost<Add>(10'000'000, kForks), 0);
  lost<Unprotected>(10'000'000, 0);
}
TEST(PercpuOpsStress, NoSumIsLost) {
  EXPECT_EQ(lost<AddReturn>(2'000'000, kForks), 0);
}
TEST(PercpuOpsStress, NoComparedExchangeIsLost) {
  EXPECT_EQ(lost<CompareExchange>(2'000'000, kForks), 0);
}

// ---------------------------------------------------------------- exchange

// What goes from hand to hand: each has one owner at a time, who counts without an atomic addition.
struct Token {
  std::atomic<std::uint64_t> passed{0};
  void pass() {
    passed.store(passed.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
};

// Every thread has a token in its hand and another one for its signal handlers, and swaps them
// with the one on its CPU.
struct HandOver {
  static constexpr unsigned kThreads = PercpuStorm<HandOver>::kThreads;
  static inline Token* in_hand[kThreads];
  static inline Token* in_handlers[kThreads];

  static PercpuPtr<Token*> slot() { return memory().at<Token*>(kOther); }
  static void swap(Token*& mine) {
    mine->pass();
    mine = this_cpu_xchg(slot(), mine);
  }
  static void step(unsigned thread) { swap(in_hand[thread]); }
  static void handler(unsigned thread) { swap(in_handlers[thread]); }
  static bool child() {
    Token lonely;
    Token* const taken = this_cpu_xchg(slot(), &lonely);
    // No memory is taken here: a sanitizer's heap may be locked by a thread that is gone.
    unsigned put = 0;
    for (unsigned cpu = 0; cpu < memory().units(); ++cpu) {
      const Token* const there = per_cpu_read(slot(), cpu);
      if (there == taken) return false;
      put += there == &lonely ? 1u : 0u;
    }
    return put == 1;
  }
};

TEST(PercpuOpsStress, WhatIsExchangedHasOneOwner) {
  std::vector<Token> tokens(2 * HandOver::kThreads + memory().units());
  Token* next = tokens.data();
  for (unsigned i = 0; i < HandOver::kThreads; ++i) {
    HandOver::in_hand[i] = next++;
    HandOver::in_handlers[i] = next++;
  }
  for (unsigned cpu = 0; cpu < memory().units(); ++cpu) {
    *per_cpu_ptr(HandOver::slot(), cpu) = next++;
  }
  const StormCounts counts = PercpuStorm<HandOver>::run(scaled(2'000'000), kForks);

  std::vector<Token*> found;
  for (unsigned i = 0; i < HandOver::kThreads; ++i) {
    found.push_back(HandOver::in_hand[i]);
    found.push_back(HandOver::in_handlers[i]);
  }
  for (unsigned cpu = 0; cpu < memory().units(); ++cpu) {
    found.push_back(per_cpu_read(HandOver::slot(), cpu));
  }
  std::sort(found.begin(), found.end());
  EXPECT_TRUE(std::adjacent_find(found.begin(), found.end()) == found.end())
      << "one has two owners";
  EXPECT_EQ(found.size(), tokens.size());
  std::uint64_t passed = 0;
  for (const Token* const token : found) passed += token->passed;
  EXPECT_EQ(passed, counts.steps + counts.handled);
}

// ---------------------------------------------------------------- stacks

// Threads take items from the stack of their CPU and put them on that of another; a thread of its
// own empties stacks, of whatever CPU, and puts back what it found.
struct Stacks {
  static constexpr unsigned kThreads = PercpuStorm<Stacks>::kThreads;
  static constexpr std::size_t kCapacity = 40;
  static constexpr std::size_t kHead = 64;
  static constexpr unsigned kHands = 3;  // the last one is the signal handlers'
  // Fewer than hands: so that most find something, and room.
  static constexpr unsigned kItems = kThreads + 8;
  static inline Token items[kItems];
  static inline Token* in_hand[kThreads][kHands];

  static PercpuPtr<std::byte> record() { return memory().at<std::byte>(kOther + 4096); }
  static bool push(Token* item) {
    return detail::stack_push<kPercpuUnitStride>(record().unit0, kHead, item, kCapacity);
  }
  static Token* pop() {
    return static_cast<Token*>(detail::stack_pop<kPercpuUnitStride>(record().unit0, kHead));
  }
  static void toss(Token*& hand) {
    if (hand == nullptr) {
      hand = pop();
      if (hand != nullptr) hand->pass();
    } else if (push(hand)) {
      hand = nullptr;
    }
  }
  static void step(unsigned thread) {
    thread_local unsigned turn = 0;
    toss(in_hand[thread][++turn % (kHands - 1)]);
  }
  static void handler(unsigned thread) { toss(in_hand[thread][kHands - 1]); }

  // What a drainer in the parent had locked stays refused here; nothing may be broken, though.
  static bool child() {
    Token mine;
    for (int i = 0; i < 100; ++i) {
      if (push(&mine) && pop() == nullptr && percpu_mode() == PercpuMode::rseq &&
          testing::allowed_cpus().size() == 1) {
        return false;
      }
    }
    return true;
  }

  // Empties the stack of a CPU as its owner for a moment; false when another one is at it.
  static bool drain(unsigned cpu, std::vector<Token*>& out) {
    std::byte* const mine = per_cpu_ptr(record(), cpu);
    auto* const lock = reinterpret_cast<std::uint32_t*>(mine);
    auto* const count = reinterpret_cast<std::uint64_t*>(mine + kHead);
    if (!detail::fallback::lock_record(lock, 1000)) return false;
    detail::percpu_barrier(cpu);
    for (std::uint64_t i = 1; i <= *count; ++i) out.push_back(reinterpret_cast<Token**>(count)[i]);
    *count = 0;
    detail::fallback::unlock_record(lock);
    return true;
  }
};

TEST(PercpuOpsStress, NoItemOfAStackIsLostOrDoubled) {
  for (unsigned i = 0; i < Stacks::kThreads; ++i) Stacks::in_hand[i][0] = &Stacks::items[i];
  std::vector<Token*> found;
  for (unsigned i = Stacks::kThreads; i < Stacks::kItems; ++i) found.push_back(&Stacks::items[i]);
  std::atomic<bool> over{false};
  std::uint64_t drained = 0;
  std::thread drainer([&] {
    sigset_t signals = testing::storm::signals();
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    while (!over.load(std::memory_order_relaxed)) {
      for (unsigned cpu = 0; cpu < memory().units(); ++cpu) {
        const std::size_t before = found.size();
        Stacks::drain(cpu, found);
        drained += found.size() - before;
        while (!found.empty() && Stacks::push(found.back())) found.pop_back();
      }
    }
  });
  const StormCounts counts = PercpuStorm<Stacks>::run(scaled(2'000'000), kForks);
  over = true;
  drainer.join();

  for (unsigned cpu = 0; cpu < memory().units(); ++cpu) {
    ASSERT_TRUE(Stacks::drain(cpu, found));
  }
  for (auto& hands : Stacks::in_hand) {
    for (Token* const item : hands) {
      if (item != nullptr) found.push_back(item);
    }
  }
  std::printf("[ STACKS   ] %" PRIu64 " steps, %" PRIu64 " items drained\n",
              counts.steps + counts.handled, drained);
  EXPECT_GT(drained, 0u);
  std::sort(found.begin(), found.end());
  EXPECT_TRUE(std::adjacent_find(found.begin(), found.end()) == found.end())
      << "an item is doubled";
  EXPECT_EQ(found.size(), std::size_t{Stacks::kItems});
}

// ---------------------------------------------------------------- gates

#if MMKIT_PERCPU_HAS_RSEQ

// Once the gate is closed and the barrier passed, no addition arrives any more, and none is lost.
struct Gated {
  static constexpr unsigned kThreads = PercpuStorm<Gated>::kThreads;
  static inline std::uint32_t gate = 0;
  static inline std::uint64_t passed[kThreads][2];

  static bool add() {
    while (true) {
      const detail::rseq::Outcome outcome =
          detail::rseq::add_through_gate<kPercpuUnitStride>(counter().unit0, 1, &gate);
      if (outcome != detail::rseq::Outcome::unready) return outcome == detail::rseq::Outcome::done;
      if (!detail::percpu_enter_thread()) return false;
    }
  }
  static void step(unsigned thread) { passed[thread][0] += add() ? 1u : 0u; }
  static void handler(unsigned thread) { passed[thread][1] += add() ? 1u : 0u; }
  static bool child() { return true; }
};

TEST(PercpuOpsStress, NoAdditionPassesAClosedGate) {
  if (percpu_mode() != PercpuMode::rseq) GTEST_SKIP() << percpu_mode_reason();
  clear_counter();
  std::atomic<bool> over{false};
  std::uint64_t late = 0;
  std::uint64_t closings = 0;
  std::thread closer([&] {
    sigset_t signals = testing::storm::signals();
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    while (!over.load(std::memory_order_relaxed)) {
      __atomic_store_n(&Gated::gate, 1u, __ATOMIC_RELAXED);  // before the barrier by its own order
      detail::percpu_barrier_everywhere();
      const std::uint64_t closed = memory().sum(counter());
      for (int i = 0; i < 20; ++i) late += memory().sum(counter()) != closed ? 1u : 0u;
      __atomic_store_n(&Gated::gate, 0u, __ATOMIC_RELAXED);
      closings += 1;
      std::this_thread::yield();
    }
  });
  PercpuStorm<Gated>::run(scaled(2'000'000), 0);
  over = true;
  closer.join();
  std::uint64_t passed = 0;
  for (const auto& thread : Gated::passed) passed += thread[0] + thread[1];
  std::printf("[ GATE     ] %" PRIu64 " additions, closed %" PRIu64 " times\n", passed, closings);
  EXPECT_EQ(late, 0u);
  EXPECT_EQ(memory().sum(counter()), passed);
}

#endif

}  // namespace
}  // namespace mmkit
