// SPDX-License-Identifier: MIT
#include "table.hpp"

#include <algorithm>

namespace mmkit::tool {
namespace {

constexpr std::size_t kGap = 2;  // blanks between columns

std::string without_trailing_blanks(std::string text) {
  text.resize(text.find_last_not_of(' ') + 1);
  return text;
}

}  // namespace

void Table::add_column(std::string group, std::string heading, Align align) {
  const std::size_t width = heading.size();
  columns_.push_back({std::move(group), std::move(heading), align, width});
}

void Table::add_row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::size_t index = 0; index < cells.size(); ++index) {
    columns_[index].width = std::max(columns_[index].width, cells[index].size());
  }
  rows_.push_back(std::move(cells));
}

/// One past the last column of the group that begins there; a column without a group stands alone.
std::size_t Table::group_end(std::size_t begin) const {
  std::size_t end = begin + 1;
  const std::string& group = columns_[begin].group;
  while (!group.empty() && end < columns_.size() && columns_[end].group == group) ++end;
  return end;
}

void Table::make_room_for_groups() {
  for (std::size_t begin = 0; begin < columns_.size(); begin = group_end(begin)) {
    std::size_t width = columns_[begin].width;
    for (std::size_t index = begin + 1; index < group_end(begin); ++index) {
      width += kGap + columns_[index].width;
    }
    const std::size_t wanted = columns_[begin].group.size();
    if (wanted > width) columns_[begin].width += wanted - width;
  }
}

std::vector<std::vector<std::size_t>> Table::blocks(std::size_t max_columns) const {
  std::vector<std::vector<std::size_t>> result;
  std::size_t used = 0;
  for (std::size_t begin = 1; begin < columns_.size(); begin = group_end(begin)) {
    std::size_t width = 0;
    for (std::size_t index = begin; index < group_end(begin); ++index) {
      width += kGap + columns_[index].width;
    }
    if (result.empty() || (used + width > max_columns && result.back().size() > 1)) {
      result.push_back({0});
      used = columns_.front().width;
    }
    for (std::size_t index = begin; index < group_end(begin); ++index) {
      result.back().push_back(index);
    }
    used += width;
  }
  return result;
}

std::string Table::group_line(const std::vector<std::size_t>& block) const {
  std::string text;
  std::size_t column_end = 0;  // of the columns seen so far
  for (std::size_t at = 0; at < block.size();) {
    const std::string& group = columns_[block[at]].group;
    const std::size_t first_column = column_end + (at == 0 ? 0 : kGap);
    std::size_t last = at;
    column_end = first_column + columns_[block[at]].width;
    while (last + 1 < block.size() && columns_[block[last + 1]].group == group) {
      ++last;
      column_end += kGap + columns_[block[last]].width;
    }
    // The words are set right over a right-aligned column, as the numbers below them are.
    const std::size_t width = column_end - first_column;
    const bool right = columns_[block[last]].align == Align::right;
    const std::size_t indent = right && group.size() < width ? width - group.size() : 0;
    text.resize(std::max(text.size(), first_column + indent), ' ');
    text += group;
    at = last + 1;
  }
  return text;
}

std::string Table::line(const std::vector<std::size_t>& block,
                        const std::function<std::string_view(std::size_t)>& cell) const {
  std::string text;
  for (const std::size_t index : block) {
    if (index != block.front()) text.append(kGap, ' ');
    const std::string_view words = cell(index);
    const std::size_t blanks = columns_[index].width - words.size();
    if (columns_[index].align == Align::right) text.append(blanks, ' ');
    text += words;
    if (columns_[index].align == Align::left) text.append(blanks, ' ');
  }
  return text;
}

std::string Table::render(std::size_t max_columns, const Styler& styler) const {
  Table settled = *this;
  settled.make_room_for_groups();
  return settled.render_settled(max_columns, styler);
}

std::string Table::render_settled(std::size_t max_columns, const Styler& styler) const {
  std::string text;
  const auto finish = [&](std::string line_text, Line kind) {
    text += styler(without_trailing_blanks(std::move(line_text)), kind) + "\n";
  };
  for (const std::vector<std::size_t>& block : blocks(max_columns)) {
    if (!text.empty()) text += "\n";
    const std::string groups = without_trailing_blanks(group_line(block));
    if (!groups.empty()) finish(groups, Line::heading);
    finish(
        line(block, [&](std::size_t index) -> std::string_view { return columns_[index].heading; }),
        Line::heading);
    for (const std::vector<std::string>& row : rows_) {
      finish(line(block, [&](std::size_t index) -> std::string_view { return row[index]; }),
             Line::row);
    }
  }
  return text;
}

}  // namespace mmkit::tool
