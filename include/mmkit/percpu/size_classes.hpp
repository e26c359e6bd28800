// SPDX-License-Identifier: MIT
//
// Size classes - the sizes that CPUs keep free objects of.
//
// 1 to 24 are the multiples of 8 to 192 bytes; 25 to 31 go to 1 KiB. A size that would lose more
// than an eighth in its class has none, nor has one of 4 bytes and less (two share a tag), nor an
// alignment that its class does not give by itself: objects of a class lie at multiples of the
// largest power of two that divides its size, to 64. As sizeof(T) is a multiple of alignof(T), types
// always fit.
// Units: bytes
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <mmkit/percpu/stride.hpp>

namespace mmkit::percpu {

inline constexpr unsigned kSizeClasses = 32;  // 0 stands for none
inline constexpr std::size_t kLargestClassBytes = 1024;

namespace size_class {

inline constexpr unsigned kFineClasses = 24;
inline constexpr std::array<std::size_t, 7> kCoarseBytes{256, 320, 384, 512, 640, 768, 1024};

constexpr std::size_t bytes(unsigned size_class) noexcept {
  return size_class <= kFineClasses ? 8 * size_class : kCoarseBytes[size_class - kFineClasses - 1];
}
/// What its objects are aligned to.
constexpr std::size_t align_bytes(unsigned size_class) noexcept {
  const std::size_t size_bytes = bytes(size_class);
  return std::min(size_bytes & (0 - size_bytes), kPercpuMaxAlign);
}
/// How many a CPU keeps: about 2 KiB of each.
constexpr std::size_t capacity(unsigned size_class) noexcept {
  return std::clamp<std::size_t>(2048 / bytes(size_class), 2, 32);
}

struct Lookup {
  std::array<unsigned char, kLargestClassBytes / 8 + 1> of_cells{};  ///< by size / 8, rounded up
  constexpr Lookup() noexcept {
    for (std::size_t cells = 1; cells < of_cells.size(); ++cells) {
      unsigned fits = 1;
      while (bytes(fits) < cells * 8) ++fits;
      const bool wasteful = bytes(fits) - cells * 8 > cells;  // an eighth of cells * 8
      of_cells[cells] = static_cast<unsigned char>(wasteful ? 0 : fits);
    }
  }
};
inline constexpr Lookup kLookup;

inline constexpr std::array<unsigned char, kSizeClasses> kAlignBytes = [] {
  std::array<unsigned char, kSizeClasses> aligns{};
  for (unsigned c = 1; c < kSizeClasses; ++c) {
    aligns[c] = static_cast<unsigned char>(align_bytes(c));
  }
  return aligns;
}();

/// The class of a size, 0 for none, and for an alignment of 0.
constexpr unsigned find(std::size_t size_bytes, std::size_t align) noexcept {
  if (size_bytes - 5 > kLargestClassBytes - 5) return 0;  // also 0 to 4
  const unsigned found = kLookup.of_cells[(size_bytes + 7) / 8];
  return align - 1 < kAlignBytes[found] ? found : 0;  // of none: 0, which nothing is below
}

}  // namespace size_class
}  // namespace mmkit::percpu
