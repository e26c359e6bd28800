// SPDX-License-Identifier: MIT
//
// Baselines - the densities that the drivers are held against.
//
// Density is payload bytes by bytes held; an object that the driver refuses is not stored and not
// counted. Two kinds of figure:
//   baseline  what the kernel's placement rules give, pages only. A driver that places exactly by
//             the kernel's rule must reach it to within kDensityTolerance on both sides; one that
//             may do better must not be below it.
//   promise   what the driver must reach with all its metadata counted, without tolerance.
//
// Source: arithmetic on the kernel's rules over the traces of bench/data, checked against a running
// kernel (zsmalloc, Linux 6.18) to .002.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace mmkit::bench {

inline constexpr double kDensityTolerance = .002;

inline constexpr std::string_view kTraces[] = {"mem-node", "mem-python", "mem-cc1plus",
                                               "elf-lib",  "source",     "sqlite"};
inline constexpr std::size_t kTraceCount = sizeof kTraces / sizeof kTraces[0];

/// Densities of a kind of pool over kTraces, sizes by lz4. 0: nothing is said of that trace.
struct DensityRow {
  std::string_view kind;
  double density[kTraceCount];
};
/// After storing a trace in file order; pages only.
inline constexpr DensityRow kFillBaselines[] = {
    {"zbud", {.720, .654, .497, .860, .644, .665}},
    {"z3fold", {.911, .869, .726, .855, .876, .878}},
    {"zsmalloc-4", {.941, .952, .950, .925, .941, .950}},
    {"zsmalloc-8", {.965, .966, .964, .967, .940, .959}},
    {"zsmalloc-16", {.952, .943, .946, .952, .864, .924}},
};
/// The same with metadata, for traces of at least 40,000 objects.
inline constexpr DensityRow kFillPromises[] = {{"zsmalloc-8", {.955, .955, .955, .955, 0, 0}},
                                               {"zheap", {.980, .980, .980, .980, .980, .980}}};
/// After churn A and compact(), with metadata.
inline constexpr DensityRow kCompactedPromises[] = {
    {"zsmalloc-8", {.945, .945, .940, .945, 0, 0}},
    {"zheap", {.975, .975, .975, .975, .975, .975}}};

/// What `rows` say of a kind and a trace ("mem-node.lz4"), if anything.
template <std::size_t kRows>
constexpr std::optional<double> density_of(const DensityRow (&rows)[kRows], std::string_view kind,
                                           std::string_view trace) {
  constexpr std::string_view kCodec = ".lz4";
  if (!trace.ends_with(kCodec)) return std::nullopt;
  trace.remove_suffix(kCodec.size());
  for (const DensityRow& row : rows) {
    for (std::size_t i = 0; i < kTraceCount; ++i) {
      if (row.kind == kind && kTraces[i] == trace && row.density[i] != 0) return row.density[i];
    }
  }
  return std::nullopt;
}

/// zbud's choice of page depends on chunk counts alone, so its density is fixed to the page.
constexpr bool must_match_exactly(std::string_view kind) {
  return kind == "zbud";
}

/// Density over the 30 snapshots of churn-node-py, mean and worst, and after a compact() at the end
/// (0: nothing is said of that). The kernel's zbud keeps what it knows of a page inside the page, so
/// its figure stands against our pages alone; the others' count metadata.
struct ChurnBaseline {
  std::string_view kind;
  bool counts_metadata;
  double mean, worst, compacted, tolerance;
  double moves = 0;  ///< at most so many for each allocate and free; 0: nothing is said of that
};
inline constexpr ChurnBaseline kChurnBaselines[] = {
    {"zbud", false, .679, .632, 0, kDensityTolerance},
    {"z3fold", true, .887, .858, 0, kDensityTolerance},
    {"zsmalloc-8", true, .825, .715, .920, 0},
    {"zheap", true, .955, .938, 0, 0, .02}};
/// With so many objects mapped at each time, the worst is at most so much below that without.
inline constexpr std::size_t kHeldMapped = 64;
inline constexpr double kHeldMappedLoss = .005;

constexpr std::optional<ChurnBaseline> churn_baseline(std::string_view kind) {
  for (const ChurnBaseline& baseline : kChurnBaselines) {
    if (baseline.kind == kind) return baseline;
  }
  return std::nullopt;
}

}  // namespace mmkit::bench
