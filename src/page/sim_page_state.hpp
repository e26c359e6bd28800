// SPDX-License-Identifier: MIT
//
// SimPageAllocator::State - what the allocator is: the memory, the table of its frames, the locks.
//
// The class is whole here; its members are in sim_page_allocator.cpp, those that give pages back to
// the operating system in sim_page_release.cpp.
// Locking: mutex_ guards the table. release_ is held from the moment when runs are departing until
//          they are settled, so whoever holds both sees none. No system call under mutex_.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <string_view>
#include <utility>

#include "base/poison.hpp"
#include "page/frame_table.hpp"
#include "page/reservation.hpp"

namespace mmkit {

namespace page_detail {

/// Reports a misuse of the page layer. No lock is held.
[[noreturn]] inline void misuse(std::string_view fault, std::uint64_t value) noexcept {
  report_failure({"page", {}, fault, value});
}

/// Makes each page of a run private and present, without changing a byte: what is retained must not
/// fault when a nowait allocation hands it out. A plain write, since nobody else uses a freed run.
/// Not for AddressSanitizer, to which the run may be out of bounds already.
__attribute__((no_sanitize_address)) inline void make_resident(std::byte* data,
                                                               std::size_t pages) noexcept {
  constexpr std::size_t kCacheLineBytes = 64;
  for (std::size_t i = 0; i < pages; ++i) {
    // Another line in each page: the same one would fall into one set of the cache for all.
    volatile std::byte* const byte = data + i * kPageSize + i * kCacheLineBytes % kPageSize;
    *byte = *byte;
  }
}

}  // namespace page_detail

class SimPageAllocator::State final : public ForkParticipant {
  using DepartingRuns = page_detail::DepartingRuns;
  using FrameIndex = page_detail::FrameIndex;
  using FrameNode = page_detail::FrameNode;
  using FrameSpan = page_detail::FrameSpan;
  using FrameTable = page_detail::FrameTable;
  using Place = page_detail::Place;
  using Reservation = page_detail::Reservation;
  using RunKind = page_detail::RunKind;

 public:
  State(Reservation&& memory, std::unique_ptr<FrameNode[]> nodes,
        const SimPageAllocatorOptions& options, FrameIndex node_frames) noexcept
      : memory_(std::move(memory)),
        nodes_(std::move(nodes)),
        node_count_(options.nodes),
        node_frames_(node_frames),
        retain_pages_(std::min(options.retain_bytes / kPageSize, frames())),
        table_(memory_.descriptors(), nodes_.get(), node_count_, node_frames) {}
  ~State();

  Result<PageRun> allocate(const PageRequest& request) noexcept;
  void free(const PageRun& run) noexcept;
  Result<SharedRange> share(const PageRun& run) noexcept;
  PageSourceStats stats() noexcept;
  Status validate() noexcept;
  std::size_t release() noexcept;
  unsigned node_of(const PageRun& run) const noexcept;

  std::size_t frames() const noexcept { return std::size_t{node_count_} * node_frames_; }
  unsigned node_count() const noexcept { return node_count_; }
  bool shareable() const noexcept { return memory_.shareable(); }

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

 private:
  // Up to here a whole table is walked after each operation of an audit build.
  static constexpr std::size_t kAuditedFrames = 2048;

  bool is_legal(const PageRequest& request) const noexcept;
  Result<PageRun> allocate_nowait(const PageRequest& request) noexcept;
  Place place_any(const PageRequest& request) noexcept MMKIT_EXCLUDES(release_, mutex_);
  PageRun hand_out(Place place, const PageRequest& request) noexcept;

  FrameIndex frame_of(const PageRun& run) const noexcept;
  [[noreturn]] void refuse(RunKind kind, FrameIndex first) const noexcept;
  void free_long(FrameIndex first, FrameIndex pages) noexcept MMKIT_EXCLUDES(release_, mutex_);
  bool should_trim(std::size_t freed_pages) noexcept MMKIT_REQUIRES(mutex_);
  void trim() noexcept MMKIT_EXCLUDES(release_, mutex_);
  std::size_t give_back(DepartingRuns runs) noexcept MMKIT_REQUIRES(release_)
      MMKIT_EXCLUDES(mutex_);
  bool give_back(FrameSpan span) noexcept MMKIT_REQUIRES(release_) MMKIT_EXCLUDES(mutex_);

  std::byte* address(FrameIndex frame) const noexcept {
    return memory_.frames() + std::size_t{frame} * kPageSize;
  }
  void check_not_forked() const noexcept {
    if (used_after_fork_) page_detail::misuse("used after fork", frames());
  }
  bool sound() const noexcept MMKIT_REQUIRES(mutex_) {
    return frames() > kAuditedFrames || table_.validate();
  }

  Reservation memory_;
  const std::unique_ptr<FrameNode[]> nodes_;
  const unsigned node_count_;
  const FrameIndex node_frames_;
  const std::size_t retain_pages_;
  // Set in a child before it has a second thread, else constant.
  bool used_after_fork_ = false;

  Mutex release_{LockRank::page_release};
  ShortLock mutex_{LockRank::page_source};
  FrameTable table_ MMKIT_GUARDED_BY(mutex_);
  // Somebody is at it, and looks again before he ends: others need not wait for him.
  bool trimming_ MMKIT_GUARDED_BY(mutex_) = false;
  // Pages to be freed before the system is asked again, after it refused.
  std::size_t retry_in_pages_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t release_calls_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t release_failures_ MMKIT_GUARDED_BY(mutex_) = 0;
  // Outside the lock, since a nowait allocation fails without it. Relaxed: a count alone.
  std::atomic<std::uint64_t> failures_{0};
};

}  // namespace mmkit
