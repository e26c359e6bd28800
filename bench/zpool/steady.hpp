// SPDX-License-Identifier: MIT
//
// Steady state - allocate and free in a pool that holds a real process's pages, beside the mallocs.
//
// The pool is filled with the lz4 sizes of mem-node; then random objects go and new ones of random
// sizes of the same trace come. What counts is the settled state (steady_state.hpp); the first pairs
// of a turn, when the heap has not been used for some milliseconds, stand beside it. A driver stands there twice: by the front end, and by its own class
// where it has one, which saves the virtual call and the check of the pool's tag. Sizes that some
// registered driver refuses are left out for everybody, so that all contenders do the same work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/zpool.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/comparison.hpp"
#include "support/steady_state.hpp"
#include "support/trace.hpp"
#include "support/two_threads.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"
#include "zpool/targets.hpp"

namespace mmkit::bench {

/// The sizes of mem-node that every registered driver takes, in file order.
inline const std::vector<std::uint16_t>& common_sizes() {
  static const std::vector<std::uint16_t> sizes = [] {
    const std::size_t largest = largest_common_bytes();
    std::vector<std::uint16_t> kept;
    for (const std::uint16_t size : load_sizes("mem-node.lz4").sizes) {
      if (size <= largest) kept.push_back(size);
    }
    return kept;
  }();
  return sizes;
}

/// A turn of 1024 pairs each replaces about as many objects as there are, and two times as many are
/// replaced before it: then the caches hold what a heap in use would have there.
inline constexpr std::size_t kTurnBatches = 72, kSettlingBatches = 144;

namespace detail {

template <class Heap>
Contender steady_contender(const std::string& name, Heap heap, SteadyShape shape) {
  auto state = std::make_shared<SteadyState<Heap>>(std::move(heap), common_sizes(), shape);
  return {name, [state] { return state->turn_and_coming_back(); }};
}

template <Touch kTouch>
void register_steady(const Options& options, Company company) {
  Comparison steady;
  steady.name = std::string("steady/touch:") + (kTouch == Touch::none         ? "0"
                                                : kTouch == Touch::first_byte ? "1"
                                                                              : "3");
  steady.title = "ns an object, " + title_of(kTouch);
  steady.columns = {"first pairs", "allocate", "free", "pair"};
  steady.references = {"glibc", "mimalloc"};
  const std::size_t live = options.scale(common_sizes().size(), 8192);
  const SteadyShape shape{.live = live,
                          .batches_per_turn = options.scale(kTurnBatches, 2),
                          .settling_batches = options.scale(kSettlingBatches, 2)};
  steady.company = company;
  steady.repeats_interrupted = false;  // SteadyState does, batch by batch
  steady.make = [shape] {
    std::vector<Contender> all;
    for (const std::string& type : driver_types()) {
      all.push_back(steady_contender(type, ZpoolHeap<kTouch>{new_pool(type)}, shape));
    }
    for_each_backend_class([&](const std::string& name, auto pool) {
      using Backend = typename decltype(pool)::element_type;
      all.push_back(steady_contender(name, BackendHeap<Backend, kTouch>{pool}, shape));
    });
    for (const Malloc& heap : peers().present) {
      all.push_back(steady_contender(heap.name, MallocHeap<kTouch>{&heap}, shape));
    }
    return all;
  };
  steady.targets = targets_of(steady.name);
  steady.footnote = [live] {
    return "  " + std::to_string(live) +
           " objects live; 1024 random ones go at a time; first pairs: when other heaps have been "
           "worked on before\n";
  };
  register_comparison(std::move(steady), options);
}

}  // namespace detail

/// Registers steady/touch:0, :1 and :3; with a second thread, under names that end in /threaded.
inline void register_steady(const Options& options, Company company) {
  detail::register_steady<Touch::none>(options, company);
  detail::register_steady<Touch::first_byte>(options, company);
  detail::register_steady<Touch::whole>(options, company);
}

}  // namespace mmkit::bench
