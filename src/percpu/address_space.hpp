// SPDX-License-Identifier: MIT
//
// AddressSpace - where an allocator's chunks lie, and which chunk an address belongs to.
//
// Regions are reserved one after the other, each twice as large as the one before; a chunk's place
// is a power of two of them, so that an address gives its region by a comparison or two, its chunk
// by a shift, its offset by a mask:
//
//   region  | place 0: unit 0, unit 1, ... | place 1 | ...     tags | place 0 | place 1 | ...
//             span_bytes, a power of two                            8 KiB each
//
// Most allocators never see a second region.
// Invariants: 1 a place is free, or in use from take_place() to give_place()
//             2 tags of a place that is not in use are zero
// Locking:    places are taken and given by one thread at a time (percpu_pages). locate() is
//             lock-free: regions are published once and never go before the allocator does.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mmkit/base/result.hpp>
#include <mmkit/percpu/tag.hpp>

#include "percpu/geometry.hpp"
#include "percpu/os_percpu.hpp"

namespace mmkit::percpu {

class Chunk;

/// An address taken apart.
struct Location {
  Chunk* const* chunk = nullptr;  ///< where its chunk is noted; read it under the heap's lock
  TagSlot* tags = nullptr;        ///< of the chunk
  unsigned unit = 0;
  std::uint32_t offset = 0;  ///< in the unit, below 64 KiB
};

/// Where a chunk lies.
struct Place {
  unsigned region = 0, index = 0;
  std::byte* base = nullptr;
  Chunk** chunk = nullptr;
  TagSlot* tags = nullptr;
};

class AddressSpace {
 public:
  /// For chunks of so many units.
  explicit AddressSpace(unsigned units) noexcept;
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;
  ~AddressSpace();

  /// The lowest free place. Errors: out_of_memory.
  Result<Place> take_place() noexcept;
  void give_place(const Place& place) noexcept;
  /// Gives up the addresses of all chunks at once, at the end; nothing may use them any more.
  void unmap() noexcept;
  /// False once they are gone: the system may refuse, region by region.
  bool has_addresses(const Place& place) const noexcept {
    return regions_[place.region].addresses.data != nullptr;
  }
  /// The first place in use at or after (region, index); its `chunk` is null when there is none.
  Place next_place(unsigned region, unsigned index) const noexcept;

  /// Takes an address of unit 0 apart: what the fast paths do. False for any other address.
  bool locate_canonical(const void* address, Location& location) const noexcept {
    std::size_t inside = 0;
    if (!find_place(address, location, inside) || inside >= kPercpuUnitBytes) return false;
    location.unit = 0;
    location.offset = static_cast<std::uint32_t>(inside);
    return true;
  }
  /// The same for an address of any unit.
  bool locate(const void* address, Location& location) const noexcept;

  /// What the fast path keeps of the first region, once it is there.
  struct FirstRegion {
    std::uintptr_t first = 0;
    std::size_t size_bytes = 0;
    TagSlot* tags = nullptr;
    unsigned span_shift = 0;
  };
  FirstRegion first_region() const noexcept {
    return {regions_[0].first, regions_[0].size_bytes, regions_[0].tags, span_shift_};
  }

  /// Bytes of one chunk's units, gaps between them included.
  std::size_t chunk_bytes() const noexcept { return chunk_bytes_; }
  /// Bytes that are noted of a place.
  static constexpr std::size_t kPlaceNotes = kChunkTags + sizeof(Chunk*);

 private:
  static constexpr unsigned kRegions = 16;
  static constexpr unsigned kFirstPlaces = 64;

  struct Region {
    std::uintptr_t first = 0;  ///< the first place, aligned to a place
    std::size_t size_bytes = 0;
    TagSlot* tags = nullptr;
    Chunk** chunks = nullptr;
    unsigned places = 0, used = 0;
    os::Range addresses{}, notes{};  ///< what was reserved; tags and chunks
  };

  // The place an address lies in, and how far; leaves unit and offset to the caller.
  bool find_place(const void* address, Location& location, std::size_t& inside) const noexcept {
    const unsigned count =
        regions_used_.load(std::memory_order_acquire);  // pairs with add_region()
    const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(address);
    for (unsigned r = 0; r < count; ++r) {
      const Region& region = regions_[r];
      const std::uintptr_t distance = at - region.first;
      if (distance >= region.size_bytes) continue;
      const std::size_t index = distance >> span_shift_;
      location.chunk = &region.chunks[index];
      location.tags = region.tags + index * kChunkTags;
      inside = distance & ((std::size_t{1} << span_shift_) - 1);
      return true;
    }
    return false;
  }
  Status add_region() noexcept;
  Place place_at(unsigned region, unsigned index) const noexcept;

  const unsigned units_;
  const std::size_t chunk_bytes_;
  const unsigned span_shift_;
  std::atomic<unsigned> regions_used_{0};
  std::array<Region, kRegions> regions_{};
};

}  // namespace mmkit::percpu
