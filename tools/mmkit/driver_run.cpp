// SPDX-License-Identifier: MIT
#include "driver_run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "console.hpp"
#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

/// Whether the type is one of the registry, perhaps by way of its loader.
void check_type(const DriverChoice& choice, DriverRegistry& registry) {
  if (registry.has_pool(choice.type)) return;
  throw Problem(ExitCode::usage, fmt::format("there is no driver '{}'; known: {}", choice.type,
                                             fmt::join(registered_types(registry), ", ")));
}

void check_params(const DriverChoice& choice, DriverRegistry& registry) {
  ZpoolOptions options;
  options.registry = &registry;
  options.params = choice.params;
  const Result<std::unique_ptr<Zpool>> pool = Zpool::create(choice.type, std::move(options));
  if (pool) return;
  if (pool.error() != Errc::invalid_argument) driver_failed(choice.name, "create", pool.error());
  throw Problem(ExitCode::usage, fmt::format("driver '{}' does not take the parameters '{}'",
                                             choice.type, choice.params));
}

}  // namespace

DriverChoice parse_driver(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view params =
      colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  return {std::string(text), std::string(text.substr(0, colon)), std::string(params)};
}

std::vector<std::string> registered_types(const DriverRegistry& registry) {
  std::vector<std::string> types;
  registry.for_each_type([&](std::string_view type) { types.emplace_back(type); });
  std::sort(types.begin(), types.end());
  return types;
}

std::vector<DriverChoice> choose_drivers(std::span<const std::string> named,
                                         DriverRegistry& registry) {
  std::vector<DriverChoice> choices;
  if (named.empty()) {
    for (const std::string& type : registered_types(registry)) choices.push_back({type, type, {}});
  }
  for (const std::string& text : named) {
    const DriverChoice choice = parse_driver(text);
    check_type(choice, registry);
    check_params(choice, registry);
    const bool again = std::any_of(choices.begin(), choices.end(), [&](const DriverChoice& other) {
      return other.name == choice.name;
    });
    if (!again) choices.push_back(choice);
  }
  return choices;
}

StoreRow run_driver(const DriverChoice& choice, const Corpus& corpus, const TrialPlan& plan,
                    DriverRegistry& registry, const SpillPlan& spill, Console& console) {
  StoreRow row;
  row.name = choice.name;
  row.type = choice.type;
  row.params = choice.params;
  row.measure = "pages of the pool";
  Trial<PoolStore> trial(corpus, plan, console, choice.name);
  row.trial = trial.run(
      [&] { return std::make_unique<PoolStore>(choice, registry, corpus.objects().size(), spill); },
      [&](const PoolStore& store, std::uint64_t stored) {
        const ZpoolStats stats = store.pool().stats();
        row.pages = stats.pages;
        row.held_bytes = std::uint64_t{stats.pages} * kPageSize;
        row.metadata_bytes = stats.metadata_bytes;
        row.spill = store.spill();
        row.fault = store.fault(stored);
      });
  return row;
}

}  // namespace mmkit::tool
