// SPDX-License-Identifier: MIT
//
// Threads - one pool or malloc shared by two threads, in million pairs a second of both together.
//
//   one   one thread, on its half of the objects
//   own   two threads, each frees what it allocated
//   mix   two threads; after each batch they change sets, so that half of what a thread frees the
//         other made
//
// The whole of a turn is timed: what goes and what comes is drawn beforehand. The one-way time of a
// cache line between the two CPUs is printed before and after; where the two differ much, the
// figures of two threads are worth little.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/zpool.hpp>
#include <string>
#include <utility>
#include <vector>

#include "support/comparison.hpp"
#include "support/random.hpp"
#include "support/two_threads.hpp"
#include "zpool/heaps.hpp"
#include "zpool/steady.hpp"

namespace mmkit::bench {
namespace detail {

enum class Sharing { one, own, mix };

// The objects that one thread works on during a batch, and what it will do to them.
template <class Object>
struct ObjectSet {
  std::vector<Object> objects;
  std::vector<std::uint32_t> order;  // a permutation; a batch's picks are at its front
  std::vector<std::uint32_t> picks;  // batch after batch
  std::vector<std::uint16_t> sizes;  // of what comes in their place
};

template <class Heap>
class SharedHeap {
 public:
  static constexpr std::size_t kBatch = 1024;

  SharedHeap(Heap heap, std::shared_ptr<TwoThreads> threads, std::size_t live, std::size_t batches)
      : heap_(std::move(heap)), threads_(std::move(threads)), batches_(batches) {
    // Each thread fills its set, so that what is "own" is so from the start.
    threads_->run(kThreads, [&](unsigned thread) {
      ObjectSet<Object>& set = sets_[thread];
      for (std::size_t i = thread; i < live; i += kThreads) {
        set.order.push_back(static_cast<std::uint32_t>(set.objects.size()));
        set.objects.push_back(heap_.make_written(common_sizes()[i]));
      }
    });
  }
  SharedHeap(const SharedHeap&) = delete;
  SharedHeap& operator=(const SharedHeap&) = delete;
  ~SharedHeap() {
    for (const ObjectSet<Object>& set : sets_) {
      for (const Object& object : set.objects) heap_.drop(object);
    }
  }

  // Million pairs a second, of all active threads together.
  double turn(Sharing sharing) {
    for (ObjectSet<Object>& set : sets_) draw(set);
    const unsigned active = sharing == Sharing::one ? 1 : kThreads;
    StartLine& line = threads_->start_line();
    double elapsed_ns = 0;
    threads_->run(active, [&](unsigned thread) {
      if (active > 1) line.arrive_and_wait();
      Stopwatch watch;
      for (std::size_t batch = 0; batch < batches_; ++batch) {
        const std::size_t set = sharing == Sharing::mix ? (thread + batch) % kThreads : thread;
        run_batch(sets_[set], batch);
        if (sharing == Sharing::mix) line.arrive_and_wait();
      }
      if (active > 1) line.arrive_and_wait();
      if (thread == 0) elapsed_ns = watch.lap_ns();
    });
    return static_cast<double>(active * batches_ * kBatch) / elapsed_ns * 1e3;
  }

 private:
  using Object = typename Heap::Object;

  void draw(ObjectSet<Object>& set) {
    set.picks.clear();
    set.sizes.clear();
    for (std::size_t batch = 0; batch < batches_; ++batch) {
      shuffle_front(set.order, kBatch, random_);
      for (std::size_t i = 0; i < kBatch; ++i) {
        set.picks.push_back(set.order[i]);
        set.sizes.push_back(common_sizes()[random_.below(common_sizes().size())]);
      }
    }
  }
  void run_batch(ObjectSet<Object>& set, std::size_t batch) {
    const std::uint32_t* const picks = &set.picks[batch * kBatch];
    const std::uint16_t* const sizes = &set.sizes[batch * kBatch];
    for (std::size_t i = 0; i < kBatch; ++i) heap_.drop(set.objects[picks[i]]);
    for (std::size_t i = 0; i < kBatch; ++i) set.objects[picks[i]] = heap_.make(sizes[i]);
  }

  Heap heap_;
  std::shared_ptr<TwoThreads> threads_;
  const std::size_t batches_;
  SplitMix random_{9};
  ObjectSet<Object> sets_[kThreads];
};

template <class Heap>
Contender threads_contender(const std::string& name, Heap heap, std::shared_ptr<TwoThreads> threads,
                            std::size_t live, std::size_t batches) {
  auto shared =
      std::make_shared<SharedHeap<Heap>>(std::move(heap), std::move(threads), live, batches);
  return {name, [shared]() -> Figures {
            const double one = shared->turn(Sharing::one);
            const double own = shared->turn(Sharing::own);
            const double mix = shared->turn(Sharing::mix);
            return {one, mix, mix / one, own / one, own};
          }};
}

}  // namespace detail

/// Registers threads/touch:1.
inline void register_threads(const Options& options) {
  Comparison comparison;
  comparison.name = "threads/touch:1";
  comparison.title = "million pairs a second on one shared heap; " + title_of(Touch::first_byte);
  comparison.columns = {"one", "mix", "mix/one", "own/one", "own"};
  comparison.references = {"glibc"};
  comparison.repeats_interrupted = false;  // the threads interrupt who waits for them
  const std::size_t live = options.scale(common_sizes().size(), 8192);
  const std::size_t batches = options.scale(8, 2);
  struct Latency {
    std::shared_ptr<TwoThreads> threads;
    Quartiles before;
  };
  const auto latency = std::make_shared<Latency>();
  comparison.make = [live, batches, latency] {
    const auto threads = std::make_shared<TwoThreads>();
    *latency = {threads, threads->one_way_ns()};
    constexpr Touch kTouch = Touch::first_byte;
    std::vector<Contender> all;
    for (const std::string& type : driver_types()) {
      all.push_back(detail::threads_contender(type, ZpoolHeap<kTouch>{new_pool(type)}, threads,
                                              live, batches));
    }
    for (const Malloc& heap : peers().present) {
      all.push_back(
          detail::threads_contender(heap.name, MallocHeap<kTouch>{&heap}, threads, live, batches));
    }
    return all;
  };
  comparison.footnote = [latency] {
    const auto text = [](const Quartiles& q) {
      return figure(q.median) + " (" + figure(q.low) + ".." + figure(q.high) + ")";
    };
    const Quartiles after = latency->threads->one_way_ns();
    latency->threads.reset();
    return "  a cache line goes one way between the two CPUs in " + text(latency->before) +
           " ns before, " + text(after) + " ns after\n";
  };
  register_comparison(std::move(comparison), options);
}

}  // namespace mmkit::bench
