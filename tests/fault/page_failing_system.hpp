// SPDX-License-Identifier: MIT
//
// FailingSystem - fails the n-th call to the system's memory functions, or the n-th allocation of
// metadata, once or for ever, and counts what was asked for.
//
// The linker sends mmap, munmap, madvise, memfd_create, ftruncate and syscall (for process_madvise
// alone) of this executable to the doubles in page_failing_system.cpp (--wrap), which also replaces
// the nothrow operator new.
// Locking: one thread at a time uses it; the calls it watches may come from any
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace mmkit::testing {

enum class SystemCall { mmap, munmap, madvise, memfd_create, ftruncate, metadata, process_madvise };
inline constexpr std::size_t kSystemCalls = 7;
enum class Failing { once, for_ever };

/// Watches the calls while it lives; fails none until told.
class FailingSystem {
 public:
  FailingSystem() noexcept;
  FailingSystem(const FailingSystem&) = delete;
  FailingSystem& operator=(const FailingSystem&) = delete;
  ~FailingSystem();

  /// Fails the n-th call from now, of those of any kind or of one; with for_ever also all after it.
  void fail_nth(std::uint64_t n, Failing how) noexcept;
  void fail_nth(SystemCall kind, std::uint64_t n, Failing how) noexcept;
  /// Runs `hook` in each call that takes pages back, before the system does; an empty one ends that.
  /// Set while no such call is under way.
  void on_taking_back(std::function<void()> hook);
  /// Fails nothing from now on.
  void succeed() noexcept;

  /// Calls that were failed since fail_nth().
  std::uint64_t failed() const noexcept;
  /// Calls of a kind since this object exists.
  std::uint64_t calls(SystemCall kind) const noexcept;
  /// Pages that MADV_DONTNEED and MADV_REMOVE took back since this object exists.
  std::uint64_t pages_taken_back() const noexcept;
};

}  // namespace mmkit::testing
