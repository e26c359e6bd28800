// SPDX-License-Identifier: MIT
//
// Replay - does to a heap what a trace says, and finds the smallest heap in which that goes well.
//
// A heap is anything with
//   place(size) -> address, kNoPlace when there is none     free(address, size)
// An allocation that finds no place is left out, and so is its free.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpt_trace.hpp"

namespace mmkit::replay {

/// No heap of a replay reaches up to the last address.
inline constexpr std::uintptr_t kNoPlace = ~std::uintptr_t{0};

/// Where each allocation lies, by number.
using Places = std::vector<std::uintptr_t>;

/// How far a replay has come.
struct Cursor {
  std::size_t operation = 0, allocation = 0;  // the next of each
};

/// Goes on to operation number `end`; `places` has an element an allocation.
template <class Heap>
void advance(Heap& heap, const GptTrace& trace, Places& places, Cursor& cursor, std::size_t end) {
  // Local: the loop must not store them each time.
  std::size_t operation = cursor.operation, next = cursor.allocation;
  for (; operation < end; ++operation) {
    const std::uint32_t op = trace.ops[operation];
    if (!GptTrace::is_free(op)) {
      places[next++] = heap.place(op);
      continue;
    }
    const std::uint32_t number = GptTrace::number(op);
    if (places[number] != kNoPlace) heap.free(places[number], trace.sizes[number]);
  }
  cursor = {operation, next};
}

/// The operations up to number `end`.
template <class Heap>
void replay(Heap& heap, const GptTrace& trace, Places& places, std::size_t end) {
  places.assign(trace.sizes.size(), kNoPlace);
  Cursor cursor;
  advance(heap, trace, places, cursor, end);
}
/// The whole trace.
template <class Heap>
void replay(Heap& heap, const GptTrace& trace, Places& places) {
  replay(heap, trace, places, trace.ops.size());
}

/// Frees what the first `end` operations left.
template <class Heap>
void finish(Heap& heap, const GptTrace& trace, const Places& places, std::size_t end) {
  std::vector<bool> freed(places.size(), false);
  for (std::size_t i = 0; i < end; ++i) {
    if (GptTrace::is_free(trace.ops[i])) freed[GptTrace::number(trace.ops[i])] = true;
  }
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (!freed[i] && places[i] != kNoPlace) heap.free(places[i], trace.sizes[i]);
  }
}
template <class Heap>
void finish(Heap& heap, const GptTrace& trace, const Places& places) {
  finish(heap, trace, places, trace.ops.size());
}

/// The same as replay(), each allocation by itself: `timed(number, allocate)` calls `allocate()`.
template <class Heap, class Timed>
void replay_timed(Heap& heap, const GptTrace& trace, Places& places, Timed timed) {
  places.assign(trace.sizes.size(), kNoPlace);
  std::size_t next = 0;
  for (const std::uint32_t op : trace.ops) {
    if (!GptTrace::is_free(op)) {
      timed(next, [&] { places[next] = heap.place(op); });
      ++next;
      continue;
    }
    const std::uint32_t number = GptTrace::number(op);
    if (places[number] != kNoPlace) heap.free(places[number], trace.sizes[number]);
  }
}

/// Whether every allocation finds a place; ends at the first that does not, and leaves the heap empty.
template <class Heap>
bool fits(Heap& heap, const GptTrace& trace, Places& places) {
  places.assign(trace.sizes.size(), kNoPlace);
  std::size_t next = 0, done = 0;
  bool well = true;
  for (; done < trace.ops.size() && well; ++done) {
    const std::uint32_t op = trace.ops[done];
    if (GptTrace::is_free(op)) {
      heap.free(places[GptTrace::number(op)], trace.sizes[GptTrace::number(op)]);
    } else {
      well = (places[next++] = heap.place(op)) != kNoPlace;
    }
  }
  finish(heap, trace, places, done);
  return well;
}

/// Granules of the smallest heap for which `well(granules)` holds, to within a part in 4096 of
/// `least`, below which it cannot. 0: it holds for none up to 64 times `least`.
/// More room need not be better for every policy; then this is one size below which it stops to hold.
template <class Well>
std::uint64_t smallest_heap(std::uint64_t least, Well well) {
  const std::uint64_t step = least / 4096 + 1;
  if (well(least)) return least;
  std::uint64_t bad = least, good = 0;
  for (std::uint64_t extra = least / 64 + 1; good == 0; extra *= 2) {
    const std::uint64_t size = least + std::min(extra, 63 * least);
    if (well(size)) {
      good = size;
    } else if (extra >= 63 * least) {
      return 0;
    } else {
      bad = size;
    }
  }
  while (good - bad > step) {
    const std::uint64_t middle = bad + (good - bad) / 2;
    (well(middle) ? good : bad) = middle;
  }
  return good;
}

}  // namespace mmkit::replay
