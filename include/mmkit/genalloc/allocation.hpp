// SPDX-License-Identifier: MIT
//
// GenPoolAllocation - a range of a pool that is freed when its holder ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/result.hpp>
#include <mmkit/genalloc/gen_pool.hpp>
#include <utility>

namespace mmkit {

/// Owns a range, or none. The pool outlives it. Thread safety: caller serialises.
class GenPoolAllocation {
 public:
  GenPoolAllocation() noexcept = default;
  GenPoolAllocation(GenPoolAllocation&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        start_(other.start_),
        size_bytes_(other.size_bytes_) {}
  GenPoolAllocation& operator=(GenPoolAllocation&& other) noexcept {
    GenPoolAllocation taken(std::move(other));
    std::swap(pool_, taken.pool_);
    std::swap(start_, taken.start_);
    std::swap(size_bytes_, taken.size_bytes_);
    return *this;
  }
  ~GenPoolAllocation() { reset(); }

  /// Allocates by the pool's policy, or by `fit`. Errors: those of GenPool::allocate().
  static Result<GenPoolAllocation> make(GenPool& pool, std::size_t size_bytes) noexcept {
    return hold(pool, pool.allocate(size_bytes), size_bytes);
  }
  static Result<GenPoolAllocation> make(GenPool& pool, std::size_t size_bytes,
                                        const Fit& fit) noexcept {
    return hold(pool, pool.allocate(size_bytes, fit), size_bytes);
  }
  /// Allocates the granules at an address. Errors: those of GenPool::allocate_at().
  static Result<GenPoolAllocation> make_at(GenPool& pool, std::uintptr_t start,
                                           std::size_t size_bytes) noexcept {
    if (const Status taken = pool.allocate_at(start, size_bytes); !taken) {
      return fail(taken.error());
    }
    return hold(pool, start, size_bytes);
  }

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  std::uintptr_t start() const noexcept { return start_; }
  std::size_t size_bytes() const noexcept { return pool_ == nullptr ? 0 : size_bytes_; }

  /// Frees the range now.
  void reset() noexcept {
    if (pool_ != nullptr) std::exchange(pool_, nullptr)->free(start_, size_bytes_);
  }
  /// Gives the range to the caller, who will free it.
  std::uintptr_t release() noexcept {
    pool_ = nullptr;
    return start_;
  }

 private:
  static Result<GenPoolAllocation> hold(GenPool& pool, const Result<std::uintptr_t>& start,
                                        std::size_t size_bytes) noexcept {
    if (!start) return fail(start.error());
    GenPoolAllocation allocation;
    allocation.pool_ = &pool;
    allocation.start_ = *start;
    allocation.size_bytes_ = size_bytes;
    return allocation;
  }

  GenPool* pool_ = nullptr;
  std::uintptr_t start_ = 0;
  std::size_t size_bytes_ = 0;
};

}  // namespace mmkit
