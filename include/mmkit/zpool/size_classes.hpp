// SPDX-License-Identifier: MIT
//
// SizeClasses - which sizes share a zspage, and how many pages that has: the kernel's rules.
//
//   sizes 1..32, 33..48, 49..64, ... 4081..4096      255 steps of 16 bytes
//      --> pages: 1..chain, the fewest wasted bytes, the shorter of equals
//      --> from the largest down: same pages and same objects a zspage as the one above: merged
//
// An object takes what it asks for, rounded up to its class; nothing of ours lies inside. A class
// whose zspage is one page with one object is huge.
// Complexity: a look at a table; the tables are made by the compiler
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mmkit/page/page_size.hpp>

namespace mmkit {

struct SizeClass {
  std::uint16_t size_bytes = 0;  ///< of its largest object: what each object takes
  std::uint16_t objects = 0;     ///< in a zspage
  std::uint8_t pages = 0;        ///< of a zspage

  constexpr bool is_huge() const noexcept { return objects == 1; }
};

/// The classes for zspages of up to `chain_pages` pages, smallest first.
class SizeClasses {
 public:
  static constexpr std::size_t kStepBytes = 16;
  static constexpr std::size_t kSmallestBytes = 32;
  static constexpr unsigned kSteps = (kPageSize - kSmallestBytes) / kStepBytes + 1;
  static constexpr unsigned kMostChainPages = 16;
  static constexpr unsigned kMost = 192;  ///< classes
  /// Objects of a zspage: with at most 16 pages the least waste never has more.
  static constexpr unsigned kMostObjects = 256;

  constexpr explicit SizeClasses(unsigned chain_pages) noexcept {
    std::array<SizeClass, kSteps> found{};  // largest first
    for (unsigned step = kSteps; step-- != 0;) {
      const SizeClass fitting = fit(kSmallestBytes + step * kStepBytes, chain_pages);
      const bool merges = count_ != 0 && found[count_ - 1].pages == fitting.pages &&
                          found[count_ - 1].objects == fitting.objects;
      if (!merges) found[count_++] = fitting;
      class_of_step_[step] = static_cast<std::uint8_t>(count_ - 1);
    }
    for (std::uint8_t& number : class_of_step_)
      number = static_cast<std::uint8_t>(count_ - 1 - number);
    for (unsigned c = 0; c < count_; ++c) classes_[c] = found[count_ - 1 - c];
  }

  constexpr unsigned count() const noexcept { return count_; }
  constexpr const SizeClass& operator[](unsigned number) const noexcept { return classes_[number]; }
  /// The class of an object of 1 to 4096 bytes.
  constexpr unsigned find(std::size_t size_bytes) const noexcept {
    constexpr std::size_t kFirstStepEnd = kSmallestBytes - kStepBytes;
    const std::size_t beyond = size_bytes <= kSmallestBytes ? 0 : size_bytes - kFirstStepEnd - 1;
    return class_of_step_[beyond / kStepBytes];
  }

  /// The classes for 4, 8 or 16 pages; nullptr for any other number.
  static const SizeClasses* for_chain(std::size_t chain_pages) noexcept;

 private:
  static constexpr SizeClass fit(std::size_t size_bytes, unsigned chain_pages) noexcept {
    std::size_t best_pages = 1;
    for (std::size_t pages = 2; pages <= chain_pages; ++pages) {
      if (pages * kPageSize % size_bytes < best_pages * kPageSize % size_bytes) best_pages = pages;
    }
    return {static_cast<std::uint16_t>(size_bytes),
            static_cast<std::uint16_t>(best_pages * kPageSize / size_bytes),
            static_cast<std::uint8_t>(best_pages)};
  }

  unsigned count_ = 0;
  std::array<std::uint8_t, kSteps> class_of_step_{};
  std::array<SizeClass, kSteps> classes_{};
};

namespace detail {
template <unsigned kChainPages>
inline constexpr SizeClasses kSizeClasses{kChainPages};
}

inline const SizeClasses* SizeClasses::for_chain(std::size_t chain_pages) noexcept {
  return chain_pages == 4    ? &detail::kSizeClasses<4>
         : chain_pages == 8  ? &detail::kSizeClasses<8>
         : chain_pages == 16 ? &detail::kSizeClasses<16>
                             : nullptr;
}

static_assert(detail::kSizeClasses<4>.count() == 69);
static_assert(detail::kSizeClasses<8>.count() == 119);
static_assert(detail::kSizeClasses<16>.count() == SizeClasses::kMost);

}  // namespace mmkit
