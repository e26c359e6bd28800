// SPDX-License-Identifier: MIT
//
// Viewer - the style and the script of the page that html.cpp writes: the files of viewer/, which the
// build puts into the program.
#pragma once

#include <string_view>

namespace mmkit::tool {

std::string_view viewer_style() noexcept;
std::string_view viewer_script() noexcept;

}  // namespace mmkit::tool
