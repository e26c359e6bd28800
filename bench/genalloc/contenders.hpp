// SPDX-License-Identifier: MIT
//
// Contenders - pools of ranges, ours and others', with one interface for a replay.
//
//   place(size) -> address, 0 for none     free(address, size)
//
// SetBestFit is what one writes in an afternoon: the free runs in two sorted sets. It goes where best
// fit must, so it also tells whether ours does.
#pragma once

#include <boost/interprocess/managed_external_buffer.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <memory_resource>
#include <mmkit/genalloc.hpp>
#include <set>
#include <utility>
#include <vector>

namespace mmkit::bench {

inline constexpr std::uintptr_t kHeapStart = std::uintptr_t{1} << 20;

class PoolHeap {
 public:
  PoolHeap(const Fit& fit, unsigned order, std::size_t bytes)
      : pool_(GenPool::create({.min_alloc_order = order, .fit = fit}).value()) {
    if (!pool_->add_chunk({.start = kHeapStart, .size_bytes = bytes})) std::abort();
  }
  std::uintptr_t place(std::size_t size) {
    const Result<std::uintptr_t> start = pool_->allocate(size);
    return start ? *start : 0;
  }
  void free(std::uintptr_t start, std::size_t size) { pool_->free(start, size); }
  GenPoolStats stats() const { return pool_->stats(); }

 private:
  std::unique_ptr<GenPool> pool_;
};

class SetBestFit {
 public:
  SetBestFit(unsigned order, std::size_t bytes) : order_(order) { add(kHeapStart, bytes); }
  std::uintptr_t place(std::size_t size) {
    const std::size_t wanted = rounded(size);
    const auto found = by_length_.lower_bound({wanted, 0});
    if (found == by_length_.end()) return 0;
    const auto [length, start] = *found;
    by_length_.erase(found);
    by_start_.erase(start);
    if (length != wanted) add(start + wanted, length - wanted);
    return start;
  }
  void free(std::uintptr_t start, std::size_t size) {
    std::size_t length = rounded(size);
    auto next = by_start_.lower_bound(start);
    if (next != by_start_.end() && next->first == start + length) {
      length += next->second;
      by_length_.erase({next->second, next->first});
      next = by_start_.erase(next);
    }
    if (next != by_start_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == start) {
        start = before->first;
        length += before->second;
        by_length_.erase({before->second, before->first});
        by_start_.erase(before);
      }
    }
    add(start, length);
  }

 private:
  std::size_t rounded(std::size_t size) const {
    return (size + (std::size_t{1} << order_) - 1) >> order_ << order_;
  }
  void add(std::uintptr_t start, std::size_t length) {
    by_start_.emplace(start, length);
    by_length_.emplace(length, start);
  }
  const unsigned order_;
  std::map<std::uintptr_t, std::size_t> by_start_;
  std::set<std::pair<std::size_t, std::uintptr_t>> by_length_;
};

/// Keeps its bookkeeping inside the memory it manages, so it has some.
class BoostHeap {
 public:
  BoostHeap(unsigned, std::size_t bytes)
      : memory_(new std::byte[bytes + bytes / 2 + 65536]),
        heap_(boost::interprocess::create_only, memory_.get(), bytes + bytes / 2 + 65536) {}
  std::uintptr_t place(std::size_t size) {
    return reinterpret_cast<std::uintptr_t>(heap_.allocate(size, std::nothrow));
  }
  void free(std::uintptr_t start, std::size_t) { heap_.deallocate(reinterpret_cast<void*>(start)); }

 private:
  std::unique_ptr<std::byte[]> memory_;
  boost::interprocess::managed_external_buffer heap_;
};

class PmrHeap {
 public:
  PmrHeap(unsigned, std::size_t) {}
  std::uintptr_t place(std::size_t size) {
    return reinterpret_cast<std::uintptr_t>(pool_.allocate(size));
  }
  void free(std::uintptr_t start, std::size_t size) {
    pool_.deallocate(reinterpret_cast<void*>(start), size);
  }

 private:
  std::pmr::unsynchronized_pool_resource pool_;
};

class CHeap {
 public:
  CHeap(unsigned, std::size_t) {}
  std::uintptr_t place(std::size_t size) {
    return reinterpret_cast<std::uintptr_t>(std::malloc(size));
  }
  void free(std::uintptr_t start, std::size_t) { std::free(reinterpret_cast<void*>(start)); }
};

}  // namespace mmkit::bench
