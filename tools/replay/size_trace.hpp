// SPDX-License-Identifier: MIT
//
// SizeTrace - what a store of compressed pages was asked to hold, read and checked: the formats u16
// and ops.
//
//   u16   an array of u16, little-endian: the size of each page, one store after the other
//   ops   packed records of 7 bytes, little-endian
//           u8   0 end of a snapshot, 1 store a new key, 2 overwrite a live key, 3 drop a live key
//           u32  the key; for 0 the number of the snapshot, which counts from 0
//           u16  the size in bytes; for 3 that which was stored, for 0 nothing
//
// Sizes are 1 to 4096. A trace that was read keeps all of this, so that a replay need check nothing.
// Keys become slots: numbers from 0 on in the order in which keys come first, so that a replay needs
// an array and no map. A key that is stored again has the slot that it had.
//
// Header-only, because the command and a fuzz target share it.
// Complexity: 8 bytes a record, and a map of the keys while an ops trace is read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "trace_error.hpp"

namespace mmkit::replay {

enum class SizeOp : std::uint8_t { snapshot = 0, store = 1, overwrite = 2, drop = 3 };

struct SizeStep {
  std::uint32_t slot = 0;  // of a snapshot its number
  std::uint16_t size_bytes = 0;
  SizeOp op = SizeOp::snapshot;
};

struct SizeTrace {
  std::vector<SizeStep> steps;
  std::uint32_t slots = 0;      // keys that ever were
  std::uint32_t snapshots = 0;  // none in u16
  std::size_t peak_objects = 0;
  std::uint64_t peak_payload_bytes = 0;
};

namespace detail {

inline constexpr std::uint16_t kMostSizeBytes = 4096;
inline constexpr std::uint32_t kMostSlots = std::numeric_limits<std::uint32_t>::max();

inline std::uint16_t u16_at(const unsigned char* bytes) noexcept {
  return static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8);
}
inline std::uint32_t u32_at(const unsigned char* bytes) noexcept {
  return u16_at(bytes) | std::uint32_t{u16_at(bytes + 2)} << 16;
}

inline void check_size(std::uint16_t size, std::uint64_t offset_bytes) {
  if (size >= 1 && size <= kMostSizeBytes) return;
  throw TraceError(offset_bytes,
                   "a size of " + std::to_string(size) + "; a compressed page has 1 to 4096 bytes");
}

/// Reads records of `kRecordBytes` to the end of the input; calls take(bytes, offset) with each.
template <std::size_t kRecordBytes, class Fill, class Take>
void for_each_record(Fill& fill, Take&& take) {
  std::vector<unsigned char> buffer(kRecordBytes * 8192);
  std::uint64_t offset_bytes = 0;
  for (std::size_t got = buffer.size(); got == buffer.size();) {
    got = fill(std::span(buffer));
    if (got == 0 && offset_bytes == 0) throw TraceError(0, "the file is empty");
    const std::size_t whole = got - got % kRecordBytes;
    for (std::size_t at = 0; at < whole; at += kRecordBytes) take(&buffer[at], offset_bytes + at);
    if (whole != got) {
      throw TraceError(offset_bytes + whole, "the file ends within a record of " +
                                                 std::to_string(kRecordBytes) + " bytes");
    }
    offset_bytes += got;
  }
}

/// Takes the records of an ops trace one by one and follows which keys are live.
class OpsFollower {
 public:
  static constexpr std::size_t kRecordBytes = 7;

  void take(const unsigned char* record, std::uint64_t offset_bytes) {
    const std::uint8_t op = record[0];
    const std::uint32_t key = u32_at(record + 1);
    const std::uint16_t size = u16_at(record + 5);
    switch (op) {
      case 0:
        return snapshot(key, size, offset_bytes);
      case 1:
      case 2:
        return store(static_cast<SizeOp>(op), key, size, offset_bytes);
      case 3:
        return drop(key, size, offset_bytes);
      default:
        throw TraceError(offset_bytes,
                         "operation " + std::to_string(op) + "; there are only 0 to 3");
    }
  }
  SizeTrace& trace() noexcept { return trace_; }

 private:
  struct Key {
    std::uint32_t slot = 0;
    std::uint16_t size_bytes = 0;  // 0: not live
  };

  void snapshot(std::uint32_t number, std::uint16_t size, std::uint64_t offset_bytes) {
    if (number != trace_.snapshots) {
      throw TraceError(offset_bytes + 1, "the end of snapshot " + std::to_string(number) +
                                             ", and it is number " +
                                             std::to_string(trace_.snapshots));
    }
    if (size != 0) throw TraceError(offset_bytes + 5, "the end of a snapshot with a size");
    ++trace_.snapshots;
    trace_.steps.push_back({number, 0, SizeOp::snapshot});
  }
  void store(SizeOp op, std::uint32_t key, std::uint16_t size, std::uint64_t offset_bytes) {
    check_size(size, offset_bytes + 5);
    const auto [place, is_new] = keys_.try_emplace(key, Key{trace_.slots, 0});
    if (is_new) ++trace_.slots;
    Key& known = place->second;
    if (op == SizeOp::store && known.size_bytes != 0) {
      throw TraceError(offset_bytes + 1, "key " + std::to_string(key) + " is stored, and it lives");
    }
    if (op == SizeOp::overwrite && known.size_bytes == 0) {
      throw TraceError(offset_bytes + 1,
                       "key " + std::to_string(key) + " is overwritten, and it does not live");
    }
    if (op == SizeOp::store) ++live_;
    payload_bytes_ = payload_bytes_ - known.size_bytes + size;
    known.size_bytes = size;
    trace_.peak_objects = std::max(trace_.peak_objects, live_);
    trace_.peak_payload_bytes = std::max(trace_.peak_payload_bytes, payload_bytes_);
    trace_.steps.push_back({known.slot, size, op});
  }
  void drop(std::uint32_t key, std::uint16_t size, std::uint64_t offset_bytes) {
    const auto place = keys_.find(key);
    if (place == keys_.end() || place->second.size_bytes == 0) {
      throw TraceError(offset_bytes + 1,
                       "key " + std::to_string(key) + " is dropped, and it does not live");
    }
    Key& known = place->second;
    if (known.size_bytes != size) {
      throw TraceError(offset_bytes + 5, "key " + std::to_string(key) + " is dropped with " +
                                             std::to_string(size) + " bytes, it was stored with " +
                                             std::to_string(known.size_bytes));
    }
    --live_;
    payload_bytes_ -= size;
    known.size_bytes = 0;
    trace_.steps.push_back({known.slot, size, SizeOp::drop});
  }

  SizeTrace trace_;
  std::unordered_map<std::uint32_t, Key> keys_;
  std::size_t live_ = 0;
  std::uint64_t payload_bytes_ = 0;
};

}  // namespace detail

/// Reads a u16 trace. `fill` puts the next bytes into a buffer and returns how many: as many as there
/// is room for, fewer only at the end of the input. Errors: TraceError, and what `fill` throws.
template <class Fill>
SizeTrace read_u16(Fill fill) {
  SizeTrace trace;
  detail::for_each_record<2>(fill, [&](const unsigned char* record, std::uint64_t offset_bytes) {
    const std::uint16_t size = detail::u16_at(record);
    detail::check_size(size, offset_bytes);
    if (trace.slots == detail::kMostSlots) throw TraceError(offset_bytes, "more than 2^32 sizes");
    trace.steps.push_back({trace.slots++, size, SizeOp::store});
    trace.peak_payload_bytes += size;
  });
  trace.peak_objects = trace.slots;
  return trace;
}

/// Reads an ops trace; as read_u16().
template <class Fill>
SizeTrace read_ops(Fill fill) {
  detail::OpsFollower follower;
  detail::for_each_record<detail::OpsFollower::kRecordBytes>(
      fill, [&](const unsigned char* record, std::uint64_t offset_bytes) {
        follower.take(record, offset_bytes);
      });
  if (follower.trace().slots == 0) throw TraceError(0, "a trace that stores nothing");
  return std::move(follower.trace());
}

/// A `fill` over bytes in memory.
inline auto filled_from(std::span<const unsigned char> bytes) {
  return [bytes](std::span<unsigned char> buffer) mutable {
    const std::size_t count = std::min(buffer.size(), bytes.size());
    std::copy_n(bytes.begin(), count, buffer.begin());
    bytes = bytes.subspan(count);
    return count;
  };
}

}  // namespace mmkit::replay
