// SPDX-License-Identifier: MIT
//
// CommandTexts - the man page and the completions of shells, made from the command line's declaration,
// so that none of them can fall behind it.
#pragma once

#include <string>

#include "command_line.hpp"

namespace mmkit::tool {

/// roff with the man macros, section 1.
std::string man_page(const CommandLine& line);
/// A function for bash's `complete`; needs nothing of the package bash-completion.
std::string bash_completion(const CommandLine& line);
/// A function for zsh's compsys.
std::string zsh_completion(const CommandLine& line);

}  // namespace mmkit::tool
