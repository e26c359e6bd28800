// SPDX-License-Identifier: MIT
//
// CodecRun - what the codec costs by itself, so that the figures with it can be told apart.
//
// Pages are made again from the corpus a few at a time, which is the decompression that is timed,
// and compressed again, which is the compression: the same pages in the same state of the caches
// as when a store is measured with the codec.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "corpus.hpp"

namespace mmkit::tool {

class Console;

/// Nanoseconds per object.
struct CodecCost {
  double compress_ns = 0;
  double decompress_ns = 0;
};

/// At most `wanted` of `count` places, evenly spread.
std::vector<std::uint32_t> spread(std::size_t count, std::size_t wanted);

/// Measures on the objects of the sample; zeros for none. Throws a Problem when interrupted.
CodecCost measure_codec(const Corpus& corpus, std::span<const std::uint32_t> sample,
                        Console& console);

}  // namespace mmkit::tool
