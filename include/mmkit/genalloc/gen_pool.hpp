// SPDX-License-Identifier: MIT
//
// GenPool - hands out ranges of memory that it never touches: GPU heaps, windows of devices, shared
// memory, files.
//
// A pool is a list of chunks, ranges of addresses cut into granules. Its bookkeeping lies elsewhere,
// some 1.5 bits a granule. Where an allocation goes is what the kernel's gen_pool would say, for
// every policy and any number of chunks.
//
//   pool --> chunk --> chunk --> chunk           added last is asked first
//              |  [taken|free|taken| ... ]       a bit a granule
//
// Under threads: allocate and free are lock-free, may be called in signal handlers, and are strictly
// linearizable. There is one order of the calls in which each got exactly its policy's place or a
// true "no space", and every call stands in it at an instant between its beginning and its end.
// A thread that is stopped in the middle of a call holds nobody up. Not wait-free; but a call that
// lost eight times is made by all together, so that long searches are not starved by short ones;
// searches of the caller's own excepted, which nobody else runs. Up to 48 operations of a pool are in
// flight at once, then allocate says try_again; frees have 16 places more, and wait beyond them.
// Units:      bytes; places are multiples of the granule, 2^min_alloc_order bytes, from the chunk's
//             start
// Locking:    none
// Complexity: allocate and free O(log n) amortised, and one step for each 512 granules
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/genalloc/fit.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace mmkit {

/// What the addresses of a pool are.
enum class AddressKind {
  opaque,  ///< anything: offsets, addresses of a device
  host,    ///< this process's memory: zeroing and the poisoning of sanitizers are allowed
};

struct ChunkSpec {
  std::uintptr_t start = 0;
  std::size_t size_bytes = 0;
  std::optional<std::uint64_t> phys{};  ///< physical address of `start`
  void* owner = nullptr;                ///< handed back with each allocation from this chunk
  int node = kAnyNode;  ///< a wish for where the bookkeeping lies; the heap grants none
};

struct GenPoolOptions {
  unsigned min_alloc_order = 0;  ///< log2 of the granule, at most 47
  std::string name{};
  Fit fit{};            ///< of allocations that name none
  int node = kAnyNode;  ///< as in ChunkSpec, for the pool itself
  AddressKind kind = AddressKind::opaque;
  bool track_boundaries = false;  ///< a free must match its allocation; one bit more a granule
};

/// A chunk as it is at the moment.
struct GenPoolChunk {
  std::uintptr_t start;
  std::size_t size_bytes, available_bytes;
  std::optional<std::uint64_t> phys;
  void* owner;
};
struct FreeRun {
  std::uintptr_t start;
  std::size_t size_bytes;
};
struct DmaBlock {
  void* address;
  std::uint64_t phys;
};

struct GenPoolStats {
  std::size_t size_bytes = 0;          ///< of all chunks, tails smaller than a granule included
  std::size_t available_bytes = 0;     ///< of that, not allocated
  std::size_t peak_used_bytes = 0;     ///< the most that was ever allocated at once
  std::size_t largest_free_bytes = 0;  ///< what could be allocated in one piece
  std::size_t metadata_bytes = 0;      ///< reserved for bookkeeping; touched as it is needed
  std::size_t chunks = 0;
  std::size_t free_runs = 0;
  std::uint64_t allocations = 0, frees = 0;
  std::uint64_t failed_no_space = 0;     ///< refused: not so much was free
  std::uint64_t failed_fragmented = 0;   ///< refused: enough was free, but not where it was wanted
  std::uint64_t retries = 0;             ///< operations begun again because another was quicker
  std::uint64_t words_touched = 0;       ///< of bitmaps and hints, in searches
  std::uint64_t most_words_touched = 0;  ///< by one operation
};

/// A pool. Made by create(); never moves.
/// Thread safety: every function is safe unless it says otherwise, but not against destruction.
class GenPool {
 public:
  /// Makes a pool without chunks. Errors: invalid_argument (an order above 47, an alignment of `fit`
  /// that is not a power of two, an offset that is not a multiple of the granule), out_of_memory.
  static Result<std::unique_ptr<GenPool>> create(const GenPoolOptions& options = {}) noexcept;
  GenPool(const GenPool&) = delete;
  GenPool& operator=(const GenPool&) = delete;
  /// What is still allocated goes to the leak handler, in bytes.
  ~GenPool();

  std::string_view name() const noexcept;
  std::size_t granule_bytes() const noexcept;

  /// Adds a range; it will be asked before those that are there. It may end at the very top of the
  /// address space. Errors: invalid_argument (size 0, a range that wraps), already_exists (it
  /// overlaps a chunk), out_of_memory (also: more than 2^36 granules); nothing changed.
  /// Complexity: O(chunks + granules / 4096).
  Status add_chunk(const ChunkSpec& spec) noexcept;
  /// Takes a range away. Errors: not_found (no chunk starts there), busy (something in it is
  /// allocated). Thread safety: caller serialises: no other call in flight.
  Status remove_chunk(std::uintptr_t start) noexcept;

  /// Allocates by the pool's policy. `size_bytes` is rounded up to granules. Returns the address,
  /// which may be 0 if a chunk starts there. Errors: invalid_argument (size 0), no_space, try_again
  /// (too many operations in flight). Thread safety: safe, also in signal handlers.
  Result<std::uintptr_t> allocate(std::size_t size_bytes) noexcept;
  /// Allocates by `fit`. `*owner` becomes the chunk's owner, nullptr when this fails. Errors: as
  /// above; invalid_argument also for an alignment that is not a power of two or an offset that is
  /// not a multiple of the granule. Thread safety: safe, also in signal handlers.
  Result<std::uintptr_t> allocate(std::size_t size_bytes, const Fit& fit,
                                  void** owner = nullptr) noexcept;
  /// Allocates the granules at an address. Errors: invalid_argument (size 0, or not whole granules
  /// from one within a chunk on), no_space (one of them is taken, or there are not so many),
  /// try_again. Thread safety: safe, also in signal handlers.
  Status allocate_at(std::uintptr_t start, std::size_t size_bytes) noexcept;

  /// Frees what was allocated, or any part of it that is whole granules, or neighbours together;
  /// with track_boundaries an allocation as it was made. Size 0 frees nothing. `*owner` becomes the
  /// chunk's owner. Misuse: `address in no chunk`, `misaligned address`, `free past the end of the
  /// chunk`, `free of memory not allocated`, `size differs from the allocation`.
  /// Thread safety: safe, also in signal handlers.
  void free(std::uintptr_t start, std::size_t size_bytes, void** owner = nullptr) noexcept;
  /// The same, and says so instead. Errors: invalid_argument for each misuse; nothing changed.
  Status try_free(std::uintptr_t start, std::size_t size_bytes, void** owner = nullptr) noexcept;

  /// Allocates and gives the physical address too. Errors: as allocate(); not_supported (the place
  /// is in a chunk without one; nothing is allocated). Thread safety: safe, also in signal handlers.
  Result<DmaBlock> allocate_dma(std::size_t size_bytes) noexcept;
  Result<DmaBlock> allocate_dma(std::size_t size_bytes, const Fit& fit) noexcept;
  /// The same, `size_bytes` of it zero. Errors: not_supported also for a pool that is not of kind
  /// host. Thread safety: safe, also in signal handlers.
  Result<DmaBlock> allocate_zeroed_dma(std::size_t size_bytes) noexcept;
  Result<DmaBlock> allocate_zeroed_dma(std::size_t size_bytes, const Fit& fit) noexcept;

  /// The physical address, allocated or not. Errors: invalid_argument (in no chunk), not_supported
  /// (a chunk without one). Complexity: O(chunks).
  Result<std::uint64_t> virt_to_phys(std::uintptr_t address) const noexcept;
  /// Whether one chunk holds the whole range; of an empty range, its start.
  bool contains(std::uintptr_t start, std::size_t size_bytes) const noexcept;
  /// Bytes not allocated, exact at an instant within the call. Complexity: O(1).
  std::size_t available_bytes() const noexcept;
  /// Bytes of all chunks. Complexity: O(1).
  std::size_t size_bytes() const noexcept;
  /// What could be allocated in one piece, exact at an instant within the call; beside others that
  /// never pause, at some instants. Complexity: O(log n) amortised, and the leaves of runs of more
  /// than 32511 granules.
  std::size_t largest_free_bytes() const noexcept;

  /// Sets the policy of allocations that name none; one that is not sound (see create()) makes them
  /// fail with invalid_argument.
  void set_fit(const Fit& fit) noexcept;

  /// Visits the chunks, the one added last first. `available_bytes` is counted then: exact when the
  /// pool rests. The visitor must not throw. Complexity: O(granules / 64).
  void for_each_chunk(const std::function<void(const GenPoolChunk&)>& visit) const noexcept;
  /// Visits the free runs, chunks as above, addresses upwards; exact when the pool rests, else
  /// leaf by leaf. The visitor must not throw. Complexity: O(granules / 64 + runs).
  void for_each_free_run(const std::function<void(const FreeRun&)>& visit) const noexcept;
  /// Complexity: O(granules / 64).
  GenPoolStats stats() const noexcept;
  /// Walks everything and checks each invariant. Errors: bad_format (something is broken), busy (the
  /// pool did not rest while it was walked; nothing can be said). Complexity: O(granules).
  Status validate() const noexcept;

 private:
  struct Parts;
  explicit GenPool(std::unique_ptr<Parts> parts) noexcept;

  Result<DmaBlock> allocate_dma(std::size_t size_bytes, const Fit& fit, bool zero) noexcept;

  std::unique_ptr<Parts> parts_;
};

}  // namespace mmkit
