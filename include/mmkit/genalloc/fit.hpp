// SPDX-License-Identifier: MIT
//
// Fit - which of the places that are large enough is taken, as a value.
//
//   FirstFit            the lowest place
//   FirstFitAlign       the lowest whose address is a multiple
//   FirstFitOrderAlign  the lowest whose offset in the chunk is a multiple of the size, rounded up
//                       to a power of two
//   FixedFit            that offset, in the first chunk where it is free
//   BestFit             the beginning of the shortest run that is large enough; of several the lowest
//   RelaxedFit          anywhere; threads start in different parts of a chunk
//   Fit::custom         wherever a function says
//
// Chunks are asked in turn, the one added last first, and the first that has a place gives it: there
// is no comparison between chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace mmkit {

namespace detail {
class FitAccess;
class BitmapSource;
}  // namespace detail

/// The bitmap of a chunk, read only; 1 = taken. Handed to a custom search, valid while it runs.
class BitmapView {
 public:
  /// Granules of the chunk. Complexity: O(1).
  std::size_t bits() const noexcept { return bits_; }
  /// Bits 64 * index to 64 * index + 63; those past the end are 1. `index` is below bits() / 64,
  /// rounded up. Complexity: O(1).
  std::uint64_t word(std::size_t index) const noexcept { return word_(source_, index); }
  /// The lowest bit, from `start_bit` on, where `run_bits` (at least 1) free ones begin; bits() when
  /// there is none. Complexity: O(bits / 64).
  std::size_t next_free_run(std::size_t start_bit, std::size_t run_bits) const noexcept;

 private:
  friend class detail::BitmapSource;
  using WordFn = std::uint64_t (*)(const void* source, std::size_t index) noexcept;
  BitmapView(const void* source, WordFn read, std::size_t bits) noexcept
      : source_(source), word_(read), bits_(bits) {}

  const void* source_;
  WordFn word_;
  std::size_t bits_;
};

/// A search of the caller's own: returns the bit where `run_bits` free ones begin, from `start_bit`
/// on; anything past the end means "no place here". Runs on the caller's thread alone, and not after
/// his call has returned. Pure and bounded: it may run several times for one allocation, and see a
/// bitmap that changes under it; what it returns is checked. A place that is not free counts as none.
/// Must not throw.
using SearchFn = std::size_t (*)(const BitmapView& bitmap, std::size_t start_bit,
                                 std::size_t run_bits, const void* data,
                                 std::uintptr_t chunk_start) noexcept;

struct FirstFit {};
struct BestFit {};
struct FirstFitOrderAlign {};
struct RelaxedFit {};
struct FirstFitAlign {
  std::size_t align_bytes;  ///< a power of two
};
struct FixedFit {
  std::size_t offset_bytes;  ///< from the chunk's start, a multiple of the granule
};

/// A policy: a trivially copyable value. Thread safety: caller serialises, as for any value.
class Fit {
 public:
  constexpr Fit(FirstFit = {}) noexcept : kind_(Kind::first) {}  // NOLINT: a value by any name
  constexpr Fit(BestFit) noexcept : kind_(Kind::best) {}         // NOLINT
  constexpr Fit(FirstFitAlign fit) noexcept                      // NOLINT
      : kind_(Kind::align), param_(fit.align_bytes) {}
  constexpr Fit(FirstFitOrderAlign) noexcept : kind_(Kind::order_align) {}  // NOLINT
  constexpr Fit(FixedFit fit) noexcept                                      // NOLINT
      : kind_(Kind::fixed), param_(fit.offset_bytes) {}
  constexpr Fit(RelaxedFit) noexcept : kind_(Kind::relaxed) {}  // NOLINT

  /// The caller's own search. `data` is handed to it, and lives as long as the allocation's call;
  /// of a pool's own policy, as long as calls that may use it. A null function means first fit.
  static constexpr Fit custom(SearchFn search, const void* data) noexcept {
    Fit fit;
    if (search == nullptr) return fit;
    fit.kind_ = Kind::custom;
    fit.search_ = search;
    fit.data_ = data;
    return fit;
  }

 private:
  friend class detail::FitAccess;
  enum class Kind : std::uint8_t { first, best, align, order_align, fixed, relaxed, custom };

  Kind kind_;
  std::uint64_t param_ = 0;
  SearchFn search_ = nullptr;
  const void* data_ = nullptr;
};
static_assert(std::is_trivially_copyable_v<Fit>);

}  // namespace mmkit
