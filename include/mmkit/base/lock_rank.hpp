// SPDX-License-Identifier: MIT
//
// LockRank - the one order in which locks are taken, outermost first.
//
// A thread takes a lock only while every lock it holds has a lower rank. Debug builds check it at
// each acquisition (mutex.hpp). The fork handlers take the locks of a rank one after the other,
// which is the only place where two of the same rank are held.
#pragma once

#include <cstdint>

namespace mmkit {

enum class LockRank : std::uint8_t {
  fork,           ///< the list of those who take part in fork (fork.hpp)
  registry,       ///< who is known: driver types and their loading
  live_pools,     ///< the pools that exist, for tools and tags
  pool,           ///< one pool's structures
  zpool_class,    ///< one size class of a zsmalloc pool
  zpool_slots,    ///< free slots and free numbers of a pool
  percpu_pages,   ///< one percpu allocator's chunks and their memory, which may come and go
  percpu_chunks,  ///< which of a percpu allocator's granules are taken
  page_release,   ///< pages on their way back to the operating system
  page_source,    ///< free runs and frame states
  pin_overflow,   ///< the side table of objects that are mapped very often
  leaf            ///< taken last, holds nothing
};

inline constexpr unsigned kLockRanks = static_cast<unsigned>(LockRank::leaf) + 1;

}  // namespace mmkit
