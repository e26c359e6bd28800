// SPDX-License-Identifier: MIT
//
// SparsePool - a pool that is filled and halved again and again, so that there is always something
// for compact() to move.
//
// Each time other objects go: those that stay for ever would end up among themselves in full pages,
// and never move again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/random.hpp"
#include "support/stopwatch.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"

namespace mmkit::bench {

/// A page source that keeps what is freed, and asks the system for nothing once it is warm.
inline std::unique_ptr<SimPageAllocator> new_keeping_pages() {
  SimPageAllocatorOptions options;
  options.retain_bytes = options.capacity_bytes;
  auto created = SimPageAllocator::create(options);
  if (!created) throw std::runtime_error("no pages: " + std::string(name(created.error())));
  return std::move(*created);
}

/// What a compaction did, and how long it took.
struct Compacted {
  double ns = 0, moved_bytes = 0;
  std::size_t moved_objects = 0;
};

class SparsePool {
 public:
  /// `objects` of random `sizes` when it is full. `pages` outlives it; null: the default source.
  SparsePool(const PoolKind& kind, PageSource* pages, std::vector<std::uint16_t> sizes,
             std::size_t objects)
      : pool_(new_pool(kind.type, kind.params, pages)), sizes_(std::move(sizes)), full_(objects) {}
  SparsePool(const SparsePool&) = delete;
  SparsePool& operator=(const SparsePool&) = delete;
  ~SparsePool() {
    for (const Object& object : live_) pool_->free(object.handle);
  }

  /// Fills it, and frees a random half.
  void refill_and_halve() {
    ZpoolHeap<Touch::whole> heap{pool_};
    while (live_.size() < full_) {
      const std::size_t size = sizes_[random_.below(sizes_.size())];
      live_.push_back({heap.make(size), size, nullptr});
    }
    shuffle_front(live_, full_ / 2, random_);
    for (std::size_t i = 0; i < full_ / 2; ++i) pool_->free(live_[i].handle);
    live_.erase(live_.begin(), live_.begin() + static_cast<std::ptrdiff_t>(full_ / 2));
    for (Object& object : live_) object.place = place_of(object.handle);
  }
  /// Nanoseconds of one compact(). No object may have come or gone since refill_and_halve().
  double compact() {
    Stopwatch watch;
    const Result<std::size_t> freed = pool_->compact();
    const double ns = watch.lap_ns();
    if (!freed) throw std::runtime_error("compact: " + std::string(name(freed.error())));
    return ns;
  }
  /// What lies elsewhere than refill_and_halve() left it.
  Compacted since_halved(double ns) const {
    Compacted compacted{.ns = ns};
    for (const Object& object : live_) {
      if (place_of(object.handle) == object.place) continue;
      compacted.moved_bytes += static_cast<double>(object.size_bytes);
      ++compacted.moved_objects;
    }
    return compacted;
  }

  Zpool& pool() { return *pool_; }
  std::size_t live() const { return live_.size(); }
  Handle handle(std::size_t i) const { return live_[i].handle; }

 private:
  struct Object {
    Handle handle;
    std::size_t size_bytes;
    const std::byte* place;
  };
  const std::byte* place_of(Handle handle) const {
    return pool_->map(handle, MapMode::read_only).const_bytes().data();
  }

  std::shared_ptr<Zpool> pool_;
  const std::vector<std::uint16_t> sizes_;
  const std::size_t full_;
  SplitMix random_{10};
  std::vector<Object> live_;
};

}  // namespace mmkit::bench
