// SPDX-License-Identifier: MIT
//
// A driver from a shared object beside the built-in ones: the contract holds for it, too.
#include <cstdio>
#include <cstdlib>
#include <mmkit/zpool.hpp>

namespace mmkit {
namespace {

// Before the suites are instantiated for the types that are known.
[[maybe_unused]] const bool loaded = [] {
  DriverRegistry& registry = default_registry();
  const auto print = [](const PluginRefusal& refusal) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(refusal.message.size()),
                 refusal.message.data());
  };
  if (!SharedObjectLoader(MMKIT_RUNS_DIRECTORY, print)(registry, "runs")) std::abort();
  return true;
}();

}  // namespace
}  // namespace mmkit
