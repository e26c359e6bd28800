// SPDX-License-Identifier: MIT
#include "zpool/params.hpp"

#include <algorithm>
#include <charconv>

namespace mmkit {

Result<Param> next_param(std::string_view& rest) noexcept {
  constexpr std::string_view kSeparators = ", ";
  rest.remove_prefix(std::min(rest.find_first_not_of(kSeparators), rest.size()));
  if (rest.empty()) return Param{};
  const std::size_t length = std::min(rest.find_first_of(kSeparators), rest.size());
  const std::string_view one = rest.substr(0, length);
  const std::size_t equals = one.find('=');
  if (equals == std::string_view::npos || equals == 0) return fail(Errc::invalid_argument);
  rest.remove_prefix(length);
  return Param{one.substr(0, equals), one.substr(equals + 1)};
}

Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t least,
                                   std::uint64_t most) noexcept {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const std::from_chars_result read = std::from_chars(text.data(), end, value);
  if (read.ec == std::errc::result_out_of_range) return fail(Errc::out_of_range);
  if (read.ec != std::errc{} || read.ptr != end) return fail(Errc::invalid_argument);
  if (value < least || value > most) return fail(Errc::out_of_range);
  return value;
}

Result<unsigned> parse_reclaim_retries(std::string_view params, unsigned by_default) noexcept {
  unsigned retries = by_default;
  while (true) {
    const Result<Param> param = next_param(params);
    if (!param) return fail(param.error());
    if (param->key.empty()) return retries;
    if (param->key != "reclaim_retries") return fail(Errc::invalid_argument);
    const Result<std::uint64_t> number = parse_number(param->value, 1, 1'000'000);
    if (!number) return fail(Errc::invalid_argument);
    retries = static_cast<unsigned>(*number);
  }
}

}  // namespace mmkit
