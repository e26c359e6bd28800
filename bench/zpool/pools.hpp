// SPDX-License-Identifier: MIT
//
// Pools - which drivers there are, with which parameters, and a new pool of each.
//
// The sections ask the default registry, so that a driver is measured as soon as it is known there.
// Its public class is measured beside it where this build has the header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mmkit/zpool.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/trace.hpp"

#if __has_include(<mmkit/zpool/zbud.hpp>)
#include <mmkit/zpool/zbud.hpp>
#define MMKIT_BENCH_ZBUD_CLASS 1
#else
#define MMKIT_BENCH_ZBUD_CLASS 0
#endif
#if __has_include(<mmkit/zpool/z3fold.hpp>)
#include <mmkit/zpool/z3fold.hpp>
#define MMKIT_BENCH_Z3FOLD_CLASS 1
#else
#define MMKIT_BENCH_Z3FOLD_CLASS 0
#endif
#if __has_include(<mmkit/zpool/zheap.hpp>)
#include <mmkit/zpool/zheap.hpp>
#define MMKIT_BENCH_ZHEAP_CLASS 1
#else
#define MMKIT_BENCH_ZHEAP_CLASS 0
#endif
#if __has_include(<mmkit/zpool/zsmalloc.hpp>)
#include <mmkit/zpool/zsmalloc.hpp>
#define MMKIT_BENCH_ZSMALLOC_CLASS 1
#else
#define MMKIT_BENCH_ZSMALLOC_CLASS 0
#endif

namespace mmkit::bench {

/// A driver with parameters, under the name that its figures go by.
struct PoolKind {
  std::string name, type, params;
};

/// The drivers of the default registry.
inline std::vector<std::string> driver_types() {
  std::vector<std::string> types;
  default_registry().for_each_type([&](std::string_view type) { types.emplace_back(type); });
  return types;
}

/// The drivers as their densities are judged: zsmalloc by the pages of its longest zspage.
inline std::vector<PoolKind> density_kinds() {
  std::vector<PoolKind> kinds;
  for (const std::string& type : driver_types()) {
    if (type != "zsmalloc") {
      kinds.push_back({type, type, ""});
      continue;
    }
    for (const char* pages : {"4", "8", "16"}) {
      kinds.push_back({type + "-" + pages, type, std::string("chain_pages=") + pages});
    }
  }
  return kinds;
}

inline bool can_compact(const std::string& type) {
  const Result<DriverTraits> traits = default_registry().traits(type);
  return traits && traits->can_compact;
}

/// `pages` outlives it; null: the default source.
inline std::shared_ptr<Zpool> new_pool(const std::string& type, const std::string& params = "",
                                       PageSource* pages = nullptr) {
  Result<std::unique_ptr<Zpool>> created =
      Zpool::create(type, {.name = "bench", .pages = pages, .params = params});
  if (!created) {
    throw std::runtime_error("no pool of " + type + " with '" + params +
                             "': " + std::string(name(created.error())));
  }
  return std::move(*created);
}
inline std::shared_ptr<Zpool> new_pool(const PoolKind& kind) {
  return new_pool(kind.type, kind.params);
}

/// The largest object that every registered driver takes.
inline std::size_t largest_common_bytes() {
  std::size_t largest = kLargestSizeBytes;
  for (const std::string& type : driver_types()) {
    largest = std::min(largest, new_pool(type)->max_object_bytes());
  }
  return largest;
}

/// An empty pool by the driver's own class.
template <class Backend>
std::shared_ptr<Backend> new_backend() {
  Result<std::unique_ptr<Backend>> created =
      Backend::create(BackendEnv{.name = "bench",
                                 .params = {},
                                 .pages = &default_page_source(),
                                 .gfp = Gfp::kernel,
                                 .pool_tag = 1,
                                 .evict = {}});
  if (!created) {
    throw std::runtime_error("no backend of " + std::string(Backend::kType) + ": " +
                             std::string(name(created.error())));
  }
  return std::move(*created);
}

/// Calls f(name, std::shared_ptr<Backend>) for an empty pool of every driver with a public class.
template <class F>
void for_each_backend_class(F&& f) {
#if MMKIT_BENCH_ZBUD_CLASS
  f("ZbudPool", new_backend<ZbudPool>());
#endif
#if MMKIT_BENCH_Z3FOLD_CLASS
  f("Z3foldPool", new_backend<Z3foldPool>());
#endif
#if MMKIT_BENCH_ZSMALLOC_CLASS
  f("ZsmallocPool", new_backend<ZsmallocPool>());
#endif
#if MMKIT_BENCH_ZHEAP_CLASS
  f("ZheapPool", new_backend<ZheapPool>());
#endif
  static_cast<void>(f);  // a build may have none of them
}

}  // namespace mmkit::bench
