// SPDX-License-Identifier: MIT
//
// DriverRun - the corpus in a pool of one driver.
#pragma once

#include <mmkit/zpool.hpp>
#include <span>
#include <string>
#include <vector>

#include "driver_pool.hpp"
#include "pool_store.hpp"
#include "store_row.hpp"

namespace mmkit::tool {

class Console;

/// NAME or NAME:PARAMS.
DriverChoice parse_driver(std::string_view text);

/// The types that are registered now, sorted by name.
std::vector<std::string> registered_types(const DriverRegistry& registry);

/// What to run: the choices named, or else every type registered. Throws a Problem (usage) for a
/// type that is not known, which lists those that are, and for parameters that the driver refuses.
std::vector<DriverChoice> choose_drivers(std::span<const std::string> named,
                                         DriverRegistry& registry);

/// Stores, verifies, measures. Throws a Problem when there is no memory, when the spill file cannot be
/// written, or when the driver fails in a way that it must not.
StoreRow run_driver(const DriverChoice& choice, const Corpus& corpus, const TrialPlan& plan,
                    DriverRegistry& registry, const SpillPlan& spill, Console& console);

}  // namespace mmkit::tool
