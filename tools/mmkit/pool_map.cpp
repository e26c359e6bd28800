// SPDX-License-Identifier: MIT
#include "pool_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <mmkit/zpool/size_classes.hpp>
#include <vector>

#include "units.hpp"

namespace mmkit::tool {
namespace {

constexpr std::size_t kTenths = 10;
constexpr std::size_t kUsualChainPages = 8;

struct Placed {
  std::size_t run = 0;
  MapObject object;
};

/// The classes of a pool of zsmalloc; null for other drivers.
const SizeClasses* size_classes_of(const DriverChoice& driver) {
  if (driver.type != "zsmalloc") return nullptr;
  constexpr std::string_view kKey = "chain_pages=";
  std::size_t chain_pages = kUsualChainPages;
  const std::size_t at = driver.params.find(kKey);
  if (at != std::string::npos) {
    const char* end = driver.params.data() + driver.params.size();
    std::from_chars(driver.params.data() + at + kKey.size(), end, chain_pages);
  }
  return SizeClasses::for_chain(chain_pages);
}

std::string class_name(const SizeClass& size_class) {
  return fmt::format("{} B: {} in {}", format_count(size_class.size_bytes), size_class.objects,
                     format_counted(size_class.pages, "page"));
}

struct Row {
  std::string name;
  std::array<double, kTenths> tenths{};
};

std::size_t tenth_of(double share) {
  return std::min(kTenths - 1, static_cast<std::size_t>(share * kTenths));
}

/// Where a run counts: the order of its row, its row's name, its share in use.
struct Place {
  std::size_t order = 0;
  std::string name;
  double share = 0;
};

Place place_of(const MapRun& run, std::span<const MapObject> objects, const SizeClasses* classes) {
  std::size_t payload = 0, largest = 1;
  for (const MapObject& object : objects) {
    payload += object.size_bytes;
    largest = std::max<std::size_t>(largest, object.size_bytes);
  }
  if (classes != nullptr) {
    const unsigned number = classes->find(largest);
    const SizeClass& its = (*classes)[number];
    // A run that is shorter than its class's has fewer cells than the class says.
    const std::size_t cells = std::max<std::size_t>(1, run.pages * kPageSize / its.size_bytes);
    return {number, class_name(its),
            static_cast<double>(objects.size()) / static_cast<double>(cells)};
  }
  const double share = static_cast<double>(payload) / (run.pages * static_cast<double>(kPageSize));
  if (run.pages > 1) return {0, fmt::format("of {}", format_counted(run.pages, "page")), share};
  return {objects.size(), "of " + format_counted(objects.size(), "object"), share};
}

}  // namespace

RunMap map_of(PoolStore& store, std::span<const StoredObject> objects) {
  const std::vector<PageRun> runs = store.runs();  // by address
  std::vector<Placed> placed;
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const Handle handle = store.handle_of(i);
    if (handle == Handle::none) continue;
    const Mapping mapping = store.pool().map(handle, MapMode::read_only);
    const std::byte* const data = mapping.const_bytes().data();
    const auto after = std::upper_bound(
        runs.begin(), runs.end(), data,
        [](const std::byte* place, const PageRun& run) { return place < run.data; });
    if (after == runs.begin()) continue;
    const PageRun& run = *(after - 1);
    const auto begin_bytes = static_cast<std::size_t>(data - run.data);
    if (begin_bytes + objects[i].size_bytes > run.pages * kPageSize) continue;
    placed.push_back(
        {static_cast<std::size_t>(after - 1 - runs.begin()),
         {objects[i].page, static_cast<std::uint32_t>(begin_bytes), objects[i].size_bytes}});
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.run, a.object.begin_bytes) < std::pair(b.run, b.object.begin_bytes);
  });
  RunMap map{"run", "page of the input", {}, {}};
  for (const PageRun& run : runs) map.runs.push_back({static_cast<std::uint32_t>(run.pages), 0});
  for (const Placed& one : placed) {
    ++map.runs[one.run].objects;
    map.objects.push_back(one.object);
  }
  return map;
}

RunMap beginning_of(const RunMap& map, std::size_t most_objects) {
  RunMap beginning{map.run_label, map.number_label, {}, {}};
  std::size_t objects = 0;
  for (const MapRun& run : map.runs) {
    if (objects + run.objects > most_objects) break;
    objects += run.objects;
    beginning.runs.push_back(run);
  }
  beginning.objects.assign(map.objects.begin(),
                           map.objects.begin() + static_cast<std::ptrdiff_t>(objects));
  return beginning;
}

Grid classes_of(const RunMap& map, const DriverChoice& driver) {
  const SizeClasses* const classes = size_classes_of(driver);
  std::map<std::size_t, Row> rows;
  std::size_t first = 0;
  for (const MapRun& run : map.runs) {
    const Place place = place_of(run, std::span(map.objects).subspan(first, run.objects), classes);
    Row& row = rows[place.order];
    row.name = place.name;
    ++row.tenths[tenth_of(place.share)];
    first += run.objects;
  }
  Grid grid{classes != nullptr ? "size class" : "runs",
            classes != nullptr ? "cells in use" : "bytes in use",
            "runs",
            {},
            {},
            {}};
  for (std::size_t tenth = 0; tenth < kTenths; ++tenth) {
    grid.columns.push_back(fmt::format("to {} %", (tenth + 1) * 100 / kTenths));
  }
  for (const auto& [order, row] : rows) {
    grid.rows.push_back(row.name);
    grid.values.insert(grid.values.end(), row.tenths.begin(), row.tenths.end());
  }
  return grid;
}

}  // namespace mmkit::tool
