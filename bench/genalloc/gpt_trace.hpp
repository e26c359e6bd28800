// SPDX-License-Identifier: MIT
//
// GptTrace - what a program asked of its allocator, as data/genpool/README.md describes it.
//
// Errors: std::runtime_error naming the file, the offset of the bad word and what is wrong there.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/trace.hpp"

namespace mmkit::bench {

struct GptTrace {
  std::string name;
  unsigned order = 4;  // log2 of the granule to replay it with
  std::vector<std::uint32_t> ops;
  std::vector<std::uint32_t> sizes;  // by number
  std::size_t peak_bytes = 0;        // in granules rounded up

  static constexpr std::uint32_t kFree = std::uint32_t{1} << 31;
  /// A quarter more than what is live at once needs.
  std::size_t heap_bytes() const noexcept {
    return (peak_bytes + peak_bytes / 4) >> order << order;
  }
};

/// Reads data/genpool/`name`.gpt and follows it once: every free is of a live allocation.
inline GptTrace load_gpt(const std::string& name, unsigned order) {
  const std::string path = data_directory() + "/genpool/" + name + ".gpt";
  const std::vector<unsigned char> bytes = read_records(path, 4);
  if (bytes.size() < 16 || std::memcmp(bytes.data(), "GPT1", 4) != 0) {
    bad_trace(path, 0, "not a GPT1 trace");
  }
  const auto word = [&](std::size_t at) {
    return static_cast<std::uint32_t>(bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16) |
           std::uint32_t{bytes[at + 3]} << 24;
  };
  GptTrace trace{name, order, {}, {}, 0};
  std::vector<bool> live;
  std::size_t used = 0;
  const auto rounded = [order](std::size_t size) {
    return (size + (std::size_t{1} << order) - 1) >> order << order;
  };
  if (bytes.size() != 16 + 4 * std::size_t{word(4)}) bad_trace(path, 4, "not so many operations");
  for (std::size_t at = 16; at < bytes.size(); at += 4) {
    const std::uint32_t op = word(at);
    trace.ops.push_back(op);
    if ((op & GptTrace::kFree) == 0) {
      if (op == 0) bad_trace(path, at, "an allocation of no bytes");
      trace.sizes.push_back(op);
      live.push_back(true);
      used += rounded(op);
      trace.peak_bytes = std::max(trace.peak_bytes, used);
      continue;
    }
    const std::uint32_t number = op & ~GptTrace::kFree;
    if (number >= live.size() || !live[number]) bad_trace(path, at, "a free of what is not live");
    live[number] = false;
    used -= rounded(trace.sizes[number]);
  }
  return trace;
}

}  // namespace mmkit::bench
