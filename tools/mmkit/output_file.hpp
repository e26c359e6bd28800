// SPDX-License-Identifier: MIT
//
// OutputFile - a result that goes to a file of its own beside standard output.
#pragma once

#include <string>
#include <string_view>

namespace mmkit::tool {

/// Writes the whole text to the file, which is made or emptied. `what` stands in the message: "the
/// picture". Throws a Problem (no_output).
void write_file(const std::string& path, std::string_view what, std::string_view text);

}  // namespace mmkit::tool
