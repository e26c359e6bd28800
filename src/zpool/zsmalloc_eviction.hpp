// SPDX-License-Identifier: MIT
//
// ZspageEviction - a zspage that a shrink empties: isolated, so it belongs to the thread that does it.
#pragma once

#include <mmkit/zpool/zsmalloc.hpp>

namespace mmkit {

struct ZsmallocPool::ZspageEviction : EnginePool::Eviction {
  using Eviction::Eviction;

  unsigned size_class = 0;
  unsigned count = 0;
  Handle handles[SizeClasses::kMostObjects];
};

}  // namespace mmkit
