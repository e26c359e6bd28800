// SPDX-License-Identifier: MIT
//
// Params - the parameters of a driver: `key=value`, separated by commas or spaces.
#pragma once

#include <cstdint>
#include <mmkit/base/result.hpp>
#include <string_view>

namespace mmkit {

/// One parameter; an empty key means that there was none left.
struct Param {
  std::string_view key, value;
};

/// Takes the next parameter off the front of `rest`. Errors: invalid_argument (no '=', no key).
Result<Param> next_param(std::string_view& rest) noexcept;

/// A decimal number between `least` and `most`. Errors: invalid_argument (no number, or text behind
/// it), out_of_range.
Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t least,
                                   std::uint64_t most) noexcept;

/// The one parameter of a driver that evicts by page: `reclaim_retries=` 1 to 1000000, else the
/// default. Errors: invalid_argument (any other parameter, or a value that is none of these).
Result<unsigned> parse_reclaim_retries(std::string_view params, unsigned by_default) noexcept;

}  // namespace mmkit
