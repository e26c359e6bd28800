// SPDX-License-Identifier: MIT
//
// Occupancy - how full each part of a heap is, however large it is: cells of equal size, each with
// the share of its granules that is taken.
//
//   granules   |####..##|###.####|........|...      2^24 of them
//   cells      |  .75   |  .87   |   0    |         at most kCells
//
// Units:      granules; a cell covers [i * granules / cells, (i + 1) * granules / cells)
// Complexity: O(cells) memory; a free run costs the cells that it touches
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mmkit::tool {

class Occupancy {
 public:
  /// Enough for a picture of any width; a power of two, so that most widths divide it well.
  static constexpr std::size_t kCells = 4096;

  Occupancy() = default;
  /// A heap of so many granules (at most 2^50), all of them taken.
  explicit Occupancy(std::uint64_t granules);

  /// Marks a run as free; runs do not overlap.
  void free_run(std::uint64_t first, std::uint64_t granules);

  std::uint64_t granules() const noexcept { return granules_; }
  std::uint64_t taken() const noexcept;
  std::size_t cells() const noexcept { return taken_.size(); }
  /// The share of each of `count` parts of the heap that is taken; fewer parts when there are fewer
  /// cells.
  std::vector<double> shares(std::size_t count) const;

 private:
  std::uint64_t begin_of(std::size_t cell) const noexcept {
    return static_cast<std::uint64_t>(cell) * granules_ / taken_.size();
  }

  std::uint64_t granules_ = 0;
  std::vector<std::uint64_t> taken_;  // granules, by cell
};

/// The letters that shares are drawn with. Nothing and full have their own, which nothing else has: a
/// hole of one granule in a full cell of a million shows.
inline constexpr const char* kOccupancyLegend =
    ". free   - up to a third taken   + up to two thirds   * more   # full";

/// A letter a share.
std::string drawn(const std::vector<double>& shares);

}  // namespace mmkit::tool
