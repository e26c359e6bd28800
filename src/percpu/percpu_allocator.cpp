// SPDX-License-Identifier: MIT
//
// The front of the percpu allocator.
//
//   allocate  pop from this CPU's stack -> zero what is not clean -> tag live       no lock, in line
//             | empty: a batch from the heap, the rest into the stack               one short lock
//             | no class: one run from the heap                                     one short lock
//   free      tag live -> tag kept, push                                            no lock, in line
//             | full: half of the stack back to the heap                            one short lock
//             | no tag: the heap frees it, if it knows it                           one short lock
//
// Zeroing happens at the end of an allocation, outside of every lock, and only what may have been
// written: nothing that is fresh, no unit that nobody opened.
#include <mmkit/percpu/percpu_allocator.hpp>

#include <algorithm>
#include <cstring>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/check.hpp>
#include <mmkit/base/cpu.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <mmkit/percpu/tsan.hpp>
#include <new>

#include "percpu/fork_token.hpp"
#include "percpu/lazy_backing.hpp"
#include "percpu/mapped_backing.hpp"
#include "percpu/open_units.hpp"
#include "percpu/percpu_state.hpp"

namespace mmkit {

using detail::PercpuState;
using percpu::Location;
using percpu::Tag;
using percpu::TagSlot;
using percpu::TagState;
namespace size_class = percpu::size_class;

namespace {

constexpr unsigned kMostUnits = 16384;  // CPU numbers of the kernel end far below
constexpr std::size_t kLargestBatch = 16;

bool is_request(std::size_t size_bytes, std::size_t align_bytes) noexcept {
  return size_bytes - 1 < kPercpuMaxBytes && align_bytes - 1 < kPercpuMaxAlign &&
         is_power_of_two(align_bytes);
}

/// What is asked of the heap, rounded.
struct Run {
  std::size_t bytes, align_bytes;
  unsigned granules() const noexcept {
    return static_cast<unsigned>(bytes / percpu::kGranuleBytes);
  }
  unsigned align() const noexcept {
    return static_cast<unsigned>(align_bytes / percpu::kGranuleBytes);
  }
};
Run run_of_class(unsigned found_class) noexcept {
  return {size_class::bytes(found_class), size_class::align_bytes(found_class)};
}
// One granule, or whole tags: two objects of a granule share one, and have none.
Run run_of_size(std::size_t size_bytes, std::size_t align_bytes) noexcept {
  const std::size_t least =
      size_bytes <= percpu::kGranuleBytes ? percpu::kGranuleBytes : percpu::kTagBytes;
  return {align_up(size_bytes, least), std::max(align_bytes, least)};
}

// ---------------------------------------------------------------- objects

struct Object {
  std::byte* address;
  TagSlot* tag;
};

[[gnu::always_inline]] inline Object object_at(const PercpuState& state, void* address) noexcept {
  Location where;
  [[maybe_unused]] const bool ours = state.space.locate_canonical(address, where);
  MMKIT_ASSERT(ours);
  return {static_cast<std::byte*>(address), where.tags + where.offset / percpu::kTagBytes};
}

[[gnu::noinline]] void zero_units(const PercpuState& state, std::byte* unit0,
                                  std::size_t size_bytes) noexcept {
  const unsigned units = std::min(state.units, detail::open_units());
  for (unsigned unit = 0; unit < units; ++unit, unit0 += kPercpuUnitStride) {
    std::memset(unit0, 0, size_bytes);
  }
}

/// Whether what was once written by us in every open unit still is all there is to write.
bool opened_no_more(const PercpuState& state) noexcept {
  return std::min(state.units, detail::open_units()) <= std::min(state.units, possible_cpus());
}

/// Makes a kept object the user's.
[[gnu::always_inline]] inline PercpuPtr<std::byte> hand_out(PercpuState& state, Object object,
                                                            Tag tag) noexcept {
  MMKIT_ASSERT(tag.is_kept());
  detail::tsan_acquire(object.address);
  if (tag.state() == TagState::clean) {
    object.tag->store({TagState::live, tag.size_class()});
  } else {
    if (MMKIT_MUTATE(MMKIT_MUTANT_percpu_not_zeroed_again, true, false)) {
      zero_units(state, object.address, size_class::bytes(tag.size_class()));
    }
    object.tag->store({TagState::live_present, tag.size_class()});
  }
  return {object.address};
}

// ---------------------------------------------------------------- the heap's side

void return_objects(PercpuState& state, std::span<void* const> objects) noexcept {
  // Nobody can meet them by their tags once the heap has them.
  for (void* const object : objects) object_at(state, object).tag->store(Tag{});
  state.heap->release_many(objects);
}

/// Tags what the heap gave out, and keeps all but the first.
void keep_rest(PercpuState& state, unsigned found_class,
               std::span<const percpu::ChunkHeap::Taken> taken) noexcept {
  std::array<void*, kLargestBatch> refused;
  std::size_t count = 0;
  // From the end, so that the next allocation gets the lowest.
  for (std::size_t i = taken.size(); i-- != 0;) {
    const Object object = object_at(state, taken[i].address);
    const TagState kept = taken[i].fresh     ? TagState::clean
                          : taken[i].present ? TagState::dirty_present
                                             : TagState::dirty;
    object.tag->store({kept, found_class});
    detail::tsan_release(object.address);
    if (i != 0 && !state.caches->push(found_class, object.address)) {
      refused[count++] = object.address;
    }
  }
  if (count == 0) return;
  return_objects(state, {refused.data(), count});
  state.heap->tend();
}

Result<PercpuPtr<std::byte>> allocate_of_class(PercpuState& state, unsigned found_class,
                                               Gfp gfp) noexcept {
  std::array<percpu::ChunkHeap::Taken, kLargestBatch> taken;
  const Run run = run_of_class(found_class);
  const std::size_t batch = std::min(kLargestBatch, size_class::capacity(found_class) / 2);
  const Result<std::size_t> count =
      state.heap->take(run.granules(), run.align(), gfp, std::span(taken).first(batch));
  if (!count) return fail(count.error());
  keep_rest(state, found_class, std::span(taken).first(*count));
  const Object object = object_at(state, taken[0].address);
  const PercpuPtr<std::byte> p = hand_out(state, object, object.tag->load());
  // What is fresh in a block that is held can be zeroed later without a fault.
  if (taken[0].present) object.tag->store({TagState::live_present, found_class});
  return p;
}

/// One run of the heap for the user. `found_class` is 0, or the class to tag it with.
Result<PercpuPtr<std::byte>> allocate_run(PercpuState& state, Run run, unsigned found_class,
                                          Gfp gfp) noexcept {
  percpu::ChunkHeap::Taken taken;
  const Result<std::size_t> count = state.heap->take(run.granules(), run.align(), gfp, {&taken, 1});
  if (!count) return fail(count.error());
  detail::tsan_acquire(taken.address);
  if (!taken.fresh) zero_units(state, taken.address, run.bytes);
  if (found_class != 0) {
    const TagState live = taken.present ? TagState::live_present : TagState::live;
    object_at(state, taken.address).tag->store({live, found_class});
  }
  return PercpuPtr<std::byte>{taken.address};
}

/// Gfp::nowait: this CPU's stack if it can be touched and its top be zeroed without a fault.
void* pop_now(PercpuState& state, unsigned found_class) noexcept {
  void* const address = state.caches->pop(found_class);
  if (address == nullptr) return nullptr;
  const TagState kept = object_at(state, address).tag->load().state();
  if (kept == TagState::clean || (kept == TagState::dirty_present && opened_no_more(state))) {
    return address;
  }
  if (state.caches->push(found_class, address)) return nullptr;
  // Full again, or stopped. To give it to the heap would be to wait for a lock.
  for (std::atomic<void*>& place : state.aside) {
    void* none = nullptr;
    // Release: pairs with the exchange in return_all().
    if (place.compare_exchange_strong(none, address, std::memory_order_release,
                                      std::memory_order_relaxed)) {
      return nullptr;
    }
  }
  return address;  // sixteen such races since the last balance(): rather a fault than a leak
}

Result<PercpuPtr<std::byte>> allocate_now(PercpuState& state, std::size_t size_bytes,
                                          std::size_t align_bytes, unsigned found_class,
                                          Gfp gfp) noexcept {
  const bool ready = state.caches->ready_now();
  if (found_class != 0 && ready) {
    if (void* const address = pop_now(state, found_class)) {
      const Object object = object_at(state, address);
      state.caches->count_allocation();
      return hand_out(state, object, object.tag->load());
    }
  }
  const Run run =
      found_class != 0 ? run_of_class(found_class) : run_of_size(size_bytes, align_bytes);
  const Result<PercpuPtr<std::byte>> p = allocate_run(state, run, found_class, gfp);
  if (!p) {
    state.nowait_failures.fetch_add(1, std::memory_order_relaxed);  // a count
    state.failures.fetch_add(1, std::memory_order_relaxed);
  } else if (ready) {
    state.caches->count_allocation();
  } else {
    state.caches->count_allocation_aside();
  }
  return p;
}

constexpr const char* kNotAllocated = "free of memory not allocated";

[[noreturn]] void report(const char* fault, const void* address) noexcept {
  report_failure({"percpu", {}, fault, reinterpret_cast<std::uintptr_t>(address)});
}

void check_not_lost(const PercpuState& state) noexcept {
  if (state.lost_in_fork.load(std::memory_order_relaxed)) [[unlikely]] {
    report("used after fork", nullptr);
  }
}

/// Frees an object and half of the full stack it should have gone to, so that the next have room.
[[gnu::noinline]] void return_batch(PercpuState& state, unsigned found_class,
                                    void* address) noexcept {
  std::array<void*, kLargestBatch> objects{address};
  const std::size_t batch = std::min(kLargestBatch - 1, size_class::capacity(found_class) / 2);
  std::size_t count = 1;
  while (count <= batch) {
    void* const one = state.caches->pop(found_class);
    if (one == nullptr) break;
    detail::tsan_acquire(one);
    objects[count++] = one;
  }
  return_objects(state, {objects.data(), count});
  state.heap->tend();
}

/// Frees what the heap alone knows, or says what is wrong.
[[gnu::noinline]] const char* free_run(PercpuState& state, std::byte* address) noexcept {
  Location where;
  if (!state.space.locate_canonical(address, where)) {
    return state.space.locate(address, where) && state.heap->contains(where)
               ? kNotAllocated
               : "address not of this allocator";
  }
  if (!state.heap->contains(where)) return "address not of this allocator";
  detail::tsan_release(address);
  if (!state.heap->release(where)) return kNotAllocated;
  state.caches->count_free();
  return nullptr;
}

/// Frees, or says what is wrong: nullptr for nothing.
[[gnu::noinline]] const char* free_slowly(PercpuState& state, std::byte* address) noexcept {
  check_not_lost(state);
  Location where;
  if (!state.space.locate_canonical(address, where)) return free_run(state, address);
  TagSlot& slot = where.tags[where.offset / percpu::kTagBytes];
  const Tag tag = slot.load();
  if (tag.is_none()) return free_run(state, address);
  if (!tag.is_live() || where.offset % percpu::kTagBytes != 0) return kNotAllocated;
  slot.store(tag.freed());
  detail::tsan_release(address);
  state.caches->count_free();
  if (!state.caches->push(tag.size_class(), address)) {
    return_batch(state, tag.size_class(), address);
  }
  return nullptr;
}

}  // namespace

// ---------------------------------------------------------------- the rest of the fast path

namespace percpu {

std::byte* FastPath::finish(std::byte* unit0) const noexcept {
  state_->caches->count_allocation();
  const Object object = object_at(*state_, unit0);
  return hand_out(*state_, object, object.tag->load()).unit0;
}

void FastPath::overflow(unsigned size_class, std::byte* unit0) const noexcept {
  return_batch(*state_, size_class, unit0);
}

}  // namespace percpu

// ---------------------------------------------------------------- the allocator's life

namespace detail {

PercpuState::~PercpuState() {
  leave_fork();
}

void PercpuState::return_all() noexcept {
  MutexLock pages(heap->pages());
  percpu::Caches::Stopped stopped(*caches);
  stopped.empty_each(
      [this](std::span<void* const> objects) noexcept { return_objects(*this, objects); });
  for (std::atomic<void*>& place : aside) {
    void* const object =
        place.exchange(nullptr, std::memory_order_acquire);  // pairs with pop_now()
    if (object != nullptr) return_objects(*this, {&object, 1});
  }
}

// The analysis cannot follow locks that one function takes and another lets go.
void PercpuState::lock_for_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  heap->pages().lock_for_fork();
  heap->lock().lock_for_fork();
}
void PercpuState::unlock_after_fork() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS {
  heap->lock().unlock();
  heap->pages().unlock();
}
void PercpuState::on_child() noexcept {
  if (backing->inherited_by_fork()) return;
  lost_in_fork.store(true, std::memory_order_relaxed);
  // So that the fast path need not ask: no address is in its region, no stack gives anything.
  *fast = percpu::FastPath(*this, caches->records(), 0, 0, nullptr, 0, units);
  caches->lock_for_ever();
}

}  // namespace detail

PercpuAllocator::PercpuAllocator(std::unique_ptr<PercpuState> state) noexcept
    : fast_(*state, state->caches->records(), state->space.first_region().first,
            state->space.first_region().size_bytes, state->space.first_region().tags,
            state->space.first_region().span_shift, state->units),
      state_(std::move(state)) {
  state_->fast = &fast_;
}

Result<std::unique_ptr<PercpuAllocator>> PercpuAllocator::create(
    const PercpuOptions& options) noexcept {
  const unsigned units = options.max_cpus == 0 ? possible_cpus() : options.max_cpus;
  const bool mapped = options.backing == PercpuBacking::mapped;
  if (units < possible_cpus() || units > kMostUnits ||
      (mapped && units > percpu::MappedBacking::kMostUnits) ||
      options.reserved_bytes > kPercpuUnitBytes) {
    return fail(Errc::invalid_argument);
  }
  if (percpu::os::page_bytes() != kPageSize) return fail(Errc::not_supported);
  if (const Status status = detail::percpu_watch_forks(); !status) return fail(status.error());
  detail::percpu_announce_units(units);
  std::unique_ptr<PercpuState> state(new (std::nothrow) PercpuState(units));
  if (state == nullptr) return fail(Errc::out_of_memory);
  if (mapped) {
    PageSource* pages = options.pages;
    if (pages == nullptr) {
      SimPageAllocatorOptions own;
      own.shareable = true;
      Result<std::unique_ptr<SimPageAllocator>> made = SimPageAllocator::create(own);
      if (!made) return fail(made.error());
      state->own_pages = *std::move(made);
      pages = state->own_pages.get();
    }
    std::unique_ptr<percpu::MappedBacking> backing(
        new (std::nothrow) percpu::MappedBacking(units, state->space.chunk_bytes(), *pages));
    if (backing == nullptr) return fail(Errc::out_of_memory);
    if (const Status status = backing->probe(); !status) return fail(status.error());
    state->backing = std::move(backing);
  } else {
    state->backing.reset(new (std::nothrow) percpu::LazyBacking(units, state->space.chunk_bytes()));
  }
  if (state->backing == nullptr) return fail(Errc::out_of_memory);
  state->heap.reset(new (std::nothrow) percpu::ChunkHeap(units, state->space, *state->backing));
  if (state->heap == nullptr) return fail(Errc::out_of_memory);
  Result<std::unique_ptr<percpu::Caches>> caches = percpu::Caches::create(units);
  if (!caches) return fail(caches.error());
  state->caches = *std::move(caches);
  state->heap->set_kept_objects(state.get());
  if (const Status status = state->heap->start(options.reserved_bytes); !status) {
    return fail(status.error());
  }
  if (const Status status = state->join_fork(LockRank::percpu_pages); !status) {
    return fail(status.error());
  }
  std::unique_ptr<PercpuAllocator> allocator(new (std::nothrow) PercpuAllocator(std::move(state)));
  if (allocator == nullptr) return fail(Errc::out_of_memory);
  return allocator;
}

PercpuAllocator& PercpuAllocator::instance() noexcept {
  constexpr std::size_t kModuleBytes = 8 * 1024;  // the kernel's share for modules' statics
  // Reachable for ever, so that leak checkers stay silent; never destroyed, so that objects of
  // static life may still use it at exit.
  static PercpuAllocator* const only = [] {
    PercpuOptions options;
    options.reserved_bytes = kModuleBytes;
    Result<std::unique_ptr<PercpuAllocator>> made = create(options);
    if (!made) report_failure({"percpu", {}, "no memory for the process's allocator", 0});
    return made->release();
  }();
  return *only;
}

PercpuAllocator::~PercpuAllocator() {
  const PercpuState& state = *state_;
  if (state.lost_in_fork.load(std::memory_order_relaxed)) {
    static_cast<void>(state_.release());  // its memory is the parent's: nothing here can be undone
    return;
  }
  const percpu::Caches::Counts counts = state.caches->counts();
  if (counts.allocations != counts.frees) {
    report_leak({"percpu", {}, "objects left at destruction", counts.allocations - counts.frees});
  }
}

// ---------------------------------------------------------------- calls

Result<PercpuPtr<std::byte>> PercpuAllocator::allocate_slowly(std::size_t size_bytes,
                                                              std::size_t align_bytes,
                                                              Gfp gfp) noexcept {
  PercpuState& state = *state_;
  if (!is_request(size_bytes, align_bytes)) return fail(Errc::invalid_argument);
  check_not_lost(state);
  const unsigned found_class = size_class::find(size_bytes, align_bytes);
  if (has(gfp, Gfp::nowait)) {
    return allocate_now(state, size_bytes, align_bytes, found_class, gfp);
  }
  // What the fast path left: large classes, an unregistered thread, no sequences at all.
  if (void* const address = found_class != 0 ? state.caches->pop(found_class) : nullptr) {
    const Object object = object_at(state, address);
    state.caches->count_allocation();
    return hand_out(state, object, object.tag->load());
  }
  const Result<PercpuPtr<std::byte>> p =
      found_class != 0 ? allocate_of_class(state, found_class, gfp)
                       : allocate_run(state, run_of_size(size_bytes, align_bytes), 0, gfp);
  state.caches->note_touched();
  if (!p) {
    state.failures.fetch_add(1, std::memory_order_relaxed);  // a count
    return p;
  }
  state.caches->count_allocation();
  return *p;
}

Result<PercpuPtr<std::byte>> PercpuAllocator::allocate_reserved(std::size_t size_bytes,
                                                                std::size_t align_bytes) noexcept {
  PercpuState& state = *state_;
  if (!is_request(size_bytes, align_bytes)) return fail(Errc::invalid_argument);
  check_not_lost(state);
  const Run run = run_of_size(size_bytes, align_bytes);
  const Result<percpu::ChunkHeap::Taken> taken =
      state.heap->take_reserved(run.granules(), run.align());
  if (!taken) {
    state.failures.fetch_add(1, std::memory_order_relaxed);
    return fail(taken.error());
  }
  detail::tsan_acquire(taken->address);
  if (!taken->fresh) zero_units(state, taken->address, run.bytes);
  state.caches->count_allocation();
  return PercpuPtr<std::byte>{taken->address};
}

void PercpuAllocator::free_or_die(PercpuPtr<std::byte> p) noexcept {
  const char* const fault = free_slowly(*state_, p.unit0);
  if (fault != nullptr) report(fault, p.unit0);
}

Status PercpuAllocator::try_free(PercpuPtr<std::byte> p) noexcept {
  if (!p || fast_.free(p.unit0)) return {};
  if (free_slowly(*state_, p.unit0) != nullptr) return fail(Errc::invalid_argument);
  return {};
}

void PercpuAllocator::balance() noexcept {
  check_not_lost(*state_);
  state_->heap->balance();
}

unsigned PercpuAllocator::units() const noexcept {
  return state_->units;
}

bool PercpuAllocator::contains(const void* address) const noexcept {
  Location where;
  return state_->space.locate(address, where) && state_->heap->contains(where);
}

Result<unsigned> PercpuAllocator::cpu_of(const void* address) const noexcept {
  Location where;
  if (!state_->space.locate(address, where) || !state_->heap->contains(where)) {
    return fail(Errc::invalid_argument);
  }
  return where.unit;
}

Result<PercpuPtr<std::byte>> PercpuAllocator::canonical(const void* address) const noexcept {
  const Result<unsigned> cpu = cpu_of(address);
  if (!cpu) return fail(cpu.error());
  const std::uintptr_t unit0 = reinterpret_cast<std::uintptr_t>(address) - *cpu * kPercpuUnitStride;
  return PercpuPtr<std::byte>{reinterpret_cast<std::byte*>(unit0)};
}

void PercpuAllocator::for_each_chunk(const std::function<void(PercpuChunk&)>& visit) {
  check_not_lost(*state_);
  state_->return_all();  // so that what is free shows as free
  state_->heap->for_each_chunk([&visit](percpu::Chunk& chunk) { visit(chunk); });
}

PercpuStats PercpuAllocator::stats() const noexcept {
  check_not_lost(*state_);
  const percpu::ChunkHeap::Totals totals = state_->heap->totals();
  const percpu::Caches::Counts counts = state_->caches->counts();
  PercpuStats stats;
  stats.unit_bytes = kPercpuUnitBytes;
  stats.units = state_->units;
  stats.chunks = totals.chunks;
  stats.max_chunks = totals.max_chunks;
  stats.populated_pages = totals.populated_blocks;
  stats.empty_populated_pages = totals.empty_populated_blocks;
  stats.metadata_bytes = sizeof(PercpuState) + sizeof(percpu::ChunkHeap) + totals.metadata_bytes +
                         state_->caches->metadata_bytes() + state_->backing->metadata_bytes();
  const std::size_t kept = state_->caches->kept_bytes();
  stats.live_bytes = totals.taken_bytes - std::min(kept, totals.taken_bytes);
  stats.min_alloc_bytes = totals.min_bytes;
  stats.max_alloc_bytes = totals.max_bytes;
  stats.allocations = counts.allocations;
  stats.frees = counts.frees;
  stats.live = counts.allocations - counts.frees;
  stats.peak_live = counts.peak;
  stats.failures = state_->failures.load(std::memory_order_relaxed);
  stats.nowait_failures = state_->nowait_failures.load(std::memory_order_relaxed);
  return stats;
}

Status PercpuAllocator::validate() const noexcept {
  check_not_lost(*state_);
  PercpuState& state = *state_;
  MutexLock pages(state.heap->pages());
  const percpu::Caches::Stopped stopped(*state.caches);
  ShortLockGuard lock(state.heap->lock());
  // What lies in a stack is tagged so, and known to the heap by that size.
  bool good = true;
  stopped.for_each([&](unsigned found_class, void* address) noexcept {
    Location where;
    if (!state.space.locate_canonical(address, where) || *where.chunk == nullptr) {
      good = false;
      return;
    }
    const Tag tag = where.tags[where.offset / percpu::kTagBytes].load();
    const unsigned granule = where.offset / percpu::kGranuleBytes;
    const percpu::OffsetMap& map = (*where.chunk)->map;
    good = good && tag.is_kept() && tag.size_class() == found_class && map.is_start(granule) &&
           map.size_at(granule) * percpu::kGranuleBytes == size_class::bytes(found_class);
  });
  // And what has a tag has that size.
  good = good && state.heap->validate([](const percpu::Chunk& chunk, unsigned granule) noexcept {
    if (granule % 2 != 0) return true;  // two of 4 bytes share a tag: they have none
    const Tag tag = chunk.place.tags[granule / 2].load();
    return tag.is_none() || chunk.map.size_at(granule) * percpu::kGranuleBytes ==
                                size_class::bytes(tag.size_class());
  });
  return good ? Status() : Status(fail(Errc::bad_format));
}

// ---------------------------------------------------------------- a chunk, as others see it

namespace {
percpu::Chunk& whole(PercpuChunk& chunk) noexcept {
  return static_cast<percpu::Chunk&>(chunk);
}
const percpu::Chunk& whole(const PercpuChunk& chunk) noexcept {
  return static_cast<const percpu::Chunk&>(chunk);
}
}  // namespace

unsigned PercpuChunk::pages() const noexcept {
  return percpu::kBlocks;
}
bool PercpuChunk::populated(unsigned page) const noexcept {
  return page < percpu::kBlocks && whole(*this).heap.populated(whole(*this), page);
}
std::size_t PercpuChunk::free_bytes() const noexcept {
  return whole(*this).heap.free_bytes(whole(*this));
}
std::size_t PercpuChunk::largest_free_bytes() const noexcept {
  return whole(*this).heap.longest_bytes(whole(*this));
}
std::size_t PercpuChunk::free_bytes(unsigned page) const noexcept {
  return page < percpu::kBlocks ? whole(*this).heap.free_bytes(whole(*this), page) : 0;
}
bool PercpuChunk::reserved() const noexcept {
  return whole(*this).is_reserved;
}
Status PercpuChunk::populate(unsigned page_begin, unsigned page_end) noexcept {
  return whole(*this).heap.populate(whole(*this), page_begin, page_end);
}
unsigned PercpuChunk::depopulate(unsigned page_begin, unsigned page_end) noexcept {
  return whole(*this).heap.depopulate(whole(*this), page_begin, page_end);
}

}  // namespace mmkit
