// SPDX-License-Identifier: MIT
//
// Baselines - the densities that the drivers are held against.
//
// Source: arithmetic on the kernel's placement rules over the traces of bench/data, checked against
// a running kernel (zsmalloc, Linux 6.18) to .002. Density is payload bytes by bytes of pages held,
// after storing the lz4 sizes in file order; an object that the driver refuses is not stored and
// not counted. A driver that places exactly by the kernel's rule must reach the figure to within
// kDensityTolerance on both sides; one that may do better must not be below it.
#pragma once

#include <optional>
#include <string_view>

namespace mmkit::bench {

inline constexpr double kDensityTolerance = .002;

struct DensityBaseline {
  std::string_view driver, trace;
  double density;
};
inline constexpr DensityBaseline kDensityBaselines[] = {
    {"zbud", "mem-node.lz4", .720},        {"zbud", "mem-python.lz4", .654},
    {"zbud", "mem-cc1plus.lz4", .497},     {"zbud", "elf-lib.lz4", .860},
    {"zbud", "source.lz4", .644},          {"zbud", "sqlite.lz4", .665},
    {"z3fold", "mem-node.lz4", .911},      {"z3fold", "mem-python.lz4", .869},
    {"z3fold", "mem-cc1plus.lz4", .726},   {"z3fold", "elf-lib.lz4", .855},
    {"z3fold", "source.lz4", .876},        {"z3fold", "sqlite.lz4", .878},
    {"zsmalloc", "mem-node.lz4", .965},    {"zsmalloc", "mem-python.lz4", .966},
    {"zsmalloc", "mem-cc1plus.lz4", .964}, {"zsmalloc", "elf-lib.lz4", .967},
    {"zsmalloc", "source.lz4", .940},      {"zsmalloc", "sqlite.lz4", .959},
};

/// zbud's choice of page depends on chunk counts alone, so its density is fixed to the page.
constexpr bool must_match_exactly(std::string_view driver) {
  return driver == "zbud";
}

constexpr std::optional<double> density_baseline(std::string_view driver, std::string_view trace) {
  for (const DensityBaseline& baseline : kDensityBaselines) {
    if (baseline.driver == driver && baseline.trace == trace) return baseline.density;
  }
  return std::nullopt;
}

/// Density over the 30 snapshots of churn-node-py, mean and worst. The kernel's zbud keeps what it
/// knows of a page inside the page, so its figure stands against our pages alone; the others' count
/// metadata.
struct ChurnBaseline {
  std::string_view driver;
  bool counts_metadata;
  double mean, worst;
};
inline constexpr ChurnBaseline kChurnBaselines[] = {
    {"zbud", false, .679, .632}, {"z3fold", true, .887, .858}, {"zsmalloc", true, .827, .719}};

constexpr std::optional<ChurnBaseline> churn_baseline(std::string_view driver) {
  for (const ChurnBaseline& baseline : kChurnBaselines) {
    if (baseline.driver == driver) return baseline;
  }
  return std::nullopt;
}

}  // namespace mmkit::bench
