// SPDX-License-Identifier: MIT
//
// SplitMix - random numbers that cost a nanosecond and are the same on every machine.
//
// Source: SplitMix64. The standard distributions are not used: their results differ by library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace mmkit::bench {

class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
  }
  /// A number below `bound` (1 to 2^32); the bias of the multiply is below 2^-32 * bound.
  std::size_t below(std::size_t bound) noexcept {
    return static_cast<std::size_t>(((next() >> 32) * bound) >> 32);
  }

 private:
  std::uint64_t state_;
};

/// Puts `count` different elements of `items`, chosen at random, at its front. O(count).
template <class T>
void shuffle_front(std::vector<T>& items, std::size_t count, SplitMix& random) {
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(items[i], items[i + random.below(items.size() - i)]);
  }
}

}  // namespace mmkit::bench
