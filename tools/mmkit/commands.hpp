// SPDX-License-Identifier: MIT
//
// Commands - the subcommands, one function and one file each: <name>_command.cpp.
//
// A command takes its options, the streams, and the drivers; it returns its exit code or throws a
// Problem. To add one: its options (options.hpp), its declaration (command_line.cpp), its function here,
// and its line in main.cpp.
#pragma once

#include <mmkit/zpool.hpp>

#include "console.hpp"
#include "exit_code.hpp"
#include "options.hpp"

namespace mmkit::tool {

/// Compresses files page by page, stores the pages in every driver, reads them back, verifies and
/// compares.
ExitCode run_pack(const PackOptions& options, Console& console, DriverRegistry& registry);

/// Replays traces, of sizes in every driver and of allocations in every policy, and shows how they
/// fare over time.
ExitCode run_replay(const ReplayOptions& options, Console& console, DriverRegistry& registry);

/// Tries every driver, chain length or policy on traces or files, and says which suits them.
ExitCode run_advise(const AdviseOptions& options, Console& console, DriverRegistry& registry);

/// Replays traces of allocations through every policy of a pool of ranges, and compares.
ExitCode run_genpool(const GenPoolRunOptions& options, Console& console);

/// Shows how per-CPU variables work in this process, lets counters race, and draws chunks.
ExitCode run_percpu(const PercpuRunOptions& options, Console& console);

/// Lists the driver types and what they can do.
ExitCode run_drivers(const DriversOptions& options, Console& console, DriverRegistry& registry);

}  // namespace mmkit::tool
