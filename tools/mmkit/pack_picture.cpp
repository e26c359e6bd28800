// SPDX-License-Identifier: MIT
//
// The picture of `mmkit pack`: each driver filled once more, outside all measurements, by a pool whose
// runs are recorded.
#include <fmt/format.h>

#include "pack_result.hpp"
#include "pool_map.hpp"
#include "progress.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

// In all drivers together: what a browser opens in two seconds, and some 11 MB.
constexpr std::size_t kMostObjects = 1'000'000;

void add_driver(Picture& picture, const DriverChoice& driver, const Corpus& corpus,
                const SpillPlan& spill, std::size_t most_objects, DriverRegistry& registry,
                Console& console) {
  const std::span<const StoredObject> objects = corpus.objects();
  PoolStore store(driver, registry, objects.size(), spill, /*records_runs=*/true);
  Progress progress(console, driver.name + ": drawing", objects.size(), ProgressUnit::objects);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    static_cast<void>(store.put(i, objects[i].bytes()));
    progress.advance(1);
  }
  const RunMap whole = map_of(store, objects);
  RunMap shown = beginning_of(whole, most_objects);
  std::uint64_t pages = 0, payload = 0;
  for (const MapRun& run : whole.runs) pages += run.pages;
  for (const MapObject& object : whole.objects) payload += object.size_bytes;
  std::string caption = fmt::format(
      "{} in {} of {}: {} are payload, the rest is slack",
      format_counted(whole.objects.size(), "object"), format_counted(whole.runs.size(), "run"),
      format_counted(pages, "page"), format_share(payload, pages * kPageSize));
  if (shown.runs.size() < whole.runs.size()) {
    caption += fmt::format("; the first {} are shown", format_counted(shown.runs.size(), "run"));
  }
  picture.sections.push_back(
      {driver.name + ": pages and their objects", caption, std::move(shown)});
  picture.sections.push_back(
      {driver.name + ": classes and fullness", "", classes_of(whole, driver)});
}

}  // namespace

Picture pack_picture(const std::vector<DriverChoice>& drivers, const Corpus& corpus,
                     const SpillPlan& spill, DriverRegistry& registry, Console& console) {
  Picture picture{"Compressed pages in their pools", {}};
  for (const DriverChoice& driver : drivers) {
    add_driver(picture, driver, corpus, spill, kMostObjects / drivers.size(), registry, console);
  }
  return picture;
}

}  // namespace mmkit::tool
