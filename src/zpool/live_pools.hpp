// SPDX-License-Identifier: MIT
//
// Live pools - which pools exist, and which tags their handles carry.
//
// A tag is given out again only after all others, so that a handle of a pool that is gone is
// foreign to the pools made after it for as long as can be. Invariants: 1 tag 0 is nobody's  2 a
// tag has one owner Locking:    one Mutex of rank live_pools; a pool's own lock may be taken inside
// it Complexity: tags O(65536 / 64) at worst, O(1) usually
#pragma once

#include <cstdint>
#include <functional>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/result.hpp>

namespace mmkit {

struct ZpoolInfo;

/// What the list keeps of a pool.
class LivePool : public ListNode<> {
 public:
  /// Called with the list's lock held, until which the views in `info` live. False: the pool is not
  /// to be seen.
  virtual bool describe(ZpoolInfo* info) const = 0;

  /// Written by the list alone: counts the pools, from 1.
  std::uint64_t number = 0;

 protected:
  ~LivePool() = default;
};

/// Takes a tag nobody has. Errors: out_of_memory (all in use).
Result<std::uint16_t> claim_pool_tag() noexcept;
void release_pool_tag(std::uint16_t tag) noexcept;

void add_live_pool(LivePool& pool) noexcept;
/// Waits for a visitor that is looking at the pool. Does nothing when the pool is not in the list.
void remove_live_pool(LivePool& pool) noexcept;

}  // namespace mmkit
