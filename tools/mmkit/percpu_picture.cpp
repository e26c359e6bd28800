// SPDX-License-Identifier: MIT
#include "percpu_picture.hpp"

#include <memory>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

PageState state_of(const PercpuChunk& chunk, unsigned page) {
  const std::size_t free_bytes = chunk.free_bytes(page);
  if (free_bytes == 0) return PageState::full;
  if (free_bytes < kPageSize) return PageState::partly;
  return chunk.populated(page) ? PageState::empty : PageState::absent;
}

}  // namespace

std::vector<ChunkPicture> picture_of(PercpuAllocator& allocator) {
  std::vector<ChunkPicture> chunks;
  allocator.for_each_chunk([&chunks](PercpuChunk& chunk) {
    ChunkPicture picture;
    for (unsigned page = 0; page < chunk.pages(); ++page) {
      picture.pages.push_back(state_of(chunk, page));
      picture.taken_bytes.push_back(kPageSize - chunk.free_bytes(page));
    }
    picture.free_bytes = chunk.free_bytes();
    picture.largest_free_bytes = chunk.largest_free_bytes();
    picture.reserved = chunk.reserved();
    chunks.push_back(std::move(picture));
  });
  return chunks;
}

std::string drawn(const ChunkPicture& chunk) {
  std::string text;
  for (const PageState page : chunk.pages) text += static_cast<char>(page);
  return text;
}

Picture percpu_picture(const std::vector<ChunkPicture>& chunks) {
  Grid taken{"chunk", "page", "bytes taken", {}, {}, {}};
  Grid memory{"chunk", "page", "pages with memory, on each CPU", {}, {}, {}};
  const std::size_t pages = chunks.empty() ? 0 : chunks.front().pages.size();
  for (std::size_t page = 0; page < pages; ++page) taken.columns.push_back(std::to_string(page));
  memory.columns = taken.columns;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const ChunkPicture& chunk = chunks[i];
    const std::string name =
        "chunk " + std::to_string(i) + (chunk.reserved ? ", for late objects" : "");
    taken.rows.push_back(name);
    memory.rows.push_back(name);
    for (std::size_t page = 0; page < pages; ++page) {
      taken.values.push_back(static_cast<double>(chunk.taken_bytes[page]));
      memory.values.push_back(chunk.pages[page] == PageState::absent ? 0 : 1);
    }
  }
  return {
      "Chunks of a percpu allocator",
      {{"Taken", "bytes taken of each page, which stands for one on every CPU", taken},
       {"Memory", "pages that have memory; those with nothing in them are kept ready", memory}}};
}

Demonstration demonstrate_chunks() {
  constexpr std::size_t kReservedBytes = 8 * 1024;
  constexpr std::size_t kSizes[] = {8, 24, 64, 200, 512, 3000};
  constexpr std::size_t kObjects = 600;
  Result<std::unique_ptr<PercpuAllocator>> made =
      PercpuAllocator::create({.reserved_bytes = kReservedBytes});
  if (!made) throw Problem(ExitCode::out_of_memory, "no memory for a percpu allocator");
  PercpuAllocator& allocator = **made;
  std::vector<PercpuPtr<std::byte>> objects;
  for (std::size_t i = 0; i < kObjects; ++i) {
    const Result<PercpuPtr<std::byte>> object = allocator.allocate(kSizes[i * 7 % 6], 8);
    if (!object) throw Problem(ExitCode::out_of_memory, "no memory for a percpu object");
    objects.push_back(*object);
  }
  // What was made in the second quarter goes, and every third of the rest.
  for (std::size_t i = 0; i < kObjects; ++i) {
    const bool goes = (i >= kObjects / 4 && i < kObjects / 2) || i % 3 == 0;
    if (!goes) continue;
    allocator.free(objects[i]);
    objects[i] = {};
  }
  allocator.balance();
  Demonstration result{picture_of(allocator), allocator.stats()};
  for (const PercpuPtr<std::byte> object : objects) allocator.free(object);
  return result;
}

}  // namespace mmkit::tool
