// SPDX-License-Identifier: MIT
//
// z3fold - at most three objects a page, placed and evicted as the kernel's z3fold does.
//
// Denser than zbud where objects are of a third of a page, and able to tidy up: MIDDLE is slid
// against its neighbour, and an object that has its page for itself moves into another page.
// What lies where in a page: chunked_page.hpp. Which page gets an object: chunked_page_lists.hpp.
//
//   handle --> slot of SlotTable --> index of ChunkedPage, buddy --> object     (map: three loads,
//              8 bytes               44 bytes                                    one exchange)
//
// Flow:       allocate: reserve a slot, take the page whose room fits best, publish.
//             free: kill the slot, then as allocate backwards; note the page for compaction.
//             map, unmap: the slot, and the page's description, which holds still meanwhile.
//             shrink: oldest page off all lists, evict with no lock held, put back what is left.
//             compaction: copy while the slot is busy; whoever wants the object waits for that.
// Compaction: 1 a free that leaves something to do notes its page in a short queue, once  2 a free
//             that finds the queue full takes the page that waits longest, and while lone objects
//             abound moves its lone object elsewhere, or else slides its MIDDLE and moves the lone
//             object of another page into it  3 an allocation that finds no page does the work of
//             the one noted page that gives it room, if there is one, before it opens a page: so a
//             failed call has moved nothing  4 compact() first slides each MIDDLE, then moves each
//             lone object, the largest first, to where it fits best. After it no lone object that
//             is not mapped fits into any other page.
// Age:        a page that takes an object in by compaction keeps its age: the one object takes the
//             others' age, not they its own.
// Units:      sizes in bytes, room in chunks
// Invariants: 1 a page has one to three objects, but for a page being evicted; those of
//             chunked_page.hpp  2 a page with room is in the list of its room, a full or whole one
//             in none  3 the LRU holds every page once, but for pages being evicted; its young end
//             is the page that got an object from outside or a touch last  4 a handle is live if and
//             only if its page has its slot, and its place names the page and the buddy  5 the queue
//             names a page at most once, and the page knows  6 counts agree with the walk  7 red
//             zones are whole (audit builds)
// Locking:    one ShortLock of rank pool guards everything but the slots; map() and unmap() take
//             none. The page source is called without it, but for nowait requests: they never wait.
//             compact() lets go of it between a few pages and the next.
// Complexity: everything O(1) but compact() and validate(); for compaction an allocation copies one
//             object at the most, a free two
#pragma once

#include <atomic>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/zpool/chunked_page.hpp>
#include <mmkit/zpool/chunked_page_lists.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/slot_table.hpp>

namespace mmkit {

/// A pool of the z3fold kind. Made by create(); never moves; usable without the front end, which
/// adds limits, foreign handles of other pools, and a name for each misuse.
/// Thread safety: every function is safe, but not against destruction.
class Z3foldPool final : public ZpoolBackend, private ForkParticipant {
 public:
  static constexpr std::string_view kType = "z3fold";
  static constexpr DriverTraits kTraits{
      .max_object_bytes = kPageSize, .can_shrink = true, .can_compact = true};
  static constexpr unsigned kDefaultReclaimRetries = 8;
  /// Pages that wait for compaction before a free turns to the one that waits longest.
  static constexpr std::size_t kMostDeferred = 8;
  /// Frees move lone objects from when one page in so many has one until one in so many more has.
  /// Fewer are left to allocations, which join them: a pool that stays as full as it is then moves
  /// hardly anything, and one that shrinks stays within a percent or two of what compact() makes.
  static constexpr std::size_t kPagesPerLoneAtFirst = 64, kPagesPerLoneAtLast = 192;

  /// Makes a pool. `params`: `reclaim_retries=` 1 to 1000000, pages whose objects one step of a
  /// shrink asks for before it gives up (default 8); pages with a mapped object do not count.
  /// Errors: invalid_argument (a parameter, no page source, tag 0), out_of_memory.
  static Result<std::unique_ptr<Z3foldPool>> create(BackendEnv&& env) noexcept;
  /// Live objects go to the leak handler; a live mapping is misuse.
  ~Z3foldPool() override;

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    return add(size_bytes, gfp, /*object=*/nullptr);
  }
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept override {
    return add(object.size(), gfp, object.data());
  }
  Status free(Handle handle) noexcept override;
  void touch(Handle handle) noexcept override;

  Result<std::span<std::byte>> map(Handle handle, MapMode) noexcept override {
    const Result<std::uint64_t> pinned = handles_.pin(handle);
    if (!pinned) [[unlikely]]
      return fail(pinned.error());
    const Place place(*pinned);
    const ChunkedPage& page = pages_[place.page()];
    return std::span{page.place(place.buddy()), page.size_bytes[place.buddy()]};
  }
  void unmap(Handle handle) noexcept override {
    if (!handles_.unpin(handle)) [[unlikely]]
      report_not_mapped(handle);
  }

  /// Evicts whole pages, least recently allocated or touched first: MIDDLE, FIRST, then LAST.
  ShrinkOutcome shrink(std::size_t pages) noexcept override;
  /// Slides every MIDDLE and moves every lone object for which there is room elsewhere; the pages
  /// freed. Never fails. Complexity: O(pages), the lock let go of in between.
  Result<std::size_t> compact() noexcept override;
  std::size_t total_pages() const noexcept override {
    // Relaxed: a number on its own.
    return page_count_.load(std::memory_order_relaxed);
  }
  /// `compactable_pages`: what compact() frees while nothing is mapped.
  ZpoolStats stats() const noexcept override;
  Status validate() const noexcept override;

 private:
  using Buddy = ChunkedPage::Buddy;

  // What a slot says of its object: which page, and which of its buddies.
  class Place {
   public:
    explicit Place(std::uint64_t word) noexcept : word_(word) {}
    Place(PageIndex page, Buddy buddy) noexcept : word_(std::uint64_t{page} << 2 | buddy) {}
    PageIndex page() const noexcept { return static_cast<PageIndex>(word_ >> 2); }
    Buddy buddy() const noexcept { return static_cast<Buddy>(word_ & 3); }
    std::uint64_t word() const noexcept { return word_; }

   private:
    std::uint64_t word_;
  };

  // A page being evicted, on the stack of the thread that evicts.
  struct Eviction;

  Z3foldPool(BackendEnv&& env, unsigned reclaim_retries, RoomLists&& room) noexcept;

  // -- objects: z3fold.cpp
  // allocate() and store(): `object` null leaves the bytes as they are.
  Result<Handle> add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept
      MMKIT_EXCLUDES(mutex_);
  // Makes an object, mapped `pins` times. Its address is in the slot, and not in the result: a
  // result of two registers is one that no copy through the stack can stall.
  Result<Handle> place(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept
      MMKIT_EXCLUDES(mutex_);
  Result<Handle> place_locked(std::size_t size_bytes, Gfp gfp, unsigned pins) noexcept
      MMKIT_REQUIRES(mutex_);
  Failure failed(Errc why) noexcept;
  Result<PageIndex> page_for(std::size_t size_bytes, Gfp gfp) noexcept MMKIT_REQUIRES(mutex_);
  Result<PageIndex> fresh_page(std::size_t size_bytes, Gfp gfp) noexcept MMKIT_REQUIRES(mutex_);
  Result<PageRun> take_page(Gfp gfp) noexcept;
  // Into the list of its room, if it has any; and out of it, before its objects change.
  void enlist(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  void delist(PageIndex index) noexcept MMKIT_REQUIRES(mutex_) { room_.remove(pages_, index); }
  // Lets go of an empty page that is in no list but perhaps the LRU. The caller gives back the run.
  PageRun retire(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);

  // -- compaction: z3fold_compact.cpp. Each returns whether it did something.
  bool has_work(const ChunkedPage& page) const noexcept MMKIT_REQUIRES(mutex_);
  // Notes a page for compaction; a run that this gained is for the caller to give back.
  PageRun defer(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  bool lone_objects_abound() noexcept MMKIT_REQUIRES(mutex_);
  PageIndex pop_deferred(std::size_t at) noexcept MMKIT_REQUIRES(mutex_);
  // A noted page that has room for this after compaction, kNoPage when there is none. It may have
  // become empty, and is in the list of its room, if not.
  PageIndex compact_for(std::size_t size_bytes) noexcept MMKIT_REQUIRES(mutex_);
  bool slide_middle(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  // Moves the object of a page that has only one into another page; the page is empty then, and in
  // no list by room.
  bool move_lone_object(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  bool move_lone_object(PageIndex source_index, PageIndex target_index) noexcept
      MMKIT_REQUIRES(mutex_);
  PageRun compact_around(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  // Both, as far as they apply; whether the page is empty now.
  bool compact_page(PageIndex index) noexcept MMKIT_REQUIRES(mutex_);
  void slide_all() noexcept MMKIT_EXCLUDES(mutex_);
  PageIndex move_lone_object_leaving(unsigned room) noexcept MMKIT_REQUIRES(mutex_);
  std::size_t move_all_lone_objects() noexcept MMKIT_EXCLUDES(mutex_);

  // -- eviction: z3fold_reclaim.cpp
  Status reclaim_page() noexcept MMKIT_EXCLUDES(mutex_);
  // Back into the lists, at the young end; true: it is empty now, and for the caller to retire.
  bool end_eviction(Eviction& eviction) noexcept MMKIT_REQUIRES(mutex_);
  bool is_mapped(PageIndex index) const noexcept MMKIT_REQUIRES(mutex_);
  std::uint64_t evict_objects(const Handle* handles) noexcept MMKIT_EXCLUDES(mutex_);

  // -- statistics, validation: z3fold_validate.cpp
  Status validate_page(PageIndex index) const noexcept MMKIT_REQUIRES(mutex_);
  bool red_zone_is_whole(PageIndex index) const noexcept;
  void report_leftovers() const noexcept MMKIT_EXCLUDES(mutex_);
  [[noreturn]] void report_not_mapped(Handle handle) const noexcept;
  std::size_t metadata_bytes() const noexcept MMKIT_REQUIRES(mutex_);

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

  // Read only after create().
  PageSource& source_;
  const Gfp gfp_;
  const unsigned reclaim_retries_;
  const std::function<Status(Handle)> evict_;
  std::unique_ptr<char[]> name_;
  std::size_t name_bytes_ = 0;
  bool inherited_ = false;  // set in the child of a fork, while that has one thread

  // Slots are read and pinned by anybody, and the description of a page by who has pinned an object
  // in it; the rest of both is guarded by mutex_.
  SlotTable<> handles_;
  ChunkedPageTable pages_;

  mutable ShortLock mutex_{LockRank::pool};
  std::atomic<std::size_t> page_count_{0};  // written under mutex_
  std::atomic<std::uint64_t> failures_{0};
  RoomLists room_ MMKIT_GUARDED_BY(mutex_);
  PageLru lru_ MMKIT_GUARDED_BY(mutex_);
  PageIndex deferred_[kMostDeferred] MMKIT_GUARDED_BY(mutex_) = {};  // longest first
  std::size_t deferred_count_ MMKIT_GUARDED_BY(mutex_) = 0;
  bool is_compacting_ MMKIT_GUARDED_BY(mutex_) = false;
  IntrusiveList<Eviction> evictions_ MMKIT_GUARDED_BY(mutex_);  // a page each, off the other lists
  std::size_t payload_bytes_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t allocations_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t frees_ MMKIT_GUARDED_BY(mutex_) = 0;  // objects: allocations less frees
  std::uint64_t evicted_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t moved_ MMKIT_GUARDED_BY(mutex_) = 0;
};

/// The z3fold kind, for registries. Never destroyed.
const ZpoolDriver& z3fold_driver() noexcept;

}  // namespace mmkit
