// SPDX-License-Identifier: MIT
#include "percpu/lazy_backing.hpp"

#include <algorithm>
#include <mmkit/base/bits.hpp>

#include "percpu/os_percpu.hpp"

namespace mmkit::percpu {
namespace {

// The bytes of a run of blocks in a unit, counted from the chunk's base.
struct Extent {
  std::size_t begin, end;
};
Extent extent_of(BlockRun blocks, unsigned unit) noexcept {
  const std::size_t start = unit * kPercpuUnitStride;
  return {start + blocks.begin * kPageSize, start + blocks.end * kPageSize};
}

}  // namespace

Status LazyBacking::open(Chunk& chunk) noexcept {
  return os::open({chunk.place.base, chunk_bytes_});
}

bool LazyBacking::close(Chunk& chunk) noexcept {
  const os::Range all{chunk.place.base, chunk_bytes_};
  if (os::close(all)) return true;
  // The addresses stay open then; what matters is that the memory goes.
  return os::discard({&all, 1}).has_value();
}

Status LazyBacking::hold(Chunk& chunk, BlockRun blocks, unsigned units) noexcept {
  for (unsigned unit = 0; unit < std::min(units, units_); ++unit) {
    const Extent extent = extent_of(blocks, unit);
    const std::size_t begin = align_down(extent.begin, kPageSize);
    const std::size_t end = align_up(extent.end, kPageSize);
    if (const Status status = os::make_present({chunk.place.base + begin, end - begin}); !status) {
      return status;
    }
  }
  return {};
}

Backing::Given LazyBacking::depopulate(Chunk& chunk, BlockRun blocks, BlockSet kept) noexcept {
  const bool left_kept = blocks.begin != 0 && has_block(kept, blocks.begin - 1);
  const bool right_kept = blocks.end != kBlocks && has_block(kept, blocks.end);
  std::array<os::Range, 64> ranges;
  std::size_t count = 0;
  // Units that nobody opened have no memory.
  const unsigned units = std::min(units_, detail::open_units());
  for (unsigned unit = 0; unit < units; ++unit) {
    const Extent extent = extent_of(blocks, unit);
    const std::size_t begin =
        left_kept ? align_up(extent.begin, kPageSize) : align_down(extent.begin, kPageSize);
    const std::size_t end =
        right_kept ? align_down(extent.end, kPageSize) : align_up(extent.end, kPageSize);
    if (begin < end) ranges[count++] = {chunk.place.base + begin, end - begin};
    if (count == ranges.size() || unit + 1 == units) {
      // Memory that is locked, say: nothing is lost, and nothing is fresh.
      if (!os::discard({ranges.data(), count})) return {};
      count = 0;
    }
  }
  Given given;
  given.blocks = given.fresh = blocks_between(blocks.begin, blocks.end);
  if (left_kept) given.fresh &= ~(BlockSet{1} << blocks.begin);
  if (right_kept) given.fresh &= ~(BlockSet{1} << (blocks.end - 1));
  return given;
}

}  // namespace mmkit::percpu
