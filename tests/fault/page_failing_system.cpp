// SPDX-License-Identifier: MIT
#include "page_failing_system.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <mmkit/page/page_size.hpp>
#include <new>
#include <utility>

// The names that the linker makes of --wrap.
extern "C" {
void* __real_mmap(void*, size_t, int, int, int, off_t);  // NOLINT: the linker's names
int __real_munmap(void*, size_t);                        // NOLINT
int __real_madvise(void*, size_t, int);                  // NOLINT
int __real_memfd_create(const char*, unsigned);          // NOLINT
int __real_ftruncate(int, off_t);                        // NOLINT
long __real_syscall(long, ...);                          // NOLINT
void* __wrap_mmap(void*, size_t, int, int, int, off_t);
int __wrap_munmap(void*, size_t);
int __wrap_madvise(void*, size_t, int);
int __wrap_memfd_create(const char*, unsigned);
int __wrap_ftruncate(int, off_t);
long __wrap_syscall(long, ...);
}

namespace mmkit::testing {
namespace {

constexpr int kAnyCall = -1;

// Sequentially consistent throughout: this is no place to save.
struct Plan {
  std::atomic<bool> watching{false};
  std::atomic<int> kind{kAnyCall};
  std::atomic<std::uint64_t> left{0};  // calls until the one that fails; 0 fails none
  std::atomic<bool> for_ever{false};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> calls[kSystemCalls];
  std::atomic<std::uint64_t> pages_taken_back{0};
  std::function<void()> hook;
};
Plan plan;

// Whether this call is to fail.
bool fails(SystemCall call) noexcept {
  if (!plan.watching) return false;
  ++plan.calls[static_cast<std::size_t>(call)];
  if (plan.left == 0 || (plan.kind != kAnyCall && plan.kind != static_cast<int>(call))) {
    return false;
  }
  if (plan.left > 1) {
    --plan.left;
    return false;
  }
  if (!plan.for_ever) plan.left = 0;
  ++plan.failed;
  errno = ENOMEM;
  return true;
}

void arm(int kind, std::uint64_t n, Failing how) noexcept {
  plan.failed = 0;
  plan.for_ever = how == Failing::for_ever;
  plan.kind = kind;
  plan.left = n;
}

}  // namespace

FailingSystem::FailingSystem() noexcept {
  for (std::atomic<std::uint64_t>& count : plan.calls) count = 0;
  plan.pages_taken_back = 0;
  arm(kAnyCall, 0, Failing::once);
  plan.watching = true;
}
FailingSystem::~FailingSystem() {
  plan.watching = false;
  plan.hook = nullptr;
}
void FailingSystem::fail_nth(std::uint64_t n, Failing how) noexcept {
  arm(kAnyCall, n, how);
}
void FailingSystem::fail_nth(SystemCall kind, std::uint64_t n, Failing how) noexcept {
  arm(static_cast<int>(kind), n, how);
}
void FailingSystem::on_taking_back(std::function<void()> hook) {
  plan.hook = std::move(hook);
}
void FailingSystem::succeed() noexcept {
  plan.left = 0;
}
std::uint64_t FailingSystem::failed() const noexcept {
  return plan.failed;
}
std::uint64_t FailingSystem::calls(SystemCall kind) const noexcept {
  return plan.calls[static_cast<std::size_t>(kind)];
}
std::uint64_t FailingSystem::pages_taken_back() const noexcept {
  return plan.pages_taken_back;
}

}  // namespace mmkit::testing

using mmkit::testing::fails;
using mmkit::testing::SystemCall;

void* __wrap_mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (fails(SystemCall::mmap)) return MAP_FAILED;
  return __real_mmap(address, bytes, protection, flags, fd, offset);
}
int __wrap_munmap(void* address, size_t bytes) {
  return fails(SystemCall::munmap) ? -1 : __real_munmap(address, bytes);
}
int __wrap_madvise(void* address, size_t bytes, int advice) {
  if (fails(SystemCall::madvise)) return -1;
  if (advice == MADV_DONTNEED || advice == MADV_REMOVE) {
    if (mmkit::testing::plan.hook) mmkit::testing::plan.hook();
    mmkit::testing::plan.pages_taken_back += bytes / mmkit::kPageSize;
  }
  return __real_madvise(address, bytes, advice);
}
int __wrap_memfd_create(const char* name, unsigned flags) {
  return fails(SystemCall::memfd_create) ? -1 : __real_memfd_create(name, flags);
}
int __wrap_ftruncate(int fd, off_t size) {
  return fails(SystemCall::ftruncate) ? -1 : __real_ftruncate(fd, size);
}
// Six arguments, whether or not there are so many: the C library's own does the same, and nobody
// looks whose they are.
__attribute__((no_sanitize("address"))) long __wrap_syscall(long number, ...) {
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
#ifdef SYS_process_madvise
  if (number == SYS_process_madvise) {
    if (fails(SystemCall::process_madvise)) return -1;
    if (mmkit::testing::plan.hook) mmkit::testing::plan.hook();
  }
#endif
  return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3],
                        arguments[4], arguments[5]);
}

// The library's metadata. The ordinary operator new behind them, so that every delete fits.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  if (fails(SystemCall::metadata)) return nullptr;
  try {
    return ::operator new(size);
  } catch (...) {
    return nullptr;
  }
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  if (fails(SystemCall::metadata)) return nullptr;
  try {
    return ::operator new[](size);
  } catch (...) {
    return nullptr;
  }
}
void* operator new(std::size_t size, std::align_val_t align, const std::nothrow_t&) noexcept {
  if (fails(SystemCall::metadata)) return nullptr;
  try {
    return ::operator new(size, align);
  } catch (...) {
    return nullptr;
  }
}
