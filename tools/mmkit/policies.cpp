// SPDX-License-Identifier: MIT
#include "policies.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "exit_code.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

// What figures_of() can add up; granules of a gigabyte are coarse enough for anybody.
constexpr std::uint64_t kMostGranuleBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kUsualAlignGranules = 4;

void check_power_of_two(const char* option, std::uint64_t bytes, std::uint64_t most) {
  if (std::has_single_bit(bytes) && bytes <= most) return;
  throw Problem(ExitCode::usage, fmt::format("{} is {}; it must be a power of two up to {}", option,
                                             bytes, format_bytes(most)));
}

}  // namespace

std::vector<PolicyChoice> choose_policies(const std::vector<std::string>& names,
                                          std::uint64_t align_bytes) {
  const std::vector<PolicyChoice> all{{"first-fit", FirstFit{}},
                                      {"best-fit", BestFit{}},
                                      {"first-fit-align", FirstFitAlign{align_bytes}},
                                      {"first-fit-order-align", FirstFitOrderAlign{}},
                                      {"relaxed", RelaxedFit{}}};
  if (names.empty()) return all;
  std::vector<PolicyChoice> chosen;
  for (const std::string& name : names) {
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const PolicyChoice& one) { return one.name == name; });
    if (found == all.end()) {
      std::string known;
      for (const PolicyChoice& one : all) known += (known.empty() ? "" : ", ") + one.name;
      throw Problem(ExitCode::usage,
                    fmt::format("there is no policy {}; known: {}", in_quotes(name), known));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

void settle(HeapOptions& options) {
  check_power_of_two("--granule", options.granule_bytes, kMostGranuleBytes);
  if (options.align_bytes == 0) options.align_bytes = kUsualAlignGranules * options.granule_bytes;
  check_power_of_two("--align", options.align_bytes, std::uint64_t{1} << 47);
  if (options.heap_bytes != 0 && options.heap_bytes < options.granule_bytes) {
    throw Problem(ExitCode::usage, fmt::format("--heap is {}; it must be at least one granule, {}",
                                               format_bytes(options.heap_bytes),
                                               format_bytes(options.granule_bytes)));
  }
}

unsigned granule_order(const HeapOptions& options) {
  return static_cast<unsigned>(std::countr_zero(options.granule_bytes));
}

}  // namespace mmkit::tool
