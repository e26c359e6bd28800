// SPDX-License-Identifier: MIT
//
// Traces of allocations - any bytes are a file in the format GPT1, or are refused with an offset that
// lies in them.
//
// What is accepted is written again, byte for byte, and replayed in a pool: every free is of a place
// that was given, and all is free at the end.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <span>
#include <vector>

#include "tools/replay/gpt_trace.hpp"
#include "tools/replay/replay.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using mmkit::replay::GptTrace;

void require(bool well, const char* what) {
  if (well) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

void put(std::vector<std::uint8_t>& bytes, std::size_t word) {
  for (unsigned shift = 0; shift < 32; shift += 8) {
    bytes.push_back(static_cast<std::uint8_t>(word >> shift));
  }
}

std::vector<std::uint8_t> written(const GptTrace& trace) {
  std::vector<std::uint8_t> bytes{'G', 'P', 'T', '1'};
  put(bytes, trace.ops.size());
  put(bytes, trace.sizes.size());
  put(bytes, 0);
  for (const std::uint32_t op : trace.ops) put(bytes, op);
  return bytes;
}

// Counts granules as the pool does; a heap as large as the peak asks for holds what first fit can.
struct Heap {
  explicit Heap(std::size_t bytes) : pool(mmkit::GenPool::create({.min_alloc_order = 20}).value()) {
    require(pool->add_chunk({.start = 0, .size_bytes = bytes}).has_value(), "add the chunk");
  }
  std::uintptr_t place(std::size_t size) {
    const auto start = pool->allocate(size);
    return start ? *start : mmkit::replay::kNoPlace;
  }
  void free(std::uintptr_t start, std::size_t size) {
    require(pool->try_free(start, size).has_value(), "every free is of what is live");
  }
  std::unique_ptr<mmkit::GenPool> pool;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  GptTrace trace;
  try {
    trace = mmkit::replay::read_gpt_bytes(std::span(data, size));
  } catch (const mmkit::replay::GptError& error) {
    require(error.offset_bytes() <= size, "the offset lies in the file");
    require(error.what()[0] != '\0', "a reason is given");
    return 0;
  }
  const std::vector<std::uint8_t> again = written(trace);
  require(again.size() == size && std::memcmp(again.data(), data, size) == 0, "the same bytes");
  const mmkit::replay::GptFigures figures = mmkit::replay::figures_of(trace, 20);
  require(figures.peak_granules >= 1 && figures.peak_granules << 20 >= figures.peak_bytes,
          "the peak");
  require(figures.peak_op < trace.ops.size(), "the peak's instant");
  Heap heap(figures.peak_granules << 20);
  mmkit::replay::Places places;
  mmkit::replay::replay(heap, trace, places);
  mmkit::replay::finish(heap, trace, places);
  require(heap.pool->available_bytes() == heap.pool->size_bytes(), "all free at the end");
  static_cast<void>(mmkit::replay::fits(heap, trace, places));
  require(heap.pool->available_bytes() == heap.pool->size_bytes(), "a look leaves nothing");
  return 0;
}
