// SPDX-License-Identifier: MIT
//
// zheap - objects of any size end to end in blocks of pages, moved together before density is lost.
//
// An object lies in the shortest hole that is long enough (best fit), to eight bytes. Best fit alone is
// dense while a pool fills; once objects go and others come, holes pile up that nothing fits. So where
// less than `floor` of a shard's blocks is in use, each call that comes by moves an object or two out
// of the emptiest block, until that block can be given back. Nobody pauses, and nobody calls compact().
//
//   handle --> slot (object_engine.hpp)   place: | slack | number of block | granule |
//                                                  3       26                13 bits
//   number of block --> where it lies (heap_block_table.hpp) --> header, object (heap_block.hpp)
//
//   shard of a CPU  | lock | holes by length | its blocks | victim |       heap_shard.hpp
//   CPU             | slots that were freed here, extents still held |     CpuStacks
//
// Flow:       allocate: a slot, then the best hole of this CPU's shard, under the shard's lock. Where it
//             has none, other shards are asked before a block is opened.
//             free: one exchange, and a push onto this CPU's stack. When that is full, its extents are
//             given back together, each shard's under one lock: whose blocks they are does not matter.
//             map, unmap: one exchange each.
//             evacuate: what a shard owes its floor is done under its lock by who has it anyway, and
//             while a shard is behind also by whoever frees.
//             shrink: evicts whole blocks, least recently used generation first.
//
// An object that fills pages to within a 64th has pages of its own, which are never moved: so a pool of
// what cannot be compressed is as dense as its pages.
//
// Shards come as the pool grows, one for each sixteen whole blocks up to one a CPU: a small pool has
// one, and its CPUs share it.
//
// The floor is granules in use over granules held, in each shard, its newest block left aside. It holds
// at each moment but for the moves that are still owed, which the next calls make; mapped objects stay
// where they are, and each may keep the block that it is in. An extent that waits on a CPU's stack
// counts as in use: at most 32 a CPU, and none in a pool of less than 384 pages. Pages of an object of
// their own never wait.
//
// Units:      granules of eight bytes, pages; sizes in bytes
// Invariants: 1 those of the engine and of each shard  2 a live slot names an extent in use which names
//             it, with its slack  3 a waiting slot is cached and names an extent in use  4 pages agree
//             with the walk
// Locking:    what waits, evictions (pool) > shard (zpool_class; one at a time but for validate() and fork; others
//             by try_lock) > numbers and free slots (zpool_slots) > page source. The page source is
//             called without the shard's lock, but for nowait requests: they never wait.
// Complexity: O(1) and two moves a shard; compact() O(objects moved), shrink() O(blocks) a batch
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/step.hpp>
#include <mmkit/zpool/engine_pool.hpp>
#include <mmkit/zpool/fetch_soon.hpp>
#include <mmkit/zpool/heap_block_table.hpp>
#include <mmkit/zpool/heap_shard.hpp>
#include <string_view>

namespace mmkit {

/// What a zheap pool promises, and what it keeps of it.
struct ZheapDensity {
  double floor = 0;        ///< what was asked for; 0: nothing is moved by itself
  double density = 0;      ///< bytes of extents in use over bytes of blocks; 1 of an empty pool
  std::size_t blocks = 0;  ///< of up to 64 KiB
  std::size_t shards = 0;  ///< each may fall short of the floor by its newest block
  std::size_t passed =
      0;  ///< objects that were mapped, or about to be freed, when a block was emptied
  std::uint64_t emptied = 0;  ///< blocks that moves have emptied
};

/// A pool of the zheap kind. Made by create(); never moves; usable without the front end, which adds
/// limits, foreign handles of other pools, and a name for each misuse.
/// Thread safety: every function is safe, but not against destruction.
class ZheapPool final : public EnginePool {
 public:
  static constexpr std::string_view kType = "zheap";
  static constexpr DriverTraits kTraits{.max_object_bytes = kPageSize,
                                        .can_shrink = true,
                                        .can_compact = true,
                                        .highmem = true,
                                        .most_run_pages = HeapBlock::kMostPages};
  static constexpr std::size_t kMostObjectBytes = 32768;
  static constexpr double kDefaultFloor = 0.955;
  static constexpr double kMostFloor = 0.98;
  /// Blocks whose objects one step of a shrink asks for before it gives up.
  static constexpr unsigned kReclaimRetries = 8;

  /// Makes a pool. `params`: `floor=` 0 to 0.98, the density below which objects are moved (default
  /// 0.955; 0: never); `max_object=` 4096 to 32768, the largest object in bytes (default 4096).
  /// Errors: invalid_argument (a parameter, no page source, tag 0), out_of_memory.
  static Result<std::unique_ptr<ZheapPool>> create(BackendEnv&& env) noexcept;
  /// Live objects go to the leak handler; a live mapping is misuse.
  ~ZheapPool() override;

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    return add(size_bytes, gfp, /*object=*/nullptr);
  }
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept override {
    return add(object.size(), gfp, object.data());
  }
  Status free(Handle handle) noexcept override {
    ObjectEngine::Slot* slot = engine_.find(handle);
    std::uint64_t word;
    if (slot == nullptr || !engine_.pins().try_take(handle, *slot, slot_word::kCached, word))
        [[unlikely]] {
      return free_slowly(handle);
    }
    const HeapPlace place(word);
    detail::fetch_soon(blocks_.block(place.block()).header_of(place.granule()));
    if (!engine_.stacks().try_count_free(0)) [[unlikely]]
      engine_.stacks().count_free(0);
    const std::uint32_t index = handle_bits::index(handle);
    // Relaxed: a hint. Pages that are one object's are too much to wait.
    if (behind_.load(std::memory_order_relaxed) == 0 && !blocks_.is_whole(place.block()) &&
        engine_.try_keep(kWaiting, index)) [[likely]]
      return {};
    return give_back(index);
  }
  void touch(Handle handle) noexcept override;

  Result<std::span<std::byte>> map(Handle handle, MapMode) noexcept override {
    ObjectEngine::Slot* slot = engine_.find(handle);
    std::uint64_t word;
    if (slot == nullptr || !engine_.pins().try_pin(handle, *slot, word)) [[unlikely]]
      return map_slowly(handle);
    return bytes_of(word);
  }

  /// Evicts whole blocks, so perhaps some pages more than were asked for.
  ShrinkOutcome shrink(std::size_t pages) noexcept override;
  /// Moves objects out of the emptiest blocks until no block more can be given back. A second call at
  /// the same time returns 0. Complexity: slices of eight objects, between which everybody else goes on.
  Result<std::size_t> compact() noexcept override;
  std::size_t max_object_bytes() const noexcept override { return params_.max_object_bytes; }
  /// Consistent at rest; while others work each figure is right by itself. Complexity: some
  /// microseconds: it looks at what waits on each CPU. `compactable_pages`: about what compact() frees.
  ZpoolStats stats() const noexcept override;
  Status validate() const noexcept override;

  /// The promise and the fact. Complexity: O(shards).
  ZheapDensity density() const noexcept;

 private:
  struct Params {
    double floor = kDefaultFloor;
    // Of 2^16 granules that are held: more, and moves are owed. Without a floor more than there are.
    std::size_t most_free = 0;
    std::size_t max_object_bytes = kPageSize;
  };
  // A block that a shrink empties: none of its holes is listed.
  struct BlockEviction;
  enum class Goal { floor, everything };
  using Slots = std::span<const std::uint32_t>;

  // The extent of a freed object, in the caller's hands.
  struct Released {
    std::uint32_t slot = 0;
    HeapPlace place = HeapPlace::none();
    HeapBlockInfo* info = nullptr;
    unsigned shard = 0;
  };

  // Blocks that were closed under a lock, whose pages go back without it: linked by `at`.
  class Closed {
   public:
    void push(HeapBlockTable& blocks, std::uint32_t number) noexcept {
      blocks[number].at = first_;
      first_ = number;
    }
    bool empty() const noexcept { return first_ == HeapBlockTable::kNone; }
    std::uint32_t pop(const HeapBlockTable& blocks) noexcept {
      const std::uint32_t number = first_;
      if (number != HeapBlockTable::kNone) first_ = blocks[number].at;
      return number;
    }

   private:
    std::uint32_t first_ = HeapBlockTable::kNone;
  };

  static constexpr std::uint32_t kNone = HeapBlockTable::kNone;
  static constexpr unsigned kMostShards = 64;
  // The stack of freed slots whose extents are still held.
  static constexpr std::size_t kWaiting = ObjectEngine::kFirstPlacementHead;
  static constexpr unsigned kMostWaiting = 32;
  // Moves that one call makes for the floor, at most.
  static constexpr unsigned kMovesACall = 2;
  static constexpr unsigned kMostFreeBits = 16;
  // What best fit leaves between objects, which no move gets back: about so great a part.
  static constexpr std::size_t kOutOfReachShare = 48;

  ZheapPool(BackendEnv&& env, const Params& params) noexcept;
  static Result<Params> parse(std::string_view params) noexcept;
  Status start(std::string_view name) noexcept;

  std::span<std::byte> bytes_of(std::uint64_t word) const noexcept {
    detail::step();
    return blocks_.object(HeapPlace(word));
  }
  HeapShard& shard(unsigned number) const noexcept {
    // Acquire: pairs with the release that made it one of active_.
    return *shards_[number].load(std::memory_order_acquire);
  }
  unsigned shard_here() const noexcept {
    // Acquire: pairs with the release in activate().
    const unsigned active = active_.load(std::memory_order_acquire);
    const unsigned cpu = this_cpu_index();
    return cpu < active ? cpu : cpu % active;
  }

  // zheap.cpp: allocate and free
  Result<Handle> add(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept;
  Result<Handle> add_slowly(std::size_t size_bytes, Gfp gfp, const std::byte* object) noexcept;
  Handle publish(std::uint32_t index, HeapPlace place) noexcept;
  Result<HeapPlace> find_place(std::size_t size_bytes, std::uint32_t slot, Gfp gfp) noexcept;
  Result<HeapPlace> find_pages(std::size_t size_bytes, std::uint32_t slot, Gfp gfp) noexcept;
  Result<HeapPlace> find_room(unsigned granules, std::uint32_t slot, Gfp gfp) noexcept;
  Result<HeapPlace> find_room_elsewhere(unsigned mine, unsigned granules,
                                        std::uint32_t slot) noexcept;
  Result<HeapPlace> find_room_in_new_block(unsigned mine, unsigned granules, std::uint32_t slot,
                                           Gfp gfp) noexcept;
  HeapPlace take_in(HeapShard& home, std::uint32_t number, unsigned granules,
                    std::uint32_t slot) noexcept MMKIT_REQUIRES(home.lock);
  Status free_slowly(Handle handle) noexcept;
  Status give_back(std::uint32_t index) noexcept;
  std::size_t give_back(Slots slots) noexcept;
  static void fetch_neighbours(const Released& one) noexcept;
  std::size_t release(HeapShard& shard, const Released& one, Closed& closed) noexcept
      MMKIT_REQUIRES(shard.lock);
  void fit_waiting_to_size() noexcept MMKIT_EXCLUDES(waiting_);
  unsigned waiting_allowed() const noexcept;
  std::size_t withdraw_all() noexcept MMKIT_EXCLUDES(waiting_);
  Result<std::span<std::byte>> map_slowly(Handle handle) noexcept;
  void note_use(HeapBlockInfo& info) noexcept {
    if (clock_.mark(info.age)) clock_.count(total_pages() / HeapBlock::kMostPages);
  }

  // zheap_blocks.cpp: blocks and shards come and go
  Result<std::uint32_t> open(unsigned mine, unsigned granules, Gfp gfp) noexcept;
  Result<std::uint32_t> open_whole(unsigned mine, std::size_t pages, Gfp gfp) noexcept;
  void add_whole(HeapShard& shard, std::uint32_t number, std::uint32_t slot) noexcept
      MMKIT_REQUIRES(shard.lock);
  Result<std::uint32_t> describe(const PageRun& run, bool is_whole, unsigned mine,
                                 Gfp gfp) noexcept;
  void close_whole(std::uint32_t number, Closed& closed) noexcept;
  Result<PageRun> take_run(std::size_t fewest_pages, Gfp gfp) noexcept;
  PageRun run_of(std::uint32_t number) const noexcept;
  void close(HeapShard& shard, std::uint32_t number, Closed& closed) noexcept
      MMKIT_REQUIRES(shard.lock);
  std::size_t give_pages(Closed& closed) noexcept {
    return closed.empty() ? 0 : give_some_pages(closed);
  }
  std::size_t give_some_pages(Closed& closed) noexcept;
  void activate_shards() noexcept MMKIT_EXCLUDES(evictions_mutex_);

  // zheap_evacuate.cpp: moves
  // Less in use than the floor says, or nearly so: moves begin a little ahead of it.
  bool is_behind(const HeapShard& shard) const noexcept MMKIT_REQUIRES(shard.lock) {
    return shard.victim() != kNone ||
           shard.spoiled() > shard.held() * params_.most_free >> kMostFreeBits;
  }
  // What the shard owes, by who has its lock.
  void keep_floor(HeapShard& shard, Closed& closed) noexcept MMKIT_REQUIRES(shard.lock) {
    if (is_behind(shard) || shard.owes) [[unlikely]]
      pay(shard, closed);
  }
  void pay(HeapShard& shard, Closed& closed) noexcept MMKIT_REQUIRES(shard.lock);
  void pay_elsewhere(unsigned mine) noexcept;
  enum class Progress {
    some,       // there may be more to do
    none,       // nothing to do
    left_some,  // the victim was not emptied: something in it cannot be moved
    no_room     // the victim was not emptied: an object found no room
  };
  Progress evacuate(HeapShard& shard, unsigned moves, Goal goal, Closed& closed) noexcept
      MMKIT_REQUIRES(shard.lock);
  enum class Step { moved, passed, no_room };
  Step empty_one(HeapShard& shard, Closed& closed) noexcept MMKIT_REQUIRES(shard.lock);
  // The slot of the live object at a place, and its word as of when it was found to be that.
  struct Owner {
    std::uint32_t slot = ObjectEngine::kNoSlot;
    std::uint64_t word = 0;
  };
  Owner find_owner(HeapPlace place) const noexcept;
  void compact_shard(HeapShard& shard) noexcept;

  // zheap_shrink.cpp
  Status reclaim(std::size_t* freed_pages) noexcept;
  std::uint32_t oldest() noexcept;
  bool release_victims() noexcept;
  bool begin_eviction(BlockEviction& eviction) noexcept;
  template <class F>
  void for_each_owner(std::uint32_t number, unsigned from, F&& visit) const noexcept;
  bool has_mapped(std::uint32_t number) const noexcept;
  bool evict_objects(BlockEviction& eviction) noexcept;
  std::size_t end_eviction(BlockEviction& eviction) noexcept;

  // zheap_life.cpp, zheap_validate.cpp
  std::size_t metadata_bytes() const noexcept;
  std::uint64_t waiting_bytes() const noexcept;
  bool validate_owners(std::uint32_t number, std::size_t* owned) const noexcept;
  bool validate_slots(const CpuStacks::Stopped& stopped, std::size_t owned) const noexcept;
  bool is_extent_of(std::uint32_t slot, HeapPlace place) const noexcept;
  void lock_shards() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_shards() noexcept MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

  // Read only after create().
  const Params params_;
  unsigned most_shards_ = 1;
  unsigned locked_shards_ = 0;  // by lock_shards(), under evictions_mutex_

  HeapBlockTable blocks_;
  std::atomic<HeapShard*> shards_[kMostShards] = {};
  std::atomic<unsigned> active_{1};

  alignas(64) std::atomic<std::uint32_t> behind_{0};  // shards that owe moves
  std::atomic<std::uint32_t> evicting_{0};            // threads that shrink
  std::atomic<std::uint32_t> granted_{0};             // what a CPU may let wait, at most
  std::atomic<std::uint64_t> passed_{0}, emptied_{0}, bytes_released_{0};

  mutable Mutex waiting_{LockRank::pool};  // who changes what may wait on CPUs, or looks at it
};

/// The driver of these pools. Thread safety: safe.
const ZpoolDriver& zheap_driver() noexcept;

}  // namespace mmkit
