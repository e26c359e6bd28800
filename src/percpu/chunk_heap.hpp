// SPDX-License-Identifier: MIT
//
// ChunkHeap - the chunks of an allocator, by how full they are, and how their memory comes and goes.
//
// Chunks stand in lists by the logarithm of their longest free run, so an allocation looks at the
// fullest that may have room first, and empties the rest:
//
//   slot 0          full
//   slot 1..15      longest free run of 2^(slot-1) granules and more
//   kSidelined      pages were just taken from it: used only when nothing else has room
//   kFree           nothing allocated
//   kDepopulate     its pages are about to go: not used at all
//
// take() follows this way; nothing is held while memory is asked for:
//
//   search under lock -> mark granules -> unlock -> populate (mapped only) under pages
//         | no room: under pages: search again (somebody may have been first), then a new chunk
//
// Empty pages go back in balance(), or when an allocation or a free finds that there are many
// (tend()): the work a kernel leaves to its worker. Two rules keep it from going to and fro: a
// chunk gives back only when four of its pages are idle and four others stay, and what it gives
// back in one go is everything it has.
//
// The reserve: a few empty blocks with memory on every CPU this process may run on, which ordinary
// allocations pass by. Gfp::nowait takes from them (and from any other block that surely has
// memory), under the lock if it is free, and never waits. A nowait allocation that failed doubles
// the reserve.
// Invariants: 1 every chunk: chunk.hpp; its slot is what its map says, unless isolated
//             2 idle_ is the sum of idle_counted; reserve_ the blocks set aside
//             3 after balance() at most one chunk is free, the reserved one not counted
// Locking:    pages_ (percpu_pages), then lock_ (percpu_chunks). Which chunks exist changes under
//             both; either is enough to look.
// Complexity: take and release O(chunks of a slot + words); balance O(chunks), system calls
#pragma once

#include <array>
#include <atomic>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/base/short_lock.hpp>
#include <span>

#include "percpu/backing.hpp"

namespace mmkit::percpu {

/// Objects kept elsewhere for the next allocation, which the heap counts as allocated.
class KeptObjects {
 public:
  /// Returns all of them to the heap. Called with no lock held.
  virtual void return_all() noexcept = 0;

 protected:
  ~KeptObjects() = default;
};

class ChunkHeap {
 public:
  /// An allocation as it left the heap.
  struct Taken {
    std::byte* address = nullptr;
    bool fresh = false;    ///< reads as zero on every CPU
    bool present = false;  ///< zeroing the open units cannot fault
  };
  struct Totals {
    std::size_t chunks = 0, max_chunks = 0, populated_blocks = 0, empty_populated_blocks = 0;
    std::size_t taken_bytes = 0, metadata_bytes = 0;
    std::size_t min_bytes = 0, max_bytes = 0;
  };

  ChunkHeap(unsigned units, AddressSpace& space, Backing& backing) noexcept;
  ChunkHeap(const ChunkHeap&) = delete;
  ChunkHeap& operator=(const ChunkHeap&) = delete;
  ~ChunkHeap();

  /// Makes the first chunk, its reserve, and the reserved chunk. Errors: out_of_memory.
  Status start(std::size_t reserved_bytes) noexcept MMKIT_EXCLUDES(pages_, lock_);
  void set_kept_objects(KeptObjects* kept) noexcept { kept_ = kept; }

  /// Allocates up to out.size() runs of granules, at least one; how many. Errors: out_of_memory;
  /// with nowait (one at most) also try_again.
  Result<std::size_t> take(unsigned granules, unsigned align, Gfp gfp,
                           std::span<Taken> out) noexcept MMKIT_EXCLUDES(pages_, lock_);
  /// One run of the reserved chunk. Errors: no_space, out_of_memory.
  Result<Taken> take_reserved(unsigned granules, unsigned align) noexcept
      MMKIT_EXCLUDES(pages_, lock_);

  /// Frees the allocation that starts there; its bytes. Errors: invalid_argument when none does.
  Result<std::size_t> release(const Location& where) noexcept MMKIT_EXCLUDES(pages_, lock_);
  /// Frees objects that the heap gave out, and that nobody else can name. Leaves it to the caller to
  /// tend().
  void release_many(std::span<void* const> objects) noexcept MMKIT_EXCLUDES(lock_);

  /// Does what is due, if anything is and nobody else is at it.
  void tend() noexcept MMKIT_EXCLUDES(pages_, lock_) {
    if (due_.load(std::memory_order_relaxed)) tend_now();  // a hint: the work looks again
  }
  void balance() noexcept MMKIT_EXCLUDES(pages_, lock_);
  Status populate(Chunk& chunk, unsigned begin, unsigned end) noexcept
      MMKIT_EXCLUDES(pages_, lock_);
  unsigned depopulate(Chunk& chunk, unsigned begin, unsigned end) noexcept
      MMKIT_EXCLUDES(pages_, lock_);

  template <class F>
  void for_each_chunk(F&& visit) MMKIT_EXCLUDES(pages_, lock_);
  bool contains(const Location& where) const noexcept MMKIT_EXCLUDES(lock_);
  Totals totals() const noexcept MMKIT_EXCLUDES(lock_);
  /// Whether every invariant holds. `is_object` is asked about the start of each allocation.
  template <class F>
  bool validate(F&& is_object) const noexcept MMKIT_REQUIRES(pages_, lock_);

  ShortLock& lock() const noexcept MMKIT_RETURN_CAPABILITY(lock_) { return lock_; }
  Mutex& pages() const noexcept MMKIT_RETURN_CAPABILITY(pages_) { return pages_; }

  std::size_t free_bytes(const Chunk& chunk) const noexcept MMKIT_EXCLUDES(lock_);
  std::size_t free_bytes(const Chunk& chunk, unsigned block) const noexcept MMKIT_EXCLUDES(lock_);
  std::size_t longest_bytes(const Chunk& chunk) const noexcept MMKIT_EXCLUDES(lock_);
  bool populated(const Chunk& chunk, unsigned block) const noexcept MMKIT_EXCLUDES(lock_);

 private:
  static constexpr unsigned kSizeSlots = 16, kSidelined = 16, kFree = 17, kDepopulate = 18;
  static constexpr unsigned kSlots = 19;
  // Idle blocks that stay populated, and the size of the reserve before and after a failure: the
  // kernel's PCPU_EMPTY_POP_PAGES_HIGH and _LOW.
  static constexpr unsigned kIdleHigh = 4, kReserveLow = 2, kReserveHigh = 4;

  static unsigned slot_for(unsigned granules) noexcept;
  bool is_listed(const Chunk& chunk) const noexcept { return !chunk.is_reserved; }
  void update(Chunk& chunk) noexcept MMKIT_REQUIRES(lock_);
  void move_to(Chunk& chunk, unsigned slot) noexcept MMKIT_REQUIRES(lock_);
  void set_held(Chunk& chunk, BlockSet blocks, unsigned units) noexcept MMKIT_REQUIRES(lock_);

  struct Found {
    Chunk* chunk = nullptr;
    std::size_t count = 0;
    BlockSet blocks = 0;  ///< that they lie in
  };
  enum class Room { ordinary, last_resort };
  Found search(unsigned granules, unsigned align, Room room, std::span<Taken> out) noexcept
      MMKIT_REQUIRES(lock_);
  Found take_from(Chunk& chunk, unsigned granules, unsigned align, BlockSet closed,
                  std::span<Taken> out) noexcept MMKIT_REQUIRES(lock_);
  /// Accounts for runs that the map gave.
  Found note_taken(Chunk& chunk, unsigned granules, std::span<const unsigned> starts,
                   std::span<Taken> out) noexcept MMKIT_REQUIRES(lock_);
  Result<std::size_t> take_now(unsigned granules, unsigned align, std::span<Taken> out) noexcept;
  Status make_usable(const Found& found) noexcept MMKIT_EXCLUDES(pages_, lock_);
  Status add_room(unsigned granules, unsigned align) noexcept MMKIT_EXCLUDES(pages_, lock_);
  BlockSet closed_to(const Chunk& chunk, Room room) const noexcept;
  Chunk* find_chunk(unsigned granules, unsigned align, Room room) noexcept MMKIT_REQUIRES(lock_);
  std::size_t release_granule(Chunk& chunk, unsigned granule) noexcept MMKIT_REQUIRES(lock_);

  Result<Chunk*> add_chunk(bool is_reserved) noexcept MMKIT_REQUIRES(pages_);
  /// Ends a chunk that nobody uses. False when the system refuses.
  bool end_chunk(Chunk& chunk) noexcept MMKIT_REQUIRES(pages_) MMKIT_EXCLUDES(lock_);
  void destroy(Chunk& chunk) noexcept MMKIT_REQUIRES(lock_);
  void tend_now() noexcept MMKIT_EXCLUDES(pages_, lock_);
  void end_free_chunks() noexcept MMKIT_REQUIRES(pages_) MMKIT_EXCLUDES(lock_);
  void reclaim(bool everything) noexcept MMKIT_REQUIRES(pages_) MMKIT_EXCLUDES(lock_);
  unsigned depopulate_blocks(Chunk& chunk, BlockSet blocks) noexcept MMKIT_REQUIRES(pages_)
      MMKIT_EXCLUDES(lock_);
  Status populate_blocks(Chunk& chunk, BlockSet blocks) noexcept MMKIT_REQUIRES(pages_)
      MMKIT_EXCLUDES(lock_);
  void fill_reserve() noexcept MMKIT_REQUIRES(pages_) MMKIT_EXCLUDES(lock_);
  bool set_one_aside(unsigned units) noexcept MMKIT_REQUIRES(pages_) MMKIT_EXCLUDES(lock_);
  struct ReserveBlock {
    Chunk* chunk = nullptr;
    unsigned block = 0;
    unsigned written_granules = 0;  ///< that may have been used
  };
  Chunk* chunk_for_reserve(BlockSet (*candidates)(const Chunk&) noexcept) noexcept
      MMKIT_REQUIRES(lock_);
  /// Closes an empty block to all others; no chunk when there is none.
  ReserveBlock close_one_for_reserve(bool prefer_fresh) noexcept MMKIT_EXCLUDES(lock_);
  Chunk* chunk_after(unsigned region, unsigned index) const noexcept MMKIT_REQUIRES(lock_);
  Chunk* pin_next(unsigned& region, unsigned& index) noexcept MMKIT_EXCLUDES(lock_);
  void unpin(Chunk& chunk) noexcept MMKIT_EXCLUDES(lock_);
  bool validate_chunk(const Chunk& chunk) const noexcept MMKIT_REQUIRES(lock_);
  bool validate_lists() const noexcept MMKIT_REQUIRES(lock_);

  const unsigned units_;
  AddressSpace& space_;
  Backing& backing_;
  KeptObjects* kept_ = nullptr;

  mutable Mutex pages_{LockRank::percpu_pages};
  mutable ShortLock lock_{LockRank::percpu_chunks};
  std::array<IntrusiveList<Chunk>, kSlots> slots_ MMKIT_GUARDED_BY(lock_);
  IntrusiveList<Chunk, HeldTag> held_ MMKIT_GUARDED_BY(lock_);
  Chunk* first_chunk_ MMKIT_GUARDED_BY(lock_) = nullptr;
  Chunk* reserved_chunk_ MMKIT_GUARDED_BY(lock_) = nullptr;
  unsigned in_flight_ MMKIT_GUARDED_BY(lock_) = 0;  ///< allocations whose memory is being populated
  unsigned idle_ MMKIT_GUARDED_BY(lock_) = 0;
  unsigned reserve_ MMKIT_GUARDED_BY(lock_) = 0;
  unsigned reserve_target_ MMKIT_GUARDED_BY(lock_) = kReserveLow;
  std::size_t chunks_ MMKIT_GUARDED_BY(lock_) = 0, max_chunks_ MMKIT_GUARDED_BY(lock_) = 0;
  std::size_t taken_bytes_ MMKIT_GUARDED_BY(lock_) = 0;
  std::size_t min_bytes_ MMKIT_GUARDED_BY(lock_) = 0, max_bytes_ MMKIT_GUARDED_BY(lock_) = 0;
  std::atomic<bool> due_{false};
};

template <class F>
void ChunkHeap::for_each_chunk(F&& visit) {
  unsigned region = 0, index = 0;
  // Also when the visitor throws.
  struct Unpinned {
    ChunkHeap& heap;
    Chunk& chunk;
    ~Unpinned() { heap.unpin(chunk); }
  };
  while (Chunk* const chunk = pin_next(region, index)) {
    const Unpinned afterwards{*this, *chunk};
    visit(*chunk);
  }
}

template <class F>
bool ChunkHeap::validate(F&& is_object) const noexcept {
  for (const Chunk* chunk = chunk_after(0, 0); chunk != nullptr;
       chunk = chunk_after(chunk->place.region, chunk->place.index + 1)) {
    if (!validate_chunk(*chunk)) return false;
    for (unsigned at = chunk->map.next_start(0); at < kGranules;
         at = chunk->map.next_start(at + 1)) {
      if (!is_object(*chunk, at)) return false;
    }
  }
  return validate_lists();
}

}  // namespace mmkit::percpu
