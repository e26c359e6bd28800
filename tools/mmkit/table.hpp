// SPDX-License-Identifier: MIT
//
// Table - columns of text, aligned, under one or two lines of headings; folded into blocks where
// the terminal is narrow.
//
//                    density          too wide:           density
//   driver   pages  bare  +meta       driver   pages      driver  bare  +meta
//   zbud    74,265  0.72   0.71       zbud    74,265      zbud    0.72   0.71
//
// Folding repeats the first column in every block and parts no group.
// Cells are plain text: styling is laid over whole lines by the caller's function, so that widths
// stay right.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace mmkit::tool {

class Table {
 public:
  enum class Align { left, right };
  /// What a finished line is, so that a styler can tell headings from the rest.
  enum class Line { heading, row };
  using Styler = std::function<std::string(std::string_view, Line)>;

  /// `group` stands above `heading`; equal neighbouring groups are written once over their columns,
  /// which are never parted.
  void add_column(std::string group, std::string heading, Align align);
  /// As many cells as there are columns; missing ones are empty.
  void add_row(std::vector<std::string> cells);
  /// The table, each line ended, none longer than `max_columns` unless the first column and
  /// one group alone are.
  std::string render(std::size_t max_columns, const Styler& styler) const;

 private:
  struct Column {
    std::string group;
    std::string heading;
    Align align;
    std::size_t width;
  };

  std::size_t group_end(std::size_t begin) const;
  void make_room_for_groups();
  std::vector<std::vector<std::size_t>> blocks(std::size_t max_columns) const;
  std::string render_settled(std::size_t max_columns, const Styler& styler) const;
  std::string group_line(const std::vector<std::size_t>& block) const;
  std::string line(const std::vector<std::size_t>& block,
                   const std::function<std::string_view(std::size_t)>& cell) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace mmkit::tool
