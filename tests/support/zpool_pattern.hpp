// SPDX-License-Identifier: MIT
//
// Zpool pattern - bytes that say whose they are: what a test stores in an object, and looks for.
//
// The pattern of a key has no word in common with that of another key at the same place, so that
// one word shows an object overwritten, moved wrongly or taken for another.
// Units:      bytes; keys are any 64-bit numbers
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace mmkit::testing {

namespace detail {
inline constexpr std::uint64_t kPatternStep = 0xbf58476d1ce4e5b9u;
// A bijection of the key, so that different keys begin, and go on, differently.
constexpr std::uint64_t first_word(std::uint64_t key) noexcept {
  return (key ^ (key >> 31)) * 0x9e3779b97f4a7c15u + 1;
}
}  // namespace detail

/// Writes the pattern of `key` over all of `bytes`.
inline void fill_pattern(std::span<std::byte> bytes, std::uint64_t key) noexcept {
  std::uint64_t word = detail::first_word(key);
  std::size_t at = 0;
  for (; at + sizeof word <= bytes.size(); at += sizeof word, word += detail::kPatternStep) {
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
  if (at != bytes.size()) std::memcpy(bytes.data() + at, &word, bytes.size() - at);
}

/// Whether `bytes` hold the pattern of `key` from the first to the last.
inline bool has_pattern(std::span<const std::byte> bytes, std::uint64_t key) noexcept {
  std::uint64_t word = detail::first_word(key);
  std::size_t at = 0;
  for (; at + sizeof word <= bytes.size(); at += sizeof word, word += detail::kPatternStep) {
    if (std::memcmp(bytes.data() + at, &word, sizeof word) != 0) return false;
  }
  return at == bytes.size() || std::memcmp(bytes.data() + at, &word, bytes.size() - at) == 0;
}

/// An object of that size with the pattern of `key`.
inline std::vector<std::byte> pattern(std::size_t size_bytes, std::uint64_t key) {
  std::vector<std::byte> bytes(size_bytes);
  fill_pattern(bytes, key);
  return bytes;
}

}  // namespace mmkit::testing
