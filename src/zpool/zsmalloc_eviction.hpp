// SPDX-License-Identifier: MIT
//
// Eviction - a zspage that a shrink empties: isolated, so it belongs to the thread that does it.
#pragma once

#include <pthread.h>

#include <mmkit/zpool/zsmalloc.hpp>

namespace mmkit {

struct ZsmallocPool::Eviction : ListNode<> {
  explicit Eviction(std::uint32_t number_of_zspage) noexcept
      : number(number_of_zspage), thread(::pthread_self()) {}

  const std::uint32_t number;
  const pthread_t thread;
  unsigned size_class = 0;
  bool is_gone = false;  // at the end: empty, and given back
  unsigned count = 0;
  Handle handles[SizeClasses::kMostObjects];
};

}  // namespace mmkit
