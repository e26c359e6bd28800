// SPDX-License-Identifier: MIT
//
// GenPoolScenario - a small pool in a random state, a few calls for each of some threads, and the
// calls that come after them.
//
// The state is made by one thread, with the model beside it: chunks of one to four leaves, mostly
// full, fragmented, hints lowered by searches that failed. The threads' calls then meet in the same
// few leaves. What comes after is part of the history too: a hint that was lost shows as a refusal
// there.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "genalloc/pool_core_chunks.hpp"
#include "genalloc/pool_core_frees.hpp"
#include "genalloc/pool_core_runs.hpp"
#include "genalloc/pool_walk.hpp"
#include "support/genpool_history.hpp"
#include "support/genpool_steps.hpp"

namespace mmkit::testing {

struct ScenarioShape {
  unsigned threads = 2;
  unsigned calls_per_thread = 2;
  std::uint32_t policies = 31;  // bits by ModelFit
  unsigned chunks = 1;
  bool adds_chunk = false;  // one of the calls adds a chunk
  unsigned leaves = 0;      // of each chunk; 0: up to four
  unsigned gap_leaves =
      0;  // not 0: a full chunk of so many leaves with one gap, which thread 0 moves
};

template <class Sync>
class GenPoolScenarioOf {
 public:
  using Core = genalloc::PoolCore<Sync>;

  GenPoolScenarioOf(std::uint64_t seed, const ScenarioShape& shape)
      : random_(seed), shape_(shape), model_(kOrder) {
    typename Core::Options options;
    options.order = kOrder;
    const bool only_best = shape.policies == 1u << static_cast<int>(ModelFit::best);
    options.indexes = only_best ? genalloc::kLengthsLive : genalloc::kBoundsLive;
    core_ = std::make_unique<Core>(options);
    if (shape.gap_leaves != 0) {
      plan_gap();
      before_ = std::make_unique<GenPoolModel>(model_);
      return;
    }
    for (unsigned i = 0; i < shape.chunks; ++i) add_chunk_now();
    fill();
    planned_.resize(shape.threads);
    for (unsigned thread = 0; thread < shape.threads; ++thread) {
      for (unsigned i = 0; i < shape.calls_per_thread; ++i) planned_[thread].push_back(plan());
    }
    if (shape.adds_chunk) {
      Call add;
      add.kind = Call::Kind::add_chunk;
      add.start = next_start_;
      add.size_bytes = 1 + below(700);
      planned_[0][below(planned_[0].size())] = add;
    }
    before_ = std::make_unique<GenPoolModel>(model_);
  }

  /// The calls of a thread; it frees what it allocated in some of them.
  template <class Clock>
  std::vector<Call> run(unsigned thread, Clock&& clock) {
    std::vector<Call> made;
    for (Call call : planned_[thread]) {
      call.thread = thread;
      if (call.kind == Call::Kind::free && call.size_bytes == 0) {
        // Its own block, if it has one.
        if (made.empty() || made.back().kind != Call::Kind::allocate || !made.back().place)
          continue;
        call.start = *made.back().place;
        call.size_bytes = made.back().request.size_bytes;
      }
      call.began = clock();
      carry_out(call);
      call.ended = clock();
      made.push_back(call);
    }
    return made;
  }
  /// Calls after all threads: what is free, by several policies.
  std::vector<Call> run_after(std::uint64_t from) {
    std::vector<Call> made;
    for (unsigned i = 0; i < 4; ++i) {
      Call call;
      if (i == 3) {
        call.kind = Call::Kind::available;
      } else {
        call.request = request();
      }
      call.thread = shape_.threads;
      call.began = from + 2 * i;
      carry_out(call);
      call.ended = from + 2 * i + 1;
      made.push_back(call);
    }
    return made;
  }
  const GenPoolModel& before() const { return *before_; }
  Core& core() { return *core_; }
  Status validate() { return genalloc::validate(*core_); }

 private:
  static constexpr unsigned kOrder = 0;

  std::size_t below(std::size_t bound) { return random_() % bound; }

  void add_chunk_now() {
    const std::size_t sizes[] = {64, 200, 512, 700, 1100, 1900};
    add_chunk_now(shape_.leaves != 0 ? 512 * shape_.leaves - below(600)
                                     : sizes[below(6)] + below(20));
  }
  void add_chunk_now(std::size_t granules) {
    genalloc::ChunkGeometry geometry;
    geometry.start = next_start_;
    geometry.size_bytes = granules;
    next_start_ += geometry.size_bytes + below(2) * 64;
    static_cast<void>(core_->add_chunk(geometry));
    model_.add(geometry.start, geometry.size_bytes, nullptr);
    granules_ = std::max(granules_, geometry.size_bytes);
  }
  ModelRequest request() {
    ModelRequest request;
    do {
      request.fit = static_cast<ModelFit>(below(5));
    } while ((shape_.policies >> static_cast<int>(request.fit) & 1) == 0);
    const std::size_t most[] = {3, 20, 70, granules_ / 2 + 1, granules_};
    request.size_bytes = 1 + below(most[below(5)]);
    if (request.fit == ModelFit::align) request.number = std::size_t{1} << below(7);
    if (request.fit == ModelFit::fixed) request.number = below(granules_);
    return request;
  }
  // All taken, no hint too high, then one gap. Thread 0 frees a block and takes
  // the gap, so that there always is one gap or two; the others want it. A sequential pool refuses
  // them when somebody else was quicker, and never because the gap moved.
  void plan_gap() {
    const std::size_t sizes[] = {1, 3, 40, 64, 100, 300, 512, 700};
    const std::size_t granules = 512 * shape_.gap_leaves;
    const std::size_t run = sizes[below(granules > 3000 ? 8 : 6)];
    add_chunk_now(granules);
    Call call;
    call.request.size_bytes = granules;  // at once: any part of it may be freed
    carry_out(call);
    static_cast<void>(model_.allocate(call.request));
    std::vector<std::uintptr_t> blocks;
    for (std::size_t at = 0; at + run <= granules; at += run) blocks.push_back(*call.place + at);
    for (const ModelFit fit : {ModelFit::first, ModelFit::best}) {
      if ((shape_.policies >> static_cast<int>(fit) & 1) == 0) continue;
      call.request.fit = fit;
      // Refused; by the second search's end no hint on any level admits anything.
      call.request.size_bytes = 1;
      carry_out(call);
      carry_out(call);
    }
    // High as a rule, and blocks are freed low: then who misses the free takes the wrong place.
    const std::size_t part = 1 + blocks.size() / 4;
    std::uintptr_t gap = blocks[blocks.size() - 1 - below(below(4) == 0 ? blocks.size() : part)];
    Call free;
    free.kind = Call::Kind::free;
    free.size_bytes = run;
    free.start = gap;
    carry_out(free);
    static_cast<void>(model_.free(gap, run));
    planned_.resize(shape_.threads);
    Call take = free;
    take.kind = Call::Kind::allocate_at;
    for (unsigned i = 0; i < shape_.calls_per_thread; ++i) {
      do {
        free.start = blocks[below(below(4) == 0 ? blocks.size() : part)];
      } while (free.start == gap);
      take.start = gap;
      planned_[0].push_back(free);
      planned_[0].push_back(take);
      gap = free.start;
    }
    for (unsigned thread = 1; thread < shape_.threads; ++thread) {
      Call want;
      want.request = request();
      want.request.size_bytes = run;
      if (want.request.fit != ModelFit::first) want.request.fit = ModelFit::best;
      if ((shape_.policies >> static_cast<int>(want.request.fit) & 1) == 0) {
        want.request.fit = ModelFit::first;
      }
      // What it sees here has happened, for what it asks next.
      Call look;
      look.kind = Call::Kind::available;
      planned_[thread].push_back(look);
      planned_[thread].push_back(want);
    }
  }
  // Full of blocks; then some of them freed, and the hints lowered by asking for too much.
  void fill() {
    std::vector<Call> live;
    const std::size_t largest = 1 + granules_ / (2 + below(12));
    for (unsigned refused = 0; refused < 3;) {
      Call call;
      call.request = request();
      call.request.size_bytes = 1 + below(largest);
      carry_out(call);
      static_cast<void>(model_.allocate(call.request));
      if (!call.place) {
        ++refused;
      } else {
        call.start = *call.place;
        call.size_bytes = call.request.size_bytes;
        live.push_back(call);
      }
    }
    const std::size_t keep = below(3);
    for (Call& call : live) {
      call.kind = Call::Kind::free;
      if (below(3) < keep) {
        blocks_.push_back(call);
        continue;
      }
      carry_out(call);
      static_cast<void>(model_.free(call.start, call.size_bytes));
    }
    for (unsigned i = 0; i < 3; ++i) {
      Call call;
      call.request = request();
      carry_out(call);
      static_cast<void>(model_.allocate(call.request));
    }
  }
  Call plan() {
    Call call;
    const std::size_t what = below(10);
    if (what < 4 && !blocks_.empty()) {
      // Sometimes the same block twice: then one of the frees is wrong.
      const std::size_t index = below(blocks_.size());
      call = blocks_[index];
      call.kind = Call::Kind::free;
      if (call.size_bytes > 1 && below(4) == 0) {
        call.size_bytes = 1 + below(call.size_bytes - 1);
      } else if (below(4) != 0) {
        blocks_.erase(blocks_.begin() + static_cast<long>(index));
      }
      return call;
    }
    if (what == 4) {
      call.kind = Call::Kind::free;  // of its own
    } else if (what == 5) {
      call.kind = Call::Kind::available;
    } else if (what == 6) {
      call.kind = Call::Kind::allocate_at;
      const auto& chunk = model_.chunks()[below(model_.chunks().size())];
      call.start = chunk.start + below(chunk.size_bytes);
      call.size_bytes = 1 + below(40);
    } else {
      call.request = request();
    }
    return call;
  }
  void carry_out(Call& call) {
    const genalloc::ChunkGeometry* chunk = nullptr;
    genalloc::ChunkGeometry geometry;
    switch (call.kind) {
      case Call::Kind::allocate: {
        const auto taken = core_->take(call.request.size_bytes, call.request.real(), false);
        call.place = taken ? std::optional(taken->start) : std::nullopt;
        break;
      }
      case Call::Kind::free:
        call.accepted = core_->give(call.start, call.size_bytes, &chunk) == genalloc::Fault::none;
        break;
      case Call::Kind::allocate_at:
        call.accepted = core_->take_at(call.start, call.size_bytes).has_value();
        break;
      case Call::Kind::available:
        call.bytes = core_->available_bytes();
        break;
      case Call::Kind::add_chunk:
        geometry.start = call.start;
        geometry.size_bytes = call.size_bytes;
        static_cast<void>(core_->add_chunk(geometry));
        break;
    }
  }

  std::mt19937_64 random_;
  const ScenarioShape shape_;
  std::unique_ptr<Core> core_;
  GenPoolModel model_;
  std::unique_ptr<GenPoolModel> before_;
  std::vector<std::vector<Call>> planned_;
  std::vector<Call> blocks_;
  std::size_t granules_ = 0;
  std::uintptr_t next_start_ = 1000;
};

using GenPoolScenario = GenPoolScenarioOf<SteppedSync>;

}  // namespace mmkit::testing
