// SPDX-License-Identifier: MIT
#include "occupancy.hpp"

#include <algorithm>
#include <numeric>

namespace mmkit::tool {

Occupancy::Occupancy(std::uint64_t granules) : granules_(granules) {
  taken_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(granules, kCells)));
  for (std::size_t cell = 0; cell < taken_.size(); ++cell) {
    taken_[cell] = begin_of(cell + 1) - begin_of(cell);
  }
}

void Occupancy::free_run(std::uint64_t first, std::uint64_t granules) {
  const std::uint64_t end = first + granules;
  // The cell before may reach up to here, because the bounds are rounded down.
  auto cell = static_cast<std::size_t>(first * taken_.size() / granules_);
  while (begin_of(cell + 1) <= first) ++cell;
  for (; first < end; ++cell) {
    const std::uint64_t stop = std::min(end, begin_of(cell + 1));
    taken_[cell] -= stop - first;
    first = stop;
  }
}

std::uint64_t Occupancy::taken() const noexcept {
  return std::accumulate(taken_.begin(), taken_.end(), std::uint64_t{0});
}

std::vector<double> Occupancy::shares(std::size_t count) const {
  count = std::min(count, cells());
  std::vector<double> shares;
  for (std::size_t part = 0; part < count; ++part) {
    const std::size_t first = part * cells() / count, end = (part + 1) * cells() / count;
    std::uint64_t taken = 0;
    for (std::size_t cell = first; cell < end; ++cell) taken += taken_[cell];
    const std::uint64_t size = begin_of(end) - begin_of(first);
    shares.push_back(static_cast<double>(taken) / static_cast<double>(size));
  }
  return shares;
}

std::string drawn(const std::vector<double>& shares) {
  std::string text;
  for (const double share : shares) {
    text += share <= 0         ? '.'
            : share >= 1       ? '#'
            : share <= 1.0 / 3 ? '-'
            : share <= 2.0 / 3 ? '+'
                               : '*';
  }
  return text;
}

}  // namespace mmkit::tool
