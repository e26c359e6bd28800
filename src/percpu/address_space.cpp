// SPDX-License-Identifier: MIT
#include "percpu/address_space.hpp"

#include <mmkit/base/bits.hpp>
#include <new>

namespace mmkit::percpu {

AddressSpace::AddressSpace(unsigned units) noexcept
    : units_(units),
      chunk_bytes_(align_up<std::size_t>(units * kPercpuUnitStride, kPageSize)),
      span_shift_(log2_ceil(chunk_bytes_)) {}

AddressSpace::~AddressSpace() {
  unmap();
  for (const Region& region : regions_) {
    if (region.notes.data != nullptr) static_cast<void>(os::unmap(region.notes));
  }
}

void AddressSpace::unmap() noexcept {
  for (Region& region : regions_) {
    if (region.addresses.data != nullptr && os::unmap(region.addresses)) region.addresses = {};
  }
}

Status AddressSpace::add_region() noexcept {
  const unsigned r = regions_used_.load(std::memory_order_relaxed);
  if (r == kRegions) return fail(Errc::out_of_memory);
  Region& region = regions_[r];
  const unsigned places = kFirstPlaces << r;
  const std::size_t span_bytes = std::size_t{1} << span_shift_;
  std::size_t size_bytes = 0;
  if (!multiply_fits<std::size_t>(places + 1, span_bytes, &size_bytes)) {
    return fail(Errc::out_of_memory);
  }
  // A span more, so that the first place can be aligned.
  const Result<os::Range> addresses = os::reserve(size_bytes);
  if (!addresses) return fail(addresses.error());
  const Result<os::Range> notes =
      os::map_private(align_up<std::size_t>(places * kPlaceNotes, kPageSize));
  if (!notes) {
    static_cast<void>(os::unmap(*addresses));
    return fail(notes.error());
  }
  region.addresses = *addresses;
  region.notes = *notes;
  region.first =
      align_up<std::uintptr_t>(reinterpret_cast<std::uintptr_t>(addresses->data), span_bytes);
  region.size_bytes = places * span_bytes;
  region.tags = reinterpret_cast<TagSlot*>(notes->data);  // zero, which is no tag
  region.chunks = reinterpret_cast<Chunk**>(notes->data + places * kChunkTags);
  region.places = places;
  regions_used_.store(r + 1, std::memory_order_release);  // pairs with find_place()
  return {};
}

Place AddressSpace::place_at(unsigned r, unsigned index) const noexcept {
  const Region& region = regions_[r];
  return {r, index,
          reinterpret_cast<std::byte*>(region.first + (std::size_t{index} << span_shift_)),
          &region.chunks[index], region.tags + index * kChunkTags};
}

Result<Place> AddressSpace::take_place() noexcept {
  for (unsigned r = 0;; ++r) {
    if (r == regions_used_.load(std::memory_order_relaxed)) {
      if (const Status status = add_region(); !status) return fail(status.error());
    }
    Region& region = regions_[r];
    if (region.used == region.places) continue;
    for (unsigned index = 0; index < region.places; ++index) {
      if (region.chunks[index] != nullptr) continue;
      ++region.used;
      return place_at(r, index);
    }
  }
}

void AddressSpace::give_place(const Place& place) noexcept {
  *place.chunk = nullptr;
  --regions_[place.region].used;
}

Place AddressSpace::next_place(unsigned r, unsigned index) const noexcept {
  for (; r < regions_used_.load(std::memory_order_acquire); ++r, index = 0) {
    for (; index < regions_[r].places; ++index) {
      if (regions_[r].chunks[index] != nullptr) return place_at(r, index);
    }
  }
  return {};
}

bool AddressSpace::locate(const void* address, Location& location) const noexcept {
  std::size_t inside = 0;
  if (!find_place(address, location, inside)) return false;
  const std::size_t unit = inside / kPercpuUnitStride;
  const std::size_t offset = inside % kPercpuUnitStride;
  if (unit >= units_ || offset >= kPercpuUnitBytes) return false;
  location.unit = static_cast<unsigned>(unit);
  location.offset = static_cast<std::uint32_t>(offset);
  return true;
}

}  // namespace mmkit::percpu
