// SPDX-License-Identifier: MIT
//
// EnginePool - what the pools on the object engine share, whatever their placement: their name and their
// misuse, what they count, who evicts and who compacts, and what a fork leaves of that.
//
//   ZsmallocPool, ZheapPool   where objects lie, and when they move
//        EnginePool           pages, counts, evictions
//           ObjectEngine      handles, slots, stacks of CPUs (object_engine.hpp)
//
// Invariants: 1 an eviction is in the list exactly while its unit belongs to its thread
// Locking:    evictions_mutex_ (pool) > the placement's
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/eviction_order.hpp>
#include <mmkit/zpool/object_engine.hpp>
#include <string_view>

namespace mmkit {

/// The base of a pool whose objects the engine names. Thread safety: every function is safe, but not
/// against destruction.
class EnginePool : public ZpoolBackend, private ForkParticipant {
 public:
  void unmap(Handle handle) noexcept final {
    ObjectEngine::Slot* slot = engine_.find(handle);
    if (slot == nullptr || !engine_.pins().try_unpin(handle, *slot)) [[unlikely]]
      unmap_slowly(handle);
  }
  std::size_t total_pages() const noexcept final {
    return pages_.load(std::memory_order_relaxed);  // a number on its own
  }

 protected:
  // A unit of pages that a shrink empties: it belongs to the thread that does it, and lies on its stack.
  struct Eviction : ListNode<> {
    explicit Eviction(std::uint32_t number_of_unit) noexcept
        : number(number_of_unit), thread(::pthread_self()) {}

    const std::uint32_t number;
    const pthread_t thread;
    bool is_gone = false;  // at the end: empty, and given back
  };

  // `type` lives for ever.
  EnginePool(std::string_view type, BackendEnv&& env) noexcept;

  // ------------------------------------------------------------------ life

  // What can fail once the object stands. `record_bytes`: see ObjectEngine::start().
  Status begin_life(std::string_view name, std::size_t record_bytes) noexcept;
  // The last thing that begins: from here on forks know the pool.
  Status take_part_in_forks() noexcept { return join_fork(LockRank::pool); }
  // The first thing that ends: misuse, or a leak. Without a lock: a handler may look at the pool.
  void end_life() noexcept;
  // In the child of a fork: what other threads of the parent were doing ends here. Evictions are left,
  // see eviction_of_another().
  void begin_in_child() noexcept;
  // An eviction of a thread that is not this one.
  Eviction* eviction_of_another() noexcept MMKIT_EXCLUDES(evictions_mutex_);

  // ------------------------------------------------------------------ objects

  // The slow halves: where a fast one saw anything but the common case.
  Result<std::uint64_t> pin_slowly(Handle handle) noexcept;
  Result<std::uint64_t> take_slowly(Handle handle) noexcept;
  void unmap_slowly(Handle handle) noexcept;
  // The word of a live object; 0 if it is none.
  std::uint64_t find_live(Handle handle) const noexcept;

  // ------------------------------------------------------------------ counts

  // An allocation. Where this CPU's counts may not be in memory, beside them.
  void count_allocation(std::size_t size_bytes, bool is_ready) noexcept;
  Failure failed(Errc why) noexcept;
  // Without what the placement knows: metadata and compactable pages. `gone_bytes` are of objects that
  // were freed without being counted.
  ZpoolStats count(std::uint64_t gone_bytes) const noexcept;
  std::size_t shared_metadata_bytes() const noexcept {
    return name_bytes_ + 1 + engine_.metadata_bytes();
  }

  // One compaction at a time: false while another is under way.
  bool begin_compaction() noexcept {
    return !compacting_.exchange(true, std::memory_order_acquire);  // pairs with end_compaction()
  }
  void end_compaction() noexcept { compacting_.store(false, std::memory_order_release); }

  // Read only after create().
  const Gfp gfp_;
  PageSource& source_;
  const std::function<Status(Handle)> evict_;

  mutable ObjectEngine engine_;
  UseClock clock_;
  alignas(64) std::atomic<std::size_t> pages_{0};
  std::atomic<std::uint64_t> evicted_{0}, moved_{0};

  mutable Mutex evictions_mutex_{LockRank::pool};
  IntrusiveList<Eviction> evictions_ MMKIT_GUARDED_BY(evictions_mutex_);
  OldestUnits oldest_ MMKIT_GUARDED_BY(evictions_mutex_);

 private:
  std::string_view name() const noexcept { return {name_.get(), name_bytes_}; }

  const std::string_view type_;
  std::unique_ptr<char[]> name_;
  std::size_t name_bytes_ = 0;
  bool has_begun_ = false;
  bool inherited_ = false;  // set in the child of a fork, while that has one thread

  std::atomic<bool> compacting_{false};
  std::atomic<std::uint64_t> failures_{0};
  std::atomic<std::uint64_t> allocations_aside_{0}, bytes_aside_{0};  // of calls that must not wait
};

}  // namespace mmkit
