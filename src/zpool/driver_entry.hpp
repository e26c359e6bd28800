// SPDX-License-Identifier: MIT
//
// DriverEntry - a driver that a registry knows, kept by the registry and by the pools made from it.
//
// Two counts: owners keep the entry in memory (the registry, and each hold); holds keep the type
// from being unregistered (a pool, or a look-up in progress).
// Locking: a hold is taken under the registry's lock; it is let go without any.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/registry.hpp>
#include <string_view>

namespace mmkit::detail {

inline constexpr std::size_t kMaxTypeName = 32;

/// Whether this matches `[a-z][a-z0-9_]{0,31}`.
bool is_type_name(std::string_view type) noexcept;

class DriverEntry : public ListNode<> {
 public:
  /// Written by the registry alone: counts the registrations, from 1.
  std::uint64_t number = 0;

  DriverEntry(std::string_view type, std::shared_ptr<const ZpoolDriver> driver) noexcept;

  std::string_view type() const noexcept { return {type_, type_bytes_}; }
  const ZpoolDriver& driver() const noexcept { return *driver_; }
  std::shared_ptr<const ZpoolDriver> shared_driver() const noexcept { return driver_; }

  /// Caller: holds the registry's lock.
  DriverHold hold() noexcept {
    // Relaxed: the registry's lock orders it before an unregister.
    owners_.fetch_add(1, std::memory_order_relaxed);
    holds_.fetch_add(1, std::memory_order_relaxed);
    return DriverHold(this);
  }
  /// Acquire: pairs with release_hold(), so that an unregister comes after the pool's end.
  bool is_held() const noexcept { return holds_.load(std::memory_order_acquire) != 0; }
  void release_hold() noexcept;
  /// Gives up one ownership; the last one ends the entry and its share of the driver.
  void drop() noexcept;

 private:
  std::atomic<std::size_t> owners_{1};
  std::atomic<std::size_t> holds_{0};
  std::size_t type_bytes_;
  char type_[kMaxTypeName];
  std::shared_ptr<const ZpoolDriver> driver_;
};

}  // namespace mmkit::detail
