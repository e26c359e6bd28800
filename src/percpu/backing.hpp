// SPDX-License-Identifier: MIT
//
// Backing - the seam between chunks and their memory.
//
// A backing knows where memory comes from and nothing of what it is used for; the heap knows what
// is used and nothing of pages. Two of them: lazy_backing.hpp, mapped_backing.hpp.
//
// A block is populated in every unit or in none. depopulate() is told what it may not touch: the
// edges of a block share pages of the operating system with its neighbours (geometry.hpp).
// Locking: the heap's pages mutex is held around every call, its short lock never
#pragma once

#include <memory>
#include <mmkit/base/result.hpp>

#include "percpu/chunk.hpp"
#include "percpu/geometry.hpp"

namespace mmkit::percpu {

class Backing {
 public:
  virtual ~Backing() = default;

  /// Makes a new chunk's addresses usable; no block of it is populated. Errors: out_of_memory;
  /// nothing changed.
  virtual Status open(Chunk& chunk) noexcept = 0;
  /// Takes all memory of a chunk and its addresses. False when the system cannot now (the chunk is as
  /// before).
  virtual bool close(Chunk& chunk) noexcept = 0;
  /// Gives up what is behind a chunk whose addresses are gone.
  virtual void forget(Chunk&) noexcept {}

  /// Whether populate() does nothing but succeed: then it may be skipped, and the mutex with it.
  virtual bool populates_by_itself() const noexcept = 0;
  /// Gives memory to blocks, in every unit or (on failure) in none; those that have it are passed
  /// by. Errors: out_of_memory; nothing changed.
  virtual Status populate(Chunk& chunk, BlockRun blocks) noexcept = 0;
  /// Makes sure that the units [0, units) have memory under populated blocks, so that touching it
  /// cannot fault. Errors: out_of_memory.
  virtual Status hold(Chunk& chunk, BlockRun blocks, unsigned units) noexcept = 0;

  /// What depopulate() did.
  struct Given {
    BlockSet blocks = 0;  ///< given back: no longer populated
    BlockSet fresh = 0;   ///< of these, those whose every byte reads as zero when populated again
  };
  /// Gives back the memory of populated blocks. `kept`: other blocks whose memory must stay as it
  /// is. What the system does not take stays populated, to be tried again.
  virtual Given depopulate(Chunk& chunk, BlockRun blocks, BlockSet kept) noexcept = 0;

  virtual std::size_t metadata_bytes() const noexcept { return 0; }
  /// Whether the memory is there, as a copy, in the child of a fork.
  virtual bool inherited_by_fork() const noexcept = 0;
};

}  // namespace mmkit::percpu
