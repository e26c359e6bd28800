// SPDX-License-Identifier: MIT
//
// GenPoolModel - what a pool of ranges must answer, by the definitions alone.
//
// A byte a granule and loops over all of them. Shares nothing with the library but the arguments:
// policies are named here again, and every rule is written out as the text has it.
// Units: granules inside, bytes outside
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/genalloc/fit.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mmkit::testing {

enum class ModelFit { first, best, align, order_align, fixed };

struct ModelRequest {
  ModelFit fit = ModelFit::first;
  std::size_t size_bytes = 0;
  std::size_t number = 0;  // alignment or offset, in bytes

  Fit real() const {
    switch (fit) {
      case ModelFit::first:
        return FirstFit{};
      case ModelFit::best:
        return BestFit{};
      case ModelFit::align:
        return FirstFitAlign{number};
      case ModelFit::order_align:
        return FirstFitOrderAlign{};
      case ModelFit::fixed:
        return FixedFit{number};
    }
    return {};
  }
  std::string text() const {
    const char* const names[] = {"first", "best", "align", "order_align", "fixed"};
    return std::string(names[static_cast<int>(fit)]) + "(" + std::to_string(number) + ") of " +
           std::to_string(size_bytes) + " bytes";
  }
};

class GenPoolModel {
 public:
  struct Chunk {
    std::uintptr_t start;
    std::size_t size_bytes;
    void* owner;
    std::vector<std::uint8_t> taken;
  };

  explicit GenPoolModel(unsigned order) : order_(order) {}

  void add(std::uintptr_t start, std::size_t size_bytes, void* owner) {
    chunks_.insert(chunks_.begin(), {start, size_bytes, owner, {}});
    chunks_.front().taken.assign(size_bytes >> order_, 0);
  }
  void remove(std::uintptr_t start) {
    for (std::size_t i = 0; i < chunks_.size(); ++i) {
      if (chunks_[i].start == start) chunks_.erase(chunks_.begin() + static_cast<long>(i--));
    }
  }

  std::optional<std::uintptr_t> allocate(const ModelRequest& request, void** owner = nullptr) {
    const std::size_t run = granules(request.size_bytes);
    for (Chunk& chunk : chunks_) {
      if (request.size_bytes > available(chunk)) continue;
      const std::optional<std::size_t> at = place(chunk, request, run);
      if (!at) continue;
      for (std::size_t i = 0; i < run; ++i) chunk.taken[*at + i] = 1;
      if (owner != nullptr) *owner = chunk.owner;
      return chunk.start + (*at << order_);
    }
    return std::nullopt;
  }
  bool allocate_at(std::uintptr_t start, std::size_t size_bytes) {
    return mark(start, size_bytes, 0);
  }
  bool free(std::uintptr_t start, std::size_t size_bytes) { return mark(start, size_bytes, 1); }

  std::size_t available() const {
    std::size_t sum = 0;
    for (const Chunk& chunk : chunks_) sum += available(chunk);
    return sum;
  }
  std::size_t available(const Chunk& chunk) const {
    std::size_t used = 0;
    for (const std::uint8_t bit : chunk.taken) used += bit;
    return chunk.size_bytes - (used << order_);
  }
  std::size_t largest() const {
    std::size_t longest = 0;
    for_each_run([&](const Chunk&, std::size_t, std::size_t length) {
      if (length > longest) longest = length;
    });
    return longest << order_;
  }
  /// visit(chunk, first granule, granules) of each free run, in the pool's order.
  template <class Visit>
  void for_each_run(Visit&& visit) const {
    for (const Chunk& chunk : chunks_) {
      std::size_t length = 0;
      for (std::size_t i = 0; i <= chunk.taken.size(); ++i) {
        if (i < chunk.taken.size() && chunk.taken[i] == 0) {
          ++length;
          continue;
        }
        if (length != 0) visit(chunk, i - length, length);
        length = 0;
      }
    }
  }
  const std::vector<Chunk>& chunks() const { return chunks_; }
  std::size_t granules(std::size_t size_bytes) const {
    return (size_bytes >> order_) + ((size_bytes & ((std::size_t{1} << order_) - 1)) != 0 ? 1 : 0);
  }

 private:
  static bool free_run(const Chunk& chunk, std::size_t at, std::size_t run) {
    if (run > chunk.taken.size() || at > chunk.taken.size() - run) return false;
    for (std::size_t i = 0; i < run; ++i) {
      if (chunk.taken[at + i] != 0) return false;
    }
    return true;
  }
  // The lowest place that `allowed` admits.
  template <class Allowed>
  static std::optional<std::size_t> lowest(const Chunk& chunk, std::size_t run, Allowed&& allowed) {
    std::size_t length = 0;  // free granules that end here
    for (std::size_t i = 0; i < chunk.taken.size(); ++i) {
      length = chunk.taken[i] == 0 ? length + 1 : 0;
      if (length >= run && allowed(i + 1 - run)) return i + 1 - run;
    }
    return std::nullopt;
  }
  std::optional<std::size_t> place(const Chunk& chunk, const ModelRequest& request,
                                   std::size_t run) const {
    switch (request.fit) {
      case ModelFit::first:
        return lowest(chunk, run, [](std::size_t) { return true; });
      case ModelFit::align: {
        const std::size_t align = granules(request.number);
        const std::size_t offset = (chunk.start % request.number) >> order_;
        return lowest(chunk, run, [&](std::size_t at) { return (at + offset) % align == 0; });
      }
      case ModelFit::order_align: {
        std::size_t align = 1;
        while (align < run) align *= 2;
        return lowest(chunk, run, [&](std::size_t at) { return at % align == 0; });
      }
      case ModelFit::fixed: {
        const std::size_t at = request.number >> order_;
        return free_run(chunk, at, run) ? std::optional(at) : std::nullopt;
      }
      case ModelFit::best:
        break;
    }
    std::optional<std::size_t> best;
    std::size_t shortest = 0, length = 0;
    for (std::size_t i = 0; i <= chunk.taken.size(); ++i) {
      if (i < chunk.taken.size() && chunk.taken[i] == 0) {
        ++length;
        continue;
      }
      if (length >= run && (!best || length < shortest)) {
        best = i - length;
        shortest = length;
      }
      length = 0;
    }
    return best;
  }
  // Turns granules that all are `from` into the other.
  bool mark(std::uintptr_t start, std::size_t size_bytes, std::uint8_t from) {
    for (Chunk& chunk : chunks_) {
      if (start < chunk.start || start - chunk.start >= chunk.size_bytes) continue;
      const std::size_t offset = start - chunk.start, run = granules(size_bytes);
      if (offset % (std::size_t{1} << order_) != 0) return false;
      const std::size_t at = offset >> order_;
      if (run > chunk.taken.size() || at > chunk.taken.size() - run) return false;
      for (std::size_t i = 0; i < run; ++i) {
        if (chunk.taken[at + i] != from) return false;
      }
      for (std::size_t i = 0; i < run; ++i)
        chunk.taken[at + i] = static_cast<std::uint8_t>(1 - from);
      return true;
    }
    return false;
  }

  const unsigned order_;
  std::vector<Chunk> chunks_;  // the one added last first
};

}  // namespace mmkit::testing
