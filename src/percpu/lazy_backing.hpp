// SPDX-License-Identifier: MIT
//
// LazyBacking - private memory of the process that exists from the first touch of each page on.
//
// Populating is a mark alone; so a unit whose CPU never runs takes up nothing. Depopulating drops
// the pages under a run of blocks in every unit that may have been written:
//
//   unit of colour c      |  kept  |   run of blocks    |  kept  |
//   pages              |     |     |#####|#####|#####|     |     |     # dropped
//
// The page at an edge is shared with the neighbour block, unless c is 0: it goes only when the
// neighbour has nothing to keep. A block part of which stayed is not fresh.
// Locking: none of its own; see backing.hpp
#pragma once

#include "percpu/backing.hpp"

namespace mmkit::percpu {

class LazyBacking final : public Backing {
 public:
  LazyBacking(unsigned units, std::size_t chunk_bytes) noexcept
      : units_(units), chunk_bytes_(chunk_bytes) {}

  Status open(Chunk& chunk) noexcept override;
  bool close(Chunk& chunk) noexcept override;
  bool populates_by_itself() const noexcept override { return true; }
  Status populate(Chunk&, BlockRun) noexcept override { return {}; }
  Status hold(Chunk& chunk, BlockRun blocks, unsigned units) noexcept override;
  Given depopulate(Chunk& chunk, BlockRun blocks, BlockSet kept) noexcept override;
  bool inherited_by_fork() const noexcept override { return true; }

 private:
  unsigned units_;
  std::size_t chunk_bytes_;
};

}  // namespace mmkit::percpu
