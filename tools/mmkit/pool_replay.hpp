// SPDX-License-Identifier: MIT
//
// PoolReplay - a trace of sizes replayed in a pool of each driver: the density over time.
//
//   first round   the trace from its beginning; at each point the pool's figures; at the end
//                 compact(), where the driver can, and the proof: every live object comes back as it
//                 was stored, the pool's books agree, validate() finds nothing
//   more rounds   the trace again in a fresh pool, for the time alone
//
// A point is the end of a snapshot, or one of kEvenPoints where the trace has none. Objects have
// contents that differ in their first and last bytes, by slot and by step.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "driver_pool.hpp"
#include "replay/size_trace.hpp"

namespace mmkit::tool {

class Console;
class EventLog;

struct DensityPoint {
  std::size_t operation = 0;  // steps of the trace that were done
  std::uint64_t objects = 0, payload_bytes = 0, pages = 0, metadata_bytes = 0;
  std::uint64_t refused_objects = 0,
                refused_bytes = 0;  // that would live, and are in nothing above

  /// Payload per byte held; nothing when nothing is held.
  std::optional<double> density() const noexcept { return ratio(pages * kPageSize); }
  std::optional<double> density_with_metadata() const noexcept {
    return pages == 0 ? std::nullopt : ratio(pages * kPageSize + metadata_bytes);
  }

 private:
  std::optional<double> ratio(std::uint64_t bytes) const noexcept {
    if (bytes == 0) return std::nullopt;
    return static_cast<double>(payload_bytes) / static_cast<double>(bytes);
  }
};

/// What a driver made of a trace.
struct DriverReplay {
  std::string driver;
  double operation_ns = 0;    // median over the rounds
  std::uint64_t refused = 0;  // stores of an object that is too large for the driver
  std::uint64_t moved = 0;    // objects, before compact() was called
  std::vector<DensityPoint> points;
  std::optional<DensityPoint> compacted;
  std::string fault;  // what was found wrong; empty: nothing

  /// Of the densities with metadata at the points: the mean, the least; nothing when nothing was held.
  std::optional<double> mean_density() const;
  std::optional<double> worst_density() const;
  /// All payload by all memory, over the points from the first given on; an object that was refused is
  /// kept as a page. So drivers that refuse can be compared with those that do not.
  std::optional<double> yield(std::size_t first_point) const;
  std::uint64_t peak_pages() const;
};

struct PoolReplay {
  std::string path;
  std::size_t operations = 0;
  std::uint32_t keys = 0, snapshots = 0;
  std::size_t peak_objects = 0;
  std::uint64_t peak_payload_bytes = 0;
  unsigned rounds = 0;
  std::vector<DriverReplay> rows;
};

/// Throws a Problem: no memory, a driver that fails as it must not, interrupted. `log` may be null.
PoolReplay replay_in_pools(const std::string& path, const replay::SizeTrace& trace,
                           std::span<const DriverChoice> drivers, DriverRegistry& registry,
                           Console& console, EventLog* log);

/// The steps after which figures are taken, in order; the last is the end of the trace.
std::vector<std::size_t> points_of(const replay::SizeTrace& trace);
/// So many, evenly spread, the last at `operations`.
std::vector<std::size_t> even_points(std::size_t operations);

}  // namespace mmkit::tool
