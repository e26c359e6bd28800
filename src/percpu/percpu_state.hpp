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

  percpu::FastPath* fast = nullptr;  ///< the allocator's
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
