// SPDX-License-Identifier: MIT
//
// SvgCanvas - the marks that SVG documents are made of, in pixels from the upper left corner, and the
// colours that all pictures share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mmkit::tool {

/// What XML can hold: mark-up escaped, the rest of what is not printable ASCII a question mark.
std::string escaped_xml(std::string_view text);

/// Shades between empty and full, both included.
inline constexpr unsigned kShades = 17;
/// Nothing and full have shades of their own, as the letters of the terminal do.
unsigned shade_of(double share);
/// From nearly white to dark blue.
std::string colour_of_shade(unsigned shade);
/// Colours of lines that are told apart; the ninth is the first again.
std::string_view line_colour(std::size_t index);

/// Round numbers that cover [low, high], in order, at most about `wanted` of them.
std::vector<double> ticks(double low, double high, unsigned wanted);

enum class TextAnchor { start, middle, end };

class SvgCanvas {
 public:
  void text(double x, double y, std::string_view text, unsigned size_pixels,
            TextAnchor anchor = TextAnchor::start, std::string_view more = {});
  void rect(double x, double y, double width, double height, std::string_view fill);
  void line(double x1, double y1, double x2, double y2, std::string_view stroke);
  void polyline(const std::vector<std::pair<double, double>>& points, std::string_view stroke);

  /// The document of everything that was drawn.
  std::string document(unsigned width, unsigned height) const;

 private:
  std::string body_;
};

}  // namespace mmkit::tool
