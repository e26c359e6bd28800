// SPDX-License-Identifier: MIT
#include "units.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <charconv>

namespace mmkit::tool {
namespace {

struct Suffix {
  std::string_view text;  // lower case
  double factor;
};

constexpr double kKi = 1024.0;
constexpr double kK = 1000.0;

constexpr std::array<Suffix, 18> kSuffixes{{{"", 1},
                                            {"b", 1},
                                            {"k", kKi},
                                            {"kib", kKi},
                                            {"kb", kK},
                                            {"m", kKi* kKi},
                                            {"mib", kKi* kKi},
                                            {"mb", kK* kK},
                                            {"g", kKi* kKi* kKi},
                                            {"gib", kKi* kKi* kKi},
                                            {"gb", kK* kK* kK},
                                            {"t", kKi* kKi* kKi* kKi},
                                            {"tib", kKi* kKi* kKi* kKi},
                                            {"tb", kK* kK* kK* kK},
                                            {"p", kKi* kKi* kKi* kKi* kKi},
                                            {"pib", kKi* kKi* kKi* kKi* kKi},
                                            {"pb", kK* kK* kK* kK* kK},
                                            {"bytes", 1}}};

std::string lower(std::string_view text) {
  std::string result;
  for (const char c : text) {
    result += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return result;
}

}  // namespace

std::optional<std::uint64_t> parse_byte_count(std::string_view text) {
  // from_chars reads "inf", "nan" and "-1" too; a byte count starts with a digit.
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text.front())) == 0) {
    return std::nullopt;
  }
  double number = 0;
  const auto [rest, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{}) return std::nullopt;
  std::string_view unit = text.substr(static_cast<std::size_t>(rest - text.data()));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const std::string wanted = lower(unit);
  for (const Suffix& suffix : kSuffixes) {
    if (suffix.text != wanted) continue;
    const double bytes = number * suffix.factor;
    constexpr double kLimit = 9223372036854775808.0;  // 2^63: every count below it is an off_t
    if (!(bytes < kLimit)) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
  }
  return std::nullopt;
}

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array<std::string_view, 6> kNames{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / kKi;
  std::size_t name = 0;
  // 1023.95 would print as "1024.0": the next unit takes over just below it.
  while (value >= 1023.95 && name + 1 < kNames.size()) {
    value /= kKi;
    ++name;
  }
  return fmt::format("{:.1f} {}", value, kNames[name]);
}

std::string format_count(std::uint64_t count) {
  std::string digits = fmt::format("{}", count);
  for (std::size_t left = digits.size(); left > 3;) {
    left -= 3;
    digits.insert(left, 1, ',');
  }
  return digits;
}

std::string format_counted(std::uint64_t count, std::string_view singular,
                           std::string_view plural) {
  if (count == 1) return fmt::format("1 {}", singular);
  if (!plural.empty()) return fmt::format("{} {}", format_count(count), plural);
  return fmt::format("{} {}s", format_count(count), singular);
}

std::string format_clock(std::uint64_t seconds) {
  const std::uint64_t hours = seconds / 3600;
  const std::uint64_t minutes = seconds / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, seconds % 60);
  return fmt::format("{}:{:02}", minutes, seconds % 60);
}

std::string format_share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "0 %";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string in_quotes(std::string_view path) {
  std::string result = "'";
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\'' || c == '\\') {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result + "'";
}

}  // namespace mmkit::tool
