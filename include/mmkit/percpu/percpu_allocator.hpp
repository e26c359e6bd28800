// SPDX-License-Identifier: MIT
//
// PercpuAllocator - memory that exists once a CPU, behind pointers that are the same for all.
//
// What it gives out is an offset in a chunk; each unit of the chunk has that offset once
// (stride.hpp). What lies where in a chunk is the business of src/percpu:
//
//   PercpuAllocator   front: checks, zeroing, statistics               percpu_allocator.cpp
//     FastPath        an object from this CPU's stock, in line          fast_path.hpp
//     Caches          the stock: free objects by CPU and size           caches.hpp
//     ChunkHeap       chunks by fullness, under one short lock           chunk_heap.hpp
//       OffsetMap     which granules of the offset space are taken       offset_map.hpp
//     Backing         gives units memory and takes it back               backing.hpp
//
// Memory of a unit exists from the first touch on (PercpuBacking::lazy), or when its pages are
// mapped (PercpuBacking::mapped). Freed pages go back in balance(), and by themselves when there
// are many.
// Units: sizes in bytes, of one unit; multiply by units() for addresses
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/page/page_source.hpp>
#include <mmkit/percpu/fast_path.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>
#include <mmkit/percpu/stride.hpp>

namespace mmkit {

/// Where the memory of units comes from.
enum class PercpuBacking {
  lazy,   ///< private memory of the process, from the first touch of each page on
  mapped  ///< pages of a shareable page source, mapped in every unit before they are used
};

struct PercpuOptions {
  unsigned max_cpus = 0;  ///< units; 0 for the possible CPUs, fewer than those are refused
  PercpuBacking backing = PercpuBacking::lazy;
  std::size_t reserved_bytes = 0;  ///< for allocate_reserved(), at most 64 KiB
  PageSource* pages = nullptr;     ///< mapped: a shareable one, null for one of its own
};

/// A picture of an allocator. Sizes in bytes of one unit; pages are pages of the offset space, each
/// standing for one in every unit.
struct PercpuStats {
  std::size_t unit_bytes = 0;             ///< bytes of a chunk's offset space
  std::size_t units = 0;                  ///< copies of each variable
  std::size_t chunks = 0;                 ///< now
  std::size_t max_chunks = 0;             ///< at most, ever
  std::size_t populated_pages = 0;        ///< pages that allocations may use at once
  std::size_t empty_populated_pages = 0;  ///< of these, with nothing in them; what CPUs keep counts
  std::size_t metadata_bytes = 0;         ///< what the allocator itself takes
  std::size_t live_bytes = 0;             ///< allocated and not freed, rounded as it was
  std::size_t min_alloc_bytes = 0;        ///< smallest and largest allocation so far, rounded
  std::size_t max_alloc_bytes = 0;
  std::uint64_t allocations = 0;  ///< that succeeded
  std::uint64_t frees = 0;
  std::uint64_t live = 0;       ///< allocations less frees
  std::uint64_t peak_live = 0;  ///< the most at once; with several CPUs an upper bound
  std::uint64_t failures = 0;
  std::uint64_t nowait_failures = 0;  ///< of these, with Gfp::nowait
};

/// One chunk, as for_each_chunk() shows it.
class PercpuChunk {
 public:
  PercpuChunk(const PercpuChunk&) = delete;
  PercpuChunk& operator=(const PercpuChunk&) = delete;

  /// Pages of the offset space: 16. Of the reserved part those beyond its end are never populated,
  /// nor free.
  unsigned pages() const noexcept;
  /// Whether a page is populated in every unit. Pages that do not exist are not.
  bool populated(unsigned page) const noexcept;
  /// Bytes that are free, and the longest run of them.
  std::size_t free_bytes() const noexcept;
  std::size_t largest_free_bytes() const noexcept;
  /// Bytes that are free in one page.
  std::size_t free_bytes(unsigned page) const noexcept;
  /// Whether it is the part for allocate_reserved().
  bool reserved() const noexcept;

  /// Populates the pages [page_begin, page_end) in every unit, or in none. Errors: out_of_memory;
  /// invalid_argument for a range that does not exist. Thread safety: safe.
  Status populate(unsigned page_begin, unsigned page_end) noexcept;
  /// Gives back those of the pages [page_begin, page_end) in which nothing is live; how many.
  /// Objects that a CPU keeps for its next allocation count as live (balance() returns them).
  /// Thread safety: safe.
  unsigned depopulate(unsigned page_begin, unsigned page_end) noexcept;

 protected:
  PercpuChunk() noexcept = default;
  ~PercpuChunk() = default;
};

namespace detail {
struct PercpuState;
}

/// The allocator. Never moves. Thread safety: safe, unless a function says otherwise. In the child
/// of a fork an allocator with lazy backing goes on; one with mapped backing is not inherited, and
/// its use there is fatal: `used after fork`.
class PercpuAllocator {
 public:
  /// Errors: invalid_argument (fewer units than possible CPUs, more than 16384; a mapped backing
  /// with more than 16; reserved_bytes above 64 KiB); not_supported (a page source that cannot
  /// share); out_of_memory.
  static Result<std::unique_ptr<PercpuAllocator>> create(
      const PercpuOptions& options = {}) noexcept;

  /// The process's own: lazy, the possible CPUs, 8 KiB reserved. Made on first use, never destroyed.
  static PercpuAllocator& instance() noexcept;

  PercpuAllocator(const PercpuAllocator&) = delete;
  PercpuAllocator& operator=(const PercpuAllocator&) = delete;
  /// Objects still live go to the leak handler. No call may be under way.
  ~PercpuAllocator();

  /// Allocates `size_bytes` (1 to 32 KiB) on every CPU, zero on every CPU, aligned to `align_bytes`
  /// (a power of two to 64). Gfp::nowait: no system call, no waiting, no page fault in this call.
  /// Also from signal handlers with Gfp::nowait. Errors: invalid_argument; out_of_memory; with
  /// nowait also try_again, when another thread was in the way.
  /// Complexity: small sizes O(1), usually without lock or atomic; zeroing open units.
  /// Source: the kernel's percpu allocator (map, hints, slots), Bonwick's magazines in front.
  Result<PercpuPtr<std::byte>> allocate(std::size_t size_bytes, std::size_t align_bytes,
                                        Gfp gfp = Gfp::kernel) noexcept {
    const unsigned size_class = percpu::size_class::find(size_bytes, align_bytes);
    if (size_class != 0 && is_power_of_two(align_bytes) && !has(gfp, Gfp::nowait)) [[likely]] {
      std::byte* const unit0 = fast_.allocate(size_class);
      if (unit0 != nullptr) [[likely]]
        return PercpuPtr<std::byte>{unit0};
    }
    return allocate_slowly(size_bytes, align_bytes, gfp);
  }
  /// The same out of the reserved part. Errors: also no_space when that is full.
  Result<PercpuPtr<std::byte>> allocate_reserved(std::size_t size_bytes,
                                                 std::size_t align_bytes) noexcept;

  /// Frees. Null is fine. What this allocator never gave out is misuse: `address not of this
  /// allocator`; what is not the start of something live: `free of memory not allocated`. Two frees at the same instant
  /// are caught at best effort. Complexity: as allocate; may give pages back.
  void free(PercpuPtr<std::byte> p) noexcept {
    if (p && !fast_.free(p.unit0)) [[unlikely]]
      free_or_die(p);
  }
  /// The same, but misuse is an answer: invalid_argument, nothing changed.
  Status try_free(PercpuPtr<std::byte> p) noexcept;

  /// Gives back what can be: objects that CPUs keep, empty pages but for a small reserve, empty
  /// chunks but for one. Complexity: O(chunks), system calls.
  void balance() noexcept;

  unsigned units() const noexcept;
  /// Whether an address lies in a unit of one of its chunks.
  bool contains(const void* address) const noexcept;
  /// Whose copy an address is, and the same place in unit 0. Errors: invalid_argument.
  Result<unsigned> cpu_of(const void* address) const noexcept;
  Result<PercpuPtr<std::byte>> canonical(const void* address) const noexcept;

  /// Calls with each chunk, oldest place first; no lock is held, and no chunk ends meanwhile.
  void for_each_chunk(const std::function<void(PercpuChunk&)>& visit);
  PercpuStats stats() const noexcept;
  /// Walks everything. Errors: bad_format when an invariant does not hold. Stops the per-CPU caches
  /// for its length.
  Status validate() const noexcept;

 private:
  explicit PercpuAllocator(std::unique_ptr<detail::PercpuState> state) noexcept;
  Result<PercpuPtr<std::byte>> allocate_slowly(std::size_t size_bytes, std::size_t align_bytes,
                                               Gfp gfp) noexcept;
  void free_or_die(PercpuPtr<std::byte> p) noexcept;

  percpu::FastPath fast_;
  std::unique_ptr<detail::PercpuState> state_;
};

}  // namespace mmkit
