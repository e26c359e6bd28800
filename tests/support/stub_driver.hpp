// SPDX-License-Identifier: MIT
//
// StubDriver - a driver that does what a test tells it, for tests of what lies above the drivers.
//
// Its pools hold nothing unless a test derives from EmptyBackend. Small, so that a test may have
// tens of thousands of them.
#pragma once

#include <functional>
#include <memory>
#include <mmkit/zpool/driver.hpp>
#include <string>
#include <utility>

namespace mmkit::testing {

/// A pool without objects, which refuses every allocation.
class EmptyBackend : public ZpoolBackend {
 public:
  Result<Handle> allocate(std::size_t, Gfp) noexcept override { return fail(Errc::out_of_memory); }
  Status free(Handle) noexcept override { return fail(Errc::invalid_argument); }
  Result<std::span<std::byte>> map(Handle, MapMode) noexcept override {
    return fail(Errc::not_found);
  }
  void unmap(Handle) noexcept override {}
  ShrinkOutcome shrink(std::size_t) noexcept override { return {0, fail(Errc::invalid_argument)}; }
  Result<std::size_t> compact() noexcept override { return fail(Errc::not_supported); }
  std::size_t total_pages() const noexcept override { return 0; }
  ZpoolStats stats() const noexcept override { return {}; }
  Status validate() const noexcept override { return {}; }
};

class StubDriver final : public ZpoolDriver {
 public:
  /// Makes the backend of a pool; may keep the environment.
  using Factory = std::function<Result<std::unique_ptr<ZpoolBackend>>(BackendEnv&&)>;

  explicit StubDriver(std::string type, Factory factory = &make_empty, DriverTraits traits = {})
      : type_(std::move(type)), factory_(std::move(factory)), traits_(traits) {}

  std::string_view type() const noexcept override { return type_; }
  DriverTraits traits() const noexcept override { return traits_; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept override {
    return factory_(std::move(env));
  }

 private:
  static Result<std::unique_ptr<ZpoolBackend>> make_empty(BackendEnv&&) {
    return std::unique_ptr<ZpoolBackend>(std::make_unique<EmptyBackend>());
  }

  std::string type_;
  Factory factory_;
  DriverTraits traits_;
};

inline std::shared_ptr<const ZpoolDriver> make_stub(std::string type,
                                                    StubDriver::Factory factory = nullptr,
                                                    DriverTraits traits = {}) {
  if (!factory) return std::make_shared<StubDriver>(std::move(type));
  return std::make_shared<StubDriver>(std::move(type), std::move(factory), traits);
}

}  // namespace mmkit::testing
