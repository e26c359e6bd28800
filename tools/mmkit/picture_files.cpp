// SPDX-License-Identifier: MIT
#include "picture_files.hpp"

#include "output_file.hpp"

namespace mmkit::tool {

void write_picture(const PictureOptions& options, const Picture& picture) {
  if (!options.svg_path.empty()) {
    write_file(options.svg_path, "the picture", svg_document(picture));
  }
  if (!options.html_path.empty()) write_file(options.html_path, "the page", html_document(picture));
}

}  // namespace mmkit::tool
