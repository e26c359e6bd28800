// SPDX-License-Identifier: MIT
//
// GenPoolHistory - calls with the instants at which they began and ended, and whether there is an
// order of them in which a sequential pool gives the same answers.
//
// Brute force: of the calls that nobody else's end forces to come later, one is tried after the
// other on a copy of the model. What is compared is what a caller sees: the place of an allocation,
// a refusal, whether a free was accepted, the bytes available.
// Source:     Wing and Gong's search for a linearization
// Complexity: exponential in the calls that overlap; for short histories
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "support/genpool_model.hpp"

namespace mmkit::testing {

struct Call {
  enum class Kind { allocate, free, allocate_at, available, add_chunk };
  Kind kind = Kind::allocate;
  ModelRequest request{};                 // allocate
  std::uintptr_t start = 0;               // free, allocate_at, add_chunk
  std::size_t size_bytes = 0;             // the same
  std::optional<std::uintptr_t> place{};  // what allocate gave
  bool accepted = false;                  // what free and allocate_at said
  std::size_t bytes = 0;                  // what available said
  std::uint64_t began = 0, ended = 0;
  unsigned thread = 0;

  /// Whether a sequential pool in this state answers the same; it goes on to the next state.
  bool agrees(GenPoolModel& model) const {
    switch (kind) {
      case Kind::allocate:
        return model.allocate(request) == place;
      case Kind::free:
        return model.free(start, size_bytes) == accepted;
      case Kind::allocate_at:
        return model.allocate_at(start, size_bytes) == accepted;
      case Kind::available:
        return model.available() == bytes;
      case Kind::add_chunk:
        model.add(start, size_bytes, nullptr);
        return true;
    }
    return false;
  }
  std::string text() const {
    std::string line = "[" + std::to_string(began) + ", " + std::to_string(ended) + "] thread " +
                       std::to_string(thread) + ": ";
    const std::string range = std::to_string(start) + " + " + std::to_string(size_bytes);
    switch (kind) {
      case Kind::allocate:
        return line + request.text() + " -> " + (place ? std::to_string(*place) : "no space");
      case Kind::free:
        return line + "free " + range + (accepted ? "" : " refused");
      case Kind::allocate_at:
        return line + "allocate at " + range + (accepted ? "" : " refused");
      case Kind::available:
        return line + "available " + std::to_string(bytes);
      case Kind::add_chunk:
        return line + "add chunk " + range;
    }
    return line;
  }
};

namespace detail {
inline bool extend(const GenPoolModel& model, const std::vector<Call>& calls,
                   std::vector<bool>& done, std::size_t left) {
  if (left == 0) return true;
  std::uint64_t first_end = ~std::uint64_t{0};
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (!done[i] && calls[i].ended < first_end) first_end = calls[i].ended;
  }
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (done[i] || calls[i].began > first_end) continue;
    GenPoolModel next = model;
    if (!calls[i].agrees(next)) continue;
    done[i] = true;
    if (extend(next, calls, done, left - 1)) return true;
    done[i] = false;
  }
  return false;
}
}  // namespace detail

/// Whether the calls, begun in the state of `model`, can be ordered.
inline bool is_linearizable(const GenPoolModel& model, const std::vector<Call>& calls) {
  std::vector<bool> done(calls.size(), false);
  return detail::extend(model, calls, done, calls.size());
}

/// Pairs of calls that overlap.
inline std::uint64_t concurrent_pairs(const std::vector<Call>& calls) {
  std::uint64_t pairs = 0;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    for (std::size_t j = i + 1; j < calls.size(); ++j) {
      if (calls[i].began < calls[j].ended && calls[j].began < calls[i].ended) ++pairs;
    }
  }
  return pairs;
}

inline std::string text_of(const std::vector<Call>& calls) {
  std::string text;
  for (const Call& call : calls) text += call.text() + "\n";
  return text;
}

}  // namespace mmkit::testing
