// SPDX-License-Identifier: MIT
//
// MappedBacking - pages of a shareable page source, mapped in every unit before they are used.
//
// The way of the kernel's percpu-vm, each step a function of its own:
//
//   populate     get_pages   an empty list of pages, one for each unit and entry
//                alloc_pages zeroed pages from the source, all or none
//                map_pages   neighbours in one call, all or none
//                post_map_flush   makes the page tables present, so that no access faults
//   depopulate   pre_unmap_flush  nothing on machines with coherent caches
//                unmap_pages      in every unit, or (mapped back) in none
//                post_unmap_tlb_flush   the system did it; from here on nobody can reach the pages
//                free_pages       to the source
//
// The stride is coloured, so entries (pages of the system under a unit) and blocks (pages of the
// offset space) do not coincide: geometry.hpp. Each unit's entry has a page or not; a block is
// populated when both of its entries have one in every unit, and an entry goes only when neither of
// its blocks needs it.
//
// Unmapping in the middle of a mapping needs a mapping more, which the system may not have. Then the
// pages are mapped back where they were; should even that fail, the units differ, the block counts
// as not populated, and the next populate or close makes them equal again.
// Invariants: 1 an entry's page is in the unit's address range exactly if it is noted
//             2 a page is given back to the source only when no unit maps it
// Locking:    none of its own; see backing.hpp. Lists of pages belong to the call.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mmkit/page/page_source.hpp>

#include "percpu/backing.hpp"

namespace mmkit::percpu {

class MappedBacking final : public Backing {
 public:
  /// Every mapped page may be a mapping of its own, of which a process has some 65,000.
  static constexpr unsigned kMostUnits = 16;

  /// Adjacent entries.
  struct EntryRun {
    unsigned begin = 0, end = 0;
  };
  /// What a call has in hand: a page for each unit and entry, or none (data is null).
  struct PageList {
    std::array<std::array<PageRun, kEntries>, kMostUnits> of_unit{};
  };

  MappedBacking(unsigned units, std::size_t chunk_bytes, PageSource& pages) noexcept
      : units_(units), chunk_bytes_(chunk_bytes), pages_(pages) {}

  /// Whether the source can do what this backing needs. Errors: not_supported, out_of_memory.
  Status probe() noexcept;

  Status open(Chunk& chunk) noexcept override;
  bool close(Chunk& chunk) noexcept override;
  void forget(Chunk& chunk) noexcept override;
  bool populates_by_itself() const noexcept override { return false; }
  Status populate(Chunk& chunk, BlockRun blocks) noexcept override;
  Status hold(Chunk&, BlockRun, unsigned) noexcept override { return {}; }  // they are, by now
  Given depopulate(Chunk& chunk, BlockRun blocks, BlockSet kept) noexcept override;
  std::size_t metadata_bytes() const noexcept override;
  bool inherited_by_fork() const noexcept override { return false; }

  // The steps. `list` says which pages a step is about; entries outside of `run` are passed by.
  static PageList get_pages() noexcept { return {}; }
  Status alloc_pages(const Chunk& chunk, EntryRun run, PageList& list) noexcept;
  Status map_pages(Chunk& chunk, EntryRun run, PageList& list) noexcept;
  void post_map_flush(Chunk& chunk, EntryRun run) noexcept;
  static void pre_unmap_flush(Chunk&, EntryRun) noexcept {}
  /// Moves the pages of the run out of the chunk into `list`. False: mapped back as they were, and
  /// the list has only what could not be.
  bool unmap_pages(Chunk& chunk, EntryRun run, PageList& list) noexcept;
  static void post_unmap_tlb_flush(Chunk&, EntryRun) noexcept {}
  void free_pages(PageList& list) noexcept;

 private:
  std::byte* entry_address(const Chunk& chunk, unsigned unit, unsigned entry) const noexcept;
  /// Maps what the list has for one unit; on failure what it mapped is unmapped again.
  Status map_unit(Chunk& chunk, unsigned unit, EntryRun run, PageList& list) noexcept;
  /// Unmaps pages of the list; one that the system leaves mapped becomes the chunk's.
  void unmap_again(Chunk& chunk, unsigned unit, EntryRun run, PageList& list) noexcept;

  unsigned units_;
  std::size_t chunk_bytes_;
  PageSource& pages_;
  std::atomic<std::size_t> chunks_{0};  ///< a count, also read by whoever holds no lock
};

}  // namespace mmkit::percpu
