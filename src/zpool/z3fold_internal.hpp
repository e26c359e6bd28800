// SPDX-License-Identifier: MIT
//
// z3fold internal - what the sources of z3fold share and nobody else needs.
#pragma once

#include <pthread.h>

#include <mmkit/zpool/z3fold.hpp>

namespace mmkit {

inline constexpr bool kZ3foldRedZones = MMKIT_CHECK_LEVEL >= 2;
inline constexpr int kZ3foldRedZoneByte = 0xb3;
// Closed pages kept ahead, so that callers that must not ask for memory find one.
inline constexpr std::size_t kZ3foldKeptClosed = 16;

struct Z3foldPool::Eviction : ListNode<> {
  explicit Eviction(PageIndex evicted) noexcept : page(evicted), thread(::pthread_self()) {}

  PageIndex page;
  pthread_t thread;
};

}  // namespace mmkit
