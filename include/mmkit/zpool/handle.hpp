// SPDX-License-Identifier: MIT
//
// Handle - the name of a stored object: opaque to callers, stable for the object's life.
//
//   63        48 47         32 31                    0
//   +-----------+-------------+-----------------------+
//   | pool tag  | generation  | index of the slot     |     generation and index: a driver's
//   +-----------+-------------+-----------------------+     choice, made so by HandleTable
//
// The tag is the front end's: it refuses handles of other pools before a driver sees them. The
// generation tells a handle from the ones that named the same slot before it.
#pragma once

#include <cstdint>

namespace mmkit {

/// Names an object in one pool. Never 0 while it names something.
enum class Handle : std::uint64_t { none = 0 };

namespace handle_bits {

inline constexpr unsigned kTagShift = 48;
inline constexpr unsigned kGenerationShift = 32;
inline constexpr std::uint32_t kMaxGeneration = 0xffff;

constexpr std::uint64_t raw(Handle handle) noexcept {
  return static_cast<std::uint64_t>(handle);
}
constexpr std::uint16_t tag(Handle handle) noexcept {
  return static_cast<std::uint16_t>(raw(handle) >> kTagShift);
}
constexpr std::uint32_t generation(Handle handle) noexcept {
  return static_cast<std::uint32_t>(raw(handle) >> kGenerationShift) & kMaxGeneration;
}
constexpr std::uint32_t index(Handle handle) noexcept {
  return static_cast<std::uint32_t>(raw(handle));
}
constexpr Handle make(std::uint16_t tag, std::uint32_t generation, std::uint32_t index) noexcept {
  return Handle{std::uint64_t{tag} << kTagShift | std::uint64_t{generation} << kGenerationShift |
                index};
}

}  // namespace handle_bits
}  // namespace mmkit
