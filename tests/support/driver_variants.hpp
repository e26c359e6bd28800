// SPDX-License-Identifier: MIT
//
// DriverVariants - every registered driver, and those parameters of some that make it another one.
//
// What a suite that runs over all drivers is instantiated with. Which parameters deserve a run of
// their own stands in one table here; one whose driver is not registered is left out.
#pragma once

#include <algorithm>
#include <cctype>
#include <iterator>
#include <mmkit/zpool.hpp>
#include <ostream>
#include <string>
#include <vector>

namespace mmkit::testing {

struct DriverVariant {
  std::string type, params;

  /// For test names: "zsmalloc_cache_0".
  std::string name() const {
    std::string name = params.empty() ? type : type + "_" + params;
    std::replace_if(
        name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
    return name;
  }
};
inline std::ostream& operator<<(std::ostream& out, const DriverVariant& variant) {
  return out << variant.name();
}

inline constexpr struct {
  const char *type, *params;
} kVariants[] = {{"zsmalloc", "chain_pages=4"}, {"zsmalloc", "chain_pages=16"},
                 {"zsmalloc", "cache=0"},       {"zsmalloc", "cache=64"},
                 {"zheap", "floor=0"},          {"zheap", "floor=0.98"}};

inline std::vector<std::string> registered_types() {
  std::vector<std::string> types;
  default_registry().for_each_type([&](std::string_view type) { types.emplace_back(type); });
  return types;
}

/// Drivers as they are, then their variants.
inline std::vector<DriverVariant> variants_of(const std::vector<std::string>& types) {
  std::vector<DriverVariant> all;
  for (const std::string& type : types) all.push_back({type, {}});
  for (const auto& [type, params] : kVariants) {
    if (std::count(types.begin(), types.end(), type) != 0) all.push_back({type, params});
  }
  return all;
}
/// Those of all drivers that there are.
inline std::vector<DriverVariant> driver_variants() {
  return variants_of(registered_types());
}

}  // namespace mmkit::testing
