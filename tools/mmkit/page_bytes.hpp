// SPDX-License-Identifier: MIT
//
// PageBytes - the 4096 bytes that are packed at a time, and the arithmetic between bytes and pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/page.hpp>
#include <span>

namespace mmkit::tool {

using PageBytes = std::span<const std::byte, kPageSize>;
using WritablePageBytes = std::span<std::byte, kPageSize>;

/// Pages that so many bytes fill, the last one perhaps in part.
constexpr std::uint64_t pages_of(std::uint64_t size_bytes) noexcept {
  return size_bytes / kPageSize + (size_bytes % kPageSize != 0 ? 1 : 0);
}

}  // namespace mmkit::tool
