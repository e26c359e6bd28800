// SPDX-License-Identifier: MIT
//
// Ledger - a pool, what lives in it by key, and how much payload that is.
//
// Counts for itself what the pool says of itself: a pool that miscounts, does not pass validate(),
// or keeps pages when everything was freed fails the run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/zpool.hpp>
#include <set>
#include <string>
#include <unordered_map>

#include "support/harness.hpp"
#include "zpool/heaps.hpp"
#include "zpool/pools.hpp"

namespace mmkit::bench {

/// Payload bytes by bytes held.
struct Density {
  double pages_only = 0, with_md = 0;
};

class Ledger {
 public:
  explicit Ledger(const PoolKind& kind) : kind_(kind.name), pool_(new_pool(kind)) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;
  ~Ledger() {
    for (const auto& [key, object] : live_) pool_->free(object.handle);
    if (pool_->total_bytes() != 0) fail("pages are left after everything was freed");
  }

  /// Stores an object unless the driver refuses its size; any other refusal ends the section.
  void store(std::uint32_t key, std::size_t size_bytes) {
    Result<Handle> made = pool_->store(content(size_bytes));
    if (made) {
      live_.emplace(key, Object{*made, size_bytes});
      payload_bytes_ += size_bytes;
    } else if (made.error() == Errc::no_space && size_bytes > pool_->max_object_bytes()) {
      ++refused_;
    } else {
      out_of_objects(kind_, size_bytes, name(made.error()));
    }
  }
  void drop(std::uint32_t key) {
    const auto found = live_.find(key);
    if (found == live_.end()) return;  // it was refused
    pool_->free(found->second.handle);
    payload_bytes_ -= found->second.size_bytes;
    live_.erase(found);
  }
  /// Maps an object that is there.
  Mapping map(std::uint32_t key) { return pool_->map(live_.at(key).handle, MapMode::read_only); }
  /// The pages that compact() gives back. The driver must be one that can.
  std::size_t compact() {
    const std::size_t before = stats().pages;
    const Result<std::size_t> freed = pool_->compact();
    if (!freed) {
      fail("compact() is refused: " + std::string(name(freed.error())));
      return 0;
    }
    if (before - stats().pages != *freed) fail("compact() miscounts the pages it frees");
    return *freed;
  }

  Density density() const {
    const ZpoolStats now = stats();
    if (now.payload_bytes != payload_bytes_) fail("the payload is miscounted");
    if (now.objects != live_.size()) fail("the objects are miscounted");
    const double payload = static_cast<double>(payload_bytes_);
    const double held = static_cast<double>(now.pages * kPageSize);
    return {payload / held, payload / (held + static_cast<double>(now.metadata_bytes))};
  }
  void validate() const {
    if (!pool_->validate()) fail("validate() finds an invariant broken");
  }
  ZpoolStats stats() const { return pool_->stats(); }
  std::size_t live() const { return live_.size(); }
  std::size_t refused() const { return refused_; }

 private:
  struct Object {
    Handle handle;
    std::size_t size_bytes;
  };
  // Once a pool: what is broken stays broken at every look.
  void fail(const std::string& what) const {
    if (failures_.insert(what).second) fail_run("a pool of " + kind_ + ": " + what);
  }

  const std::string kind_;
  std::shared_ptr<Zpool> pool_;
  std::unordered_map<std::uint32_t, Object> live_;
  std::size_t payload_bytes_ = 0, refused_ = 0;
  mutable std::set<std::string> failures_;
};

}  // namespace mmkit::bench
