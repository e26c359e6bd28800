// SPDX-License-Identifier: MIT
//
// FailingHeap - fails the n-th allocation from the heap, once or for ever, and counts what lives.
//
// Every form of operator new of this executable ends in the doubles of zpool_failing_heap.cpp: what
// the library takes with nothrow new, and what a container would take behind its back.
// Locking: counts are of all threads; failures are of the thread that asks for them
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmkit::testing {

class FailingHeap {
 public:
  enum class Failing { once, for_ever };

  /// Makes the n-th allocation of this thread from now on fail; with for_ever also all after it.
  static void fail_nth(std::uint64_t n, Failing how) noexcept;
  /// Fails nothing from now on.
  static void succeed() noexcept;
  /// Allocations that were failed since fail_nth().
  static std::uint64_t failed() noexcept;

  /// What is allocated and not freed, in the whole process.
  static std::size_t live_blocks() noexcept;
  static std::size_t live_bytes() noexcept;
};

}  // namespace mmkit::testing
