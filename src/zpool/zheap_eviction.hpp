// SPDX-License-Identifier: MIT
//
// Eviction - a block that a shrink empties: it belongs to the thread that does it.
#pragma once

#include <pthread.h>

#include <mmkit/zpool/zheap.hpp>

namespace mmkit {

struct ZheapPool::Eviction : ListNode<> {
  static constexpr unsigned kBatch = 64;

  explicit Eviction(std::uint32_t number_of_block) noexcept
      : number(number_of_block), thread(::pthread_self()) {}

  const std::uint32_t number;
  const pthread_t thread;
  unsigned cursor = 0;   // granule: objects before it were asked for
  bool is_gone = false;  // at the end: empty, and given back
};

}  // namespace mmkit
