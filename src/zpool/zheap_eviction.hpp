// SPDX-License-Identifier: MIT
//
// BlockEviction - a block that a shrink empties: it belongs to the thread that does it.
#pragma once

#include <mmkit/zpool/zheap.hpp>

namespace mmkit {

struct ZheapPool::BlockEviction : EnginePool::Eviction {
  static constexpr unsigned kBatch = 64;

  using Eviction::Eviction;

  unsigned cursor = 0;  // granule: objects before it were asked for
};

}  // namespace mmkit
