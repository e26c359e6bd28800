// SPDX-License-Identifier: MIT
//
// GptTrace - what a program asked of its allocator: the format GPT1, read and checked.
//
//   offset  type     little-endian
//   0       4 bytes  "GPT1"
//   4       u32      operations N, at least 1
//   8       u32      allocations
//   12      u32      0
//   16      N x u32  operations in program order
//
// An operation with bit 31 clear allocates as many bytes as the other bits say, at least one; the
// k-th allocation has number k, from 0. With bit 31 set it frees the allocation of that number,
// which is live. A trace that was read keeps all of this, so that a replay need check nothing.
//
// The reader is for anybody's files: it believes no count, so that its memory follows the bytes that
// are there, and a trace that is wrong is refused with the offset of what is wrong.
// Header-only, because the command, the benchmark and a fuzz target share it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "trace_error.hpp"

namespace mmkit::replay {

struct GptTrace {
  std::vector<std::uint32_t> ops;
  std::vector<std::uint32_t> sizes;  // in bytes, by number

  static constexpr std::uint32_t kFree = std::uint32_t{1} << 31;
  static bool is_free(std::uint32_t op) noexcept { return (op & kFree) != 0; }
  static std::uint32_t number(std::uint32_t op) noexcept { return op & ~kFree; }
};

using GptError = TraceError;

namespace detail {

inline constexpr std::size_t kHeaderBytes = 16;

inline std::uint32_t word_at(const unsigned char* bytes) noexcept {
  return bytes[0] | std::uint32_t{bytes[1]} << 8 | std::uint32_t{bytes[2]} << 16 |
         std::uint32_t{bytes[3]} << 24;
}

struct GptHeader {
  std::uint32_t operations = 0, allocations = 0;
};

inline GptHeader header_of(std::span<const unsigned char> bytes) {
  if (bytes.empty()) throw GptError(0, "the file is empty");
  const std::size_t magic_bytes = std::min<std::size_t>(bytes.size(), 4);
  if (std::memcmp(bytes.data(), "GPT1", magic_bytes) != 0) throw GptError(0, "not a GPT1 trace");
  if (bytes.size() < kHeaderBytes) {
    throw GptError(bytes.size(), "the file ends within its header of 16 bytes");
  }
  const GptHeader header{word_at(&bytes[4]), word_at(&bytes[8])};
  if (header.operations == 0) throw GptError(4, "a trace of no operations");
  if (header.allocations > header.operations) {
    throw GptError(8, "more allocations than operations");
  }
  if (const std::uint32_t flags = word_at(&bytes[12]); flags != 0) {
    throw GptError(12, "flags are " + std::to_string(flags) + ", known is only 0");
  }
  return header;
}

/// Takes the operations one by one and follows which allocations are live.
class GptFollower {
 public:
  void take(std::uint32_t op, std::uint64_t offset_bytes) {
    if (!GptTrace::is_free(op)) {
      if (op == 0) throw GptError(offset_bytes, "an allocation of no bytes");
      trace_.sizes.push_back(op);
      live_.push_back(true);
    } else {
      const std::uint32_t number = GptTrace::number(op);
      if (number >= live_.size()) {
        throw GptError(offset_bytes, "a free of allocation " + std::to_string(number) +
                                         ", which is not made yet");
      }
      if (!live_[number]) {
        throw GptError(offset_bytes, "a second free of allocation " + std::to_string(number));
      }
      live_[number] = false;
    }
    trace_.ops.push_back(op);
  }
  GptTrace& trace() noexcept { return trace_; }

 private:
  GptTrace trace_;
  std::vector<bool> live_;
};

}  // namespace detail

/// Reads a trace. `fill` puts the next bytes into a buffer and returns how many: as many as there is
/// room for, fewer only at the end of the input. Errors: GptError, and what `fill` throws.
template <class Fill>
GptTrace read_gpt(Fill fill) {
  // A multiple of an operation; one read(2) for 16384 of them.
  std::vector<unsigned char> buffer(64 * 1024);
  const std::size_t head = fill(std::span(buffer).first(detail::kHeaderBytes));
  const detail::GptHeader header = detail::header_of(std::span(buffer).first(head));

  detail::GptFollower follower;
  std::uint64_t offset_bytes = detail::kHeaderBytes;
  std::uint64_t left_bytes = std::uint64_t{header.operations} * 4;
  while (left_bytes != 0) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(left_bytes, buffer.size()));
    const std::size_t got = fill(std::span(buffer).first(wanted));
    for (std::size_t at = 0; at + 4 <= got; at += 4) {
      follower.take(detail::word_at(&buffer[at]), offset_bytes + at);
    }
    if (got < wanted) {
      const std::uint64_t whole = (offset_bytes + got - detail::kHeaderBytes) / 4;
      throw GptError(detail::kHeaderBytes + whole * 4,
                     "the file ends after " + std::to_string(whole) + " of its " +
                         std::to_string(header.operations) + " operations");
    }
    offset_bytes += got;
    left_bytes -= got;
  }
  const std::size_t made = follower.trace().sizes.size();
  if (made != header.allocations) {
    throw GptError(8, "the header says " + std::to_string(header.allocations) +
                          " allocations, the operations make " + std::to_string(made));
  }
  if (fill(std::span(buffer).first(1)) != 0) {
    throw GptError(offset_bytes, "the file goes on after its last operation");
  }
  return std::move(follower.trace());
}

/// Reads a trace from memory.
inline GptTrace read_gpt_bytes(std::span<const unsigned char> bytes) {
  return read_gpt([&bytes](std::span<unsigned char> buffer) {
    const std::size_t count = std::min(buffer.size(), bytes.size());
    std::copy_n(bytes.begin(), count, buffer.begin());
    bytes = bytes.subspan(count);
    return count;
  });
}

/// What a trace needs, in a heap of granules of 2^`order` bytes.
struct GptFigures {
  std::uint64_t peak_bytes = 0;     // of the sizes that are live at once, at most
  std::uint64_t peak_granules = 0;  // the same, rounded up; reached at its own instant
  std::size_t peak_op = 0;          // the first operation after which so many granules are live
  std::size_t peak_blocks = 0;
};

/// `order` is at most 30: what 2^32 sizes below 2^31 come to still fits.
inline GptFigures figures_of(const GptTrace& trace, unsigned order) {
  const auto granules_of = [order](std::uint32_t size) {
    return (std::uint64_t{size} + (std::uint64_t{1} << order) - 1) >> order;
  };
  GptFigures figures;
  std::uint64_t bytes = 0, granules = 0;
  std::size_t blocks = 0;
  for (std::size_t i = 0; i < trace.ops.size(); ++i) {
    const std::uint32_t op = trace.ops[i];
    if (GptTrace::is_free(op)) {
      const std::uint32_t size = trace.sizes[GptTrace::number(op)];
      bytes -= size;
      granules -= granules_of(size);
      --blocks;
      continue;
    }
    bytes += op;
    granules += granules_of(op);
    ++blocks;
    figures.peak_bytes = std::max(figures.peak_bytes, bytes);
    figures.peak_blocks = std::max(figures.peak_blocks, blocks);
    if (granules > figures.peak_granules) {
      figures.peak_granules = granules;
      figures.peak_op = i;
    }
  }
  return figures;
}

}  // namespace mmkit::replay
