// SPDX-License-Identifier: MIT
//
// Page size - the one size of a page, and the number of a page frame.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmkit {

/// Bytes of a page. A machine whose pages have another size is refused when a source is made.
inline constexpr std::size_t kPageSize = 4096;
inline constexpr unsigned kPageShift = 12;
static_assert(kPageSize == std::size_t{1} << kPageShift);

/// The number of a page frame within its page source: frame 0 is the lowest.
enum class Pfn : std::uint64_t {};

}  // namespace mmkit
