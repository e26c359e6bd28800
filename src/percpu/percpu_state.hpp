// SPDX-License-Identifier: MIT
//
// PercpuState - the parts of a PercpuAllocator, in the order in which they are made.
#pragma once

#include <atomic>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/page/sim_page_allocator.hpp>

#include "percpu/address_space.hpp"
#include "percpu/caches.hpp"
#include "percpu/chunk_heap.hpp"

namespace mmkit::detail {

/// What the fast paths read, and nothing else does: a cache line.
struct alignas(64) PercpuHot {
  std::byte* records = nullptr;  ///< of the caches
  percpu::AddressSpace::FirstRegion region{};
  std::size_t offset_mask = 0;
  unsigned units = 0;

  /// The tag of an address in unit 0 of the first region; nullptr for any other.
  percpu::TagSlot* tag_of(const void* address) const noexcept {
    const std::uintptr_t distance = reinterpret_cast<std::uintptr_t>(address) - region.first;
    const std::size_t offset = distance & offset_mask;
    if (distance >= region.size_bytes || offset >= kPercpuUnitBytes) return nullptr;
    return region.tags + (distance >> region.span_shift) * percpu::kChunkTags +
           offset / percpu::kTagBytes;
  }
};
static_assert(sizeof(PercpuHot) == 64);

struct PercpuState final : ForkParticipant, percpu::KeptObjects {
  explicit PercpuState(unsigned how_many) noexcept : units(how_many), space(how_many) {}
  PercpuState(const PercpuState&) = delete;
  PercpuState& operator=(const PercpuState&) = delete;
  ~PercpuState();

  // KeptObjects
  void return_all() noexcept override;

  // ForkParticipant
  void lock_for_fork() noexcept override;
  void unlock_after_fork() noexcept override;
  void on_child() noexcept override;

  PercpuHot hot;
  const unsigned units;
  percpu::AddressSpace space;
  std::unique_ptr<SimPageAllocator> own_pages;  ///< mapped, when the caller brought no page source
  std::unique_ptr<percpu::Backing> backing;
  std::unique_ptr<percpu::ChunkHeap> heap;
  std::unique_ptr<percpu::Caches> caches;

  std::array<std::atomic<void*>, 16> aside{};  ///< objects a nowait call could not put back
  std::atomic<std::uint64_t> failures{0}, nowait_failures{0};
  std::atomic<bool> lost_in_fork{false};  ///< a child of the process it belongs to
};

}  // namespace mmkit::detail
