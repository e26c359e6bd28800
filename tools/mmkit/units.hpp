// SPDX-License-Identifier: MIT
//
// Units - numbers as people write and read them: byte counts, durations, large counts, names of
// files.
//
// Bytes are always shown in powers of 1024 with the IEC names (KiB, MiB), rates likewise, counts
// with commas.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mmkit::tool {

/// Reads "1048576", "64K", "64KiB", "1.5G", "2GB". As in the GNU tools: K, M, G, T and KiB.. are
/// powers of 1024, kB, MB.. powers of 1000. Case does not matter. Nothing: not a number, negative,
/// or above 2^63.
std::optional<std::uint64_t> parse_byte_count(std::string_view text);

/// "0 B", "512 B", "1.5 KiB", "210.3 MiB".
std::string format_bytes(std::uint64_t bytes);

/// "1,234,567".
std::string format_count(std::uint64_t count);

/// "1 file", "1,234 files": the plural is the singular and an s, unless given.
std::string format_counted(std::uint64_t count, std::string_view singular,
                           std::string_view plural = {});

/// "0:03", "12:45", "3:02:01".
std::string format_clock(std::uint64_t seconds);

/// A share in per cent, "9.4 %"; "0 %" of nothing.
std::string format_share(std::uint64_t part, std::uint64_t whole);

/// A file's name for a message: in single quotes, control characters and quotes as \xNN, so that a
/// name cannot write to the terminal or fake a second line.
std::string in_quotes(std::string_view path);

}  // namespace mmkit::tool
