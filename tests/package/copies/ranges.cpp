// SPDX-License-Identifier: MIT
//
// A shared object with the parts of mmkit that have no restartable sequences: pages and ranges. Takes
// part in forks, too. Loaded and closed by copies_test.cpp.
#include <cstdint>
#include <mmkit/genalloc.hpp>
#include <mmkit/page.hpp>

/// Allocates pages and gives them back by way of a pool of ranges; whether all went well.
extern "C" [[gnu::visibility("default")]] bool use_ranges() {
  const auto pages = mmkit::SimPageAllocator::create({.capacity_bytes = 1 << 20});
  const auto pool = mmkit::GenPool::create({.min_alloc_order = 12});
  if (!pages || !pool) return false;
  const auto run = (*pages)->allocate_pages({.pages = 4});
  if (!run) return false;
  const auto start = reinterpret_cast<std::uintptr_t>(run->data);
  bool good = static_cast<bool>((*pool)->add_chunk({.start = start, .size_bytes = 4 * 4096}));
  const auto range = (*pool)->allocate(4096);
  good = good && range.has_value() && (*pool)->try_free(*range, 4096).has_value();
  (*pages)->free_pages(*run);
  return good;
}
