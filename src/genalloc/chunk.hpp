// SPDX-License-Identifier: MIT
//
// Chunk - one range of addresses: its geometry, its bitmap, its hints.
//
//   Chunk (this process)          block (offsets only, could lie in shared memory)
//   +------------------+          +---------+---------+------------+---------------------------+
//   | start, size, ... |--------->| entries | bounds  | lengths    | buffers, touched as they  |
//   +------------------+          | 8 B     | 2 B     | 15 B a leaf| are needed: 64 B a leaf   |
//                                 +---------+---------+------------+---------------------------+
//
// That is 1.5 bits a granule, of which a chunk that is mostly free touches a quarter.
// Both kinds of hint are kept only from the first call on that asks for them: `indexes` says which
// are live. One that is not live admits everything everywhere, which is true, and so can be brought
// to life at any moment.
// Units:      granules of 2^order bytes, counted from the chunk's start; a tail that is smaller
//             than a granule belongs to the chunk but is never handed out
// Locking:    none
// Complexity: run_after(), run_before() O(granules / 4096 + 1)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>

#include "genalloc/leaf_table.hpp"
#include "genalloc/length_index.hpp"
#include "genalloc/run_bounds.hpp"

namespace mmkit::genalloc {

/// Which hints are kept, as bits.
enum Indexes : std::uint32_t { kBoundsLive = 1, kLengthsLive = 2 };

/// What a chunk is, before it has any structure.
struct ChunkGeometry {
  std::uintptr_t start = 0;
  std::size_t size_bytes = 0;
  std::optional<std::uint64_t> phys{};
  void* owner = nullptr;
  int node = -1;
  unsigned order = 0;
  bool starts = false;         ///< remember where allocations begin
  std::uint32_t indexes = 0;   ///< live from the first moment on
  unsigned spare_buffers = 0;  ///< that operations may hold at once

  std::size_t granules() const noexcept { return size_bytes >> order; }
  bool is_granule(std::size_t offset_bytes) const noexcept {
    return (offset_bytes & (granule_bytes() - 1)) == 0;
  }
  std::size_t granule_bytes() const noexcept { return std::size_t{1} << order; }
};

template <class Sync>
class Chunk {
 public:
  using Cell = typename Sync::template Atomic<std::uint64_t>;
  // A run is of interest up to here; beyond, all hints of that kind say "long".
  static constexpr std::size_t long_run(std::uint32_t indexes) noexcept {
    return (indexes & kBoundsLive) != 0 ? RunBound::kMarks : LengthRows::kLongest;
  }
  static_assert(RunBound::kMarks >= LengthRows::kLongest);

  /// nullptr: no memory, or more granules than buffers can be numbered for.
  static Chunk* create(const ChunkGeometry& geometry) noexcept {
    std::unique_ptr<Chunk> chunk(new (std::nothrow) Chunk(geometry));
    if (chunk == nullptr || !chunk->lay_out()) return nullptr;
    return chunk.release();
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  ~Chunk() { ::operator delete (block_, std::align_val_t{kLine}); }

  const ChunkGeometry& geometry() const noexcept { return geometry_; }
  std::uintptr_t start() const noexcept { return geometry_.start; }
  std::size_t granules() const noexcept { return granules_; }
  unsigned order() const noexcept { return geometry_.order; }
  std::uintptr_t address(std::size_t granule) const noexcept {
    return geometry_.start + (granule << geometry_.order);
  }
  /// Whether the bytes [start, start + size_bytes) lie in here; an empty range where it starts.
  bool contains(std::uintptr_t start, std::size_t size_bytes) const noexcept {
    const std::size_t offset = start - geometry_.start;
    if (start < geometry_.start || offset >= geometry_.size_bytes) return false;
    return size_bytes <= geometry_.size_bytes - offset;
  }
  std::size_t metadata_bytes() const noexcept { return sizeof(Chunk) + block_bytes_; }

  LeafTable<Sync>& leaves() noexcept { return leaves_; }
  const LeafTable<Sync>& leaves() const noexcept { return leaves_; }
  RunBounds<Sync>& bounds() noexcept { return bounds_; }
  const RunBounds<Sync>& bounds() const noexcept { return bounds_; }
  LengthIndex<Sync>& lengths() noexcept { return lengths_; }

  /// The free granules from `granule` (which may be the end) upwards; may stop at `enough`, which
  /// the result then is at least. Adds to `*touched` the words it looked at.
  [[gnu::always_inline]] std::size_t run_after(std::size_t granule, std::size_t enough,
                                               std::uint64_t* touched) const noexcept {
    std::size_t leaf = granule / kLeafBits;
    const unsigned bit = static_cast<unsigned>(granule % kLeafBits);
    const std::size_t length = part_from(leaf, bit, touched);
    if (length != kLeafBits - bit || length >= enough) return length;
    return run_on(leaf, length, enough, touched);
  }
  /// The free granules just below `granule`.
  [[gnu::always_inline]] std::size_t run_before(std::size_t granule,
                                                std::uint64_t* touched) const noexcept {
    const unsigned bit = static_cast<unsigned>(granule % kLeafBits);
    if (bit == 0) return run_before_leaf(granule / kLeafBits, 0, touched);
    const std::size_t length = part_before(granule / kLeafBits, bit, touched);
    return length != bit ? length : run_before_leaf(granule / kLeafBits, length, touched);
  }

  // The list of chunks, newest first, by number. Written before the chunk is published, and by
  // remove_chunk, beside which there is no other call.
  std::uint32_t older = 0;       ///< number + 1 of the one added before; 0: none
  std::size_t total_bytes = 0;   ///< of this chunk and all older ones
  std::size_t total_chunks = 0;  ///< likewise

 private:
  static constexpr std::size_t kLine = 64;

  explicit Chunk(const ChunkGeometry& geometry) noexcept
      : geometry_(geometry), granules_(geometry.granules()) {}

  bool lay_out() noexcept {
    const std::size_t leaves = divide_up(granules_, std::size_t{kLeafBits});
    const std::size_t buffers = leaves + geometry_.spare_buffers;
    if (buffers + kFirstBuffer > kBufferMask) return false;
    const std::size_t entries_at = 0;
    const std::size_t bounds_at = line_up(entries_at + leaves + LeafTable<Sync>::kExtraEntries);
    const std::size_t lengths_at = line_up(bounds_at + RunBounds<Sync>::words_for(leaves));
    const std::size_t buffers_at =
        line_up(lengths_at + LengthIndex<Sync>::words_for(leaves, granules_));
    const std::size_t words =
        buffers_at + buffers * LeafTable<Sync>::words_per_buffer(geometry_.starts);
    block_bytes_ = words * sizeof(Cell);
    block_ = ::operator new (block_bytes_, std::align_val_t{kLine}, std::nothrow);
    if (block_ == nullptr) return false;
    Cell* const cells = static_cast<Cell*>(block_);
    leaves_.attach(cells + entries_at, cells + buffers_at, leaves,
                   static_cast<std::uint32_t>(buffers + kFirstBuffer), geometry_.starts);
    leaves_.format(granules_);
    bounds_.attach(cells + bounds_at, leaves);
    lengths_.attach(cells + lengths_at, leaves, granules_);
    const bool bounded = (geometry_.indexes & kBoundsLive) != 0;
    bounds_.format(RunBound::of(granules_), bounded ? 0 : RunBound::kLong);
    lengths_.format((geometry_.indexes & kLengthsLive) != 0, granules_);
    return true;
  }
  static constexpr std::size_t line_up(std::size_t words) noexcept {
    return align_up(words, kLine / sizeof(Cell));
  }

  // The run fills `leaf` from somewhere on, `length` granules so far.
  [[gnu::noinline]] std::size_t run_on(std::size_t leaf, std::size_t length, std::size_t enough,
                                       std::uint64_t* touched) const noexcept {
    // Whole leaves, as many as are of interest; then what the next one begins with.
    ++leaf;
    std::size_t end = leaf + divide_up(enough - length, std::size_t{kLeafBits});
    if (end > leaves_.leaves()) end = leaves_.leaves();
    const std::size_t stop = leaves_.skip(leaf, end, kAllFree);
    *touched += stop - leaf;
    length += (stop - leaf) * kLeafBits;
    if (length >= enough) return length;
    return length + part_from(stop, 0, touched);  // the entry behind the last is all taken
  }
  // The run has `length` granules from the beginning of `leaf` on, and may begin before it.
  [[gnu::noinline]] std::size_t run_before_leaf(std::size_t leaf, std::size_t length,
                                                std::uint64_t* touched) const noexcept {
    if (leaf == 0) return length;
    const std::size_t part = part_before(leaf - 1, kLeafBits, touched);
    return part != kLeafBits ? length + part : run_back(leaf, length, touched);
  }
  // The run fills the leaf before `leaf`, and has `length` granules from there on.
  std::size_t run_back(std::size_t leaf, std::size_t length,
                       std::uint64_t* touched) const noexcept {
    const std::size_t stop = leaves_.skip_down(leaf - 1);
    *touched += leaf - 1 - stop;
    length += (leaf - stop) * kLeafBits;
    return stop == 0 ? length : length + part_before(stop - 1, kLeafBits, touched);
  }

  [[gnu::always_inline]] std::size_t part_from(std::size_t leaf, unsigned bit,
                                               std::uint64_t* touched) const noexcept {
    const std::uint64_t entry = leaves_.entry(leaf);
    ++*touched;
    if (buffer_of(entry) == kAllFree) return kLeafBits - bit;
    if (buffer_of(entry) == kAllTaken) return 0;
    const Word word = leaves_.free_word(entry, bit / 64) >> (bit % 64);
    const unsigned ones = static_cast<unsigned>(std::countr_one(word));
    ++*touched;
    return ones != 64 - bit % 64 ? ones : long_part_from(entry, bit, touched);
  }
  [[gnu::noinline]] std::size_t long_part_from(std::uint64_t entry, unsigned bit,
                                               std::uint64_t* touched) const noexcept {
    Leaf copy;
    leaves_.copy(entry, &copy);
    *touched += kLeafWords;
    return copy.run_from(bit);
  }
  [[gnu::always_inline]] std::size_t part_before(std::size_t leaf, unsigned bit,
                                                 std::uint64_t* touched) const noexcept {
    const std::uint64_t entry = leaves_.entry(leaf);
    ++*touched;
    if (buffer_of(entry) == kAllFree) return bit;
    if (buffer_of(entry) == kAllTaken) return 0;
    const unsigned shift = (64 - bit % 64) % 64;
    const Word word = leaves_.free_word(entry, (bit - 1) / 64) << shift;
    const unsigned ones = static_cast<unsigned>(std::countl_one(word));
    ++*touched;
    return ones != 64 - shift ? ones : long_part_before(entry, bit, touched);
  }
  [[gnu::noinline]] std::size_t long_part_before(std::uint64_t entry, unsigned bit,
                                                 std::uint64_t* touched) const noexcept {
    Leaf copy;
    leaves_.copy(entry, &copy);
    *touched += kLeafWords;
    return copy.run_before(bit);
  }

  const ChunkGeometry geometry_;
  const std::size_t granules_;
  void* block_ = nullptr;
  std::size_t block_bytes_ = 0;
  LeafTable<Sync> leaves_;
  RunBounds<Sync> bounds_;
  LengthIndex<Sync> lengths_;
};

}  // namespace mmkit::genalloc
