// SPDX-License-Identifier: MIT
//
// Contenders - pools of ranges, ours and others', with one interface for a replay.
//
//   place(size) -> address, kNoPlace for none     free(address, size)
//
// SetBestFit and MapFirstFit are what one writes in an afternoon: the free runs in sorted sets. They
// go where the policies must, so they also tell whether ours do. Peers that are no range allocators
// (malloc, std::pmr, Boost's heap in a buffer) stand there for orientation; they may touch the
// memory, and need not say where they put things.
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
#include <stdexcept>
#include <utility>
#include <vector>

#include "genalloc/named_trace.hpp"
#include "replay/replay.hpp"

namespace mmkit::bench {

using replay::kNoPlace;
inline constexpr std::uintptr_t kHeapStart = std::uintptr_t{1} << 20;

class PoolHeap {
 public:
  PoolHeap(const Fit& fit, unsigned order, std::size_t bytes)
      : pool_(GenPool::create({.min_alloc_order = order, .fit = fit}).value()) {
    if (!pool_->add_chunk({.start = kHeapStart, .size_bytes = bytes})) {
      throw std::runtime_error("no memory for the books of a pool");
    }
  }
  std::uintptr_t place(std::size_t size) {
    const Result<std::uintptr_t> start = pool_->allocate(size);
    return start ? *start : kNoPlace;
  }
  void free(std::uintptr_t start, std::size_t size) { pool_->free(start, size); }
  GenPool& pool() { return *pool_; }
  GenPoolStats stats() const { return pool_->stats(); }

 private:
  std::unique_ptr<GenPool> pool_;
};

/// The free runs by address, as both sorted heaps below need them.
class RunMap {
 public:
  using Runs = std::map<std::uintptr_t, std::size_t>;
  using Run = std::pair<std::uintptr_t, std::size_t>;

  Runs& runs() { return runs_; }
  /// Adds a run and joins it with its neighbours, each of which is first shown to `joined`.
  template <class Joined>
  Run add(std::uintptr_t start, std::size_t length, Joined joined) {
    auto next = runs_.lower_bound(start);
    if (next != runs_.end() && next->first == start + length) {
      joined(*next);
      length += next->second;
      next = runs_.erase(next);
    }
    if (next != runs_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == start) {
        joined(*before);
        start = before->first;
        length += before->second;
        runs_.erase(before);
      }
    }
    runs_.emplace(start, length);
    return {start, length};
  }

 private:
  Runs runs_;
};

/// Best fit in O(log runs).
class SetBestFit {
 public:
  SetBestFit(unsigned order, std::size_t bytes) : order_(order) { add(kHeapStart, bytes); }
  std::uintptr_t place(std::size_t size) {
    const std::size_t wanted = rounded(size);
    const auto found = by_length_.lower_bound({wanted, 0});
    if (found == by_length_.end()) return kNoPlace;
    const auto [length, start] = *found;
    by_length_.erase(found);
    by_start_.runs().erase(start);
    if (length != wanted) {
      by_start_.runs().emplace(start + wanted, length - wanted);
      by_length_.emplace(length - wanted, start + wanted);
    }
    return start;
  }
  void free(std::uintptr_t start, std::size_t size) { add(start, rounded(size)); }
  std::size_t runs() const { return by_length_.size(); }

 private:
  std::size_t rounded(std::size_t size) const {
    return (size + (std::size_t{1} << order_) - 1) >> order_ << order_;
  }
  void add(std::uintptr_t start, std::size_t length) {
    const auto [first, all] = by_start_.add(start, length, [this](const RunMap::Run& run) {
      by_length_.erase({run.second, run.first});
    });
    by_length_.emplace(all, first);
  }
  const unsigned order_;
  RunMap by_start_;
  std::set<std::pair<std::size_t, std::uintptr_t>> by_length_;
};

/// First fit in O(runs).
class MapFirstFit {
 public:
  MapFirstFit(unsigned order, std::size_t bytes) : order_(order) {
    runs_.runs().emplace(kHeapStart, bytes);
  }
  std::uintptr_t place(std::size_t size) {
    const std::size_t wanted = rounded(size);
    for (auto run = runs_.runs().begin(); run != runs_.runs().end(); ++run) {
      const auto [start, length] = *run;
      if (length < wanted) continue;
      const auto next = runs_.runs().erase(run);
      if (length != wanted) runs_.runs().emplace_hint(next, start + wanted, length - wanted);
      return start;
    }
    return kNoPlace;
  }
  void free(std::uintptr_t start, std::size_t size) {
    runs_.add(start, rounded(size), [](const RunMap::Run&) {});
  }

 private:
  std::size_t rounded(std::size_t size) const {
    return (size + (std::size_t{1} << order_) - 1) >> order_ << order_;
  }
  const unsigned order_;
  RunMap runs_;
};

/// Keeps its bookkeeping inside the memory it manages, so it has some: half as much again, unless it
/// must do with what it is given.
class BoostHeap {
 public:
  enum class Room { ample, exact };
  BoostHeap(unsigned, std::size_t bytes, Room room = Room::ample)
      : bytes_(room == Room::ample ? bytes + bytes / 2 + 65536 : bytes),
        memory_(new std::byte[bytes_]),
        heap_(boost::interprocess::create_only, memory_.get(), bytes_) {}
  std::uintptr_t place(std::size_t size) {
    void* const block = heap_.allocate(size, std::nothrow);
    return block == nullptr ? kNoPlace : reinterpret_cast<std::uintptr_t>(block);
  }
  void free(std::uintptr_t start, std::size_t) { heap_.deallocate(reinterpret_cast<void*>(start)); }

 private:
  std::size_t bytes_;
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

/// The policies that a section runs, by the names that it prints.
struct NamedFit {
  const char* name;
  Fit fit;
};
inline constexpr NamedFit kExactFits[] = {{"GenPool, first fit", FirstFit{}},
                                          {"GenPool, best fit", BestFit{}}};

/// Makers of a heap for a trace.
template <class Heap>
auto heap_of() {
  return [](const NamedTrace& trace) {
    return std::make_unique<Heap>(trace.order, trace.heap_bytes());
  };
}
inline auto pool_of(const Fit& fit) {
  return [fit](const NamedTrace& trace) {
    return std::make_unique<PoolHeap>(fit, trace.order, trace.heap_bytes());
  };
}

}  // namespace mmkit::bench
