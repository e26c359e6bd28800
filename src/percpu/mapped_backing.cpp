// SPDX-License-Identifier: MIT
#include "percpu/mapped_backing.hpp"

#include <mmkit/base/mutant.hpp>
#include <new>

#include "percpu/os_percpu.hpp"

namespace mmkit::percpu {
namespace {

/// What each unit's entries hold now.
class MappedMemory final : public ChunkMemory {
 public:
  MappedBacking::PageList pages;
};

MappedBacking::PageList& pages_of(const Chunk& chunk) noexcept {
  return static_cast<MappedMemory&>(*chunk.memory).pages;
}

bool is_empty(const MappedBacking::PageList& list) noexcept {
  for (const auto& entries : list.of_unit) {
    for (const PageRun& page : entries) {
      if (page.data != nullptr) return false;
    }
  }
  return true;
}

}  // namespace

Status MappedBacking::probe() noexcept {
  const Result<PageRun> page = pages_.allocate_pages({});
  if (!page) return fail(page.error());
  const Result<SharedRange> shared = pages_.share(*page);
  pages_.free_pages(*page);
  return shared ? Status() : Status(fail(shared.error()));
}

Status MappedBacking::open(Chunk& chunk) noexcept {
  // The addresses stay reserved as they are: an access to a page that is not populated faults.
  chunk.memory.reset(new (std::nothrow) MappedMemory);
  if (chunk.memory == nullptr) return fail(Errc::out_of_memory);
  chunks_.fetch_add(1, std::memory_order_relaxed);
  return {};
}

bool MappedBacking::close(Chunk& chunk) noexcept {
  // One mapping over all of them. It needs no more mappings than there are, so it fails only when
  // the system is out of memory altogether.
  if (!os::close({chunk.place.base, chunk_bytes_})) return false;
  forget(chunk);
  return true;
}

void MappedBacking::forget(Chunk& chunk) noexcept {
  free_pages(pages_of(chunk));
  chunks_.fetch_sub(1, std::memory_order_relaxed);
}

std::size_t MappedBacking::metadata_bytes() const noexcept {
  return chunks_.load(std::memory_order_relaxed) * sizeof(MappedMemory);
}

std::byte* MappedBacking::entry_address(const Chunk& chunk, unsigned unit,
                                        unsigned entry) const noexcept {
  return chunk.place.base + unit * kPercpuUnitStride - colour_bytes(unit) + entry * kPageSize;
}

// ---------------------------------------------------------------- populating

Status MappedBacking::populate(Chunk& chunk, BlockRun blocks) noexcept {
  const EntryRun run{blocks.begin, blocks.end + 1};
  PageList list = get_pages();
  if (const Status status = alloc_pages(chunk, run, list); !status) return status;
  if (const Status status = map_pages(chunk, run, list); !status) {
    free_pages(list);
    return status;
  }
  PageList& noted = pages_of(chunk);
  for (unsigned unit = 0; unit < units_; ++unit) {
    for (unsigned entry = run.begin; entry < run.end; ++entry) {
      if (list.of_unit[unit][entry].data != nullptr) {
        noted.of_unit[unit][entry] = list.of_unit[unit][entry];
      }
    }
  }
  post_map_flush(chunk, run);
  return {};
}

Status MappedBacking::alloc_pages(const Chunk& chunk, EntryRun run, PageList& list) noexcept {
  const PageList& noted = pages_of(chunk);
  for (unsigned unit = 0; unit < units_; ++unit) {
    for (unsigned entry = run.begin; entry < run.end; ++entry) {
      if (noted.of_unit[unit][entry].data != nullptr) continue;  // a neighbour brought it
      PageRequest request;
      request.gfp = Gfp::zero;
      const Result<PageRun> page = pages_.allocate_pages(request);
      if (!page) {
        MMKIT_MUTATE(MMKIT_MUTANT_percpu_alloc_pages_not_unwound, free_pages(list),
                     static_cast<void>(0));
        return fail(page.error());
      }
      list.of_unit[unit][entry] = *page;
    }
  }
  return {};
}

void MappedBacking::unmap_again(Chunk& chunk, unsigned unit, EntryRun run,
                                PageList& list) noexcept {
  for (unsigned entry = run.begin; entry < run.end; ++entry) {
    PageRun& page = list.of_unit[unit][entry];
    if (page.data == nullptr) continue;
    if (os::close({entry_address(chunk, unit, entry), kPageSize})) continue;
    pages_of(chunk).of_unit[unit][entry] = page;  // it is there, whether we like it or not
    page = {};
  }
}

Status MappedBacking::map_unit(Chunk& chunk, unsigned unit, EntryRun run, PageList& list) noexcept {
  const auto& pages = list.of_unit[unit];
  for (unsigned entry = run.begin; entry < run.end;) {
    if (pages[entry].data == nullptr) {
      ++entry;
      continue;
    }
    // As many neighbours as lie next to each other in the file too.
    const Result<SharedRange> file = pages_.share(pages[entry]);
    unsigned end = entry + 1;
    while (file && end < run.end && pages[end].data != nullptr) {
      const Result<SharedRange> next = pages_.share(pages[end]);
      const std::uint64_t offset = file->offset_bytes + (end - entry) * kPageSize;
      if (!next || next->fd != file->fd || next->offset_bytes != offset) break;
      ++end;
    }
    const os::Range at{entry_address(chunk, unit, entry), (end - entry) * kPageSize};
    const Status status = file ? os::map_shared(at, *file) : Status(fail(file.error()));
    if (!status) {
      unmap_again(chunk, unit, {run.begin, entry}, list);
      return status;
    }
    entry = end;
  }
  return {};
}

Status MappedBacking::map_pages(Chunk& chunk, EntryRun run, PageList& list) noexcept {
  for (unsigned unit = 0; unit < units_; ++unit) {
    const Status status = map_unit(chunk, unit, run, list);
    if (status) continue;
    for (unsigned undo = 0; undo < unit; ++undo) {
      MMKIT_MUTATE(MMKIT_MUTANT_percpu_map_pages_not_unwound, unmap_again(chunk, undo, run, list),
                   static_cast<void>(0));
    }
    return status;
  }
  return {};
}

void MappedBacking::post_map_flush(Chunk& chunk, EntryRun run) noexcept {
  for (unsigned unit = 0; unit < units_; ++unit) {
    // If the system cannot, accesses fault once more; that is all.
    static_cast<void>(os::make_present(
        {entry_address(chunk, unit, run.begin), (run.end - run.begin) * kPageSize}));
  }
}

// ---------------------------------------------------------------- depopulating

Backing::Given MappedBacking::depopulate(Chunk& chunk, BlockRun blocks, BlockSet kept) noexcept {
  const bool left_kept = blocks.begin != 0 && has_block(kept, blocks.begin - 1);
  const bool right_kept = blocks.end != kBlocks && has_block(kept, blocks.end);
  const EntryRun run{blocks.begin + (left_kept ? 1u : 0u), blocks.end + (right_kept ? 0u : 1u)};
  Given given;
  if (run.begin < run.end) {
    PageList list = get_pages();
    pre_unmap_flush(chunk, run);
    const bool unmapped = unmap_pages(chunk, run, list);
    post_unmap_tlb_flush(chunk, run);
    const bool lost_some = !unmapped && !is_empty(list);
    free_pages(list);
    // Back as it was: populated still, to be tried again.
    if (!unmapped && !lost_some) return {};
    given.blocks = blocks_between(blocks.begin, blocks.end);
    if (!unmapped) return given;
  }
  given.blocks = given.fresh = blocks_between(blocks.begin, blocks.end);
  if (left_kept) given.fresh &= ~(BlockSet{1} << blocks.begin);
  if (right_kept) given.fresh &= ~(BlockSet{1} << (blocks.end - 1));
  return given;
}

bool MappedBacking::unmap_pages(Chunk& chunk, EntryRun run, PageList& list) noexcept {
  PageList& noted = pages_of(chunk);
  unsigned unit = 0;
  for (; unit < units_; ++unit) {
    const os::Range at{entry_address(chunk, unit, run.begin), (run.end - run.begin) * kPageSize};
    if (MMKIT_MUTATE(MMKIT_MUTANT_percpu_pages_freed_while_mapped, !os::close(at),
                     at.data == nullptr)) {
      break;
    }
    for (unsigned entry = run.begin; entry < run.end; ++entry) {
      list.of_unit[unit][entry] = noted.of_unit[unit][entry];
      noted.of_unit[unit][entry] = {};
    }
  }
  if (unit == units_) return true;
  for (unsigned undo = 0; undo < unit; ++undo) {
    if (!map_unit(chunk, undo, run, list)) continue;  // stays in the list
    for (unsigned entry = run.begin; entry < run.end; ++entry) {
      noted.of_unit[undo][entry] = list.of_unit[undo][entry];
      list.of_unit[undo][entry] = {};
    }
  }
  return false;
}

void MappedBacking::free_pages(PageList& list) noexcept {
  for (auto& entries : list.of_unit) {
    for (PageRun& page : entries) {
      if (page.data == nullptr) continue;
      pages_.free_pages(page);
      page = {};
    }
  }
}

}  // namespace mmkit::percpu
