// SPDX-License-Identifier: MIT
//
// GPU heap - suballocates textures and per-frame buffers from one block of video memory.
//
// The heap's addresses are offsets into memory that this program cannot touch. Textures begin on a
// page of 64 KiB and stay while their level lasts; the buffers of a frame take the lowest places,
// between the textures too, and go when the frame is two frames old.
#include <cstddef>
#include <cstdio>
#include <deque>
#include <mmkit/genalloc.hpp>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kPageBytes = std::size_t{64} << 10;  // textures are bound in whole pages

using Frame = std::vector<mmkit::GenPoolAllocation>;

}  // namespace

int main() {
  const auto heap = mmkit::GenPool::create({.min_alloc_order = 8, .name = "vram"}).value();
  if (!heap->add_chunk({.start = 0, .size_bytes = 512 * kMiB})) return 1;

  std::vector<mmkit::GenPoolAllocation> textures;
  for (std::size_t i = 0; i < 60; ++i) {
    auto texture = mmkit::GenPoolAllocation::make(*heap, (1 + i % 7) * kMiB + i * 1000,
                                                  mmkit::FirstFitAlign{kPageBytes});
    if (!texture) return std::printf("no room for texture %zu\n", i), 1;
    textures.push_back(*std::move(texture));
  }
  std::deque<Frame> in_flight;
  for (std::size_t number = 0; number < 100; ++number) {
    Frame frame;
    for (std::size_t i = 0; i < 40; ++i) {
      auto buffer =
          mmkit::GenPoolAllocation::make(*heap, 300 + (number * 7919 + i * 104729) % 90000);
      if (!buffer) return std::printf("no room in frame %zu\n", number), 1;
      frame.push_back(*std::move(buffer));
    }
    in_flight.push_back(std::move(frame));
    if (in_flight.size() > 2) in_flight.pop_front();
    if (number % 10 == 9) textures.erase(textures.begin());  // a level goes on
  }
  const mmkit::GenPoolStats stats = heap->stats();
  std::printf("%zu of %zu MiB free, the largest piece %zu MiB, %zu holes, %zu KiB of bookkeeping\n",
              stats.available_bytes / kMiB, stats.size_bytes / kMiB,
              stats.largest_free_bytes / kMiB, stats.free_runs, stats.metadata_bytes / 1024);
  in_flight.clear();
  textures.clear();
  return heap->available_bytes() == heap->size_bytes() ? 0 : 1;
}
