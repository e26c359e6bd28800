// SPDX-License-Identifier: MIT
//
// GenPool operations - any bytes are a life of a pool, run beside the naive model.
//
//   byte 0          log2 of the granule (0 to 7)
//   byte 1          chunks (1 to 4); the highest bit: boundaries are tracked
//   5 bytes each    an operation: kind, place (2), size (2)
//
// Every answer is compared; the invariants after the last operation.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mmkit/genalloc.hpp>
#include <vector>

#include "support/genpool_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using mmkit::testing::GenPoolModel;
using mmkit::testing::ModelFit;
using mmkit::testing::ModelRequest;

void require(bool well, const char* what) {
  if (well) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

struct Block {
  std::uintptr_t start;
  std::size_t size_bytes;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned order = data[0] % 8;
  const bool tracked = (data[1] & 0x80) != 0;
  mmkit::GenPoolOptions options;
  options.min_alloc_order = order;
  options.track_boundaries = tracked;
  const auto pool = mmkit::GenPool::create(options).value();
  GenPoolModel model(order);
  std::uintptr_t start = 0;
  for (unsigned i = 0; i < 1 + data[1] % 4u; ++i) {
    const std::size_t bytes = (std::size_t{300} << order) * (i + 1) + i;
    require(pool->add_chunk({.start = start, .size_bytes = bytes}).has_value(), "add a chunk");
    model.add(start, bytes, nullptr);
    start += bytes + i % 2;
  }
  std::vector<Block> live;
  for (std::size_t at = 2; at + 5 <= size; at += 5) {
    const std::uint8_t* const op = data + at;
    const std::size_t place = op[1] + std::size_t{256} * op[2];
    const std::size_t bytes = 1 + op[3] + (std::size_t{op[4]} << (order / 2));
    if (op[0] % 8 < 5) {
      ModelRequest request{static_cast<ModelFit>(op[0] % 5), bytes, 0};
      if (request.fit == ModelFit::align) request.number = std::size_t{1} << place % 12;
      if (request.fit == ModelFit::fixed) request.number = place % 1500 << order;
      const auto expected = model.allocate(request);
      const auto got = pool->allocate(bytes, request.real());
      require(got.has_value() == expected.has_value(), "a place or none");
      require(!got || *got == *expected, "the place");
      if (got) live.push_back({*got, bytes});
    } else if (op[0] % 8 < 7 && !live.empty()) {
      const std::size_t index = place % live.size();
      const Block block = live[index];
      live[index] = live.back();
      live.pop_back();
      require(model.free(block.start, block.size_bytes), "the model frees");
      require(pool->try_free(block.start, block.size_bytes).has_value(), "free");
    } else if (!tracked) {
      // Any range: a free of what the model would free, or refused.
      GenPoolModel trial = model;
      if (trial.free(place, bytes)) continue;
      require(!pool->try_free(place, bytes), "a wrong free is refused");
    }
  }
  require(pool->available_bytes() == model.available(), "available");
  require(pool->largest_free_bytes() == model.largest(), "the largest run");
  require(pool->validate().has_value(), "invariants");
  for (const Block& block : live) pool->free(block.start, block.size_bytes);
  require(pool->available_bytes() == pool->size_bytes(), "all free at the end");
  require(pool->validate().has_value(), "invariants at the end");
  return 0;
}
