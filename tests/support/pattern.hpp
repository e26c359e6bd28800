// SPDX-License-Identifier: MIT
//
// Pattern - bytes that tell whose they are: what a test writes into an object and expects back.
//
// Byte i depends on the key and on i, so an object that was moved, shifted, cut or mixed up with
// another one shows. Complexity: O(size), eight bytes a step
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace mmkit::testing {

/// The eight bytes of a key's pattern at 8 * `index` (the finisher of splitmix64).
constexpr std::uint64_t pattern_word(std::uint64_t key, std::size_t index) noexcept {
  std::uint64_t mixed = key * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

inline void write_pattern(std::span<std::byte> bytes, std::uint64_t key) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const std::uint64_t word = pattern_word(key, at / 8);
    const std::size_t left = bytes.size() - at;
    std::memcpy(bytes.data() + at, &word, left < 8 ? left : 8);
  }
}

/// The first byte that is not the pattern's; bytes.size() when all are.
inline std::size_t find_pattern_break(std::span<const std::byte> bytes,
                                      std::uint64_t key) noexcept {
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    const std::uint64_t word = pattern_word(key, at / 8);
    const std::size_t left = bytes.size() - at < 8 ? bytes.size() - at : 8;
    if (std::memcmp(bytes.data() + at, &word, left) == 0) continue;
    std::byte expected[8];
    std::memcpy(expected, &word, 8);
    for (std::size_t i = 0; i < left; ++i) {
      if (bytes[at + i] != expected[i]) return at + i;
    }
  }
  return bytes.size();
}

inline bool has_pattern(std::span<const std::byte> bytes, std::uint64_t key) noexcept {
  return find_pattern_break(bytes, key) == bytes.size();
}

inline std::vector<std::byte> make_pattern(std::size_t size_bytes, std::uint64_t key) {
  std::vector<std::byte> bytes(size_bytes);
  write_pattern(bytes, key);
  return bytes;
}

}  // namespace mmkit::testing
