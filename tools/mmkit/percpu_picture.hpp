// SPDX-License-Identifier: MIT
//
// PercpuPicture - the chunks of a percpu allocator, page by page.
#pragma once

#include <mmkit/percpu.hpp>
#include <string>
#include <vector>

#include "picture.hpp"

namespace mmkit::tool {

/// What a page of a chunk's offset space is, by the letter that draws it.
enum class PageState : char {
  absent = '.',  // nothing in it, and no memory set aside
  empty = 'o',   // nothing in it, but kept: the reserve for calls that may not wait, and idle pages
  partly = '+',
  full = '#',
};

struct ChunkPicture {
  std::vector<PageState> pages;
  std::vector<std::size_t> taken_bytes;  // of each page
  std::size_t free_bytes = 0, largest_free_bytes = 0;
  bool reserved = false;  // the part for shared objects that are loaded late
};

/// What is there now; no other thread need stop.
std::vector<ChunkPicture> picture_of(PercpuAllocator& allocator);

/// "##++..oo........"
std::string drawn(const ChunkPicture& chunk);

/// An allocator after a small workload: it was filled and emptied again in part, and balanced.
/// Throws a Problem (out_of_memory).
struct Demonstration {
  std::vector<ChunkPicture> chunks;
  PercpuStats stats;
};
Demonstration demonstrate_chunks();

/// The chunks as grids: bytes taken in each page, and where memory is.
Picture percpu_picture(const std::vector<ChunkPicture>& chunks);

}  // namespace mmkit::tool
