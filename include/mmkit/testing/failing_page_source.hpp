// SPDX-License-Identifier: MIT
//
// FailingPageSource - a page source that fails when it is told to, for tests.
//
// Stands in front of another source, which does the work. Allocations are counted from the moment
// the failure is asked for:
//
//   FailingPageSource pages(default_page_source());
//   for (std::uint64_t n = 1;; ++n) {
//     pages.fail_nth(n, FailingPageSource::Repeat::once);
//     const Status status = operation_under_test(pages);
//     if (pages.failed_calls() == 0) break;  // fewer than n allocations: every point was tried
//     ...status says out_of_memory, nothing is lost, and the same again succeeds
//   }
//
// Invariants: 1 calls first_to_fail_ up to, not including, end_of_failing_ fail; calls count from 1
// Locking:    none; counters are atomic
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mmkit/page/page_source.hpp>

namespace mmkit {

/// Fails the n-th allocation, once or for ever; forwards everything else. Thread safety: safe;
/// fail_nth() and succeed() while allocations are under way take effect somewhere among them.
class FailingPageSource final : public PageSource {
 public:
  enum class Repeat { once, for_ever };

  /// `inner` outlives this source and may be used besides.
  explicit FailingPageSource(PageSource& inner) noexcept : inner_(inner) {}

  /// Makes the n-th allocation from now on fail with `code`, and with Repeat::for_ever all after
  /// it. `n` is 1 for the very next. Sets failed_calls() to 0.
  void fail_nth(std::uint64_t n, Repeat repeat, Errc code = Errc::out_of_memory) noexcept {
    MMKIT_CHECK(n != 0);
    succeed();
    code_.store(code, std::memory_order_relaxed);  // ordered by the release below
    failed_.store(0, std::memory_order_relaxed);
    const std::uint64_t first = calls_.load(std::memory_order_relaxed) + n;
    end_of_failing_.store(repeat == Repeat::once ? first + 1 : kNever, std::memory_order_relaxed);
    first_to_fail_.store(first, std::memory_order_release);  // pairs with the acquire in fails()
  }
  /// Lets all allocations through again.
  void succeed() noexcept { first_to_fail_.store(kNever, std::memory_order_release); }

  /// Allocations asked for since this source exists, whatever came of them.
  std::uint64_t allocate_calls() const noexcept { return calls_.load(std::memory_order_relaxed); }
  /// Allocations that this source failed since the last fail_nth().
  std::uint64_t failed_calls() const noexcept { return failed_.load(std::memory_order_relaxed); }
  std::uint64_t free_calls() const noexcept { return frees_.load(std::memory_order_relaxed); }

  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    if (fails(calls_.fetch_add(1, std::memory_order_relaxed) + 1)) {
      failed_.fetch_add(1, std::memory_order_relaxed);
      return fail(code_.load(std::memory_order_relaxed));
    }
    return inner_.allocate_pages(request);
  }
  void free_pages(PageRun run) noexcept override {
    frees_.fetch_add(1, std::memory_order_relaxed);
    inner_.free_pages(run);
  }
  Result<SharedRange> share(const PageRun& run) const noexcept override {
    return inner_.share(run);
  }
  /// The inner source's. Failures made here are not among them.
  PageSourceStats stats() const noexcept override { return inner_.stats(); }
  bool inherited_by_fork() const noexcept override { return inner_.inherited_by_fork(); }

 private:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  bool fails(std::uint64_t call) const noexcept {
    // Acquire: pairs with the release in fail_nth(), so that code and end belong to it.
    return call >= first_to_fail_.load(std::memory_order_acquire) &&
           call < end_of_failing_.load(std::memory_order_relaxed);
  }

  PageSource& inner_;
  // Relaxed where nothing is said: counts, read for their own sake.
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> frees_{0};
  std::atomic<std::uint64_t> first_to_fail_{kNever};
  std::atomic<std::uint64_t> end_of_failing_{kNever};
  std::atomic<Errc> code_{Errc::out_of_memory};
};

}  // namespace mmkit
