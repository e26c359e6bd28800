// SPDX-License-Identifier: MIT
//
// `mmkit drivers`: what is registered and what it can do, asked of a pool of each type as any
// client could.
#include "commands.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "driver_run.hpp"
#include "json_text.hpp"
#include "table.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

struct DriverLine {
  std::string type;
  DriverTraits traits;
};

std::vector<DriverLine> ask_all(DriverRegistry& registry) {
  std::vector<DriverLine> lines;
  for (const std::string& type : registered_types(registry)) {
    const Result<DriverTraits> traits = registry.traits(type);
    if (traits) lines.push_back({type, *traits});  // else it was unregistered meanwhile
  }
  return lines;
}

std::string yes_or_no(bool answer) {
  return answer ? "yes" : "no";
}

std::string drivers_table(const std::vector<DriverLine>& lines, const Console& console) {
  using Align = Table::Align;
  Table table;
  table.add_column("", "driver", Align::left);
  table.add_column("", "largest object", Align::right);
  table.add_column("", "evicts", Align::left);
  table.add_column("", "compacts", Align::left);
  table.add_column("", "highmem", Align::left);
  for (const DriverLine& line : lines) {
    table.add_row({line.type, format_count(line.traits.max_object_bytes) + " B",
                   yes_or_no(line.traits.can_shrink), yes_or_no(line.traits.can_compact),
                   yes_or_no(line.traits.highmem)});
  }
  return table.render(console.result_columns(), [&](std::string_view text, Table::Line kind) {
    return console.styled(text, kind == Table::Line::heading ? Tone::strong : Tone::plain);
  });
}

std::string drivers_json(const std::vector<DriverLine>& lines) {
  nlohmann::ordered_json drivers = nlohmann::ordered_json::array();
  for (const DriverLine& line : lines) {
    drivers.push_back({{"type", line.type},
                       {"max_object_bytes", line.traits.max_object_bytes},
                       {"can_shrink", line.traits.can_shrink},
                       {"can_compact", line.traits.can_compact},
                       {"highmem", line.traits.highmem}});
  }
  return json_text({{"mmkit", MMKIT_VERSION}, {"command", "drivers"}, {"drivers", drivers}});
}

}  // namespace

ExitCode run_drivers(const DriversOptions& options, Console& console, DriverRegistry& registry) {
  const std::vector<DriverLine> lines = ask_all(registry);
  console.result(options.form == ResultForm::json ? drivers_json(lines)
                                                  : drivers_table(lines, console));
  return ExitCode::ok;
}

}  // namespace mmkit::tool
