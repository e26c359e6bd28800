// SPDX-License-Identifier: MIT
//
// LimitedPageSource - a page source that counts, and refuses what would pass a limit.
//
// Each pool has one, so that its pages are counted apart from those of others on the same source.
// Locking: none; a place under the limit is claimed before the source is asked, and given back when
//          the source has none.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>
#include <mmkit/base/mutant.hpp>
#include <mmkit/page/page_source.hpp>

namespace mmkit {

class LimitedPageSource final : public PageSource {
 public:
  static constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

  LimitedPageSource(PageSource& source, std::size_t limit_pages) noexcept
      : source_(source), limit_pages_(limit_pages) {}

  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    if (!claim(request.pages)) {
      // Relaxed: read by the thread that was refused.
      refusals_.fetch_add(1, std::memory_order_relaxed);
      return fail(Errc::out_of_memory);
    }
    Result<PageRun> run = source_.allocate_pages(request);
    if (!run) give_back(request.pages);
    return run;
  }
  void free_pages(PageRun run) noexcept override {
    source_.free_pages(run);
    give_back(run.pages);
  }
  Result<SharedRange> share(const PageRun& run) const noexcept override {
    return source_.share(run);
  }
  /// Of the source below: pages held by all who use it.
  PageSourceStats stats() const noexcept override { return source_.stats(); }
  bool inherited_by_fork() const noexcept override { return source_.inherited_by_fork(); }

  /// In the child of a fork: the pages that are held, calls of other threads forgotten. The thread
  /// that forked is in none: a page source does not fork.
  void recount(std::size_t held_pages) noexcept {
    held_pages_.store(held_pages, std::memory_order_relaxed);
  }

  bool limited() const noexcept { return limit_pages_ != kNoLimit; }
  std::size_t limit_pages() const noexcept { return limit_pages_; }
  /// How often the limit, and not the source, was what refused.
  std::uint64_t refusals() const noexcept { return refusals_.load(std::memory_order_relaxed); }

 private:
  // Relaxed, here and below: the count orders nothing but itself.
  bool claim(std::size_t pages) noexcept {
    std::size_t held = held_pages_.load(std::memory_order_relaxed);
    do {
      if (pages > limit_pages_ - held) return false;
    } while (MMKIT_MUTATE(
        MMKIT_MUTANT_zpool_limit_loads_then_adds,
        !held_pages_.compare_exchange_weak(held, held + pages, std::memory_order_relaxed),
        (detail::hold_window_open(), held_pages_.fetch_add(pages) == ~std::size_t{0})));
    return true;
  }
  void give_back(std::size_t pages) noexcept {
    held_pages_.fetch_sub(pages, std::memory_order_relaxed);
  }

  PageSource& source_;
  const std::size_t limit_pages_;
  std::atomic<std::size_t> held_pages_{0};
  std::atomic<std::uint64_t> refusals_{0};
};

}  // namespace mmkit
