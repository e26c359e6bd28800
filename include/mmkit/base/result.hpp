// SPDX-License-Identifier: MIT
//
// Result - a value, or the Errc that says why there is none.
//
// A strict subset of std::expected<T, Errc>, to become an alias of it one day. Our own until then,
// because it must warn when it is ignored, cost little to include and depend on nothing.
#pragma once

#include <mmkit/base/check.hpp>
#include <mmkit/base/errc.hpp>
#include <new>
#include <type_traits>
#include <utility>

namespace mmkit {

/// The failing half of a Result: `return fail(Errc::busy);`.
struct Failure {
  Errc code;
};

/// Makes a Failure. Thread safety: safe.
constexpr Failure fail(Errc code) noexcept {
  return {code};
}

namespace detail {

/// `value()` of a failed Result: a check, never an exception.
[[noreturn]] void value_of_failed_result(Errc code) noexcept;

// The code 0 is no Errc, so it can mean "there is a value".
inline constexpr Errc kNoFailure{};

// A trivial value, or none. Not in a union where it can be made from nothing: g++ copies a union
// through the stack, in one wide load behind two narrow stores, which waits for every store before.
template <class T, bool kFromNothing>
struct TrivialValue {
  TrivialValue() noexcept {}
  explicit TrivialValue(T&& value) noexcept : value_(std::move(value)) {}
  union {
    T value_;
  };
};
template <class T>
struct TrivialValue<T, true> {
  TrivialValue() noexcept = default;
  explicit TrivialValue(T&& value) noexcept : value_(std::move(value)) {}
  T value_{};
};

// Where value and code lie. A trivial T gives a trivial Result, which travels in registers; clang
// 14 cannot say so with a requires clause on the special members, hence two classes.
template <class T, bool kTrivial>
class ResultStorage : protected TrivialValue<T, std::is_nothrow_default_constructible_v<T>> {
  using Value = TrivialValue<T, std::is_nothrow_default_constructible_v<T>>;

 public:
  explicit ResultStorage(T&& value) noexcept : Value(std::move(value)) {}
  explicit ResultStorage(Failure failure) noexcept : code_(static_cast<Code>(failure.code)) {}

 protected:
  Errc code() const noexcept { return static_cast<Errc>(code_); }

 private:
  // As wide as its room, so that no padding follows: g++ returns a struct with padding through the
  // stack, by a wide load behind a narrow store, which waits for every store before it.
  using Code = std::conditional_t<(alignof(T) > alignof(Errc)), long, int>;
  Code code_ = 0;
};

template <class T>
class ResultStorage<T, false> {
 public:
  explicit ResultStorage(T&& value) noexcept(std::is_nothrow_move_constructible_v<T>)
      : value_(std::move(value)) {}
  explicit ResultStorage(Failure failure) noexcept : code_(failure.code) {}
  ResultStorage(const ResultStorage& other) noexcept(std::is_nothrow_copy_constructible_v<T>)
      : code_(other.code_) {
    if (code_ == kNoFailure) construct(other.value_);
  }
  ResultStorage(ResultStorage&& other) noexcept(std::is_nothrow_move_constructible_v<T>)
      : code_(other.code_) {
    if (code_ == kNoFailure) construct(std::move(other.value_));
  }
  // By way of a copy: one that throws does so before this object changes.
  ResultStorage& operator=(const ResultStorage& other) noexcept(
      std::is_nothrow_copy_constructible_v<T>) {
    return *this = ResultStorage(other);
  }
  ResultStorage& operator=(ResultStorage&& other) noexcept {
    static_assert(std::is_nothrow_move_constructible_v<T>, "assignment must not lose both values");
    if (this == &other) return *this;
    destroy();
    code_ = other.code_;
    if (code_ == kNoFailure) construct(std::move(other.value_));
    return *this;
  }
  ~ResultStorage() { destroy(); }

 protected:
  template <class U>
  void construct(U&& value) noexcept(std::is_nothrow_constructible_v<T, U>) {
    ::new (static_cast<void*>(__builtin_addressof(value_))) T(std::forward<U>(value));
  }
  void destroy() noexcept {
    if (code_ == kNoFailure) value_.~T();
  }
  Errc code() const noexcept { return code_; }

  union {
    T value_;
  };
  Errc code_ = kNoFailure;
};

template <class T>
inline constexpr bool kTrivialResult =
    std::is_trivially_copyable_v<T>&& std::is_trivially_destructible_v<T>;

// Takes the copies from a Result whose T has none, so that type traits tell the truth of it.
template <bool kCopies>
struct CopyIf {};
template <>
struct CopyIf<false> {
  CopyIf() = default;
  CopyIf(const CopyIf&) = delete;
  CopyIf(CopyIf&&) = default;
  CopyIf& operator=(const CopyIf&) = delete;
  CopyIf& operator=(CopyIf&&) = default;
};

}  // namespace detail

/// A T, or an Errc. Thread safety: caller serialises, as for any value.
template <class T>
class [[nodiscard]] Result : private detail::ResultStorage<T, detail::kTrivialResult<T>>,
                             private detail::CopyIf<std::is_copy_constructible_v<T>> {
  static_assert(std::is_object_v<T> && !std::is_same_v<std::remove_cv_t<T>, Failure>);
  using Storage = detail::ResultStorage<T, detail::kTrivialResult<T>>;

 public:
  /// Holds the value.
  Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)  // NOLINT: as std::expected
      : Storage(std::move(value)) {}
  /// Holds the reason.
  Result(Failure failure) noexcept : Storage(failure) {  // NOLINT: as std::unexpected
    MMKIT_CHECK(failure.code != detail::kNoFailure);
  }

  /// Whether there is a value.
  bool has_value() const noexcept { return this->code() == detail::kNoFailure; }
  explicit operator bool() const noexcept { return has_value(); }

  /// The value. There must be one: debug builds check it.
  T& operator*() & noexcept {
    MMKIT_ASSERT(has_value());
    return this->value_;
  }
  const T& operator*() const& noexcept {
    MMKIT_ASSERT(has_value());
    return this->value_;
  }
  T&& operator*() && noexcept {
    MMKIT_ASSERT(has_value());
    return std::move(this->value_);
  }
  T* operator->() noexcept {
    MMKIT_ASSERT(has_value());
    return __builtin_addressof(this->value_);
  }
  const T* operator->() const noexcept {
    MMKIT_ASSERT(has_value());
    return __builtin_addressof(this->value_);
  }

  /// The value. On a failure every build reports "value of a failed result" and aborts.
  T& value() & {
    require();
    return this->value_;
  }
  const T& value() const& {
    require();
    return this->value_;
  }
  T&& value() && {
    require();
    return std::move(this->value_);
  }

  /// Why there is no value. There must be none: debug builds check it.
  Errc error() const noexcept {
    MMKIT_ASSERT(!has_value());
    return this->code();
  }

 private:
  void require() const noexcept {
    if (!has_value()) detail::value_of_failed_result(this->code());
  }
};

/// Success, or an Errc. Thread safety: caller serialises.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() noexcept = default;
  Result(Failure failure) noexcept : code_(failure.code) {  // NOLINT: as std::unexpected
    MMKIT_CHECK(failure.code != detail::kNoFailure);
  }

  bool has_value() const noexcept { return code_ == detail::kNoFailure; }
  explicit operator bool() const noexcept { return has_value(); }
  /// Why it failed. It must have: debug builds check it.
  Errc error() const noexcept {
    MMKIT_ASSERT(!has_value());
    return code_;
  }

 private:
  Errc code_ = detail::kNoFailure;
};

using Status = Result<void>;

}  // namespace mmkit
