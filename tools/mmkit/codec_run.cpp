// SPDX-License-Identifier: MIT
#include "codec_run.hpp"

#include <algorithm>
#include <array>

#include "progress.hpp"
#include "stopwatch.hpp"
#include "trial.hpp"

namespace mmkit::tool {

std::vector<std::uint32_t> spread(std::size_t count, std::size_t wanted) {
  const std::size_t taken = std::min(count, wanted);
  std::vector<std::uint32_t> places;
  places.reserve(taken);
  for (std::size_t at = 0; at < taken; ++at) {
    places.push_back(static_cast<std::uint32_t>(at * count / taken));
  }
  return places;
}

CodecCost measure_codec(const Corpus& corpus, std::span<const std::uint32_t> sample,
                        Console& console) {
  CodecCost cost;
  if (sample.empty()) return cost;
  const std::span<const StoredObject> objects = corpus.objects();
  std::vector<std::array<std::byte, kPageSize>> pages(kPagesAtATime);
  CodecBuffer buffer;
  Progress progress(console, "measuring " + std::string(corpus.codec().name()), sample.size(),
                    ProgressUnit::objects);
  for (std::size_t begin = 0; begin < sample.size(); begin += kPagesAtATime) {
    const std::size_t count = std::min(kPagesAtATime, sample.size() - begin);
    const Stopwatch decompressing;
    for (std::size_t at = 0; at < count; ++at) {
      // The corpus proved when it was made that this gives the page.
      static_cast<void>(corpus.codec().decode(objects[sample[begin + at]].bytes(), pages[at]));
      keep_written(pages[at].data());
    }
    cost.decompress_ns += decompressing.elapsed_ns();
    const Stopwatch compressing;
    for (std::size_t at = 0; at < count; ++at) {
      keep_written(corpus.codec().encode(pages[at], buffer).data());
    }
    cost.compress_ns += compressing.elapsed_ns();
    progress.advance(count);
  }
  cost.compress_ns /= static_cast<double>(sample.size());
  cost.decompress_ns /= static_cast<double>(sample.size());
  return cost;
}

}  // namespace mmkit::tool
