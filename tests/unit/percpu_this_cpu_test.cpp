// SPDX-License-Identifier: MIT
//
// Every operation on this CPU's copy, for every type it takes: what it leaves there, what it gives
// back, and that it touches nothing else.
//
// The thread is pinned, so that there is one copy to look at. Extreme values are tried as variables
// and as constants, which become operands of another kind.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mmkit/base/cpu.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>

#include "support/child_process.hpp"
#include "support/percpu_memory.hpp"

namespace mmkit {
namespace {

using testing::PercpuMemory;
using testing::PinnedThread;

constexpr std::size_t kOffset = 1024;

template <class T>
using Unsigned = detail::PercpuWordOf<T>;

// What the machine's arithmetic makes of it.
template <class T>
T wrapped(Unsigned<T> value) {
  return std::bit_cast<T>(value);
}
template <class T>
Unsigned<T> bits(T value) {
  return std::bit_cast<Unsigned<T>>(value);
}

// A variable between two guards, in the pinned thread's unit, on a background that is not zero.
template <class T>
class PercpuVariable : public ::testing::Test {
 protected:
  PercpuVariable() {
    for (T* word : {here() - 1, here() + 1}) *word = guard();
    for (unsigned cpu = 0; cpu < memory.units(); ++cpu) {
      if (cpu != PinnedThread::cpu()) *per_cpu_ptr(p, cpu) = guard();
    }
  }
  ~PercpuVariable() override {
    EXPECT_EQ(here()[-1], guard());
    EXPECT_EQ(here()[1], guard());
    for (unsigned cpu = 0; cpu < memory.units(); ++cpu) {
      if (cpu != PinnedThread::cpu()) {
        EXPECT_EQ(per_cpu_read(p, cpu), guard()) << "CPU " << cpu;
      }
    }
  }
  static T guard() { return std::bit_cast<T>(static_cast<Unsigned<T>>(0xa5a5a5a5a5a5a5a5u)); }
  T* here() const { return per_cpu_ptr(p, PinnedThread::cpu()); }
  T value() const { return *here(); }

  PinnedThread pinned;
  PercpuMemory memory;
  const PercpuPtr<T> p = memory.at<T>(kOffset);
};

template <class T>
constexpr std::array<T, 14> kExtremes = {
    T{0},
    T{1},
    static_cast<T>(-1),
    T{2},
    T{0x7f},
    T{0x80},
    static_cast<T>(-128),
    static_cast<T>(-129),
    std::numeric_limits<T>::max(),
    std::numeric_limits<T>::min(),
    static_cast<T>(0x7fffffffu),  // the largest and the smallest number that an instruction
    static_cast<T>(0x80000000u),  // of 8 bytes can hold, and their neighbours
    static_cast<T>(0xffffffff7fffffffu),
    static_cast<T>(0xffffffff80000000u)};

template <class T>
using PercpuInteger = PercpuVariable<T>;
using Integers = ::testing::Types<std::int32_t, std::uint32_t, std::int64_t, std::uint64_t,
                                  long long, unsigned long long, char32_t>;
TYPED_TEST_SUITE(PercpuInteger, Integers);

TYPED_TEST(PercpuInteger, OperationsDoWhatTheMachinesArithmeticDoes) {
  using T = TypeParam;
  for (const T a : kExtremes<T>) {
    for (const T b : kExtremes<T>) {
      SCOPED_TRACE(::testing::Message() << +bits(a) << " and " << +bits(b));
      this_cpu_write(this->p, a);
      EXPECT_EQ(this->value(), a);
      EXPECT_EQ(this_cpu_read(this->p), a);
      this_cpu_add(this->p, b);
      EXPECT_EQ(this->value(), wrapped<T>(bits(a) + bits(b)));
      this_cpu_sub(this->p, b);
      EXPECT_EQ(this->value(), a);
      EXPECT_EQ(this_cpu_add_return(this->p, b), wrapped<T>(bits(a) + bits(b)));
      EXPECT_EQ(this->value(), wrapped<T>(bits(a) + bits(b)));

      *this->here() = a;
      this_cpu_and(this->p, b);
      EXPECT_EQ(this->value(), wrapped<T>(bits(a) & bits(b)));
      *this->here() = a;
      this_cpu_or(this->p, b);
      EXPECT_EQ(this->value(), wrapped<T>(bits(a) | bits(b)));

      *this->here() = a;
      EXPECT_EQ(this_cpu_xchg(this->p, b), a);
      EXPECT_EQ(this->value(), b);

      for (const T expected : {a, b}) {
        *this->here() = a;
        EXPECT_EQ(this_cpu_cmpxchg(this->p, expected, T{7}), a);
        EXPECT_EQ(this->value(), expected == a ? T{7} : a);
      }
    }
    *this->here() = a;
    this_cpu_inc(this->p);
    EXPECT_EQ(this->value(), wrapped<T>(bits(a) + 1));
    this_cpu_dec(this->p);
    this_cpu_dec(this->p);
    EXPECT_EQ(this->value(), wrapped<T>(bits(a) - 1));
  }
}

// The same with constants, by which the compiler picks the operands' form.
template <class T, T kA, T kB>
void expect_constants_work(PercpuPtr<T> p, const T& value) {
  SCOPED_TRACE(::testing::Message() << "constants " << +bits(kA) << " and " << +bits(kB));
  this_cpu_write(p, kA);
  EXPECT_EQ(value, kA);
  this_cpu_add(p, kB);
  EXPECT_EQ(value, wrapped<T>(bits(kA) + bits(kB)));
  EXPECT_EQ(this_cpu_add_return(p, kB), wrapped<T>(bits(kA) + bits(kB) + bits(kB)));
  EXPECT_EQ(this_cpu_xchg(p, kA), wrapped<T>(bits(kA) + bits(kB) + bits(kB)));
  EXPECT_EQ(this_cpu_cmpxchg(p, kA, kB), kA);
  EXPECT_EQ(value, kB);
  EXPECT_EQ(this_cpu_cmpxchg(p, static_cast<T>(~bits(kB)), kA), kB);
  EXPECT_EQ(value, kB);
  this_cpu_or(p, kA);
  EXPECT_EQ(value, wrapped<T>(bits(kB) | bits(kA)));
  this_cpu_and(p, kA);
  EXPECT_EQ(value, kA);
}
template <class T, std::size_t... kIndex>
void expect_all_constants_work(PercpuPtr<T> p, const T& value, std::index_sequence<kIndex...>) {
  constexpr const auto& all = kExtremes<T>;
  (expect_constants_work<T, all[kIndex], all[all.size() - 1 - kIndex]>(p, value), ...);
}

TYPED_TEST(PercpuInteger, OperationsTakeConstants) {
  expect_all_constants_work(this->p, *this->here(),
                            std::make_index_sequence<kExtremes<TypeParam>.size()>());
}

enum class Colour : std::uint32_t { red = 3, blue = 0xffffffff };
enum class Offset : std::int64_t { none = -1, far = std::numeric_limits<std::int64_t>::min() };

template <class T>
using PercpuPlainValue = PercpuVariable<T>;
using PlainValues = ::testing::Types<Colour, Offset, int*, const char*, void*>;
TYPED_TEST_SUITE(PercpuPlainValue, PlainValues);

TYPED_TEST(PercpuPlainValue, CanBeWrittenReadAndExchanged) {
  using T = TypeParam;
  const T a = std::bit_cast<T>(static_cast<Unsigned<T>>(0x1234567890abcdefu));
  const T b = std::bit_cast<T>(static_cast<Unsigned<T>>(-1));
  this_cpu_write(this->p, a);
  EXPECT_EQ(this->value(), a);
  EXPECT_EQ(this_cpu_read(this->p), a);
  EXPECT_EQ(this_cpu_xchg(this->p, b), a);
  EXPECT_EQ(this_cpu_cmpxchg(this->p, a, T{}), b);
  EXPECT_EQ(this->value(), b);
  EXPECT_EQ(this_cpu_cmpxchg(this->p, b, T{}), b);
  EXPECT_EQ(this->value(), T{});
}

TEST(PercpuThisCpu, IndexPointerAndCopyOfTheSameCpuAgree) {
  PinnedThread pinned;
  PercpuMemory memory;
  const PercpuPtr<int> p = memory.at<int>(kOffset);
  EXPECT_EQ(this_cpu_index(), PinnedThread::cpu());
  EXPECT_EQ(this_cpu_ptr(p), per_cpu_ptr(p, PinnedThread::cpu()));
  this_cpu_write(p, 5);
  EXPECT_EQ(*this_cpu_ptr(p), 5);
  EXPECT_EQ(per_cpu_read(p, PinnedThread::cpu()), 5);
  const auto distance = reinterpret_cast<const char*>(per_cpu_ptr(p, PinnedThread::cpu())) -
                        reinterpret_cast<const char*>(p.unit0);
  EXPECT_EQ(static_cast<std::size_t>(distance), PinnedThread::cpu() * kPercpuUnitStride);
}

TEST(PercpuThisCpu, GoesWhereTheThreadGoes) {
  PercpuMemory memory;
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  for (const unsigned cpu : testing::allowed_cpus()) {
    testing::bind_thread(::pthread_self(), {cpu});
    EXPECT_EQ(this_cpu_index(), cpu);
    this_cpu_add(p, cpu + 1);
    EXPECT_EQ(per_cpu_read(p, cpu), cpu + 1);
  }
  testing::bind_thread(::pthread_self(), testing::allowed_cpus());
}

TEST(PercpuPointer, IsAPlainValueThatKnowsNull) {
  static_assert(std::is_trivially_copyable_v<PercpuPtr<int>>);
  PercpuPtr<int> null;
  EXPECT_FALSE(null);
  int copies = 0;
  const PercpuPtr<int> p{&copies};
  EXPECT_TRUE(p);
  EXPECT_FALSE(p == null);
  EXPECT_TRUE(percpu_cast<int>(percpu_cast<std::byte>(p)) == p);
}

TEST(PercpuOpenUnits, ReadingDoesNotOpenAndAPointerDoes) {
  const unsigned open = detail::open_units();
  EXPECT_GE(open, possible_cpus());
  PercpuMemory memory(open + 8);
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  auto* const unopened = reinterpret_cast<std::uint64_t*>(
      reinterpret_cast<std::uintptr_t>(p.unit0) + (open + 3) * kPercpuUnitStride);

  // Behind the mark's back: if reading looked, it would see this.
  *unopened = 99;
  EXPECT_EQ(per_cpu_read(p, open + 3), 0u);
  EXPECT_EQ(detail::open_units(), open);
  *unopened = 0;

  EXPECT_EQ(per_cpu_ptr(p, open + 3), unopened);
  EXPECT_EQ(detail::open_units(), open + 4);
  *per_cpu_ptr(p, open + 3) = 5;
  EXPECT_EQ(per_cpu_read(p, open + 3), 5u);
  EXPECT_EQ(per_cpu_read(p, open + 2), 0u);
  EXPECT_EQ(per_cpu_read(p, open + 7), 0u);
  EXPECT_EQ(detail::open_units(), open + 4);
  // The mark never falls.
  EXPECT_EQ(*per_cpu_ptr(p, 0), 0u);
  EXPECT_EQ(detail::open_units(), open + 4);
}

TEST(PercpuOpenUnits, ReadsWhatHasNoDefaultAndWhatIsConst) {
  struct NoDefault {
    explicit NoDefault(int n) noexcept : number(n) {}
    int number;
  };
  const unsigned open = detail::open_units();
  PercpuMemory memory(open + 2);
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(64);
  *p.unit0 = 7;
  EXPECT_EQ(per_cpu_read(PercpuPtr<const std::uint64_t>{p.unit0}, 0), 7u);
  EXPECT_EQ(per_cpu_read(PercpuPtr<const std::uint64_t>{p.unit0}, open), 0u);
  EXPECT_EQ(per_cpu_read(percpu_cast<NoDefault>(p), 0).number, 7);
  EXPECT_EQ(per_cpu_read(percpu_cast<NoDefault>(p), open + 1).number, 0);
}

TEST(PercpuOpenUnits, ReadsWholeValuesOfAnySize) {
  struct Odd {
    char name[3];
    double value;
    std::uint16_t tail;
  };
  PercpuMemory memory(detail::open_units() + 2);
  const unsigned closed = memory.units() - 1;
  const PercpuPtr<Odd> odd = memory.at<Odd>(kOffset);
  *per_cpu_ptr(odd, 0) = {{'a', 'b', 'c'}, 1.5, 7};
  EXPECT_EQ(per_cpu_read(odd, 0).name[2], 'c');
  EXPECT_EQ(per_cpu_read(odd, 0).value, 1.5);
  EXPECT_EQ(per_cpu_read(odd, 0).tail, 7);
  EXPECT_EQ(per_cpu_read(odd, closed).value, 0.0);
  const PercpuPtr<std::uint8_t> byte = memory.at<std::uint8_t>(3);
  *per_cpu_ptr(byte, 0) = 200;
  EXPECT_EQ(per_cpu_read(byte, 0), 200);
  EXPECT_EQ(per_cpu_read(byte, closed), 0);
}

// A thread's first operation may have to register the thread.
TEST(PercpuThread, AThreadsFirstOperationCountsWhateverItIs) {
  PercpuMemory memory;
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  std::thread([&] { this_cpu_add(p, 1); }).join();
  std::thread([&] { EXPECT_NE(this_cpu_add_return(p, 1), 0u); }).join();
  std::thread([&] {
    EXPECT_LT(this_cpu_index(), possible_cpus());
    for (std::uint64_t seen = 0, before = 0;; before = seen) {
      seen = this_cpu_cmpxchg(p, before, before + 1);
      if (seen == before) break;
    }
    EXPECT_EQ(detail::percpu_thread_ready(), percpu_mode() == PercpuMode::rseq);
  }).join();
  EXPECT_EQ(memory.sum(p), 3u);
}

TEST(PercpuThread, TheFirstOperationMayStandInASignalHandler) {
  static PercpuMemory memory;
  static const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  struct sigaction before {};
  struct sigaction action {};
  action.sa_handler = [](int) { this_cpu_inc(p); };
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  std::thread([] {
    ::raise(SIGUSR1);
    this_cpu_inc(p);
  }).join();
  ::sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(memory.sum(p), 2u);
}

TEST(PercpuThread, OperationsLeaveErrnoAlone) {
  PercpuMemory memory;
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  std::thread([&] {
    errno = 77;
    this_cpu_add(p, 1);
    EXPECT_EQ(errno, 77);
    this_cpu_add(p, 1);
    EXPECT_EQ(errno, 77);
  }).join();
}

TEST(PercpuThread, AForksChildGoesOn) {
  PercpuMemory memory;
  const PercpuPtr<std::uint64_t> p = memory.at<std::uint64_t>(kOffset);
  this_cpu_add(p, 5);
  const std::uint32_t token = detail::percpu_lock_token();
  const int code = testing::run_in_child([&] {
    if (detail::percpu_lock_token() == token) return 1;
    this_cpu_add(p, 6);
    std::thread([&] { this_cpu_add(p, 7); }).join();
    detail::percpu_barrier(PinnedThread::cpu());
    detail::percpu_barrier_everywhere();
    return memory.sum(p) == 18 ? 0 : 2;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(memory.sum(p), 5u);
  EXPECT_EQ(detail::percpu_lock_token(), token);
}

TEST(PercpuBarrier, AnyNumberOfACpuWillDo) {
  detail::percpu_barrier(0);
  detail::percpu_barrier(possible_cpus() - 1);
  detail::percpu_barrier(possible_cpus());
  detail::percpu_barrier(100'000);
  detail::percpu_barrier_everywhere();
}

// ---------------------------------------------------------------- stacks and gates

constexpr std::size_t kHead = 64;

struct PercpuRecord : ::testing::Test {
  bool push(std::size_t item, std::size_t capacity) {
    return detail::stack_push<kPercpuUnitStride>(p.unit0, kHead, reinterpret_cast<void*>(item),
                                                 capacity);
  }
  std::size_t pop() {
    return reinterpret_cast<std::size_t>(detail::stack_pop<kPercpuUnitStride>(p.unit0, kHead));
  }
  std::byte* here() const { return per_cpu_ptr(p, PinnedThread::cpu()); }
  std::uint32_t* lock() const { return reinterpret_cast<std::uint32_t*>(here()); }
  std::uint64_t* count() const { return reinterpret_cast<std::uint64_t*>(here() + kHead); }

  PinnedThread pinned;
  PercpuMemory memory;
  const PercpuPtr<std::byte> p = memory.at<std::byte>(kOffset);
};
using PercpuStackRecord = PercpuRecord;

TEST_F(PercpuStackRecord, TheLastInIsTheFirstOutUpToTheCapacity) {
  EXPECT_EQ(pop(), 0u);
  EXPECT_FALSE(push(1, 0));
  for (const std::size_t capacity : {1u, 2u, 100u}) {
    for (std::size_t item = 1; item <= capacity; ++item) EXPECT_TRUE(push(item * 16, capacity));
    EXPECT_FALSE(push(7, capacity));
    EXPECT_EQ(*count(), capacity);
    EXPECT_EQ(count()[1], 16u);
    EXPECT_EQ(count()[capacity], capacity * 16);
    EXPECT_EQ(count()[capacity + 1], 0u) << "nothing lies behind the last slot";
    for (std::size_t item = capacity; item != 0; --item) EXPECT_EQ(pop(), item * 16);
    EXPECT_EQ(pop(), 0u);
    std::fill_n(count() + 1, capacity, 0u);
  }
  EXPECT_EQ(*lock(), 0u);
}

TEST_F(PercpuStackRecord, WhoLocksItHasItAlone) {
  EXPECT_TRUE(push(16, 10));
  ASSERT_TRUE(detail::fallback::lock_record(lock(), 1));
  EXPECT_FALSE(push(32, 10));
  EXPECT_EQ(pop(), 0u);
  EXPECT_FALSE(detail::fallback::lock_record(lock(), 100));
  detail::percpu_barrier(PinnedThread::cpu());
  EXPECT_EQ(*count(), 1u);
  *count() = 0;
  detail::fallback::unlock_record(lock());
  EXPECT_EQ(pop(), 0u);
  EXPECT_TRUE(push(48, 10));
  EXPECT_EQ(pop(), 48u);
}

TEST_F(PercpuStackRecord, ALockThatAForkLeftBehindCanBeTaken) {
  ASSERT_TRUE(detail::fallback::lock_record(lock(), 1));
  const int code = testing::run_in_child([&] {
    if (!detail::fallback::lock_record(lock(), 1)) return 1;
    if (detail::fallback::lock_record(lock(), 1)) return 2;
    detail::fallback::unlock_record(lock());
    return push(16, 1) && pop() == 16 ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
  EXPECT_FALSE(detail::fallback::lock_record(lock(), 1)) << "the parent's is its own still";
}

struct PercpuNumbers : PercpuRecord {
  bool push(std::uint32_t item) {
    return detail::stack_push_number<kPercpuUnitStride>(p.unit0, kHead, item);
  }
  std::uint32_t pop() { return detail::stack_pop_number<kPercpuUnitStride>(p.unit0, kHead); }
  std::uint32_t* head() const { return reinterpret_cast<std::uint32_t*>(here() + kHead); }
};

TEST_F(PercpuNumbers, HaveNoRoomUntilSomeIsGranted) {
  EXPECT_EQ(pop(), 0u);
  EXPECT_FALSE(push(1));
  for (const std::uint32_t limit : {1u, 2u, 64u}) {
    head()[1] = limit;
    for (std::uint32_t item = 1; item <= limit; ++item) EXPECT_TRUE(push(item));
    EXPECT_FALSE(push(7));
    EXPECT_EQ(head()[0], limit);
    EXPECT_EQ(head()[2], 1u);
    EXPECT_EQ(head()[1 + limit], limit);
    EXPECT_EQ(head()[2 + limit], 0u) << "nothing lies behind the last slot";
    for (std::uint32_t item = limit; item != 0; --item) EXPECT_EQ(pop(), item);
    EXPECT_EQ(pop(), 0u);
    std::fill_n(head() + 2, limit, 0u);
  }
  // What is above a limit that was lowered comes out, and nothing goes in.
  EXPECT_TRUE(push(0xffffffff));
  EXPECT_TRUE(push(5));
  head()[1] = 1;
  EXPECT_FALSE(push(6));
  EXPECT_EQ(pop(), 5u);
  EXPECT_FALSE(push(6));
  EXPECT_EQ(pop(), 0xffffffff);
  EXPECT_TRUE(push(6));
}

TEST_F(PercpuNumbers, WhoLocksTheRecordHasThemAlone) {
  head()[1] = 10;
  EXPECT_TRUE(push(16));
  ASSERT_TRUE(detail::fallback::lock_record(lock(), 1));
  EXPECT_FALSE(push(32));
  EXPECT_EQ(pop(), 0u);
  EXPECT_EQ(head()[0], 1u);
  detail::fallback::unlock_record(lock());
  EXPECT_EQ(pop(), 16u);
}

#if MMKIT_PERCPU_HAS_RSEQ

using detail::rseq::Outcome;

// Only rseq has these; a caller has an answer of its own to `unready`.
struct PercpuSequence : PercpuRecord {
  void SetUp() override {
    if (percpu_mode() != PercpuMode::rseq) GTEST_SKIP() << percpu_mode_reason();
    EXPECT_TRUE(detail::percpu_thread_ready() || detail::percpu_enter_thread());
  }
  std::uint64_t* word() const { return memory.at<std::uint64_t>(kOffset).unit0; }
  std::uint64_t& value() const { return *reinterpret_cast<std::uint64_t*>(here()); }
};

TEST_F(PercpuSequence, AddsThroughAGateWhileItIsOpen) {
  std::uint32_t gate = 0;
  EXPECT_EQ(detail::rseq::add_through_gate<kPercpuUnitStride>(word(), 3, &gate), Outcome::done);
  EXPECT_EQ(value(), 3u);
  for (const std::uint32_t closed : {1u, 0x80000000u}) {
    gate = closed;
    EXPECT_EQ(detail::rseq::add_through_gate<kPercpuUnitStride>(word(), 3, &gate),
              Outcome::refused);
  }
  EXPECT_EQ(value(), 3u);
}

TEST_F(PercpuSequence, AddsToAPairAtOnce) {
  std::uint64_t* const pair = memory.at<std::uint64_t>(kOffset).unit0;
  ASSERT_EQ(reinterpret_cast<std::uintptr_t>(pair) % 16, 0u);
  EXPECT_TRUE(detail::rseq::add_pair<kPercpuUnitStride>(pair, 1, 4096));
  EXPECT_TRUE(detail::rseq::add_pair<kPercpuUnitStride>(pair, 2, ~std::uint64_t{0}));
  EXPECT_EQ((&value())[0], 3u);
  EXPECT_EQ((&value())[1], 4095u);
  EXPECT_TRUE(detail::rseq::add_pair<kPercpuUnitStride>(pair, ~std::uint64_t{0}, 0));
  EXPECT_EQ((&value())[0], 2u) << "no carry from word to word";
  EXPECT_EQ((&value())[1], 4095u);
  EXPECT_EQ((&value())[2], 0u);
}

TEST_F(PercpuSequence, AddsWithinAReach) {
  const auto add = [&](std::int64_t amount, std::uint64_t reach) {
    return detail::rseq::add_within<kPercpuUnitStride>(word(), static_cast<std::uint64_t>(amount),
                                                       reach);
  };
  const auto now = [&] { return static_cast<std::int64_t>(value()); };
  EXPECT_EQ(add(32, 32), Outcome::done);
  EXPECT_EQ(add(1, 32), Outcome::refused);
  EXPECT_EQ(now(), 32);
  EXPECT_EQ(add(-64, 32), Outcome::done);
  EXPECT_EQ(add(-1, 32), Outcome::refused);
  EXPECT_EQ(now(), -32);
  EXPECT_EQ(add(32, 0), Outcome::done);
  EXPECT_EQ(add(1, 0), Outcome::refused);
  EXPECT_EQ(add(0, 0), Outcome::done);
  for (const std::int64_t far :
       {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min(),
        std::numeric_limits<std::int64_t>::min() + 1}) {
    EXPECT_EQ(add(far, 1000), Outcome::refused);
    EXPECT_EQ(now(), 0);
  }
}

// Sequences leave rseq_cs where it is; who is interrupted elsewhere must not care.
TEST_F(PercpuSequence, AThreadThatIsNotReadyIsTold) {
  std::thread([&] {
    const bool ready = detail::percpu_thread_ready();
    std::uint32_t gate = 0;
    const Outcome outcome = detail::rseq::add_through_gate<kPercpuUnitStride>(word(), 0, &gate);
    EXPECT_EQ(outcome, ready ? Outcome::done : Outcome::unready);
    EXPECT_EQ(detail::percpu_thread_ready(), ready);
  }).join();
  EXPECT_EQ(value(), 0u);
}

TEST_F(PercpuSequence, RegisteringAThreadTwiceIsFineAndLeavesErrnoAlone) {
  const bool of_our_own = percpu_mode_reason().find("our own") != std::string_view::npos;
  if (!of_our_own) GTEST_SKIP() << percpu_mode_reason();
  errno = 77;
  EXPECT_TRUE(detail::percpu_enter_thread());
  EXPECT_EQ(errno, 77);
}

#endif

}  // namespace
}  // namespace mmkit
