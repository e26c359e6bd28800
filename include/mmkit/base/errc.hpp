// SPDX-License-Identifier: MIT
//
// Errc - the ways in which a correct call can fail, numbered as errno.
//
// Not for misuse: what only a wrong program does goes to the failure handler (check.hpp).
#pragma once

#include <cerrno>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace mmkit {

/// Why a call failed. The values are errno numbers, so a code crosses a C interface unchanged.
enum class Errc : int {
  invalid_argument = EINVAL,
  out_of_memory = ENOMEM,
  no_space = ENOSPC,
  busy = EBUSY,
  try_again = EAGAIN,
  not_found = ENOENT,
  already_exists = EEXIST,
  not_supported = EOPNOTSUPP,
  out_of_range = ERANGE,
  not_permitted = EPERM,
  bad_format = ENOEXEC,
  io_error = EIO
};

/// The enumerator's own word: "out_of_memory"; "unknown" for a value that is none of them.
/// Thread safety: safe. Complexity: O(1).
std::string_view name(Errc code) noexcept;

/// A std::error_code of the category "mmkit", equal to the std::errc of the same number.
/// Thread safety: safe.
std::error_code make_error_code(Errc code) noexcept;

}  // namespace mmkit

/// @cond  Doxygen cannot place what specialises another library's template.
template <>
struct std::is_error_code_enum<mmkit::Errc> : std::true_type {};
/// @endcond
