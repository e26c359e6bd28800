// SPDX-License-Identifier: MIT
//
// SteadyState - a heap that stays equally full while random objects go and new ones come.
//
// A turn is some batches: choose `batch` live objects at random, free them all, make as many new
// ones of random sizes. Some batches before do not count, if so wished: the contenders who had their
// turns in between have filled the caches with what is theirs, and what a heap that has been worked
// on for a while costs shows only when its own is there again. Choosing is not timed, and what was chosen is copied next to each other
// first, so that the figures are the heap's and not those of the list of picks. Every contender of
// a comparison draws the same numbers, hence frees and makes the same objects in the same order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/comparison.hpp"
#include "support/interruptions.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"

namespace mmkit::bench {

/// How many objects live, and how many of them go in a batch and in a turn; and how many batches
/// settle the caches before, uncounted.
struct SteadyShape {
  std::size_t live = 0, batch = 1024, batches_per_turn = 8, settling_batches = 0;
};

/// Heap: `Object make(std::size_t size)`, `void drop(Object)`, and perhaps `make_written(size)`, by
/// which it is filled, so that its memory is there before anything is timed. Copied; what it names
/// must outlive the SteadyState.
template <class Heap>
class SteadyState {
 public:
  using Object = typename Heap::Object;

  SteadyState(Heap heap, const std::vector<std::uint16_t>& sizes, SteadyShape shape)
      : heap_(std::move(heap)), sizes_(sizes), shape_(shape) {
    for (std::size_t i = 0; i < shape_.live; ++i) {
      live_.push_back(first(sizes_[i % sizes_.size()]));
    }
    new_sizes_.resize(shape_.batch);
  }
  SteadyState(const SteadyState&) = delete;
  SteadyState& operator=(const SteadyState&) = delete;
  ~SteadyState() {
    for (const Object& object : live_) heap_.drop(object);
  }

  /// Nanoseconds to make, to drop, and for both, per object.
  Figures turn() {
    run(shape_.settling_batches);
    return run(shape_.batches_per_turn);
  }
  /// The same after nanoseconds for both in the first batches of the turn, before the caches settle.
  Figures turn_and_coming_back() {
    const std::size_t first_batches = std::min(kFirstBatches, shape_.settling_batches);
    const double coming_back_ns = run(first_batches).back();
    run(shape_.settling_batches - first_batches);
    Figures figures = run(shape_.batches_per_turn);
    figures.insert(figures.begin(), coming_back_ns);
    return figures;
  }

 private:
  static constexpr std::size_t kFirstBatches = 8;

  // A batch during which the thread lost its CPU does not count; after some tries, whatever it was.
  Figures run(std::size_t batches) {
    double make_ns = 0, drop_ns = 0;
    std::size_t tries = kMostTries * batches;
    for (std::size_t counted = 0; counted < batches; --tries) {
      shuffle_front(live_, shape_.batch, random_);
      for (std::size_t& size : new_sizes_) size = sizes_[random_.below(sizes_.size())];
      const long before = times_interrupted();
      Stopwatch watch;
      for (std::size_t i = 0; i < shape_.batch; ++i) heap_.drop(live_[i]);
      const double this_drop_ns = watch.lap_ns();
      for (std::size_t i = 0; i < shape_.batch; ++i) live_[i] = heap_.make(new_sizes_[i]);
      const double this_make_ns = watch.lap_ns();
      if (times_interrupted() != before && tries > batches - counted) continue;
      drop_ns += this_drop_ns;
      make_ns += this_make_ns;
      ++counted;
    }
    const double operations = static_cast<double>(shape_.batch * batches);
    return {make_ns / operations, drop_ns / operations, (make_ns + drop_ns) / operations};
  }
  Object first(std::size_t size) {
    if constexpr (requires { heap_.make_written(size); }) {
      return heap_.make_written(size);
    } else {
      return heap_.make(size);
    }
  }

  Heap heap_;
  const std::vector<std::uint16_t>& sizes_;
  const SteadyShape shape_;
  SplitMix random_{20};
  std::vector<Object> live_;
  std::vector<std::size_t> new_sizes_;
};

}  // namespace mmkit::bench
