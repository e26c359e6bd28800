// SPDX-License-Identifier: MIT
//
// TraceFile - a .gpt trace from a file or a pipe, or what is wrong with it in words.
#pragma once

#include <string>

#include "replay/gpt_trace.hpp"

namespace mmkit::tool {

/// Reads a trace. Throws a Problem (no_input) that names the file, the offset and the reason; one of
/// its own when the command is interrupted.
replay::GptTrace read_trace(const std::string& path);

}  // namespace mmkit::tool
