// SPDX-License-Identifier: MIT
//
// NamedTrace - a trace of data/genpool with the granule it is replayed with, and what it needs.
//
// Errors: std::runtime_error naming the file, the offset of what is wrong, and the reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "replay/gpt_trace.hpp"
#include "support/trace.hpp"

namespace mmkit::bench {

struct NamedTrace {
  std::string name;
  unsigned order;  // log2 of the granule
  replay::GptTrace trace;
  replay::GptFigures figures;

  /// A quarter more than what is live at once.
  std::size_t heap_bytes() const noexcept {
    return (figures.peak_granules + figures.peak_granules / 4) << order;
  }
  std::size_t heap_granules() const noexcept { return heap_bytes() >> order; }
  /// Small enough for heaps that keep their books in the memory itself.
  bool touchable() const noexcept { return heap_bytes() < std::size_t{64} << 20; }
  double operations() const noexcept { return static_cast<double>(trace.ops.size()); }
};
using SharedTrace = std::shared_ptr<const NamedTrace>;

/// Reads data/genpool/`name`.gpt.
inline SharedTrace load_gpt(const std::string& name, unsigned order) {
  const std::string path = data_directory() + "/genpool/" + name + ".gpt";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  try {
    replay::GptTrace trace = replay::read_gpt([&file](std::span<unsigned char> buffer) {
      file.read(reinterpret_cast<char*>(buffer.data()),
                static_cast<std::streamsize>(buffer.size()));
      return static_cast<std::size_t>(file.gcount());
    });
    const replay::GptFigures figures = replay::figures_of(trace, order);
    return std::make_shared<const NamedTrace>(NamedTrace{name, order, std::move(trace), figures});
  } catch (const replay::GptError& error) {
    bad_trace(path, error.offset_bytes(), error.what());
  }
}

/// All of them: real programs in granules of 16 bytes, the GPU's in 256.
struct TraceName {
  const char* name;
  unsigned order;
};
inline constexpr TraceName kGptTraces[] = {{"sqlite", 4},           {"python_json", 4},
                                           {"cc1plus", 4},          {"perl_hash", 4},
                                           {"gpu_frames_synth", 8}, {"gpu_stream0_synth", 8}};

}  // namespace mmkit::bench
