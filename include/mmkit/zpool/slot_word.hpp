// SPDX-License-Identifier: MIT
//
// Slot word - the 64 bits behind a handle: whether its object lives, how it is mapped, where it is.
//
//        63                     22 21          6 5     0
//        +-------------------------+-------------+-------+
//        | place: a driver's       | generation  | state |
//        +-------------------------+-------------+-------+
//   state 0 free    nobody's; the place may link a free list
//         1 cached  freed, with a place that is kept for whoever comes next
//         2 busy    live, and being moved: who wants it waits
//         3 live    3 + n: live and mapped n times; 63: more often than that, the rest being counted
//                   in a side list (slot_pins.hpp)
//
// A generation is used once: a slot whose last one is freed is retired, so that no dead handle is
// ever mistaken for a live one. That costs a slot in 65,535 frees.
// Invariants: 1 the generation of a live or busy slot is 1 to 65535  2 that of any other is the one
//             its next handle gets; 0: retired
#pragma once

#include <cstdint>
#include <mmkit/zpool/handle.hpp>

namespace mmkit::slot_word {

inline constexpr std::uint64_t kFree = 0, kCached = 1, kBusy = 2, kLive = 3;
inline constexpr std::uint64_t kMostPins = 62, kManyPins = 63;
inline constexpr unsigned kGenerationShift = 6, kPlaceShift = 22, kPlaceBits = 64 - kPlaceShift;

constexpr std::uint64_t state_of(std::uint64_t word) noexcept {
  return word & ((std::uint64_t{1} << kGenerationShift) - 1);
}
constexpr std::uint64_t generation_of(std::uint64_t word) noexcept {
  return word >> kGenerationShift & handle_bits::kMaxGeneration;
}
constexpr std::uint64_t place_of(std::uint64_t word) noexcept {
  return word >> kPlaceShift;
}
constexpr std::uint64_t make(std::uint64_t place, std::uint64_t generation,
                             std::uint64_t state) noexcept {
  return place << kPlaceShift | generation << kGenerationShift | state;
}
/// The word with another state and all else as it was.
constexpr std::uint64_t with_state(std::uint64_t word, std::uint64_t state) noexcept {
  return (word & ~((std::uint64_t{1} << kGenerationShift) - 1)) | state;
}
/// The word of a live slot when its object is freed: the next generation, the place kept.
constexpr std::uint64_t freed(std::uint64_t word, std::uint64_t state) noexcept {
  return make(place_of(word), (generation_of(word) + 1) & handle_bits::kMaxGeneration, state);
}

/// Whether a slot with this word is named by the handle, in whatever state. The tag is part of the
/// name, so a driver used without a front end refuses foreign handles too.
constexpr bool has_name(std::uint16_t tag, Handle handle, std::uint64_t word) noexcept {
  return handle_bits::raw(handle) >> handle_bits::kGenerationShift ==
         (std::uint64_t{tag} << 16 | generation_of(word));
}
/// Whether it is live under that name, and not being moved.
constexpr bool names(std::uint16_t tag, Handle handle, std::uint64_t word) noexcept {
  return has_name(tag, handle, word) && state_of(word) >= kLive;
}

}  // namespace mmkit::slot_word
