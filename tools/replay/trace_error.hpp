// SPDX-License-Identifier: MIT
//
// TraceError - what is wrong with a trace, and where.
//
// Every reader of traces is for anybody's files: it believes no count, so that its memory follows the
// bytes that are there, and refuses what is wrong with its offset.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace mmkit::replay {

class TraceError : public std::runtime_error {
 public:
  TraceError(std::uint64_t offset_bytes, const std::string& reason)
      : std::runtime_error(reason), offset_bytes_(offset_bytes) {}
  std::uint64_t offset_bytes() const noexcept { return offset_bytes_; }

 private:
  std::uint64_t offset_bytes_;
};

}  // namespace mmkit::replay
