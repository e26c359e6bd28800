// SPDX-License-Identifier: MIT
//
// Zpool::Control - what a Zpool keeps besides its fast path: names, limit, callback, life.
#pragma once

#include <atomic>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string>

#include "zpool/driver_entry.hpp"
#include "zpool/limited_page_source.hpp"
#include "zpool/live_pools.hpp"

namespace mmkit {

/// Stands in for the backend of a pool whose pages a fork has left behind: every use is misuse.
class LostBackend final : public ZpoolBackend {
 public:
  LostBackend(std::string_view type, std::string_view name) noexcept : type_(type), name_(name) {}

  Result<Handle> allocate(std::size_t, Gfp) noexcept override { report(); }
  Status free(Handle) noexcept override { report(); }
  void touch(Handle) noexcept override { report(); }
  Result<std::span<std::byte>> map(Handle, MapMode) noexcept override { report(); }
  void unmap(Handle) noexcept override { report(); }
  ShrinkOutcome shrink(std::size_t) noexcept override { report(); }
  Result<std::size_t> compact() noexcept override { report(); }
  std::size_t total_pages() const noexcept override { report(); }
  ZpoolStats stats() const noexcept override { report(); }
  Status validate() const noexcept override { report(); }

 private:
  [[noreturn]] void report() const noexcept {
    report_failure({type_, name_, "used after fork", 0});
  }
  std::string_view type_, name_;
};

// A mapping as it was promised; audit builds only (map_audit.cpp).
struct AuditedMapping;

struct Zpool::Control final : ForkParticipant, LivePool {
  Control(detail::DriverHold hold, ZpoolOptions&& options, PageSource& source,
          std::size_t limit_pages) noexcept;
  ~Control();

  // In the child of a fork that left the pages behind.
  bool lost() const noexcept { return pool->backend_ == &lost_backend; }

  // No lock is taken inside the audits', so where it comes in the order does not matter.
  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    audit_mutex.lock_for_fork();
  }
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS {
    audit_mutex.unlock();
  }
  void on_child() noexcept override;
  bool describe(ZpoolInfo* info) const override;

  detail::DriverHold driver;  // outlives the backend, whose code it may hold
  const std::string name;
  const Gfp gfp;
  EvictFn evict;
  LimitedPageSource pages;
  DriverTraits traits;
  bool evictable = false;
  Zpool* pool = nullptr;
  std::unique_ptr<ZpoolBackend> backend;
  LostBackend lost_backend;
  std::atomic<std::uint64_t> retried{0};  // failures of the backend that were not the last word

  Mutex audit_mutex{LockRank::leaf};
  IntrusiveList<AuditedMapping> audited MMKIT_GUARDED_BY(audit_mutex);
};

}  // namespace mmkit
