// SPDX-License-Identifier: MIT
//
// PageSource - the seam between pages and those who use them.
//
// Everything that needs pages takes a PageSource: the simulated page allocator, a double that fails
// on demand, a source that counts against a limit, or one that a user brings. A source outlives
// everything made from it.
// Units: pages of kPageSize bytes, but for descriptor_bytes and offset_bytes
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/page/page_size.hpp>

namespace mmkit {

/// What is asked of a page source: a run of any length, not only of powers of two.
struct PageRequest {
  std::size_t pages = 1;        ///< length of the run, at least 1
  std::size_t align_pages = 1;  ///< the first frame's number is a multiple of it; a power of two
  Gfp gfp = Gfp::kernel;        ///< kernel, nowait, zero; a source may ignore the others
  int node = kAnyNode;          ///< the node to prefer
};

/// A run of pages, adjacent in virtual memory and in frame numbers.
struct PageRun {
  std::byte* data = nullptr;  ///< the first byte; a multiple of kPageSize
  std::size_t pages = 0;
  Pfn first{};  ///< the number of the first frame
};

/// Where a run lies in a file, so that it can be mapped a second time.
struct SharedRange {
  int fd = -1;                     ///< the source's own: do not close it
  std::uint64_t offset_bytes = 0;  ///< of the run's first byte
};

/// What a page source holds and has done.
struct PageSourceStats {
  std::size_t held_pages = 0;        ///< allocated and not freed
  std::size_t peak_pages = 0;        ///< the most that were ever held at once
  std::size_t resident_pages = 0;    ///< that may occupy memory: held and retained
  std::size_t retained_pages = 0;    ///< freed and kept for the next allocation
  std::size_t descriptor_bytes = 0;  ///< the source's own structures
  std::uint64_t allocations = 0;     ///< that succeeded
  std::uint64_t frees = 0;
  std::uint64_t failures = 0;          ///< allocations that failed, for whatever reason
  std::uint64_t release_calls = 0;     ///< requests to the operating system to take pages back
  std::uint64_t release_failures = 0;  ///< of these, the ones it did not grant
};

/// Hands out runs of pages. Thread safety: every member is safe, unless the source says otherwise.
class PageSource {
 public:
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;

  /// Gives a run of `pages` pages. Its bytes are whatever they were, or zero with Gfp::zero.
  /// Errors: out_of_memory; try_again (nowait only: a lock is taken); invalid_argument for a
  /// request of no pages, an alignment that is not a power of two, or a node that does not exist.
  virtual Result<PageRun> allocate_pages(const PageRequest& request) noexcept = 0;

  /// Takes back a run exactly as allocate_pages gave it. Anything else is misuse.
  virtual void free_pages(PageRun run) noexcept = 0;

  /// The file and offset behind a run that is held. Errors: not_supported when the memory has no
  /// file; invalid_argument for what is not a held run.
  virtual Result<SharedRange> share([[maybe_unused]] const PageRun& run) const noexcept {
    return fail(Errc::not_supported);
  }

  /// The source's accounts, consistent with each other.
  virtual PageSourceStats stats() const noexcept = 0;

  /// Whether the child of a fork has these pages too. Where not, using them there is misuse.
  virtual bool inherited_by_fork() const noexcept { return true; }

 protected:
  PageSource() noexcept = default;
  ~PageSource() = default;
};

}  // namespace mmkit
