// SPDX-License-Identifier: MIT
//
// FitAccess - what a Fit is made of, for the core that carries it out.
#pragma once

#include <mmkit/genalloc/fit.hpp>

namespace mmkit::detail {

class FitAccess {
 public:
  using Kind = Fit::Kind;

  static Kind kind(const Fit& fit) noexcept { return fit.kind_; }
  static std::uint64_t param(const Fit& fit) noexcept { return fit.param_; }
  static SearchFn search(const Fit& fit) noexcept { return fit.search_; }
  static const void* data(const Fit& fit) noexcept { return fit.data_; }
  /// `kind` is not custom.
  static Fit make(Kind kind, std::uint64_t param) noexcept {
    Fit fit;
    fit.kind_ = kind;
    fit.param_ = param;
    return fit;
  }
};

/// Makes views of the bitmaps of chunks.
class BitmapSource {
 public:
  template <class Chunk>
  static BitmapView view(const Chunk& chunk) noexcept {
    return BitmapView(&chunk, &word<Chunk>, chunk.granules());
  }

 private:
  template <class Chunk>
  static std::uint64_t word(const void* source, std::size_t index) noexcept {
    const auto& leaves = static_cast<const Chunk*>(source)->leaves();
    if (index >= leaves.leaves() * 8) return ~std::uint64_t{0};
    return ~leaves.free_word(leaves.entry(index / 8), static_cast<unsigned>(index % 8));
  }
};

}  // namespace mmkit::detail
