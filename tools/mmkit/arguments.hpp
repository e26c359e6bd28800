// SPDX-License-Identifier: MIT
//
// Arguments - the command line as options. How it is declared: command_line.hpp.
#pragma once

#include <string>
#include <variant>

#include "options.hpp"

namespace mmkit::tool {

/// Asked for a text only: help, the version.
struct TextRequest {
  std::string text;
};

using Arguments = std::variant<TextRequest, PackOptions, ReplayOptions, AdviseOptions,
                               DriversOptions, GenPoolRunOptions, PercpuRunOptions>;

/// Throws a Problem (usage) that names what is wrong and where help is.
Arguments parse_arguments(int argc, const char* const* argv);

}  // namespace mmkit::tool
