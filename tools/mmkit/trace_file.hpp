// SPDX-License-Identifier: MIT
//
// TraceFile - a trace from a file or a pipe, or what is wrong with it in words: file, offset, reason.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "complaints.hpp"
#include "options.hpp"
#include "replay/gpt_trace.hpp"
#include "replay/size_trace.hpp"

namespace mmkit::tool {

using AnyTrace = std::variant<replay::SizeTrace, replay::GptTrace>;

/// Reads a trace. Throws a Problem (no_input) that names the file, the offset and the reason; one of
/// its own when the command is interrupted.
replay::GptTrace read_gpt_trace(const std::string& path);
/// The same in any format, which the end of the name says if need be.
AnyTrace read_trace(const std::string& path, TraceFormat format);

/// "u16", "ops", "gpt".
std::optional<TraceFormat> format_named(std::string_view name) noexcept;
/// By the end of the name; automatic for no format that is known.
TraceFormat format_of(const std::string& path) noexcept;

/// Calls read(path) with each. What cannot be read is kept in `unreadable` and warned of. Throws a
/// Problem (no_input) when none could be read, or by the rule not all.
void read_each(const std::vector<std::string>& paths, InputRule rule, Complaints& unreadable,
               Console& console, const std::function<void(const std::string&)>& read);

}  // namespace mmkit::tool
