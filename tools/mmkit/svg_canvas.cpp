// SPDX-License-Identifier: MIT
#include "svg_canvas.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace mmkit::tool {

std::string escaped_xml(std::string_view text) {
  std::string result;
  for (const char byte : text) {
    if (byte == '&') {
      result += "&amp;";
    } else if (byte == '<') {
      result += "&lt;";
    } else if (byte == '>') {
      result += "&gt;";
    } else if (byte == '"') {
      result += "&quot;";
    } else if (byte < ' ' || byte > '~') {
      result += '?';
    } else {
      result += byte;
    }
  }
  return result;
}

unsigned shade_of(double share) {
  if (share <= 0) return 0;
  if (share >= 1) return kShades - 1;
  return 1 + std::min(kShades - 3, static_cast<unsigned>(share * (kShades - 2)));
}

std::string colour_of_shade(unsigned shade) {
  const double dark = static_cast<double>(shade) / (kShades - 1);
  const auto mixed = [dark](double light, double deep) {
    return static_cast<unsigned>(std::lround(light + (deep - light) * dark));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mixed(238, 18), mixed(242, 52), mixed(246, 110));
}

std::string_view line_colour(std::size_t index) {
  // Told apart by hue and by lightness, also by most who are colour-blind.
  constexpr std::array<std::string_view, 8> kColours{"#12346e", "#d1495b", "#2e8b57", "#e08e0b",
                                                     "#7b4fa3", "#1f9bb3", "#7a5230", "#555555"};
  return kColours[index % kColours.size()];
}

std::vector<double> ticks(double low, double high, unsigned wanted) {
  if (!(high > low)) return {low};
  const double rough = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  const double share = rough / power;
  const double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  // Counted from a whole number of steps, so that no rounding adds up.
  std::vector<double> marks;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double mark = first; mark <= last; ++mark) marks.push_back(mark * step);
  return marks;
}

void SvgCanvas::text(double x, double y, std::string_view text, unsigned size_pixels,
                     TextAnchor anchor, std::string_view more) {
  constexpr std::string_view kAnchors[] = {"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
  body_ += fmt::format("<text x=\"{:g}\" y=\"{:g}\" font-size=\"{}\"{}{}{}>{}</text>\n", x, y,
                       size_pixels, kAnchors[static_cast<int>(anchor)], more.empty() ? "" : " ",
                       more, escaped_xml(text));
}

void SvgCanvas::rect(double x, double y, double width, double height, std::string_view fill) {
  body_ += fmt::format("<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"{}\"/>\n",
                       x, y, width, height, fill);
}

void SvgCanvas::line(double x1, double y1, double x2, double y2, std::string_view stroke) {
  body_ += fmt::format("<line x1=\"{:g}\" y1=\"{:g}\" x2=\"{:g}\" y2=\"{:g}\" stroke=\"{}\"/>\n",
                       x1, y1, x2, y2, stroke);
}

void SvgCanvas::polyline(const std::vector<std::pair<double, double>>& points,
                         std::string_view stroke) {
  std::string list;
  for (const auto& [x, y] : points) list += fmt::format("{:.1f},{:.1f} ", x, y);
  if (!list.empty()) list.pop_back();
  body_ += fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", list, stroke);
}

std::string SvgCanvas::document(unsigned width, unsigned height) const {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
             "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" fill=\"#222\">\n"
             "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
             width, height) +
         body_ + "</svg>\n";
}

}  // namespace mmkit::tool
