// SPDX-License-Identifier: MIT
//
// SimPageAllocator - a simulated kernel page allocator over real memory.
//
// One range of addresses is reserved when it is made. Frames of it are handed out in runs of any
// length, taken back, kept for a while for the next one who asks, and given back to the operating
// system in batches, so that resident memory follows use.
//
//   addresses   |<------------------- capacity_bytes ------------------->|
//   frames      |0 1 2 3 ...         | ...             | ...             |    node 0, 1, 2
//
//   allocate:   the run of this length that was freed last
//            -> a longer freed run, the shortest that fits, cut at its low end
//            -> the lowest free frames that fit
//            -> any frames that nobody holds, freed and free ones together
//   nowait:     the first two, then freed runs that lie together; never new memory
//   free:       the run is retained; once more than retain_bytes are, the oldest go back until no
//               more than half of that is left. A run longer than retain_bytes goes at once.
//
// The same calls in the same order give the same frames. Alignment counts frames from the first;
// the range begins at a multiple of 4 MiB, the largest block of the kernel (less for a smaller
// capacity), so that up to there an aligned run has an aligned address. No per-CPU cache: such a
// thing is a PageSource of its own in front of this one.
//
// Units:      bytes in the options, pages elsewhere
// Invariants: those of the frame table (src/page/frame_table.hpp), which validate() walks
// Locking:    one short lock for the tables (LockRank::page_source); a mutex around each batch on
//             its way back (LockRank::page_release), so that no lock of the first kind is held
//             during a system call. Takes part in fork.
// Complexity: allocate and free O(1) for a retained run of the exact length, unaligned; see
// docs/page.md
#pragma once

#include <cstddef>
#include <memory>
#include <mmkit/page/page_source.hpp>

namespace mmkit {

struct SimPageAllocatorOptions {
  /// Addresses to reserve, rounded up to whole pages a node; this costs no memory.
  std::size_t capacity_bytes = std::size_t{64} << 30;
  /// The most memory that is kept after it was freed, rounded down to pages; 0 keeps none.
  std::size_t retain_bytes = std::size_t{1} << 20;
  /// The frames are divided into this many nodes of equal size, 1 to 1024.
  unsigned nodes = 1;
  /// Whether the memory is that of a file, so that share() works. Then a fork does not inherit it.
  bool shareable = false;
};

/// Hands out runs of page frames. Never moves. Thread safety: every member is safe.
class SimPageAllocator final : public PageSource {
 public:
  /// The most nodes, as in the kernel.
  static constexpr unsigned kMaxNodes = 1024;

  /// Makes an allocator. Errors: invalid_argument for no capacity, no nodes or more than kMaxNodes,
  /// or less than a page a node; not_supported when the machine's pages are not kPageSize bytes, or
  /// when it has no files in memory; out_of_memory when addresses, a file or memory for the
  /// structures are not to be had, or when the capacity is above 16 TiB.
  static Result<std::unique_ptr<SimPageAllocator>> create(
      const SimPageAllocatorOptions& options = {}) noexcept;

  SimPageAllocator(const SimPageAllocator&) = delete;
  SimPageAllocator& operator=(const SimPageAllocator&) = delete;
  /// Gives everything back. Pages that are still held are reported to the leak handler.
  ~SimPageAllocator();

  /// Gives a run; see the top of the file for which one. Without Gfp::zero its bytes are arbitrary.
  /// A node is a preference: when it is full the others are tried in their order. Gfp::nowait takes
  /// retained memory alone: no waiting, no system call, no page fault, in the call or on the pages.
  /// Errors: invalid_argument for no pages, an alignment that is not a power of two, a node that
  /// does not exist; out_of_memory; try_again (nowait): the lock is taken.
  /// Complexity: O(1) for a retained run of this length; O(1) amortised while filling; else
  /// O(frames / 64). Source: first fit over a bitmap; exact and best fit over freed runs.
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override;

  /// Takes a run back, as allocate_pages gave it. Makes no system call while no more than
  /// retain_bytes are retained. Misuse, the run left as it is: "address not of this allocator"
  /// (also an empty run, or a frame number that is not the address's), "misaligned address", "free
  /// of memory not allocated", "size differs from the allocation". Complexity: O(pages / 64) and
  /// one write a page; O(batch) when a batch goes back.
  void free_pages(PageRun run) noexcept override;

  /// The file and offset of a run that is held. The file is the allocator's. Errors: not_supported
  /// when it is not shareable; invalid_argument for what is not a held run.
  Result<SharedRange> share(const PageRun& run) const noexcept override;

  /// The accounts, taken at one instant. resident_pages = held + retained: what may occupy memory;
  /// less does while held pages were never touched. descriptor_bytes: structures for the frames
  /// that were ever handed out.
  PageSourceStats stats() const noexcept override;

  /// False for a shareable allocator: used in the child of a fork, all but destruction is misuse,
  /// "used after fork".
  bool inherited_by_fork() const noexcept override;

  /// Walks the structures and tests every invariant; waits for a batch on its way. Errors:
  /// bad_format. Complexity: O(frames ever handed out + capacity / 64).
  Status validate() const noexcept;

  /// Gives all retained pages back to the operating system now. Returns how many went; what the
  /// system would not take stays retained. Complexity: O(n log n) for n retained runs.
  std::size_t release() noexcept;

  /// The node that a run of this allocator lies in. Complexity: O(1).
  unsigned node_of(const PageRun& run) const noexcept;
  unsigned nodes() const noexcept;
  /// How many frames there are.
  std::size_t capacity_pages() const noexcept;

 private:
  class State;
  explicit SimPageAllocator(std::unique_ptr<State> state) noexcept;

  std::unique_ptr<State> state_;
};

}  // namespace mmkit
