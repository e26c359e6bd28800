// SPDX-License-Identifier: MIT
//
// PoolCore - the operations of a pool: take, give, add and remove a chunk.
//
//   take   claim a slot;  head at rest;  search the chunks, newest first;  stage;  exchange
//   give   claim a slot;  head at rest;  find the chunk, check;            stage;  exchange
//
// Each is a loop around one exchange of the head (commit.hpp). When it is lost, everything is read
// again: a place found under an older head may be the wrong one; unless the one operation that came
// between was in other leaves and cannot have made a better place. What a call learns about the runs
// beside its own goes into the change, for the hints. A take that lost too often asks for itself to
// be made, and whoever comes under a head that asks makes that take first.
//
// Bodies: takes in pool_core_runs.hpp, frees in pool_core_frees.hpp, requests in
// pool_core_requests.hpp, chunks in pool_core_chunks.hpp. Not here: arguments in bytes,
// names of faults, zeroing (gen_pool.cpp).
// Units:      granules
// Locking:    none; see commit.hpp
// Complexity: O(log n) amortised, and the leaves of the run
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/errc.hpp>
#include <mmkit/base/mutant.hpp>
#include <mmkit/base/result.hpp>

#include "base/poison.hpp"
#include "genalloc/commit.hpp"
#include "genalloc/search.hpp"
#include "genalloc/search_best.hpp"
#include "genalloc/staging.hpp"

namespace mmkit::genalloc {

using FitKind = mmkit::detail::FitAccess::Kind;

/// What is wrong with a free.
enum class Fault { none, no_chunk, misaligned, past_end, not_taken, wrong_size };

template <class Sync>
class PoolCore {
 public:
  using Head = typename Commit<Sync>::Head;
  using ChunkType = Chunk<Sync>;

  struct Options {
    unsigned order = 0;
    std::uint32_t indexes = kBoundsLive;  ///< live from the start
    bool starts = false;                  ///< remember where allocations begin
    bool host = false;                    ///< addresses are memory of this process
    unsigned cpus = 1;                    ///< that relaxed fits begin in different parts by
  };
  struct Taken {
    std::uintptr_t start = 0;
    std::size_t offset_bytes = 0;  ///< in its chunk
    const ChunkGeometry* chunk = nullptr;
  };

  explicit PoolCore(const Options& options) noexcept
      : options_(options), commit_(options.indexes) {}

  const Options& options() const noexcept { return options_; }
  std::size_t granules_for(std::size_t size_bytes) const noexcept {
    // No branch: whether a size is whole nobody can predict; and no sum that could overflow.
    const std::size_t mask = (std::size_t{1} << options_.order) - 1;
    return (size_bytes >> options_.order) + (((size_bytes & mask) + mask) >> options_.order);
  }

  /// Takes a run of `size_bytes`, rounded up to granules; `fit` is sound for this pool.
  /// Errors: no_space; try_again (too many operations in flight); not_supported (the place is in a
  /// chunk without physical addresses, and they are needed).
  [[gnu::always_inline]] Result<Taken> take(std::size_t size_bytes, const Fit& fit,
                                            bool needs_phys) noexcept;
  /// Takes the granules at an address. Errors: invalid_argument (not granules of one chunk),
  /// no_space, try_again.
  Status take_at(std::uintptr_t start, std::size_t size_bytes) noexcept;
  /// Gives a run back. The chunk it is in, if a fault is not that there is none.
  Fault give(std::uintptr_t start, std::size_t size_bytes, const ChunkGeometry** chunk) noexcept;

  /// Errors: already_exists (overlap), out_of_memory.
  Status add_chunk(const ChunkGeometry& geometry) noexcept;
  /// Beside no other call. Errors: not_found, busy.
  Status remove_chunk(std::uintptr_t start) noexcept;

  // ---------------------------------------------------------------- what there is

  PoolState state() const noexcept { return commit_.state(); }
  /// The chunk added last under a state, then the one before.
  const ChunkType* newest(const PoolState& state) const noexcept { return find(state.newest); }
  const ChunkType* older(const ChunkType& chunk) const noexcept { return find(chunk.older); }
  std::size_t size_bytes(const PoolState& state) const noexcept {
    const ChunkType* chunk = newest(state);
    return chunk == nullptr ? 0 : chunk->total_bytes;
  }
  std::size_t available_bytes() const noexcept {
    const PoolState now = state();
    return size_bytes(now) - (now.used_granules << options_.order);
  }
  const ChunkType* chunk_of(std::uintptr_t start, std::size_t size_bytes) const noexcept {
    const ChunkType* chunk = newest(state());
    while (chunk != nullptr && !chunk->contains(start, size_bytes)) chunk = older(*chunk);
    return chunk;
  }
  /// The longest free run, exact at an instant within the call if that can be had.
  std::size_t longest_run() noexcept;

  Commit<Sync>& commit() noexcept { return commit_; }
  const Commit<Sync>& commit() const noexcept { return commit_; }

 private:
  // A slot for the length of an operation; counts what the operation touched.
  class Lease {
   public:
    Lease(Slots<Sync>& slots, bool may_fail) noexcept
        : slots_(slots), number_(slots.claim(may_fail)) {}
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[gnu::always_inline]] ~Lease() {
      if (!held()) return;
      slot().add(Count::words_touched, touched);
      slot().raise(Count::most_touched, touched);
      if (retries != 0) slot().add(Count::retries, retries);
      slots_.release(number_);
    }
    bool held() const noexcept { return number_ != Slots<Sync>::kNone; }
    unsigned number() const noexcept { return number_; }
    Slot<Sync>& slot() noexcept { return slots_[number_]; }

    std::uint64_t touched = 0;
    std::uint64_t retries = 0;

   private:
    Slots<Sync>& slots_;
    const unsigned number_;
  };

  ChunkType* find(std::uint32_t number_plus_one) const noexcept {
    return number_plus_one == 0 ? nullptr : commit_.chunks().find(number_plus_one - 1);
  }

  static std::uint32_t indexes_for(FitKind kind) noexcept {
    switch (kind) {
      case FitKind::best:
        return kLengthsLive;
      case FitKind::fixed:
      case FitKind::custom:
        return 0;
      default:
        return kBoundsLive;
    }
  }
  // What a take wants; and what became of one try.
  struct Request {
    std::size_t size_bytes;
    const Fit& fit;
    bool needs_phys;
  };
  enum class Outcome : std::uint64_t { taken, again, no_space, fragmented, no_phys };
  // Whether a change that was ready when somebody else was quicker may be installed after his.
  enum class Keeps { never, unless_given_below, always };

  // A head under which the pool rests and nothing is asked for.
  [[gnu::always_inline]] Head rest(Lease& lease) noexcept {
    while (true) {
      const Head head = commit_.rest();
      if (!Commit<Sync>::asks(head)) return head;
      fulfil(head, lease);
    }
  }
  [[gnu::always_inline]] Outcome try_take(Head head, const Request& request, std::uint32_t asker,
                                          Lease& lease, Taken* taken) noexcept;
  [[gnu::always_inline]] Result<Taken> outcome_of(Outcome outcome, const Taken& taken,
                                                  const Request& request, Lease& lease) noexcept;
  [[gnu::noinline]] Outcome ask(const Request& request, Lease& lease, Taken* taken) noexcept;
  [[gnu::noinline]] void fulfil(Head head, Lease& lease) noexcept;
  [[gnu::always_inline]] Verdict search(ChunkType& chunk, Head head, std::size_t run,
                                        const Fit& fit, Lease& lease, Place* place) noexcept;
  [[gnu::always_inline]] bool exchange(Head head, Lease& lease, Staging<Sync>& staging,
                                       Change* change, ChunkType& chunk, Keeps keeps) noexcept;
  [[gnu::noinline]] bool still_right(Head* head, Change* change, Keeps keeps) noexcept;
  static Keeps keeps_for(FitKind kind) noexcept {
    switch (kind) {
      case FitKind::first:
      case FitKind::align:
      case FitKind::order_align:
        return Keeps::unless_given_below;
      case FitKind::relaxed:
        return Keeps::always;
      default:
        return Keeps::never;
    }
  }
  [[gnu::noinline]] void enliven(std::uint32_t indexes, Lease& lease) noexcept;
  [[gnu::always_inline]] void beside_taken(const ChunkType& chunk, const Place& place,
                                           Change* change, std::uint64_t* touched) const noexcept;
  [[gnu::always_inline]] void beside_given(const ChunkType& chunk, Change* change,
                                           std::uint64_t* touched) const noexcept;
  [[gnu::always_inline]] bool taken_from(Head head, const PoolState& state, ChunkType& chunk,
                                         std::uint32_t number, const Place& place, std::size_t run,
                                         std::uint32_t asker, Keeps keeps, Lease& lease) noexcept;
  [[gnu::always_inline]] Fault fault_of(const ChunkType* chunk, std::uintptr_t start,
                                        std::size_t size_bytes) const noexcept;
  bool overlaps(const PoolState& state, const ChunkGeometry& geometry) const noexcept;

  const Options options_;
  Commit<Sync> commit_;
};

}  // namespace mmkit::genalloc
