// SPDX-License-Identifier: MIT
//
// Mode - which area the restartable sequences use, and who registers it.
//
//   before main: choose() -> mmkit_percpu_area      read by every sequence, never written again
//   a thread's first operation in mode 2            registers the area it has in its TLS
//
// An area that is not registered has a cpu_id below zero, which is what sends a thread here. In
// fallback mode the distance leads to our own area, which then is never registered.
#include <mmkit/percpu/mode.hpp>

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mmkit/base/check.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutant.hpp>

#include "percpu/fork_token.hpp"

#if MMKIT_PERCPU_HAS_RSEQ
extern "C" {
// What others see as const: see mode.hpp. Under another name here, as one name has one type.
[[gnu::used]] std::ptrdiff_t mmkit_percpu_area_to_set asm("mmkit_percpu_area") = 0;
[[gnu::used]] bool mmkit_percpu_uses_atomics_to_set asm("mmkit_percpu_uses_atomics") = false;
// glibc 2.35 and later; absent elsewhere.
[[gnu::weak]] extern const std::ptrdiff_t __rseq_offset;
[[gnu::weak]] extern const unsigned __rseq_size;
}
#endif

namespace mmkit {
namespace {

struct Choice {
  PercpuMode mode = PercpuMode::fallback;
  bool own_area = false;
  char reason[160] = {};
};

Status membarrier(int command, unsigned flags, unsigned cpu) noexcept {
#ifdef SYS_membarrier
  if (::syscall(SYS_membarrier, command, flags, cpu) == 0) return {};
#else
  static_cast<void>(command), static_cast<void>(flags), static_cast<void>(cpu);
  errno = ENOSYS;
#endif
  return fail(Errc::not_supported);
}

constexpr int kRegisterBarrier = 1 << 8;  // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ
constexpr int kBarrier = 1 << 7;          // MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ
constexpr unsigned kOneCpu = 1;           // MEMBARRIER_CMD_FLAG_CPU

#if MMKIT_PERCPU_HAS_RSEQ

// The kernel's struct rseq, as far as it was in the beginning: 32 bytes, all that is needed.
struct alignas(32) Area {
  std::uint32_t cpu_id_start = 0;
  std::uint32_t cpu_id = static_cast<std::uint32_t>(-1);
  std::uint64_t rseq_cs = 0;
  std::uint32_t flags = 0, node_id = 0, mm_cid = 0, unused = 0;
};

constexpr unsigned kSignature = 0x53053053;

// Initial-exec: the same distance from the thread pointer in every thread.
[[gnu::tls_model("initial-exec")]] constinit thread_local Area own_area{};

bool register_own_area() noexcept {
#ifdef SYS_rseq
  return ::syscall(SYS_rseq, &own_area, sizeof own_area, 0, kSignature) == 0;
#else
  errno = ENOSYS;
  return false;
#endif
}

std::ptrdiff_t own_distance() noexcept {
  std::uintptr_t thread_pointer;
  asm("movq %%fs:0, %0" : "=r"(thread_pointer));
  return static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(&own_area) - thread_pointer);
}

Choice choose() noexcept {
  Choice choice;
  // Empty areas to begin with: what is not chosen is never registered.
  mmkit_percpu_area_to_set = own_distance();
  const char* const asked = ::secure_getenv("MMKIT_PERCPU_MODE");
  if (asked != nullptr && std::strcmp(asked, "fallback") == 0) {
    std::snprintf(choice.reason, sizeof choice.reason,
                  "atomics: MMKIT_PERCPU_MODE=fallback asks for them");
    return choice;
  }
  if (!membarrier(kRegisterBarrier, 0, 0)) {
    std::snprintf(choice.reason, sizeof choice.reason,
                  "atomics: the kernel refuses membarrier for rseq (errno %d)", errno);
    return choice;
  }
  if (&__rseq_size != nullptr && __rseq_size != 0) {
    mmkit_percpu_area_to_set = __rseq_offset;
    choice.mode = PercpuMode::rseq;
    std::snprintf(choice.reason, sizeof choice.reason, "rseq: the C library's area");
  } else if (register_own_area()) {
    choice.mode = PercpuMode::rseq;
    choice.own_area = true;
    std::snprintf(choice.reason, sizeof choice.reason,
                  "rseq: an area of our own in each thread, as the C library registers none");
  } else {
    std::snprintf(choice.reason, sizeof choice.reason,
                  "atomics: the kernel refuses to register an rseq area (errno %d)", errno);
  }
  return choice;
}

#else

Choice choose() noexcept {
  Choice choice;
  std::snprintf(choice.reason, sizeof choice.reason,
                "atomics: no restartable sequences for this machine yet");
  return choice;
}

#endif

const Choice& chosen() noexcept {
  static const Choice choice = choose();
  return choice;
}

// Counts the forks that lie between this process and the one that began.
class ForkCount final : public ForkParticipant {
 public:
  std::atomic<std::uint32_t> forks{0};
  void lock_for_fork() noexcept override {}
  void unlock_after_fork() noexcept override {}
  void on_child() noexcept override { forks.fetch_add(1, std::memory_order_relaxed); }
};

ForkCount& fork_count() noexcept {
  alignas(ForkCount) static std::byte storage[sizeof(ForkCount)];  // never destroyed
  static ForkCount* const count = ::new (storage) ForkCount;
  return *count;
}

// Before the constructors of the program: those may use per-CPU variables, and compilers may read
// mmkit_percpu_area as early as they like.
[[gnu::constructor(101)]] void choose_early() noexcept {
  mmkit_percpu_uses_atomics_to_set = chosen().mode == PercpuMode::fallback;
}

void barrier(unsigned flags, unsigned cpu) noexcept {
  if (chosen().mode == PercpuMode::fallback) return;
  if (MMKIT_MUTATE(MMKIT_MUTANT_percpu_barrier_skipped, membarrier(kBarrier, flags, cpu),
                   Status{})) {
    return;
  }
  // An older kernel has no barrier for one CPU alone, and a fork's child may have to ask again.
  if (membarrier(kBarrier, 0, 0)) return;
  if (membarrier(kRegisterBarrier, 0, 0) && membarrier(kBarrier, 0, 0)) return;
  report_failure({"percpu", {}, "membarrier refused", static_cast<std::uint64_t>(errno)});
}

}  // namespace

PercpuMode percpu_mode() noexcept {
  return chosen().mode;
}
std::string_view percpu_mode_reason() noexcept {
  return chosen().reason;
}

namespace detail {

bool percpu_enter_thread() noexcept {
  if (chosen().mode == PercpuMode::fallback) return false;
  int refusal = 0;
#if MMKIT_PERCPU_HAS_RSEQ
  // The caller is an addition, perhaps in a signal handler: errno is not its to change.
  const int before = errno;
  // EBUSY: a signal handler was faster, between our look at the area and this.
  if (chosen().own_area && (register_own_area() || errno == EBUSY)) {
    errno = before;
    return true;
  }
  if (chosen().own_area) refusal = errno;
#endif
  report_failure({"percpu", {}, "rseq registration refused", static_cast<std::uint64_t>(refusal)});
}

bool percpu_thread_ready() noexcept {
#if MMKIT_PERCPU_HAS_RSEQ
  return chosen().mode == PercpuMode::rseq && rseq_cpu() >= 0;
#else
  return false;
#endif
}

void percpu_barrier(unsigned cpu) noexcept {
  barrier(kOneCpu, cpu);
}
void percpu_barrier_everywhere() noexcept {
  barrier(0, 0);
}

Status percpu_watch_forks() noexcept {
  // It has no lock. The first rank, so that what others do in the child sees the new token.
  return fork_count().join_fork(LockRank::fork);
}

std::uint32_t percpu_lock_token() noexcept {
  return 1 + fork_count().forks.load(std::memory_order_relaxed);
}

}  // namespace detail
}  // namespace mmkit
