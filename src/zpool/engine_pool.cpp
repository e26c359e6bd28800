// SPDX-License-Identifier: MIT
#include <mmkit/zpool/engine_pool.hpp>

#include <algorithm>
#include <mmkit/base/check.hpp>
#include <mmkit/base/mutant.hpp>
#include <new>
#include <utility>

namespace mmkit {

// ---------------------------------------------------------------- life

EnginePool::EnginePool(std::string_view type, BackendEnv&& env) noexcept
    : gfp_(env.gfp),
      source_(*env.pages),
      evict_(std::move(env.evict)),
      engine_(env.pool_tag),
      type_(type) {}

Status EnginePool::begin_life(std::string_view name, std::size_t record_bytes) noexcept {
  name_.reset(new (std::nothrow) char[name.size() + 1]);
  if (name_ == nullptr) return fail(Errc::out_of_memory);
  std::copy(name.begin(), name.end(), name_.get());
  name_bytes_ = name.size();
  Status ready = engine_.start(record_bytes);
  has_begun_ = ready.has_value();
  return ready;
}

void EnginePool::end_life() noexcept {
  leave_fork();
  if (!has_begun_) return;
  const std::size_t objects = count(0).objects;
  if (objects == 0) return;
  // In the child of a fork a mapping may be that of a thread which is not there.
  const Handle mapped = inherited_ ? Handle::none : engine_.first_pinned();
  if (mapped != Handle::none) {
    report_failure({type_, name(), "pool destroyed with live mapping", handle_bits::raw(mapped)});
  }
  report_leak({type_, name(), "objects left at destruction", objects});
}

// What they had in their hands stays in use for ever.
void EnginePool::begin_in_child() noexcept {
  inherited_ = true;
  engine_.on_child();
  compacting_.store(false, std::memory_order_relaxed);
}

EnginePool::Eviction* EnginePool::eviction_of_another() noexcept {
  MMKIT_MUTATE(MMKIT_MUTANT_engine_evictions_stay_in_child, , return nullptr;)
  MutexLock lock(evictions_mutex_);
  for (Eviction* at = evictions_.front(); at != nullptr; at = evictions_.next(*at)) {
    if (::pthread_equal(at->thread, ::pthread_self()) == 0) return at;
  }
  return nullptr;
}

// ---------------------------------------------------------------- objects

Result<std::uint64_t> EnginePool::pin_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return fail(Errc::not_found);
  return engine_.pins().pin(handle, *slot);
}

Result<std::uint64_t> EnginePool::take_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return fail(Errc::invalid_argument);
  return engine_.pins().take(handle, *slot, slot_word::kCached);
}

void EnginePool::unmap_slowly(Handle handle) noexcept {
  ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot != nullptr && engine_.pins().unpin(handle, *slot)) return;
  report_failure({type_, name(), "handle not mapped", handle_bits::raw(handle)});
}

std::uint64_t EnginePool::find_live(Handle handle) const noexcept {
  const ObjectEngine::Slot* slot = engine_.find(handle);
  if (slot == nullptr) return 0;
  const std::uint64_t word = slot->load(std::memory_order_relaxed);
  const bool lives = slot_word::has_name(engine_.tag(), handle, word) &&
                     slot_word::state_of(word) >= slot_word::kBusy;
  return lives ? word : 0;
}

// ---------------------------------------------------------------- counts

void EnginePool::count_allocation(std::size_t size_bytes, bool is_ready) noexcept {
  if (is_ready) {
    engine_.stacks().count_allocation(size_bytes);
    return;
  }
  allocations_aside_.fetch_add(1, std::memory_order_relaxed);
  bytes_aside_.fetch_add(size_bytes, std::memory_order_relaxed);
}

Failure EnginePool::failed(Errc why) noexcept {
  failures_.fetch_add(1, std::memory_order_relaxed);  // a number on its own
  return fail(why);
}

ZpoolStats EnginePool::count(std::uint64_t gone_bytes) const noexcept {
  const CpuStacks::Counts counts = engine_.stacks().counts();
  const std::uint64_t allocations =
      counts.allocations + allocations_aside_.load(std::memory_order_relaxed);
  const std::uint64_t bytes =
      counts.bytes + bytes_aside_.load(std::memory_order_relaxed) - gone_bytes;
  const std::size_t pages = total_pages();
  return {.objects = allocations - std::min(allocations, counts.frees),
          // While others work the sum is of several moments: not less than nothing (freed where we
          // have looked, allocated where we have not), nor more than there is room for.
          .payload_bytes = static_cast<std::int64_t>(bytes) < 0
                               ? 0
                               : std::min<std::size_t>(bytes, pages * kPageSize),
          .pages = pages,
          .metadata_bytes = 0,
          .compactable_pages = 0,
          .allocations = allocations,
          .frees = counts.frees,
          .failures = failures_.load(std::memory_order_relaxed),
          .evicted = evicted_.load(std::memory_order_relaxed),
          .moved = moved_.load(std::memory_order_relaxed)};
}

}  // namespace mmkit
