// SPDX-License-Identifier: MIT
//
// PoolMap - where the objects of a pool lie: each in its run of pages, asked of the pool by mapping
// them, so that it works for every driver.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "corpus.hpp"
#include "picture.hpp"
#include "pool_store.hpp"

namespace mmkit::tool {

/// The objects of the corpus that are in the pool itself, of a store that records runs. An object that
/// lies in no run of the pool's page source is left out.
RunMap map_of(PoolStore& store, std::span<const StoredObject> objects);

/// The first runs, with at most so many objects in all.
RunMap beginning_of(const RunMap& map, std::size_t most_objects);

/// How full the runs are, by class: runs counted by rows of classes and columns of tenths. Of zsmalloc a
/// row is a size class and a tenth is of its cells, of others a row is a number of objects, or all, and
/// a tenth is of the bytes.
Grid classes_of(const RunMap& map, const DriverChoice& driver);

}  // namespace mmkit::tool
