// SPDX-License-Identifier: MIT
//
// The SVG renderer: sections one below the other. Neighbours of one shade are one rectangle, and of
// long lists the beginning is drawn, so that a picture stays below some hundred KiB.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "picture.hpp"
#include "svg_canvas.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::size_t kBandColumns = 128;
constexpr unsigned kCellPixels = 7;
constexpr unsigned kMarginPixels = 24;
constexpr unsigned kLinePixels = 18;
constexpr unsigned kInnerPixels = static_cast<unsigned>(kBandColumns) * kCellPixels;
constexpr unsigned kWidthPixels = 2 * kMarginPixels + kInnerPixels;
// Enough to see how a driver packs.
constexpr std::size_t kMostRuns = 120;
constexpr std::size_t kMostPoints = 1000;  // of a line; there are not more pixels

std::string tick_text(double value) {
  return value >= 1'000 ? format_count(static_cast<std::uint64_t>(value))
                        : fmt::format("{:g}", value);
}

class Drawing {
 public:
  void title(std::string_view text) {
    y_ += 30;
    canvas_.text(kMarginPixels, y_, text, 18, TextAnchor::start, "font-weight=\"bold\"");
  }
  void section(const PictureSection& section) {
    y_ += 12 + kLinePixels;
    canvas_.text(kMarginPixels, y_, section.title, 14, TextAnchor::start, "font-weight=\"bold\"");
    if (!section.caption.empty()) note(section.caption);
    std::visit([this](const auto& body) { draw(body); }, section.body);
  }
  std::string finish() const { return canvas_.document(kWidthPixels, y_ + kMarginPixels); }

 private:
  void note(std::string_view text) {
    y_ += kLinePixels;
    canvas_.text(kMarginPixels, y_, text, 12);
  }

  void draw(const Bands& bands) {
    for (const Band& band : bands.bands) {
      y_ += 4;
      note(band.label + ": " + band.caption);
      y_ += 6;
      for (std::size_t row = 0; row < band.shares.size(); row += kBandColumns) {
        cells(band.shares, row, std::min(row + kBandColumns, band.shares.size()), kMarginPixels,
              kCellPixels);
        y_ += kCellPixels;
      }
    }
  }

  /// A row of shares; equal neighbours are one rectangle.
  void cells(const std::vector<double>& shares, std::size_t begin, std::size_t end, double x,
             double width) {
    for (std::size_t at = begin; at < end;) {
      const unsigned shade = shade_of(shares[at]);
      std::size_t next = at + 1;
      while (next < end && shade_of(shares[next]) == shade) ++next;
      canvas_.rect(x + static_cast<double>(at - begin) * width, y_,
                   static_cast<double>(next - at) * width, kCellPixels, colour_of_shade(shade));
      at = next;
    }
  }

  void draw(const Grid& grid) {
    constexpr double kLabelPixels = 150;
    const double most = std::max(
        1e-9, grid.values.empty() ? 0 : *std::max_element(grid.values.begin(), grid.values.end()));
    std::vector<double> shares;
    for (const double value : grid.values) shares.push_back(value / most);
    note(fmt::format("{} by {}; the darkest cell is {:g} {}", grid.row_label, grid.column_label,
                     most, grid.cell_label));
    const double width =
        std::min(40.0, (kInnerPixels - kLabelPixels) /
                           static_cast<double>(std::max<std::size_t>(1, grid.columns.size())));
    y_ += kLinePixels;
    for (std::size_t column = 0; column < grid.columns.size(); ++column) {
      canvas_.text(kMarginPixels + kLabelPixels + (static_cast<double>(column) + .5) * width,
                   y_ - 4, grid.columns[column], 10, TextAnchor::middle);
    }
    for (std::size_t row = 0; row < grid.rows.size(); ++row) {
      canvas_.text(kMarginPixels + kLabelPixels - 6, y_ + 8, grid.rows[row], 9, TextAnchor::end);
      cells(shares, row * grid.columns.size(), (row + 1) * grid.columns.size(),
            kMarginPixels + kLabelPixels, width);
      y_ += kCellPixels + 2;
    }
  }

  void draw(const Chart& chart);
  void draw(const RunMap& map);

  SvgCanvas canvas_;
  unsigned y_ = 0;
};

struct Range {
  double low = std::numeric_limits<double>::max(), high = std::numeric_limits<double>::lowest();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

void Drawing::draw(const Chart& chart) {
  constexpr double kLeft = kMarginPixels + 70, kRight = kWidthPixels - kMarginPixels - 170;
  constexpr double kHeight = 260;
  Range x, y;
  for (const ChartSeries& series : chart.series) {
    for (const double value : series.x) x.include(value);
    for (const double value : series.y) y.include(value);
  }
  if (x.high < x.low) return note("nothing to draw");
  const std::vector<double> x_marks = ticks(x.low, x.high, 8), y_marks = ticks(y.low, y.high, 6);
  y_ += 28;
  const double top = y_, bottom = top + kHeight;
  const auto across = [&](double value) {
    const double span = std::max(1e-12, x.high - x.low);
    return kLeft + (value - x.low) / span * (kRight - kLeft);
  };
  const auto up = [&](double value) {
    const double span = std::max(1e-12, y_marks.back() - y_marks.front());
    return bottom - (value - y_marks.front()) / span * kHeight;
  };
  for (const double mark : y_marks) {
    canvas_.line(kLeft, up(mark), kRight, up(mark), "#ddd");
    canvas_.text(kLeft - 6, up(mark) + 4, tick_text(mark), 11, TextAnchor::end);
  }
  for (const double mark : x_marks) {
    if (mark < x.low || mark > x.high) continue;
    canvas_.text(across(mark), bottom + 16, tick_text(mark), 11, TextAnchor::middle);
  }
  canvas_.line(kLeft, bottom, kRight, bottom, "#888");
  canvas_.text((kLeft + kRight) / 2, bottom + 32, chart.x_label, 12, TextAnchor::middle);
  canvas_.text(kMarginPixels, top - 10, chart.y_label, 12);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const ChartSeries& series = chart.series[i];
    const std::size_t step = series.x.size() / kMostPoints + 1;
    std::vector<std::pair<double, double>> points;
    for (std::size_t at = 0; at < series.x.size(); at += step) {
      points.emplace_back(across(series.x[at]), up(series.y[at]));
    }
    canvas_.polyline(points, line_colour(i));
    const double row = top + 10 + static_cast<double>(i) * 16;
    canvas_.rect(kRight + 14, row - 8, 10, 10, line_colour(i));
    canvas_.text(kRight + 30, row + 1, series.name, 11);
  }
  y_ += static_cast<unsigned>(kHeight) + 36;
}

void Drawing::draw(const RunMap& map) {
  const std::size_t shown = std::min(map.runs.size(), kMostRuns);
  note(fmt::format("the first {} of {}; pale is slack", format_counted(shown, map.run_label),
                   format_count(map.runs.size())));
  y_ += 6;
  std::uint32_t most_pages = 1;
  for (std::size_t i = 0; i < shown; ++i) most_pages = std::max(most_pages, map.runs[i].pages);
  const double pixels = static_cast<double>(kInnerPixels) / (most_pages * 4096.0);
  std::size_t object = 0;
  for (std::size_t i = 0; i < shown; ++i) {
    canvas_.rect(kMarginPixels, y_, map.runs[i].pages * 4096.0 * pixels, kCellPixels - 1,
                 colour_of_shade(1));
    for (const std::size_t end = object + map.runs[i].objects; object < end; ++object) {
      const MapObject& one = map.objects[object];
      canvas_.rect(kMarginPixels + one.begin_bytes * pixels, y_, one.size_bytes * pixels,
                   kCellPixels - 1, colour_of_shade(object % 2 == 0 ? 9 : 13));
    }
    y_ += kCellPixels;
  }
}

}  // namespace

std::string svg_document(const Picture& picture) {
  Drawing drawing;
  drawing.title(picture.title);
  for (const PictureSection& section : picture.sections) drawing.section(section);
  return drawing.finish();
}

}  // namespace mmkit::tool
