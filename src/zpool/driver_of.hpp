// SPDX-License-Identifier: MIT
//
// DriverOf - the driver of a kind of pool that says its own type and traits, and has a create().
#pragma once

#include <cstddef>
#include <memory>
#include <mmkit/zpool/driver.hpp>
#include <new>
#include <string_view>
#include <utility>

namespace mmkit {

template <class Pool>
class DriverOf final : public ZpoolDriver {
 public:
  std::string_view type() const noexcept override { return Pool::kType; }
  DriverTraits traits() const noexcept override { return Pool::kTraits; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    Result<std::unique_ptr<Pool>> pool = Pool::create(std::move(env));
    if (!pool) return fail(pool.error());
    return std::unique_ptr<ZpoolBackend>(*std::move(pool));
  }
};

/// The one of a kind, in memory that nobody destroys: a pool of static life may outlive everything
/// that is.
template <class Pool>
const ZpoolDriver& driver_of() noexcept {
  alignas(DriverOf<Pool>) static std::byte memory[sizeof(DriverOf<Pool>)];
  static const DriverOf<Pool>& driver = *::new (static_cast<void*>(memory)) DriverOf<Pool>;
  return driver;
}

}  // namespace mmkit
