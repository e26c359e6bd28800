// SPDX-License-Identifier: MIT
#include <mmkit/page/sim_page_allocator.hpp>

#include <cstring>
#include <new>

#include "page/sim_page_state.hpp"

namespace mmkit {

using page_detail::FrameIndex;
using page_detail::FrameNode;
using page_detail::FrameTable;
using page_detail::make_resident;
using page_detail::misuse;
using page_detail::Place;
using page_detail::Reservation;
using page_detail::RunKind;

// ---------------------------------------------------------------- life

SimPageAllocator::State::~State() {
  leave_fork();
  // Whatever lies at these addresses next is not ours to forbid.
  for (unsigned i = 0; i < node_count_; ++i) {
    const FrameNode& node = nodes_[i];
    detail::unpoison(address(node.begin), std::size_t{node.high - node.begin} * kPageSize);
  }
  if (used_after_fork_) {
    memory_.forget_frames();
    return;
  }
  std::size_t held = 0;
  {
    ShortLockGuard lock(mutex_);
    held = table_.counts().held_pages;
  }
  if (held != 0) report_leak({"page", {}, "pages held at destruction", held});
}

void SimPageAllocator::State::lock_for_fork() noexcept {
  release_.lock_for_fork();
  mutex_.lock_for_fork();
}

void SimPageAllocator::State::unlock_after_fork() noexcept {
  mutex_.unlock();
  release_.unlock();
}

void SimPageAllocator::State::on_child() noexcept {
  used_after_fork_ = shareable();
  ShortLockGuard lock(mutex_);
#ifndef MMKIT_MUTANT_page_trim_lost_in_child
  trimming_ = false;  // by a thread that had not yet begun, and is not in the child
#endif
}

// ---------------------------------------------------------------- allocation

inline bool SimPageAllocator::State::is_legal(const PageRequest& request) const noexcept {
  return request.pages != 0 && is_power_of_two(request.align_pages) && request.node >= kAnyNode &&
         (request.node == kAnyNode || static_cast<unsigned>(request.node) < node_count_);
}

inline PageRun SimPageAllocator::State::hand_out(Place place, const PageRequest& request) noexcept {
  std::byte* const data = address(place.first);
  detail::unpoison(data, request.pages * kPageSize);
  // Frames that were never used, or came back from the system, read as zero already.
  if (has(request.gfp, Gfp::zero) && place.dirty) {
    std::memset(data, 0, request.pages * kPageSize);
  }
  return {data, request.pages, Pfn{place.first}};
}

inline Result<PageRun> SimPageAllocator::State::allocate(const PageRequest& request) noexcept {
  check_not_forked();
  if (!is_legal(request)) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return fail(Errc::invalid_argument);
  }
  if (has(request.gfp, Gfp::nowait)) return allocate_nowait(request);
  mutex_.lock();
  Place place = table_.place(request.pages, request.align_pages, request.node);
  MMKIT_AUDIT(sound());
  mutex_.unlock();
  if (!place) [[unlikely]] {
    place = place_any(request);
    if (!place) {
      failures_.fetch_add(1, std::memory_order_relaxed);
      return fail(Errc::out_of_memory);
    }
  }
  return hand_out(place, request);
}

Result<PageRun> SimPageAllocator::State::allocate_nowait(const PageRequest& request) noexcept {
  if (!mutex_.try_lock()) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return fail(Errc::try_again);
  }
  const Place place = table_.place_resident(request.pages, request.align_pages, request.node);
  MMKIT_AUDIT(sound());
  mutex_.unlock();
  if (!place) {
    failures_.fetch_add(1, std::memory_order_relaxed);
    return fail(Errc::out_of_memory);
  }
  return hand_out(place, request);
}

// First waits for a batch on its way, whose frames nobody can have: out_of_memory is true.
Place SimPageAllocator::State::place_any(const PageRequest& request) noexcept {
  if (request.pages > node_frames_) return {};
#ifndef MMKIT_MUTANT_page_batch_not_awaited
  MutexLock release(release_);
#endif
  ShortLockGuard lock(mutex_);
  const Place place = table_.place_any(request.pages, request.align_pages, request.node);
  MMKIT_AUDIT(sound());
  return place;
}

// ---------------------------------------------------------------- free

inline FrameIndex SimPageAllocator::State::frame_of(const PageRun& run) const noexcept {
  const std::uintptr_t value = reinterpret_cast<std::uintptr_t>(run.data);
  const std::uintptr_t offset = value - reinterpret_cast<std::uintptr_t>(memory_.frames());
  if (offset >= frames() * kPageSize) misuse("address not of this allocator", value);
  if (offset % kPageSize != 0) misuse("misaligned address", value);
  if (static_cast<std::uint64_t>(run.first) != offset / kPageSize) {
    misuse("address not of this allocator", static_cast<std::uint64_t>(run.first));
  }
  return static_cast<FrameIndex>(offset / kPageSize);
}

void SimPageAllocator::State::refuse(RunKind kind, FrameIndex first) const noexcept {
  misuse(kind == RunKind::not_held ? std::string_view("free of memory not allocated")
                                   : std::string_view("size differs from the allocation"),
         first);
}

inline void SimPageAllocator::State::free(const PageRun& run) noexcept {
  check_not_forked();
  const FrameIndex first = frame_of(run);
  if (run.pages > frames() - first) {
    ShortLockGuard lock(mutex_);
    const RunKind kind = table_.kind_of(first, run.pages);
    lock.unlock();
    refuse(kind, first);
  }
  const FrameIndex pages = static_cast<FrameIndex>(run.pages);
  if (pages > retain_pages_) return free_long(first, pages);
  // Before the lock, as it may fault. A wrong run is within our range at least, and ends the
  // program.
  make_resident(run.data, pages);
  detail::poison(run.data, pages * kPageSize);
  mutex_.lock();
  const RunKind kind = table_.kind_of(first, pages);
  if (kind != RunKind::held) [[unlikely]] {
    mutex_.unlock();
    refuse(kind, first);
  }
  table_.retain(first, pages);
  const bool trims = table_.counts().retained_pages > retain_pages_ && should_trim(pages);
  MMKIT_AUDIT(sound());
  mutex_.unlock();
  if (trims) trim();
}

// ---------------------------------------------------------------- questions

Result<SharedRange> SimPageAllocator::State::share(const PageRun& run) noexcept {
  check_not_forked();
  if (!shareable()) return fail(Errc::not_supported);
  const std::uint64_t first = static_cast<std::uint64_t>(run.first);
  if (first >= frames() || run.data != address(static_cast<FrameIndex>(first))) {
    return fail(Errc::invalid_argument);
  }
  ShortLockGuard lock(mutex_);
  if (table_.kind_of(static_cast<FrameIndex>(first), run.pages) != RunKind::held) {
    return fail(Errc::invalid_argument);
  }
  return SharedRange{memory_.fd(), memory_.file_offset_bytes(run.data)};
}

unsigned SimPageAllocator::State::node_of(const PageRun& run) const noexcept {
  return frame_of(run) / node_frames_;
}

PageSourceStats SimPageAllocator::State::stats() noexcept {
  check_not_forked();
  PageSourceStats stats;
  ShortLockGuard lock(mutex_);
  const FrameTable::Counts& counts = table_.counts();
  stats.held_pages = counts.held_pages;
  stats.peak_pages = counts.peak_pages;
  stats.resident_pages = counts.held_pages + counts.retained_pages + counts.departing_pages;
  stats.retained_pages = counts.retained_pages;
  stats.descriptor_bytes = table_.descriptor_bytes();
  stats.allocations = counts.allocations;
  stats.frees = counts.frees;
  stats.failures = failures_.load(std::memory_order_relaxed);
  stats.release_calls = release_calls_;
  stats.release_failures = release_failures_;
  return stats;
}

Status SimPageAllocator::State::validate() noexcept {
  check_not_forked();
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  if (table_.counts().departing_pages != 0) return fail(Errc::bad_format);
  return table_.validate();
}

// ---------------------------------------------------------------- the public class

Result<std::unique_ptr<SimPageAllocator>> SimPageAllocator::create(
    const SimPageAllocatorOptions& options) noexcept {
  if (options.nodes == 0 || options.nodes > kMaxNodes) return fail(Errc::invalid_argument);
  if (options.capacity_bytes / kPageSize < options.nodes) return fail(Errc::invalid_argument);
  const std::size_t node_frames =
      divide_up(divide_up(options.capacity_bytes, kPageSize), std::size_t{options.nodes});
  if (node_frames > FrameTable::kMaxFrames / options.nodes) return fail(Errc::out_of_memory);
  const std::size_t frames = node_frames * options.nodes;

  Result<Reservation> memory =
      Reservation::create(frames * kPageSize, FrameTable::bytes_for(frames), options.shareable);
  if (!memory) return fail(memory.error());
  std::unique_ptr<FrameNode[]> nodes(new (std::nothrow) FrameNode[options.nodes]);
  if (nodes == nullptr) return fail(Errc::out_of_memory);
  std::unique_ptr<State> state(new (std::nothrow) State(
      std::move(*memory), std::move(nodes), options, static_cast<FrameIndex>(node_frames)));
  if (state == nullptr) return fail(Errc::out_of_memory);
  if (const Status joined = state->join_fork(LockRank::page_release); !joined) {
    return fail(joined.error());
  }
  std::unique_ptr<SimPageAllocator> allocator(new (std::nothrow)
                                                  SimPageAllocator(std::move(state)));
  if (allocator == nullptr) return fail(Errc::out_of_memory);
  return allocator;
}

SimPageAllocator::SimPageAllocator(std::unique_ptr<State> state) noexcept
    : state_(std::move(state)) {}

SimPageAllocator::~SimPageAllocator() = default;

Result<PageRun> SimPageAllocator::allocate_pages(const PageRequest& request) noexcept {
  return state_->allocate(request);
}
void SimPageAllocator::free_pages(PageRun run) noexcept {
  state_->free(run);
}
Result<SharedRange> SimPageAllocator::share(const PageRun& run) const noexcept {
  return state_->share(run);
}
PageSourceStats SimPageAllocator::stats() const noexcept {
  return state_->stats();
}
bool SimPageAllocator::inherited_by_fork() const noexcept {
  return !state_->shareable();
}
Status SimPageAllocator::validate() const noexcept {
  return state_->validate();
}
std::size_t SimPageAllocator::release() noexcept {
  return state_->release();
}
unsigned SimPageAllocator::node_of(const PageRun& run) const noexcept {
  return state_->node_of(run);
}
unsigned SimPageAllocator::nodes() const noexcept {
  return state_->node_count();
}
std::size_t SimPageAllocator::capacity_pages() const noexcept {
  return state_->frames();
}

}  // namespace mmkit
