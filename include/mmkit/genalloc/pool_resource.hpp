// SPDX-License-Identifier: MIT
//
// GenPoolResource - a pool of this process's own memory as a std::pmr::memory_resource.
//
// Not part of the door: <memory_resource> is a heavy header. The one place in genalloc that throws,
// because the interface demands it: std::bad_alloc when there is no aligned place. Compiled without
// exceptions, that is fatal and named, as `no place`; without RTTI, two resources of one pool are
// not seen to be equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/check.hpp>
#include <mmkit/genalloc/gen_pool.hpp>
#include <new>

namespace mmkit {

/// Allocates from a pool of kind host, which outlives it. Thread safety: safe, as the pool is.
class GenPoolResource final : public std::pmr::memory_resource {
 public:
  explicit GenPoolResource(GenPool& pool) noexcept : pool_(&pool) {}

  GenPool& pool() const noexcept { return *pool_; }

 private:
  [[noreturn]] void no_place([[maybe_unused]] std::size_t bytes) const {
#ifdef __cpp_exceptions
    throw std::bad_alloc();
#else
    report_failure({"genalloc", pool_->name(), "no place", bytes});
#endif
  }
  // An empty block has an address of its own too.
  static std::size_t size_of(std::size_t bytes) noexcept {
    return bytes == 0 ? 1 : bytes;
  }

  void* do_allocate(std::size_t bytes, std::size_t align) override {
    const Result<std::uintptr_t> start = pool_->allocate(size_of(bytes), FirstFitAlign{align});
    if (!start) no_place(bytes);
    // Granules count from the chunk's start: one that is odd itself has no aligned granule.
    if (!is_aligned(*start, static_cast<std::uintptr_t>(align))) {
      pool_->free(*start, size_of(bytes));
      no_place(bytes);
    }
    return reinterpret_cast<void*>(*start);
  }
  void do_deallocate(void* block, std::size_t bytes, std::size_t) override {
    pool_->free(reinterpret_cast<std::uintptr_t>(block), size_of(bytes));
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
#ifdef __cpp_rtti
    const auto* const resource = dynamic_cast<const GenPoolResource*>(&other);
    return resource != nullptr && resource->pool_ == pool_;
#else
    return this == &other;
#endif
  }

  GenPool* pool_;
};

}  // namespace mmkit
