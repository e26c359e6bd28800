// SPDX-License-Identifier: MIT
#include <algorithm>

#include "pool_replay.hpp"

namespace mmkit::tool {

std::optional<double> DriverReplay::mean_density() const {
  double sum = 0;
  std::size_t count = 0;
  for (const DensityPoint& point : points) {
    if (!point.density_with_metadata()) continue;
    sum += *point.density_with_metadata();
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

std::optional<double> DriverReplay::worst_density() const {
  std::optional<double> worst;
  for (const DensityPoint& point : points) {
    const std::optional<double> here = point.density_with_metadata();
    if (here && (!worst || *here < *worst)) worst = here;
  }
  return worst;
}

std::optional<double> DriverReplay::yield(std::size_t first_point) const {
  std::uint64_t payload_bytes = 0, memory_bytes = 0;
  for (std::size_t i = first_point; i < points.size(); ++i) {
    const DensityPoint& point = points[i];
    payload_bytes += point.payload_bytes + point.refused_bytes;
    memory_bytes += (point.pages + point.refused_objects) * kPageSize + point.metadata_bytes;
  }
  if (memory_bytes == 0) return std::nullopt;
  return static_cast<double>(payload_bytes) / static_cast<double>(memory_bytes);
}

std::uint64_t DriverReplay::peak_pages() const {
  std::uint64_t peak = 0;
  for (const DensityPoint& point : points) peak = std::max(peak, point.pages);
  return peak;
}

}  // namespace mmkit::tool
