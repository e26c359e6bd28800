// SPDX-License-Identifier: MIT
//
// Result over the kinds of values there are: trivial, move-only, without a default, over-aligned,
// with copies or moves that throw. Lifetimes are counted: each value made is destroyed once.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/result.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

struct Pair {
  int first;
  int second;
};

struct NoDefault {
  explicit NoDefault(int n) noexcept : number(n) {}
  int number;
};

// With a copy of its own: g++ notes each trivial over-aligned type that is passed by value.
struct alignas(256) OverAligned {
  explicit OverAligned(std::uint64_t w) noexcept : word(w) {}
  OverAligned(const OverAligned& other) noexcept : word(other.word) {}
  OverAligned& operator=(const OverAligned&) = delete;
  std::uint64_t word;
};

struct TrivialMoveOnly {
  explicit TrivialMoveOnly(int n) noexcept : number(n) {}
  TrivialMoveOnly(const TrivialMoveOnly&) = delete;
  TrivialMoveOnly(TrivialMoveOnly&&) = default;
  int number;
};

struct ThrowingMove {
  explicit ThrowingMove(int n) noexcept : number(n) {}
  ThrowingMove(ThrowingMove&& other) : number(other.number) {}  // may throw, as far as types say
  int number;
};

// Trivial in, trivial out: such a Result is passed in registers.
static_assert(std::is_trivially_copyable_v<Result<int>>);
static_assert(std::is_trivially_destructible_v<Result<int>>);
static_assert(std::is_trivially_copyable_v<Result<Pair>>);
static_assert(std::is_trivially_copyable_v<Result<void*>>);
static_assert(std::is_trivially_copyable_v<Result<NoDefault>>);
static_assert(std::is_trivially_copyable_v<Status>);
static_assert(!std::is_trivially_copyable_v<Result<std::string>>);
static_assert(sizeof(Result<int>) == 2 * sizeof(int));
static_assert(sizeof(Result<void*>) == 2 * sizeof(void*));
static_assert(sizeof(Status) == sizeof(Errc));
static_assert(alignof(Result<OverAligned>) == 256);

// Copies and moves are those of the value, in existence and in what they throw.
template <class T>
inline constexpr bool kFollowsItsValue =
    std::is_copy_constructible_v<Result<T>> ==
    std::is_copy_constructible_v<T>&& std::is_nothrow_copy_constructible_v<Result<T>> ==
    std::is_nothrow_copy_constructible_v<T>&& std::is_move_constructible_v<Result<T>> ==
    std::is_move_constructible_v<T>&& std::is_nothrow_move_constructible_v<Result<T>> ==
    std::is_nothrow_move_constructible_v<T>;
static_assert(kFollowsItsValue<int>);
static_assert(kFollowsItsValue<std::string>);
static_assert(kFollowsItsValue<std::unique_ptr<int>>);
static_assert(kFollowsItsValue<TrivialMoveOnly>);
static_assert(kFollowsItsValue<ThrowingMove>);
static_assert(!std::is_copy_assignable_v<Result<std::unique_ptr<int>>>);
static_assert(std::is_nothrow_move_assignable_v<Result<std::unique_ptr<int>>>);
static_assert(!std::is_nothrow_copy_assignable_v<Result<std::string>>);
static_assert(std::is_nothrow_move_assignable_v<Result<std::string>>);

// A reason becomes a Result by itself; a bare Errc does not, nor does a Result become a bool.
static_assert(std::is_convertible_v<Failure, Result<int>>);
static_assert(std::is_convertible_v<int, Result<int>>);
static_assert(!std::is_convertible_v<Errc, Result<int>>);
static_assert(!std::is_convertible_v<Errc, Status>);
static_assert(!std::is_convertible_v<Result<int>, bool>);
static_assert(!std::is_default_constructible_v<Result<int>>);
static_assert(std::is_nothrow_default_constructible_v<Status>);

// What the accessors give.
static_assert(std::is_same_v<decltype(*std::declval<Result<int>&>()), int&>);
static_assert(std::is_same_v<decltype(*std::declval<const Result<int>&>()), const int&>);
static_assert(std::is_same_v<decltype(*std::declval<Result<int>>()), int&&>);
static_assert(std::is_same_v<decltype(std::declval<Result<int>>().value()), int&&>);

// Counts lives and moves; copying the value 13 throws.
struct Counted {
  static inline int alive = 0;
  static constexpr int kUnlucky = 13;

  explicit Counted(int n) noexcept : number(n) { ++alive; }
  Counted(const Counted& other) : number(other.number) {
    if (number == kUnlucky) throw kUnlucky;
    ++alive;
  }
  Counted(Counted&& other) noexcept : number(std::exchange(other.number, -1)) { ++alive; }
  Counted& operator=(const Counted&) = delete;  // a Result needs no assignment of its value
  ~Counted() { --alive; }
  int number;
};

// Not inlined: g++ under a sanitizer takes the value that a failure does not have for one that may
// be read.
[[gnu::noinline]] Result<Counted> counted_failure(Errc code) {
  return fail(code);
}

TEST(Result, HoldsAValue) {
  Result<int> result = 7;
  EXPECT_TRUE(result.has_value());
  EXPECT_TRUE(static_cast<bool>(result));
  EXPECT_EQ(*result, 7);
  EXPECT_EQ(result.value(), 7);
  *result = 8;
  EXPECT_EQ(std::as_const(result).value(), 8);
  EXPECT_EQ(*std::as_const(result), 8);
}

TEST(Result, HoldsTheReason) {
  const Result<int> result = fail(Errc::busy);
  EXPECT_FALSE(result.has_value());
  EXPECT_FALSE(static_cast<bool>(result));
  EXPECT_EQ(result.error(), Errc::busy);
}

TEST(Result, OfNothingIsSuccessOrTheReason) {
  const Status good;
  EXPECT_TRUE(good.has_value());
  EXPECT_TRUE(static_cast<bool>(good));
  const Status bad = fail(Errc::io_error);
  EXPECT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error(), Errc::io_error);
}

TEST(Result, ReachesMembersByArrow) {
  Result<Pair> result = Pair{1, 2};
  EXPECT_EQ(result->first, 1);
  result->second = 5;
  EXPECT_EQ(std::as_const(result)->second, 5);
}

TEST(Result, HoldsValuesThatLookLikeReasons) {
  const Result<Errc> value = Errc::busy;
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(*value, Errc::busy);
  const Result<Errc> reason = fail(Errc::io_error);
  ASSERT_FALSE(reason.has_value());
  EXPECT_EQ(reason.error(), Errc::io_error);

  const Result<std::error_code> code = std::error_code(Errc::busy);
  ASSERT_TRUE(code.has_value());
  EXPECT_EQ(*code, Errc::busy);
  const Result<bool> no = false;
  ASSERT_TRUE(no.has_value());
  EXPECT_FALSE(*no);
}

TEST(Result, CarriesMoveOnlyValues) {
  auto make = [](bool good) -> Result<std::unique_ptr<int>> {
    if (!good) return fail(Errc::out_of_memory);
    return std::make_unique<int>(3);
  };
  Result<std::unique_ptr<int>> result = make(true);
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(**result, 3);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 3);
  EXPECT_EQ(*result, nullptr);  // moved from, still a value
  EXPECT_TRUE(result.has_value());
  EXPECT_EQ(*make(true).value(), 3) << "value() of a temporary gives the value away";
  result = make(false);
  EXPECT_EQ(result.error(), Errc::out_of_memory);

  std::vector<Result<std::unique_ptr<int>>> many;  // asks the traits whether it may copy
  for (int i = 0; i < 10; ++i) many.push_back(make(i % 2 == 0));
  EXPECT_EQ(**many[8], 3);
  EXPECT_FALSE(many[9].has_value());

  Result<TrivialMoveOnly> trivial = TrivialMoveOnly(4);
  EXPECT_EQ((*std::move(trivial)).number, 4);
}

TEST(Result, CarriesValuesWithoutADefault) {
  Result<NoDefault> result = fail(Errc::not_found);
  EXPECT_FALSE(result.has_value());
  result = NoDefault(9);
  EXPECT_EQ(result->number, 9);
}

TEST(Result, CarriesValuesWhoseMoveMayThrow) {
  Result<ThrowingMove> result = ThrowingMove(5);
  const Result<ThrowingMove> moved = std::move(result);
  EXPECT_EQ(moved->number, 5);
}

TEST(Result, KeepsTheAlignmentOfItsValue) {
  const Result<OverAligned> one = OverAligned(11);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*one) % 256, 0u);
  EXPECT_EQ(one->word, 11u);
  const auto on_heap = std::make_unique<Result<OverAligned>>(OverAligned(12));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&**on_heap) % 256, 0u);
}

TEST(Result, DestroysEachValueOnce) {
  Counted::alive = 0;
  {
    Result<Counted> a = Counted(1);
    EXPECT_EQ(Counted::alive, 1);
    Result<Counted> b = a;
    EXPECT_EQ(Counted::alive, 2);
    Result<Counted> c = std::move(a);
    EXPECT_EQ(Counted::alive, 3);  // a holds a value that was moved from
    EXPECT_EQ(a->number, -1);
    const Result<Counted> failed = counted_failure(Errc::busy);
    c = failed;
    EXPECT_EQ(Counted::alive, 2);
    EXPECT_EQ(c.error(), Errc::busy);
    c = b;
    EXPECT_EQ(Counted::alive, 3);
    EXPECT_EQ(c->number, 1);
    c = counted_failure(Errc::io_error);
    EXPECT_EQ(Counted::alive, 2);
    c = counted_failure(Errc::no_space);  // a reason over a reason
    EXPECT_EQ(c.error(), Errc::no_space);
    c = std::move(b);
    EXPECT_EQ(Counted::alive, 3);
    EXPECT_EQ(c->number, 1);
  }
  EXPECT_EQ(Counted::alive, 0);
}

TEST(Result, SurvivesAssignmentToItself) {
  Counted::alive = 0;
  {
    Result<Counted> result = Counted(4);
    Result<Counted>& same = result;
    result = same;
    EXPECT_EQ(result->number, 4);
    result = std::move(same);
    EXPECT_EQ(result->number, 4);
    EXPECT_EQ(Counted::alive, 1);
  }
  EXPECT_EQ(Counted::alive, 0);

  Result<std::unique_ptr<int>> pointer = std::make_unique<int>(5);
  Result<std::unique_ptr<int>>& same = pointer;
  pointer = std::move(same);
  ASSERT_NE(*pointer, nullptr);
  EXPECT_EQ(**pointer, 5);
}

TEST(Result, KeepsWhatItHeldWhenACopyThrows) {
  Counted::alive = 0;
  {
    const Result<Counted> unlucky = Counted(Counted::kUnlucky);
    Result<Counted> value = Counted(2);
    EXPECT_THROW(value = unlucky, int);
    ASSERT_TRUE(value.has_value());
    EXPECT_EQ(value->number, 2);
    Result<Counted> reason = counted_failure(Errc::busy);
    EXPECT_THROW(reason = unlucky, int);
    EXPECT_EQ(reason.error(), Errc::busy);
    EXPECT_THROW(static_cast<void>(Result<Counted>{unlucky}), int);
    EXPECT_EQ(Counted::alive, 2);
  }
  EXPECT_EQ(Counted::alive, 0);
}

TEST(Result, IgnoresOverloadedOperatorsOfItsValue) {
  struct Strange {
    int number;
    Strange* operator&() { return nullptr; }
    const Strange* operator&() const { return nullptr; }
  };
  Result<Strange> result = Strange{6};
  EXPECT_EQ(result->number, 6);
}

TEST(Gfp, JoinsAndTellsFlags) {
  constexpr Gfp both = Gfp::nowait | Gfp::zero;
  static_assert(has(both, Gfp::nowait) && has(both, Gfp::zero));
  static_assert(!has(both, Gfp::highmem) && !has(both, Gfp::movable));
  static_assert(!has(Gfp::kernel, Gfp::nowait) && (Gfp::kernel | Gfp::zero) == Gfp::zero);
  static_assert(without(both, Gfp::zero) == Gfp::nowait);
  static_assert(without(Gfp::nowait, Gfp::zero) == Gfp::nowait);
  static_assert(kAnyNode == -1);
  SUCCEED();
}

}  // namespace
}  // namespace mmkit
