// SPDX-License-Identifier: MIT
#include <mmkit/genalloc/gen_pool.hpp>

#include "genalloc/gen_pool_parts.hpp"
#include "genalloc/pool_core_chunks.hpp"
#include "genalloc/pool_walk.hpp"

namespace mmkit {

using genalloc::Count;
using genalloc::PoolState;

Result<std::uint64_t> GenPool::virt_to_phys(std::uintptr_t address) const noexcept {
  const auto* const chunk = parts_->core.chunk_of(address, 0);
  if (chunk == nullptr) return fail(Errc::invalid_argument);
  if (!chunk->geometry().phys) return fail(Errc::not_supported);
  return *chunk->geometry().phys + (address - chunk->start());
}

bool GenPool::contains(std::uintptr_t start, std::size_t size_bytes) const noexcept {
  return parts_->core.chunk_of(start, size_bytes) != nullptr;
}

std::size_t GenPool::available_bytes() const noexcept {
  return parts_->core.available_bytes();
}

std::size_t GenPool::size_bytes() const noexcept {
  return parts_->core.size_bytes(parts_->core.state());
}

std::size_t GenPool::largest_free_bytes() const noexcept {
  return parts_->core.longest_run() << parts_->core.options().order;
}

void GenPool::for_each_chunk(const std::function<void(const GenPoolChunk&)>& visit) const noexcept {
  const Parts::Core& core = parts_->core;
  const PoolState state = core.state();
  for (auto* chunk = core.newest(state); chunk != nullptr; chunk = core.older(*chunk)) {
    const genalloc::ChunkGeometry& geometry = chunk->geometry();
    const std::size_t used = chunk->granules() - genalloc::free_granules(*chunk);
    visit({geometry.start, geometry.size_bytes,
           geometry.size_bytes - (used << core.options().order), geometry.phys, geometry.owner});
  }
}

void GenPool::for_each_free_run(const std::function<void(const FreeRun&)>& visit) const noexcept {
  const Parts::Core& core = parts_->core;
  const PoolState state = core.state();
  for (auto* chunk = core.newest(state); chunk != nullptr; chunk = core.older(*chunk)) {
    genalloc::for_each_free_run(*chunk, [&](std::size_t begin, std::size_t length) noexcept {
      visit({chunk->address(begin), length << core.options().order});
    });
  }
}

GenPoolStats GenPool::stats() const noexcept {
  Parts::Core& core = parts_->core;
  const unsigned order = core.options().order;
  GenPoolStats stats;
  stats.largest_free_bytes = largest_free_bytes();
  const PoolState state = core.state();
  stats.size_bytes = core.size_bytes(state);
  stats.available_bytes = stats.size_bytes - (state.used_granules << order);
  stats.metadata_bytes = sizeof(GenPool) + sizeof(Parts) + parts_->name.size() + 1;
  for (auto* chunk = core.newest(state); chunk != nullptr; chunk = core.older(*chunk)) {
    ++stats.chunks;
    stats.metadata_bytes += chunk->metadata_bytes();
    genalloc::for_each_free_run(*chunk,
                                [&](std::size_t, std::size_t) noexcept { ++stats.free_runs; });
  }
  const auto& slots = core.commit().slots();
  stats.peak_used_bytes = slots.largest(Count::peak_used) << order;
  stats.allocations = slots.sum(Count::allocations);
  stats.frees = slots.sum(Count::frees);
  stats.failed_no_space = slots.sum(Count::failed_no_space);
  stats.failed_fragmented = slots.sum(Count::failed_fragmented);
  stats.retries = slots.sum(Count::retries);
  stats.words_touched = slots.sum(Count::words_touched);
  stats.most_words_touched = slots.largest(Count::most_touched);
  return stats;
}

Status GenPool::validate() const noexcept {
  return genalloc::validate(parts_->core);
}

}  // namespace mmkit
