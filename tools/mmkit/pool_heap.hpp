// SPDX-License-Identifier: MIT
//
// PoolHeap - a pool of ranges as the heap of a replay (replay/replay.hpp), and the proof that it
// kept its promises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <string>

#include "occupancy.hpp"
#include "replay/replay.hpp"

namespace mmkit::tool {

/// The largest heap that can be replayed in some seconds and drawn; a trace that wants more is better
/// in larger granules.
inline constexpr std::uint64_t kMostHeapGranules = std::uint64_t{1} << 32;

/// A pool over addresses that nobody owns, from 0 on.
class PoolHeap {
 public:
  /// Throws a Problem (out_of_memory).
  PoolHeap(const Fit& fit, unsigned order, std::uint64_t bytes);
  std::uintptr_t place(std::size_t size) {
    const Result<std::uintptr_t> start = pool_->allocate(size);
    return start ? *start : replay::kNoPlace;
  }
  void free(std::uintptr_t start, std::size_t size) { pool_->free(start, size); }
  const GenPool& pool() const { return *pool_; }

 private:
  std::unique_ptr<GenPool> pool_;
};

/// The heap to replay a trace in: `wanted_bytes` in whole granules, or for 0 a quarter more than the
/// peak. Throws a Problem (out_of_memory), which names the trace, when that is too much.
std::uint64_t heap_bytes_for(const std::string& path, std::uint64_t peak_granules, unsigned order,
                             std::uint64_t wanted_bytes);

/// What is taken of a pool that starts at address 0.
Occupancy occupancy_of(const GenPool& pool, unsigned order);

/// Looks at the places that the first `end` operations of a trace left, and at what the pool and its
/// free runs say of them. What is wrong, in words; empty: nothing.
std::string fault_in(const GenPool& pool, const Occupancy& occupancy, const replay::GptTrace& trace,
                     const replay::Places& places, unsigned order, std::size_t end);

}  // namespace mmkit::tool
