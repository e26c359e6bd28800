// SPDX-License-Identifier: MIT
//
// zsmalloc - objects of similar size packed into runs of pages, movable behind their handles.
//
// Dense: an object takes its size rounded up to a size class (size_classes.hpp), and the pages of a
// class waste little. Objects of a class are interchangeable, so room that is freed is used again,
// and compact() empties the emptiest zspages into the fullest.
//
//   handle --> slot (object_engine.hpp)   place: | slack | number of zspage | cell |
//                                                  10      24                 8 bits
//   number of zspage --> bases_[]     where the pages are; class and size     map: slot, base
//                        ages_[]      when it was used
//                        descriptors_[] --> Zspage (zspage.hpp): owner words, free cells
//
//   class   | lock | groups 0 .. 9: lists of zspages by tenths in use | counts |     64 bytes
//   CPU     | slots of class 0 that were freed here, places kept | class 1 | ...     CpuStacks
//
// Flow:       allocate: a slot that this CPU has kept, published with one store. None: refill() takes
//             some cells of the fullest zspage, or of a new one, under the class's lock.
//             free: one exchange; kept on this CPU if its zspage is quite full, else given back under the
//             class's lock. map, unmap: one exchange each.
//             compact: in slices of some objects, each copied while only its own users would wait.
//             shrink: evicts whole zspages, least recently used generation first.
//
// Why only objects of zspages that are four fifths full are kept: one that is kept counts as in use, and
// would hold a sparse zspage that is about to become empty. A class keeps at most a 32nd of its
// objects, over all CPUs, and gives all back whenever it has shrunk to half; so an empty pool has
// no pages. Room on a CPU is granted as calls go the slow way there, and shared out anew when one CPU has
// four times what another one at work has: it follows the threads.
//
// A generation is a count that grows as the pool is used; a zspage carries the one in which it last
// got an object or a touch. There is no list to keep in order, and nothing to lock.
//
// Where a run of the class's length is not to be had, and nothing could be evicted for it, a shorter
// one serves, down to a page.
//
// Units:      cells, pages; sizes in bytes
// Invariants: 1 those of the engine and of each zspage  2 a zspage that is not isolated is in the list
//             of its group or of a fuller one, a full one in none  3 cells, used, zspages of a class agree with the
//             walk  4 a slot that is live, busy or cached names the cell that names it, and of a
//             class whose sizes it has  5 pages agree with the walk
//             6 kept slots are cached and of their stack's class, at most as many as were granted
// Locking:    slices_ (pool) > class locks (zpool_class, one at a time but for validate() and fork)
//             > numbers_lock_, the engine's (zpool_slots) > page source. The page source is called
//             without the class lock, but for nowait requests: they never wait.
// Complexity: O(1); compact() O(objects moved), shrink() O(zspages) a batch, validate() O(objects)
#pragma once

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <mmkit/zpool/engine_pool.hpp>
#include <mmkit/zpool/fetch_soon.hpp>
#include <mmkit/zpool/size_classes.hpp>
#include <mmkit/zpool/zspage.hpp>
#include <string_view>

namespace mmkit {

/// One size class in numbers: a row of the table that the kernel shows for its own pools.
struct ZsmallocClassStats {
  unsigned number = 0;
  SizeClass shape;               ///< size, and pages and objects of a zspage
  std::size_t zspages[11] = {};  ///< by tenths in use; the last: full
  std::size_t objects = 0;       ///< cells in use
  std::size_t kept = 0;          ///< of these, freed and kept on some CPU
  std::size_t cells = 0;         ///< objects there is room for
  std::size_t pages = 0;
  std::size_t freeable_pages = 0;  ///< that compact() would free
};

/// A pool of the zsmalloc kind. Made by create(); never moves; usable without the front end, which adds
/// limits, foreign handles of other pools, and a name for each misuse.
/// Thread safety: every function is safe, but not against destruction.
class ZsmallocPool final : public EnginePool {
 public:
  static constexpr std::string_view kType = "zsmalloc";
  static constexpr DriverTraits kTraits{.max_object_bytes = kPageSize,
                                        .can_shrink = true,
                                        .can_compact = true,
                                        .highmem = true,
                                        .most_run_pages = SizeClasses::kMostChainPages};
  static constexpr unsigned kDefaultChainPages = 8;
  static constexpr unsigned kDefaultCacheObjects = 32;
  /// Zspages whose objects one step of a shrink asks for before it gives up.
  static constexpr unsigned kReclaimRetries = 8;

  /// Makes a pool. `params`: `chain_pages=` 4, 8 or 16, the longest zspage (default 8); `cache=` 0
  /// to 64, the most objects of a class that a CPU keeps for the next to come (default 32).
  /// Errors: invalid_argument (a parameter, no page source, tag 0), out_of_memory.
  static Result<std::unique_ptr<ZsmallocPool>> create(BackendEnv&& env) noexcept;
  /// Live objects go to the leak handler; a live mapping is misuse.
  ~ZsmallocPool() override;

  // The fast halves below call nothing that returns to them, which spares them saving registers.

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    if (is_plain(size_bytes, gfp)) [[likely]] {
      const unsigned size_class = sizes_.find(size_bytes);
      const std::uint32_t index = engine_.try_find_kept(heads_[size_class]);
      if (index != ObjectEngine::kNoSlot) [[likely]] {
        if (!engine_.stacks().try_count_allocation(size_bytes)) [[unlikely]]
          return count_and_publish(index, size_bytes);
        return publish(index, size_bytes);
      }
    }
    return add_slowly(size_bytes, gfp, /*object=*/nullptr);
  }
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept override {
    if (is_plain(object.size(), gfp)) [[likely]] {
      const std::uint32_t index = engine_.try_find_kept(heads_[sizes_.find(object.size())]);
      if (index != ObjectEngine::kNoSlot) [[likely]]
        return fill_and_publish(index, object);
    }
    return add_slowly(object.size(), gfp, object.data());
  }
  Status free(Handle handle) noexcept override {
    ObjectEngine::Slot* slot = engine_.find(handle);
    std::uint64_t word;
    if (slot == nullptr || !engine_.pins().try_take(handle, *slot, slot_word::kCached, word))
        [[unlikely]] {
      return free_slowly(handle);
    }
    const Place place(word);
    const ZspageBase base = base_of(place.zspage());
    detail::fetch_soon(base.cell(place.cell()));
    if (!engine_.stacks().try_count_free(base.size_bytes() - place.slack_bytes())) [[unlikely]]
      return count_and_give_back(handle, word);
    const unsigned size_class = base.size_class();
    const std::uint32_t index = handle_bits::index(handle);
    if (keeps(base, handle) && engine_.try_keep(heads_[size_class], index)) [[likely]]
      return {};
    return give_back(size_class, index);
  }
  void touch(Handle handle) noexcept override;

  Result<std::span<std::byte>> map(Handle handle, MapMode) noexcept override {
    ObjectEngine::Slot* slot = engine_.find(handle);
    std::uint64_t word;
    if (slot == nullptr || !engine_.pins().try_pin(handle, *slot, word)) [[unlikely]]
      return map_slowly(handle);
    return bytes_of(word);
  }

  /// Evicts whole zspages, so perhaps some pages more than were asked for.
  ShrinkOutcome shrink(std::size_t pages) noexcept override;
  /// Moves objects out of the emptiest zspages, class by class, and gives back what CPUs keep. A
  /// second call at the same time returns 0. Complexity: slices of up to 32 objects, between which
  /// everybody else goes on.
  Result<std::size_t> compact() noexcept override;
  /// Consistent at rest; while others work each figure is right by itself.
  ZpoolStats stats() const noexcept override;
  Status validate() const noexcept override;

  /// Calls with each class that has a zspage, smallest first, with no lock held. Rows are of several
  /// moments while others work. `visit` must not throw. Complexity: O(zspages).
  void for_each_class(const std::function<void(const ZsmallocClassStats&)>& visit) const noexcept;
  const SizeClasses& size_classes() const noexcept { return sizes_; }

 private:
  // The 42 bits that a slot keeps for us.
  class Place {
   public:
    explicit Place(std::uint64_t word) noexcept : bits_(slot_word::place_of(word)) {}
    Place(std::uint32_t zspage, unsigned cell, std::size_t slack_bytes) noexcept
        : bits_(std::uint64_t{slack_bytes} << kSlackShift | std::uint64_t{zspage} << kZspageShift |
                cell) {}
    std::uint64_t bits() const noexcept { return bits_; }
    std::uint32_t zspage() const noexcept {
      return static_cast<std::uint32_t>(bits_ >> kZspageShift) & (kMostZspages - 1);
    }
    unsigned cell() const noexcept { return static_cast<unsigned>(bits_) & 0xff; }
    std::size_t slack_bytes() const noexcept { return bits_ >> kSlackShift; }
    /// With other slack: a place that was kept still has that of the object before.
    Place with_slack(std::size_t slack_bytes) const noexcept {
      Place changed = *this;
      changed.bits_ = (bits_ & kWhere) | std::uint64_t{slack_bytes} << kSlackShift;
      return changed;
    }
    bool is_at(std::uint32_t zspage, unsigned cell) const noexcept {
      return (bits_ & kWhere) == Place(zspage, cell, 0).bits();
    }

    static constexpr unsigned kZspageShift = 8, kSlackShift = 32;
    static constexpr std::uint32_t kMostZspages = 1U << 24;

   private:
    static constexpr std::uint64_t kWhere = (std::uint64_t{1} << kSlackShift) - 1;
    std::uint64_t bits_;
  };

  // Guarded by its lock, but for `used` and `cells`, which statistics read as they are.
  struct alignas(64) Class {
    ShortLock lock{LockRank::zpool_class};
    std::uint32_t groups[10] = {kNone, kNone, kNone, kNone, kNone,
                                kNone, kNone, kNone, kNone, kNone};  // first of each list
    std::atomic<std::uint32_t> cells{0}, used{0};
    std::atomic<std::uint32_t> returned{0};  // cells that were in use and are not, ever
    std::uint16_t granted = 0;               // room on the stacks of all CPUs
    std::uint8_t evictions = 0;              // zspages that are being emptied by a shrink
  };
  struct Params {
    const SizeClasses* sizes;
    unsigned cache_objects;
  };
  // A zspage that a shrink empties: isolated.
  struct ZspageEviction;
  // Zspages that were closed under a lock, whose pages go back without it.
  class Closed;
  using Numbers = std::span<const std::uint32_t>;

  static constexpr std::uint32_t kNone = Zspage::kNone;
  static constexpr std::uint8_t kFullGroup = 10;
  // Objects of zspages as full as this are kept: room in emptier ones may soon be no room at all.
  static constexpr std::uint8_t kKeepsFromGroup = 8;
  static constexpr unsigned kMostRefill = CpuStacks::kMostNumbers / 2;

  ZsmallocPool(BackendEnv&& env, const Params& params) noexcept;
  static Result<Params> parse(std::string_view params) noexcept;
  Status start(const Params& params, std::string_view name) noexcept;

  // Whether nothing is special about a request: then this CPU may have kept what serves it.
  bool is_plain(std::size_t size_bytes, Gfp gfp) const noexcept {
    return size_bytes - 1 < kPageSize &&  // wraps for 0
           !has(gfp | gfp_, Gfp::zero | Gfp::nowait);
  }
  // The object of a slot in the caller's hands becomes everybody's.
  Handle publish(std::uint32_t index, std::size_t size_bytes) noexcept {
    const Place kept(engine_.slot(index).load(std::memory_order_relaxed));
    clock_.mark(ages_[kept.zspage()]);
    const std::size_t class_bytes = sizes_[sizes_.find(size_bytes)].size_bytes;
    return engine_.publish(index, kept.with_slack(class_bytes - size_bytes).bits());
  }
  void fill(std::uint32_t index, std::span<const std::byte> object) noexcept {
    const Place place(engine_.slot(index).load(std::memory_order_relaxed));
    std::memcpy(base_of(place.zspage()).cell(place.cell()), object.data(), object.size());
  }
  Handle fill_and_publish(std::uint32_t index, std::span<const std::byte> object) noexcept {
    fill(index, object);
    engine_.stacks().count_allocation(object.size());
    return publish(index, object.size());
  }
  // Whether an object of such a zspage is kept on its CPU. Not with the last generation: then the
  // slot is retired.
  static bool keeps(ZspageBase base, Handle handle) noexcept {
    return MMKIT_MUTATE(MMKIT_MUTANT_zsmalloc_keeps_sparse_objects, base.keeps(),
                        !base.isolated()) &&
           handle_bits::generation(handle) != handle_bits::kMaxGeneration;
  }
  std::span<std::byte> bytes_of(std::uint64_t word) const noexcept {
    const Place place(word);
    const ZspageBase base = base_of(place.zspage());
    return std::span{base.cell(place.cell()), base.size_bytes() - place.slack_bytes()};
  }

  ZspageBase base_of(std::uint32_t zspage) const noexcept {
    // Relaxed: who knows the number knows it from a slot or under a lock, which orders.
    return bases_[zspage].load(std::memory_order_relaxed);
  }
  Zspage* find_zspage(std::uint32_t number) const noexcept {
    // Acquire: pairs with adopt(). Who holds no lock looks at base_of() next, and no further.
    return descriptors_[number].load(std::memory_order_acquire);
  }
  Zspage& zspage_at(std::uint32_t number) const noexcept { return *find_zspage(number); }

  // zsmalloc.cpp: the slow half of allocate and free
  Result<Handle> add_slowly(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept;
  Status free_slowly(Handle handle) noexcept;
  Result<std::span<std::byte>> map_slowly(Handle handle) noexcept;
  Result<std::uint32_t> find_room(unsigned size_class, Gfp gfp) noexcept;
  Result<std::uint32_t> refill(unsigned size_class, Gfp gfp) noexcept;
  Result<Zspage*> room_in(Class& home, unsigned size_class, Gfp gfp, Closed& closed) noexcept
      MMKIT_REQUIRES(home.lock);
  std::size_t fill_cells(Class& home, Zspage& zspage, Numbers slots, Closed& closed) noexcept
      MMKIT_REQUIRES(home.lock);
  Status give_back(unsigned size_class, std::uint32_t index) noexcept;
  Handle count_and_publish(std::uint32_t index, std::size_t size_bytes) noexcept;
  Status count_and_give_back(Handle handle, std::uint64_t word) noexcept;
  std::size_t give_back(unsigned size_class, Numbers slots, bool wants_room = false) noexcept;
  void grant(Class& home, unsigned size_class, Closed& closed) noexcept MMKIT_REQUIRES(home.lock);
  bool is_outdone(const Class& home, unsigned cpu, std::size_t head) const noexcept
      MMKIT_REQUIRES(home.lock);
  bool is_overgranted(const Class& home) const noexcept MMKIT_REQUIRES(home.lock);
  std::size_t withdraw(Class& home, unsigned size_class, Closed& closed) noexcept
      MMKIT_REQUIRES(home.lock);
  std::size_t withdraw_all(std::size_t* slots) noexcept;

  // zsmalloc_zspages.cpp: zspages come, change groups, go
  Result<Zspage*> open(unsigned size_class, Gfp gfp) noexcept;
  std::size_t best_length(unsigned size_class) const noexcept;
  Result<PageRun> take_run(std::size_t pages, Gfp gfp) noexcept;
  Result<std::uint32_t> take_number(bool nowait) noexcept;
  void give_number(std::uint32_t number) noexcept;
  void* take_descriptor(unsigned cells, bool nowait, std::uint8_t* block) noexcept;
  void give_descriptor(void* memory, unsigned cells, std::uint8_t block) noexcept;
  void keep_descriptors_ready() noexcept;
  std::uint32_t spares_wanted(std::uint8_t kind) const noexcept;
  void adopt(Class& home, Zspage& zspage) noexcept MMKIT_REQUIRES(home.lock);
  void enlist(Class& home, Zspage& zspage) noexcept MMKIT_REQUIRES(home.lock);
  void delist(Class& home, Zspage& zspage) noexcept MMKIT_REQUIRES(home.lock);
  void relist(Class& home, Zspage& zspage) noexcept MMKIT_REQUIRES(home.lock);
  void isolate(Class& home, Zspage& zspage) noexcept MMKIT_REQUIRES(home.lock);
  void rejoin(Class& home, Zspage& zspage, Closed& closed) noexcept MMKIT_REQUIRES(home.lock);
  void note_state(const Zspage& zspage) noexcept;
  void settle(Class& home, Zspage& zspage, Closed& closed) noexcept MMKIT_REQUIRES(home.lock);
  void take_out(Class& home, std::uint32_t slot, Closed& closed) noexcept MMKIT_REQUIRES(home.lock);
  Zspage* fullest(Class& home) noexcept MMKIT_REQUIRES(home.lock);
  std::size_t close(Closed& closed) noexcept;
  void end(Zspage& zspage) noexcept;

  // zsmalloc_compact.cpp
  struct Slice;
  std::size_t compact_class(unsigned size_class) noexcept;
  bool begin_slice(Slice& slice) noexcept MMKIT_REQUIRES(slices_);
  void move_objects(Slice& slice) noexcept MMKIT_REQUIRES(slices_);
  std::size_t end_slice(Slice& slice) noexcept MMKIT_REQUIRES(slices_);
  void collect(Slice& slice) noexcept;
  Zspage* emptiest(const Class& home) const noexcept MMKIT_REQUIRES(home.lock);
  void relist_all(Class& home) noexcept MMKIT_REQUIRES(home.lock);
  std::size_t freeable_pages(unsigned size_class, std::size_t kept) const noexcept;
  std::size_t kept(unsigned size_class) const noexcept;

  // zsmalloc_shrink.cpp
  Status reclaim(std::size_t* freed_pages) noexcept;
  std::uint32_t oldest() noexcept MMKIT_EXCLUDES(evictions_mutex_);
  bool begin_eviction(ZspageEviction& eviction) noexcept MMKIT_EXCLUDES(evictions_mutex_);
  std::uint64_t evict_objects(const ZspageEviction& eviction) noexcept;
  std::size_t end_eviction(ZspageEviction& eviction) noexcept MMKIT_EXCLUDES(evictions_mutex_);
  bool is_empty_for_now() noexcept MMKIT_EXCLUDES(evictions_mutex_);

  // zsmalloc_validate.cpp
  bool validate_class(unsigned size_class, const CpuStacks::Stopped& stopped, std::size_t* in_use,
                      std::size_t* kept) const noexcept;
  void lock_zspages() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_zspages() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  bool validate_zspage(const Zspage& zspage) const noexcept;
  std::size_t metadata_bytes() const noexcept;

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

  // Read only after create().
  const SizeClasses& sizes_;
  std::uint16_t heads_[SizeClasses::kMost] = {};  // of the classes' stacks
  std::unique_ptr<std::uint8_t[]> capacities_;    // of these stacks
  std::unique_ptr<Class[]> classes_;

  // By number of zspage. Grown under numbers_lock_, read by anybody.
  GrowingArray<std::atomic<ZspageBase>> bases_;
  GrowingArray<UseAge> ages_;
  GrowingArray<std::atomic<Zspage*>> descriptors_;

  std::atomic<std::size_t> zspages_{0};

  mutable ShortLock numbers_lock_{LockRank::zpool_slots};
  std::uint32_t first_number_ MMKIT_GUARDED_BY(numbers_lock_) =
      kNone;  // free ones, linked in bases_
  std::uint32_t free_numbers_ MMKIT_GUARDED_BY(numbers_lock_) = 0;
  struct Spare {  // memory of a descriptor, kept for calls that must not wait
    Spare* next;
  };
  Spare* spares_[2] MMKIT_GUARDED_BY(numbers_lock_) = {};
  std::uint32_t spare_count_[2] MMKIT_GUARDED_BY(numbers_lock_) = {};
  std::atomic<std::size_t> descriptor_bytes_{0};

  mutable Mutex slices_{LockRank::pool};  // one slice of a compaction at a time
};

/// The zsmalloc kind, for registries. Never destroyed.
const ZpoolDriver& zsmalloc_driver() noexcept;

}  // namespace mmkit
