// SPDX-License-Identifier: MIT
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <new>

#include "page/frame_table.hpp"
#include "page/reservation.hpp"

namespace mmkit {

using page_detail::DepartingRuns;
using page_detail::FrameIndex;
using page_detail::FrameNode;
using page_detail::FrameSpan;
using page_detail::FrameTable;
using page_detail::Place;
using page_detail::Reservation;
using page_detail::RunKind;

namespace {

// After the system refused to take pages back, this many are freed at least before it is asked
// again.
constexpr std::size_t kShortestRetryPages = 64;
// Up to here a whole table is walked after each operation of an audit build.
constexpr std::size_t kAuditedFrames = 2048;

[[noreturn]] void misuse(std::string_view fault, std::uint64_t value) noexcept {
  report_failure({"page", {}, fault, value});
}

// Makes each page of a run private and present, without changing a byte: what is retained must not
// fault when a nowait allocation hands it out. A plain write, since nobody else uses a freed run.
void make_resident(std::byte* data, std::size_t pages) noexcept {
  for (std::size_t i = 0; i < pages; ++i) {
    volatile std::byte* const first = data + i * kPageSize;
    *first = *first;
  }
}

}  // namespace

// What the allocator is: the memory, the table of its frames, and the locks.
//
// Locking: mutex_ guards the table. release_ is held from the moment when runs are departing until
//          they are settled, so whoever holds it and mutex_ sees none.
class SimPageAllocator::State final : public ForkParticipant {
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
  unsigned node_of(const PageRun& run) const noexcept { return frame_of(run) / node_frames_; }

  std::size_t frames() const noexcept { return std::size_t{node_count_} * node_frames_; }
  unsigned node_count() const noexcept { return node_count_; }
  bool shareable() const noexcept { return memory_.shareable(); }

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

 private:
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
    if (used_after_fork_) misuse("used after fork", frames());
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

// ---------------------------------------------------------------- life

SimPageAllocator::State::~State() {
  leave_fork();
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
  trimming_ = false;  // by a thread that had not yet begun, and is not in the child
}

// ---------------------------------------------------------------- allocation

bool SimPageAllocator::State::is_legal(const PageRequest& request) const noexcept {
  return request.pages != 0 && is_power_of_two(request.align_pages) && request.node >= kAnyNode &&
         (request.node == kAnyNode || static_cast<unsigned>(request.node) < node_count_);
}

PageRun SimPageAllocator::State::hand_out(Place place, const PageRequest& request) noexcept {
  std::byte* const data = address(place.first);
  // Frames that were never used, or came back from the system, read as zero already.
  if (has(request.gfp, Gfp::zero) && place.dirty) {
    std::memset(data, 0, request.pages * kPageSize);
  }
  return {data, request.pages, Pfn{place.first}};
}

Result<PageRun> SimPageAllocator::State::allocate(const PageRequest& request) noexcept {
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
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  const Place place = table_.place_any(request.pages, request.align_pages, request.node);
  MMKIT_AUDIT(sound());
  return place;
}

// ---------------------------------------------------------------- free

FrameIndex SimPageAllocator::State::frame_of(const PageRun& run) const noexcept {
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

void SimPageAllocator::State::free(const PageRun& run) noexcept {
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
  mutex_.lock();
  const RunKind kind = table_.kind_of(first, pages);
  if (kind != RunKind::held) [[unlikely]] {
    mutex_.unlock();
    refuse(kind, first);
  }
  table_.retain(first, pages);
  const bool trims = should_trim(pages);
  MMKIT_AUDIT(sound());
  mutex_.unlock();
  if (trims) trim();
}

// A run that is longer than all that may be retained goes back by itself, and nothing else for it.
void SimPageAllocator::State::free_long(FrameIndex first, FrameIndex pages) noexcept {
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  const RunKind kind = table_.kind_of(first, pages);
  if (kind != RunKind::held) {
    lock.unlock();
    release.unlock();
    refuse(kind, first);
  }
  table_.depart(first, pages);
  MMKIT_AUDIT(sound());
  lock.unlock();
  give_back(FrameSpan{first, pages});
  lock.lock();
  const bool trims = should_trim(pages);
  lock.unlock();
  release.unlock();
  if (trims) trim();
}

// ---------------------------------------------------------------- back to the operating system

bool SimPageAllocator::State::should_trim(std::size_t freed_pages) noexcept {
  if (table_.counts().retained_pages <= retain_pages_) return false;
  retry_in_pages_ -= std::min(retry_in_pages_, freed_pages);
  if (trimming_ || retry_in_pages_ != 0) return false;
  trimming_ = true;
  return true;
}

void SimPageAllocator::State::trim() noexcept {
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  while (table_.counts().retained_pages > retain_pages_ && retry_in_pages_ == 0) {
    const DepartingRuns runs = table_.collect_oldest(retain_pages_ / 2);
    MMKIT_AUDIT(sound());
    lock.unlock();
    give_back(runs);
    lock.lock();
  }
  trimming_ = false;
}

std::size_t SimPageAllocator::State::give_back(DepartingRuns runs) noexcept {
  std::size_t given = 0;
  runs.sort();
  while (!runs.empty()) {
    const FrameSpan span = runs.pop_joined();
    if (give_back(span)) given += span.pages;
  }
  return given;
}

bool SimPageAllocator::State::give_back(FrameSpan span) noexcept {
  const bool taken =
      memory_.discard(address(span.first), std::size_t{span.pages} * kPageSize).has_value();
  // What stays is retained memory again, which must be present.
  if (!taken) make_resident(address(span.first), span.pages);
  ShortLockGuard lock(mutex_);
  ++release_calls_;
  if (taken) {
    table_.settle_free(span);
  } else {
    table_.settle_retained(span);
    ++release_failures_;
    retry_in_pages_ = std::max(retain_pages_ / 2, kShortestRetryPages);
  }
  MMKIT_AUDIT(sound());
  return taken;
}

std::size_t SimPageAllocator::State::release() noexcept {
  check_not_forked();
  MutexLock release(release_);
  ShortLockGuard lock(mutex_);
  retry_in_pages_ = 0;
  const DepartingRuns runs = table_.collect_oldest(0);
  lock.unlock();
  return give_back(runs);
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
