// SPDX-License-Identifier: MIT
//
// SharedHeap - one pool or malloc in a steady state, worked on by one thread or by two.
//
//   one   one thread, on all objects
//   own   two threads with half of the objects each; each frees what it allocated
//   mix   two threads; after each batch they change halves, so that half of what a thread frees the
//         other made
//
// A heap is used in one of these ways from beginning to end: what one way leaves behind, objects of
// the other thread above all, would be freed by the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/base/bits.hpp>
#include <utility>
#include <vector>

#include "support/interruptions.hpp"
#include "support/random.hpp"
#include "support/stopwatch.hpp"
#include "support/two_threads.hpp"
#include "zpool/steady.hpp"

namespace mmkit::bench {

enum class Sharing { one, own, mix };

/// How many objects live in all, and how many batches of 1024 pairs all threads together make in a
/// turn, and before it, uncounted, until the caches are settled.
struct SharedShape {
  std::size_t live = 0, batches = 0, settling_batches = 0;
};

template <class Heap>
class SharedHeap {
 public:
  static constexpr std::size_t kBatch = 1024;

  SharedHeap(Heap heap, Sharing sharing, std::shared_ptr<TwoThreads> threads, SharedShape shape)
      : heap_(std::move(heap)),
        sharing_(sharing),
        active_(sharing == Sharing::one ? 1 : kThreads),
        threads_(std::move(threads)),
        shape_(shape) {
    // Each thread fills its set, so that what is "own" is so from the start.
    threads_->run(active_, [&](unsigned thread) {
      ObjectSet& set = sets_[thread];
      for (std::size_t i = thread; i < shape_.live; i += active_) {
        set.order.push_back(static_cast<std::uint32_t>(set.objects.size()));
        set.objects.push_back(heap_.make_written(common_sizes()[i]));
      }
    });
  }
  SharedHeap(const SharedHeap&) = delete;
  SharedHeap& operator=(const SharedHeap&) = delete;
  ~SharedHeap() {
    for (const ObjectSet& set : sets_) {
      for (const Object& object : set.objects) heap_.drop(object);
    }
  }

  /// Million pairs a second, of all active threads together. Made of short stretches: one in which a
  /// thread lost its CPU does not count, unless there are too many of them.
  double turn() {
    run(shape_.settling_batches / active_);
    const std::size_t stretches = divide_up(shape_.batches, kStretchBatches * active_);
    double elapsed_ns = 0;
    std::size_t tries = kMostTries * stretches;
    for (std::size_t counted = 0; counted < stretches; --tries) {
      const Stretch stretch = run(kStretchBatches);
      if (stretch.interrupted && tries > stretches - counted) continue;
      elapsed_ns += stretch.elapsed_ns;
      ++counted;
    }
    return static_cast<double>(active_ * stretches * kStretchBatches * kBatch) / elapsed_ns * 1e3;
  }

 private:
  using Object = typename Heap::Object;

  // The objects that one thread works on during a batch, and what it will do to them.
  struct ObjectSet {
    std::vector<Object> objects;
    std::vector<std::uint32_t> order;  // a permutation; a batch's picks are at its front
    std::vector<std::uint32_t> picks;  // batch after batch
    std::vector<std::uint16_t> sizes;  // of what comes in their place
    SplitMix random{9};
  };
  struct Stretch {
    double elapsed_ns = 0;
    bool interrupted = false;
  };
  static constexpr std::size_t kStretchBatches = 4;  // a thread: some hundred microseconds

  // So many batches of each thread. All of it is timed: what goes and what comes is drawn before.
  Stretch run(std::size_t batches) {
    StartLine& line = threads_->start_line();
    Stretch stretch;
    long interruptions[kThreads] = {};
    threads_->run(active_, [&](unsigned thread) {
      draw(sets_[thread], batches);
      if (active_ > 1) line.arrive_and_wait();
      const long before = times_interrupted();
      Stopwatch watch;
      for (std::size_t batch = 0; batch < batches; ++batch) {
        const std::size_t set = sharing_ == Sharing::mix ? (thread + batch) % kThreads : thread;
        run_batch(sets_[set], batch);
        if (sharing_ == Sharing::mix) line.arrive_and_wait();
      }
      if (active_ > 1) line.arrive_and_wait();
      if (thread == 0) stretch.elapsed_ns = watch.lap_ns();
      interruptions[thread] = times_interrupted() - before;
    });
    stretch.interrupted = interruptions[0] + interruptions[1] != 0;
    return stretch;
  }
  static void draw(ObjectSet& set, std::size_t batches) {
    set.picks.clear();
    set.sizes.clear();
    for (std::size_t batch = 0; batch < batches; ++batch) {
      shuffle_front(set.order, kBatch, set.random);
      for (std::size_t i = 0; i < kBatch; ++i) {
        set.picks.push_back(set.order[i]);
        set.sizes.push_back(common_sizes()[set.random.below(common_sizes().size())]);
      }
    }
  }
  void run_batch(ObjectSet& set, std::size_t batch) {
    const std::uint32_t* const picks = &set.picks[batch * kBatch];
    const std::uint16_t* const sizes = &set.sizes[batch * kBatch];
    for (std::size_t i = 0; i < kBatch; ++i) heap_.drop(set.objects[picks[i]]);
    for (std::size_t i = 0; i < kBatch; ++i) set.objects[picks[i]] = heap_.make(sizes[i]);
  }

  Heap heap_;
  const Sharing sharing_;
  const unsigned active_;
  std::shared_ptr<TwoThreads> threads_;
  const SharedShape shape_;
  ObjectSet sets_[kThreads];
};

}  // namespace mmkit::bench
