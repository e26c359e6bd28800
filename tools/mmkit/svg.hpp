// SPDX-License-Identifier: MIT
//
// Svg - the picture of every command: sections of bands, each band a grid of cells that are the
// darker the fuller they are.
//
// Self-contained and plain: rectangles and text, no script, no font of its own. Neighbours of one
// shade are one rectangle, and there are kShades, so that a picture stays below some hundred KiB.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mmkit::tool {

struct SvgBand {
  std::string label;           // "best-fit"
  std::string caption;         // one line under the label
  std::vector<double> shares;  // 0 to 1, row by row
};
struct SvgSection {
  std::string title;
  std::vector<SvgBand> bands;
};

/// Cells of a row of a band.
inline constexpr std::size_t kSvgColumns = 128;
/// Shades between empty and full, both included.
inline constexpr unsigned kSvgShades = 17;

/// The document. Texts may hold anything: what XML cannot hold becomes a question mark.
std::string svg_document(const std::string& title, const std::vector<SvgSection>& sections);

}  // namespace mmkit::tool
