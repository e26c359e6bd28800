// SPDX-License-Identifier: MIT
//
// Map - what it costs to look at an object: map and unmap, by the RAII Mapping and without it.
//
// A mapping pins its object and lets it go: two atomic additions, at the least. So that is what
// stands beside it, in the same rounds: two additions to one warm line for one object over and
// over, and two additions in a random page for random objects, where the miss is most of the cost.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mmkit/zpool.hpp>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/calibrator.hpp"
#include "support/comparison.hpp"
#include "support/opaque.hpp"
#include "support/random.hpp"
#include "support/two_threads.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"
#include "zpool/steady.hpp"
#include "zpool/targets.hpp"

namespace mmkit::bench {
namespace detail {

inline constexpr std::size_t kMapsPerTurn = 8192;

// A full pool and the order in which its objects are looked at: one alone, or all, shuffled.
template <class Pool, class FreeObject>
class Looked {
 public:
  Looked(std::shared_ptr<Pool> pool, FreeObject free_object, std::size_t live, bool at_random)
      : pool_(std::move(pool)), free_object_(free_object) {
    for (std::size_t i = 0; i < live; ++i) {
      Result<Handle> made = pool_->allocate(common_sizes()[i], Gfp::kernel);
      if (!made) out_of_objects("map", common_sizes()[i], name(made.error()));
      handles_.push_back(*made);
    }
    SplitMix random(7);
    shuffle_front(handles_, handles_.size(), random);
    looked_ = at_random ? handles_.size() : 1;
  }
  Looked(const Looked&) = delete;
  Looked& operator=(const Looked&) = delete;
  ~Looked() {
    for (const Handle handle : handles_) free_object_(*pool_, handle);
  }

  // Nanoseconds a look, over the next kMapsPerTurn handles of the order.
  template <class Look>
  Figures turn(Look look) {
    Stopwatch watch;
    for (std::size_t i = 0; i < kMapsPerTurn; ++i) {
      look(*pool_, handles_[next_]);
      if (++next_ == looked_) next_ = 0;
    }
    return {watch.lap_ns_per(kMapsPerTurn)};
  }

 private:
  std::shared_ptr<Pool> pool_;
  FreeObject free_object_;
  std::vector<Handle> handles_;
  std::size_t looked_ = 0, next_ = 0;
};

template <class Pool, class FreeObject, class Look>
Contender map_contender(const std::string& name, std::shared_ptr<Pool> pool, FreeObject free_object,
                        std::size_t live, bool at_random, Look look) {
  auto looked =
      std::make_shared<Looked<Pool, FreeObject>>(std::move(pool), free_object, live, at_random);
  return {name, [looked, look] { return looked->turn(look); }};
}

// Two additions in a random one of as many pages as a pool of two objects a page would have.
inline Contender random_page_additions(std::size_t pages) {
  const std::size_t bytes = pages * kPageSize;
  void* const raw =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED)
    throw std::runtime_error("mmap refuses " + std::to_string(bytes) + " bytes");
  ::madvise(raw, bytes, MADV_NOHUGEPAGE);  // as the pools' pages are
  const std::shared_ptr<std::byte> range(static_cast<std::byte*>(raw),
                                         [bytes](std::byte* start) { ::munmap(start, bytes); });
  std::vector<std::atomic<std::size_t>*> counters;
  for (std::size_t i = 0; i < pages; ++i) {
    counters.push_back(new (range.get() + i * kPageSize) std::atomic<std::size_t>(0));
  }
  SplitMix random(8);
  shuffle_front(counters, counters.size(), random);
  return {kTwoAdditions, [range, counters, next = std::size_t{0}]() mutable -> Figures {
            Stopwatch watch;
            for (std::size_t i = 0; i < kMapsPerTurn; ++i) {
              // Relaxed: nothing is handed over, as in Calibrator.
              counters[next]->fetch_add(1, std::memory_order_relaxed);
              counters[next]->fetch_sub(1, std::memory_order_relaxed);
              if (++next == counters.size()) next = 0;
            }
            return {watch.lap_ns_per(kMapsPerTurn)};
          }};
}

inline std::vector<Contender> map_contenders(std::size_t live, bool at_random) {
  std::vector<Contender> all;
  const auto free_in_zpool = [](Zpool& pool, Handle handle) { pool.free(handle); };
  const auto free_in_backend = [](auto& pool, Handle handle) {
    if (!pool.free(handle)) throw std::runtime_error("backend: free refused");
  };
  for (const std::string& type : driver_types()) {
    all.push_back(map_contender(type + " map", new_pool(type), free_in_zpool, live, at_random,
                                [](Zpool& pool, Handle handle) {
                                  const Mapping mapping = pool.map(handle, MapMode::read_only);
                                  use(mapping.const_bytes().data());
                                }));
    all.push_back(map_contender(type + " try_map", new_pool(type), free_in_zpool, live, at_random,
                                [](Zpool& pool, Handle handle) {
                                  const auto mapping = pool.try_map(handle, MapMode::read_only);
                                  use(mapping->const_bytes().data());
                                }));
  }
  for_each_backend_class([&](const std::string& name, auto pool) {
    all.push_back(map_contender(name + " map", pool, free_in_backend, live, at_random,
                                [](auto& backend, Handle handle) {
                                  const auto bytes = backend.map(handle, MapMode::read_only);
                                  use(bytes->data());
                                  backend.unmap(handle);
                                }));
  });
  if (at_random) {
    all.push_back(random_page_additions(live / 2));
  } else {
    all.push_back({kTwoAdditions, [calibrator = std::make_shared<Calibrator>()]() -> Figures {
                     return {calibrator->two_atomic_adds_ns()};
                   }});
  }
  return all;
}

inline void register_map(const Options& options, Company company, bool at_random) {
  Comparison map;
  map.name = at_random ? "map/random" : "map/same";
  map.title = at_random ? "ns to map and unmap, every object of the pool in random order"
                        : "ns to map and unmap, one object over and over";
  map.company = company;
  map.columns = {"map+unmap"};
  map.references = {kTwoAdditions};
  const std::size_t live = options.scale(common_sizes().size(), 8192);
  map.make = [live, at_random] { return map_contenders(live, at_random); };
  map.targets = targets_of(map.name);
  register_comparison(std::move(map), options);
}

}  // namespace detail

/// Registers map/same and map/random; with a second thread, under names that end in /threaded.
inline void register_map(const Options& options, Company company) {
  detail::register_map(options, company, /*at_random=*/false);
  detail::register_map(options, company, /*at_random=*/true);
}

}  // namespace mmkit::bench
