// SPDX-License-Identifier: MIT
//
// PictureFiles - what was asked for of a picture, written by the renderers to files.
#pragma once

#include "options.hpp"
#include "picture.hpp"

namespace mmkit::tool {

inline bool wants_picture(const PictureOptions& options) {
  return !options.svg_path.empty() || !options.html_path.empty();
}

/// Throws a Problem (no_output).
void write_picture(const PictureOptions& options, const Picture& picture);

}  // namespace mmkit::tool
