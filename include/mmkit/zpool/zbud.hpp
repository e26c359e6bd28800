// SPDX-License-Identifier: MIT
//
// zbud - at most two objects a page, placed and evicted as the kernel's zbud does.
//
// Not dense, but simple to reason about: an object shares its page with one buddy at most, so an
// eviction of two objects always frees a page.
//
//   page   0      64                                                        4096
//         +------+----------------------+-----------------+------------------+
//         | red  | FIRST, grows upward  |      free       | LAST, ends with  |   chunks of 64
//         | zone |                      |                 | the page         |   bytes, 63 usable
//         +------+----------------------+-----------------+------------------+
//              ^ address in the slot of FIRST's handle    ^ of LAST's
//
//   handle --> slot of HandleTable --> object             (map: two loads, one exchange)
//                  side word --> ZbudPage                 (free: the line that describes the page)
//
// A page is described by a ZbudPage outside of it, one cache line: headers inside the pages would
// all fall into the same few sets of every cache, and each visit would cost a miss of the TLB. The
// chunk where the kernel keeps its header stays unused, so that the placement is the kernel's; in
// audit builds it is a red zone against what overruns the page before.
//
// Flow:       allocate: reserve a slot, take the page whose free chunks fit best, publish.
//             free: kill the slot, then as allocate backwards. map, unmap: the slot alone.
//             shrink: oldest page off all lists, evict with no lock held, put back what is left.
// Units:      sizes in bytes, room in chunks
// Invariants: 1 a page has one or two objects, but for a page being evicted  2 first + last chunks
//             are at most 63  3 a page with one object is in unbuddied[free chunks], one with two
//             is in none  4 the LRU holds every page once, but for pages being evicted; the front
//             is the page that got an object or a touch last  5 a handle is live if and only if its
//             page has its slot  6 side words name the page and the size of their object
//             7 counts agree with the walk  8 red zones are whole (audit builds)
// Locking:    one ShortLock of rank pool guards everything but the slots; map() and unmap() take
//             none. The page source is called without it, but for nowait requests: they never wait.
// Complexity: everything O(1) but validate()
#pragma once

#include <atomic>
#include <memory>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/growing_table.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/handle_table.hpp>

namespace mmkit {

/// One page of a ZbudPool: what is in it, and its places in the pool's lists.
class alignas(64) ZbudPage : public ListNode<struct ZbudLru>, public ListNode<struct ZbudFit> {
 public:
  static constexpr std::size_t kChunkBytes = 64;
  static constexpr unsigned kUsableChunks = 63;
  static constexpr unsigned kMaxChunks = 62;  ///< of one object: the kernel leaves one for a buddy

  enum Buddy : unsigned { kFirst, kLast };

  static constexpr unsigned chunks_for(std::size_t size_bytes) noexcept {
    return static_cast<unsigned>(divide_up(size_bytes, kChunkBytes));
  }
  /// Which buddy lies at this address of a page: FIRST starts behind the red zone, LAST never does.
  static Buddy buddy_at(const std::byte* object) noexcept {
    const bool first = reinterpret_cast<std::uintptr_t>(object) % kPageSize == kChunkBytes;
    return first ? kFirst : kLast;
  }

  bool holds(Buddy buddy) const noexcept { return size_bytes[buddy] != 0; }
  bool empty() const noexcept { return !holds(kFirst) && !holds(kLast); }
  unsigned free_chunks() const noexcept {
    return kUsableChunks - chunks_for(size_bytes[kFirst]) - chunks_for(size_bytes[kLast]);
  }
  /// Where an object of this size lies, or would lie.
  std::byte* place(Buddy buddy, std::size_t size) const noexcept {
    return data + (buddy == kFirst ? kChunkBytes : kPageSize - chunks_for(size) * kChunkBytes);
  }
  PageRun run() const noexcept { return {data, 1, pfn}; }

  std::byte* data = nullptr;
  Pfn pfn{};
  std::uint32_t slot[2] = {};        ///< of the objects' handles
  std::uint16_t size_bytes[2] = {};  ///< as asked for; 0: no object
};

/// A pool of the zbud kind. Made by create(); never moves; usable without the front end, which adds
/// limits, foreign handles of other pools, and a name for each misuse.
/// Thread safety: every function is safe, but not against destruction.
class ZbudPool final : public ZpoolBackend, private ForkParticipant {
 public:
  static constexpr std::string_view kType = "zbud";
  static constexpr DriverTraits kTraits{
      .max_object_bytes = ZbudPage::kMaxChunks * ZbudPage::kChunkBytes, .can_shrink = true};
  static constexpr unsigned kDefaultReclaimRetries = 8;

  /// Makes a pool. `params`: `reclaim_retries=` 1 to 1000000, pages whose objects one step of a
  /// shrink asks for before it gives up (default 8); pages with a mapped object do not count. Errors: invalid_argument (a parameter, no page source, tag
  /// 0), out_of_memory.
  static Result<std::unique_ptr<ZbudPool>> create(BackendEnv&& env) noexcept;
  /// Live objects go to the leak handler; a live mapping is misuse.
  ~ZbudPool() override;

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    return add(size_bytes, gfp, /*object=*/nullptr);
  }
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept override {
    return add(object.size(), gfp, object.data());
  }
  Status free(Handle handle) noexcept override;
  void touch(Handle handle) noexcept override;

  Result<std::span<std::byte>> map(Handle handle, MapMode) noexcept override {
    const auto pinned = handles_.pin(handle);
    if (!pinned) [[unlikely]]
      return fail(pinned.error());
    return std::span{pinned->address, pinned->side.size_bytes()};
  }
  void unmap(Handle handle) noexcept override {
    if (!handles_.unpin(handle)) [[unlikely]]
      report_not_mapped(handle);
  }

  /// Evicts whole pages, least recently allocated or touched first: FIRST, then LAST.
  ShrinkOutcome shrink(std::size_t pages) noexcept override;
  /// Objects of zbud do not move.
  Result<std::size_t> compact() noexcept override { return fail(Errc::not_supported); }
  std::size_t total_pages() const noexcept override {
    // Relaxed: a number on its own.
    return pages_.load(std::memory_order_relaxed);
  }
  ZpoolStats stats() const noexcept override;
  Status validate() const noexcept override;

 private:
  using Buddy = ZbudPage::Buddy;

  // Which page, and how long the object is: what map() and free() need besides the address. One
  // word: a descriptor is aligned to 64 bytes and addresses have 48 bits, which leaves 22.
  class Side {
   public:
    constexpr Side() noexcept = default;
    Side(ZbudPage* page, std::size_t size_bytes) noexcept
        : word_(reinterpret_cast<std::uintptr_t>(page) << kPageShift | size_bytes) {}
    ZbudPage* page() const noexcept {
      return reinterpret_cast<ZbudPage*>(word_ >> kPageShift & ~std::uint64_t{63});
    }
    std::size_t size_bytes() const noexcept { return word_ & ((1U << kSizeBits) - 1); }

   private:
    static constexpr unsigned kSizeBits = 13, kPageShift = 10;
    std::uint64_t word_ = 0;
  };
  static constexpr std::uint32_t kChunkPages = 64;  // descriptors of 4 KiB are added together

  struct PageChunk {
    ZbudPage page[kChunkPages];
  };

  // A page being evicted, on the stack of the thread that evicts.
  struct Eviction;

  ZbudPool(BackendEnv&& env, unsigned reclaim_retries) noexcept;

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
  Result<ZbudPage*> fresh_page(Gfp gfp) noexcept MMKIT_REQUIRES(mutex_);
  Result<PageRun> take_page(Gfp gfp) noexcept;
  ZbudPage* best_fit(unsigned chunks) noexcept MMKIT_REQUIRES(mutex_);
  Status grow_descriptors() noexcept MMKIT_REQUIRES(mutex_);
  void enlist(ZbudPage& page) noexcept MMKIT_REQUIRES(mutex_);
  void delist(ZbudPage& page) noexcept MMKIT_REQUIRES(mutex_);
  PageRun retire(ZbudPage& page) noexcept MMKIT_REQUIRES(mutex_);
  Status reclaim_page() noexcept MMKIT_EXCLUDES(mutex_);
  // Back into the lists, at the young end; true: it is empty now, and for the caller to retire.
  bool end_eviction(Eviction& eviction) noexcept MMKIT_REQUIRES(mutex_);
  bool is_mapped(const ZbudPage& page) const noexcept MMKIT_REQUIRES(mutex_);
  std::uint64_t evict_objects(const ZbudPage& page, const Handle* handles) noexcept
      MMKIT_EXCLUDES(mutex_);
  Status validate_page(const ZbudPage& page) const noexcept MMKIT_REQUIRES(mutex_);
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

  // Its slots are read and pinned by anybody; the rest of it is guarded by mutex_.
  HandleTable<Side> handles_;

  mutable ShortLock mutex_{LockRank::pool};
  std::atomic<std::size_t> pages_{0};  // written under mutex_
  std::atomic<std::uint64_t> failures_{0};
  GrowingTable<PageChunk> descriptors_;
  IntrusiveList<ZbudPage, ZbudFit> free_descriptors_ MMKIT_GUARDED_BY(mutex_);
  IntrusiveList<ZbudPage, ZbudLru> lru_ MMKIT_GUARDED_BY(mutex_);
  // By free chunks, 1 to 62; bit n of the mask: list n is not empty.
  std::uint64_t unbuddied_mask_ MMKIT_GUARDED_BY(mutex_) = 0;
  IntrusiveList<ZbudPage, ZbudFit> unbuddied_[ZbudPage::kUsableChunks] MMKIT_GUARDED_BY(mutex_);
  std::size_t free_descriptor_count_ MMKIT_GUARDED_BY(mutex_) = 0;
  IntrusiveList<Eviction> evictions_ MMKIT_GUARDED_BY(mutex_);  // a page each, off the other lists
  std::size_t payload_bytes_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t allocations_ MMKIT_GUARDED_BY(mutex_) = 0;
  std::uint64_t frees_ MMKIT_GUARDED_BY(mutex_) = 0;  // objects: allocations less frees
  std::uint64_t evicted_ MMKIT_GUARDED_BY(mutex_) = 0;
};

/// The zbud kind, for registries. Never destroyed.
const ZpoolDriver& zbud_driver() noexcept;

}  // namespace mmkit
