// SPDX-License-Identifier: MIT
//
// Picture - what a command has to show, as data: a title and sections, each of one kind. How it
// looks is the renderers' affair, an SVG file (svg.cpp) and a page for a browser (html.cpp, viewer/).
//
//   Bands    heaps: a grid of cells each, the darker the fuller
//   Chart    figures over time: a line a driver or policy
//   Grid     counts or shares by row and column: classes and their fullness, chunks and their pages
//   RunMap   the runs of pages of a pool, each object where it lies, and what is left between them
//
// Texts may hold anything; renderers make them harmless.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace mmkit::tool {

struct Band {
  std::string label;           // "best-fit"
  std::string caption;         // one line under the label
  std::vector<double> shares;  // 0 to 1, row by row
};
struct Bands {
  std::vector<Band> bands;
};

struct ChartSeries {
  std::string name;
  std::vector<double> x, y;  // of equal length; x does not fall
};
struct Chart {
  std::string x_label, y_label;
  std::vector<ChartSeries> series;
};

struct Grid {
  std::string row_label, column_label, cell_label;  // "class", "tenths in use", "zspages"
  std::vector<std::string> rows, columns;
  std::vector<double> values;  // row by row; not negative
};

/// A run of adjacent pages as the driver asked for it.
struct MapRun {
  std::uint32_t pages = 0;
  std::uint32_t objects = 0;  // that lie in it; the map has them in this order
};
struct MapObject {
  std::uint32_t number = 0;       // as the command counts objects; a search finds it
  std::uint32_t begin_bytes = 0;  // in the run
  std::uint16_t size_bytes = 0;
};
struct RunMap {
  std::string run_label, number_label;  // "zspage"; "page of the input"
  std::vector<MapRun> runs;
  std::vector<MapObject> objects;  // by run, in each by place
};

struct PictureSection {
  std::string title;
  std::string caption;
  std::variant<Bands, Chart, Grid, RunMap> body;
};
struct Picture {
  std::string title;
  std::vector<PictureSection> sections;
};

/// An SVG document: plain rectangles, lines and text, no script, no font of its own. Of a RunMap it
/// shows the first runs and says how many there are.
std::string svg_document(const Picture& picture);

/// A page for a browser that loads nothing else: canvases with zoom, hover and search. A byte of text
/// that is not UTF-8 becomes U+FFFD.
std::string html_document(const Picture& picture);

}  // namespace mmkit::tool
