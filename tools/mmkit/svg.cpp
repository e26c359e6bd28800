// SPDX-License-Identifier: MIT
#include "svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace mmkit::tool {
namespace {

constexpr unsigned kCellPixels = 7;
constexpr unsigned kMarginPixels = 24;
constexpr unsigned kLinePixels = 18;
constexpr unsigned kTitlePixels = 30;
constexpr unsigned kGapPixels = 12;
constexpr unsigned kWidthPixels =
    2 * kMarginPixels + static_cast<unsigned>(kSvgColumns) * kCellPixels;

std::string escaped(std::string_view text) {
  std::string result;
  for (const char byte : text) {
    if (byte == '&') {
      result += "&amp;";
    } else if (byte == '<') {
      result += "&lt;";
    } else if (byte == '>') {
      result += "&gt;";
    } else if (byte < ' ' || byte > '~') {
      result += '?';
    } else {
      result += byte;
    }
  }
  return result;
}

/// Nothing and full have shades of their own, as the letters of the terminal do.
unsigned shade_of(double share) {
  if (share <= 0) return 0;
  if (share >= 1) return kSvgShades - 1;
  return 1 + std::min(kSvgShades - 3, static_cast<unsigned>(share * (kSvgShades - 2)));
}

/// From nearly white to dark blue.
std::string colour_of(unsigned shade) {
  const double dark = static_cast<double>(shade) / (kSvgShades - 1);
  const auto mixed = [dark](double light, double deep) {
    return static_cast<unsigned>(std::lround(light + (deep - light) * dark));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mixed(238, 18), mixed(242, 52), mixed(246, 110));
}

class Drawing {
 public:
  void title(std::string_view text) {
    y_ += kTitlePixels;
    line(text, "font-size=\"18\" font-weight=\"bold\"");
  }
  void heading(std::string_view text) {
    y_ += kGapPixels + kLinePixels;
    line(text, "font-size=\"14\" font-weight=\"bold\"");
  }
  void band(const SvgBand& band) {
    y_ += kLinePixels + 4;
    line(band.label + ": " + band.caption, "font-size=\"12\"");
    y_ += 6;
    for (std::size_t row = 0; row < band.shares.size(); row += kSvgColumns) {
      cells(band.shares, row, std::min(row + kSvgColumns, band.shares.size()));
      y_ += kCellPixels;
    }
  }
  std::string finish() {
    y_ += kMarginPixels;
    return fmt::format(
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
               "viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" fill=\"#222\">\n"
               "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
               kWidthPixels, y_) +
           body_ + "</svg>\n";
  }

 private:
  void line(std::string_view text, std::string_view style) {
    body_ += fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", kMarginPixels, y_, style,
                         escaped(text));
  }
  void cells(const std::vector<double>& shares, std::size_t begin, std::size_t end) {
    for (std::size_t at = begin; at < end;) {
      const unsigned shade = shade_of(shares[at]);
      std::size_t next = at + 1;
      while (next < end && shade_of(shares[next]) == shade) ++next;
      body_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>\n",
                           kMarginPixels + (at - begin) * kCellPixels, y_,
                           (next - at) * kCellPixels, kCellPixels, colour_of(shade));
      at = next;
    }
  }

  std::string body_;
  unsigned y_ = 0;
};

}  // namespace

std::string svg_document(const std::string& title, const std::vector<SvgSection>& sections) {
  Drawing drawing;
  drawing.title(title);
  for (const SvgSection& section : sections) {
    drawing.heading(section.title);
    for (const SvgBand& band : section.bands) drawing.band(band);
  }
  return drawing.finish();
}

}  // namespace mmkit::tool
