// SPDX-License-Identifier: MIT
//
// Checks - what only a wrong program does is found, named, and ends the program.
//
// Not for what a correct program meets (no memory, not found): that is a Result (result.hpp).
//
//   MMKIT_CHECK   every build   guards memory safety; constant time
//   MMKIT_ASSERT  level >= 1    preconditions, postconditions, lock held; constant time
//   MMKIT_AUDIT   level >= 2    may walk a structure; calls validate()
//
// The level is the macro MMKIT_CHECK_LEVEL, the same for the library and everything that includes
// its headers (the build exports it). A condition has no side effect: below its level it is not
// evaluated, only compiled.
//
// A report takes this way: caller -> FailureReport -> handler -> abort. The default handler formats
// into a buffer on its stack and calls write(2) once, so that it works in a signal handler and
// without memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#ifndef MMKIT_CHECK_LEVEL
#ifdef NDEBUG
#define MMKIT_CHECK_LEVEL 0
#else
#define MMKIT_CHECK_LEVEL 1
#endif
#endif

namespace mmkit {

/// A check that failed, or objects left at destruction. The views live for the call of the handler.
struct FailureReport {
  std::string_view part;    ///< which part: "zbud", "page"; file and line for a check of our own
  std::string_view object;  ///< the name of the pool, if it has one
  std::string_view fault;   ///< what is wrong: "dead handle"
  std::uint64_t value;      ///< the offending value, or a count for objects left
};

using FailureHandler = void (*)(const FailureReport&) noexcept;

/// Sets who hears of misuse; nullptr sets the default (one line on standard error, then abort).
/// Returns the handler before. If a handler returns, the library aborts.
/// Thread safety: safe, also in signal handlers.
FailureHandler set_failure_handler(FailureHandler handler) noexcept;

/// Sets who hears of objects that are alive when their pool ends; nullptr sets the default (one
/// line on standard error). Returns the handler before. The library goes on when it returns.
/// Thread safety: safe, also in signal handlers.
FailureHandler set_leak_handler(FailureHandler handler) noexcept;

/// Formats a report as the default handler prints it, without the newline:
/// ``mmkit: zbud pool 'cache': dead handle 0x2a00000017``.
/// Writes at most `capacity` bytes, no terminator; returns how many.
/// Thread safety: safe, also in signal handlers; allocates nothing.
std::size_t format_report(const FailureReport& report, char* out, std::size_t capacity) noexcept;

/// Hands a misuse to the failure handler and aborts, whatever the handler does. A pool names its
/// misuse with no lock held, so that the handler may ask it; a check of our own may hold locks.
/// Thread safety: safe.
[[noreturn]] void report_failure(const FailureReport& report) noexcept;

/// Hands objects left at destruction to the leak handler. Thread safety: safe.
void report_leak(const FailureReport& report) noexcept;

namespace detail {
[[noreturn]] void check_failed(const char* condition, const char* file, unsigned line) noexcept;
}  // namespace detail

}  // namespace mmkit

// Variadic, so that a condition may have commas: MMKIT_CHECK(std::is_same_v<A, B>).
#define MMKIT_CHECK(...)                               \
  (__builtin_expect(static_cast<bool>(__VA_ARGS__), 1) \
       ? static_cast<void>(0)                          \
       : ::mmkit::detail::check_failed(#__VA_ARGS__, __FILE_NAME__, __LINE__))

// Compiled, so that it cannot rot, and never evaluated.
#define MMKIT_IGNORED_CHECK(...) static_cast<void>(sizeof(static_cast<bool>(__VA_ARGS__)))

#if MMKIT_CHECK_LEVEL >= 1
#define MMKIT_ASSERT(...) MMKIT_CHECK(__VA_ARGS__)
#else
#define MMKIT_ASSERT(...) MMKIT_IGNORED_CHECK(__VA_ARGS__)
#endif

#if MMKIT_CHECK_LEVEL >= 2
#define MMKIT_AUDIT(...) MMKIT_CHECK(__VA_ARGS__)
#else
#define MMKIT_AUDIT(...) MMKIT_IGNORED_CHECK(__VA_ARGS__)
#endif
