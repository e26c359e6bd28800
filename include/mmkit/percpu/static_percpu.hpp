// SPDX-License-Identifier: MIT
//
// StaticPercpu - a per-CPU variable of static life.
//
//   inline constinit mmkit::StaticPercpu<std::uint64_t> hits;
//   mmkit::this_cpu_inc(hits.get());
//
// It is one pointer, null until the first get() allocates: no constructor runs, no destructor, so it
// may be used in those of other statics, early and late. The memory is never given back. A shared
// object that is loaded after the program began draws on the allocator's reserved part first, which
// is there so that loading one needs no luck.
// Locking:    none: of threads that are first together, one wins and the others give theirs back
// Complexity: get() O(1): a load and a test
#pragma once

#include <atomic>
#include <cstddef>
#include <mmkit/percpu/percpu_ptr.hpp>
#include <mmkit/percpu/stride.hpp>
#include <type_traits>

namespace mmkit {

namespace detail {
/// Allocates for the variable whose pointer `where` is, unless somebody else has by then: what
/// `where` holds in the end. No memory is fatal: `no memory for a static per-CPU variable`.
std::byte* percpu_first_use(std::atomic<std::byte*>& where, std::size_t size_bytes,
                            std::size_t align_bytes) noexcept;
}  // namespace detail

/// A T on every CPU, of PercpuAllocator::instance(), which begins as zero bytes. Thread safety: safe.
template <class T>
class StaticPercpu {
  static_assert(std::is_trivially_copyable_v<T>, "it begins as zero bytes and never ends");
  static_assert(sizeof(T) <= kPercpuMaxBytes, "at most 32 KiB a CPU");
  static_assert(alignof(T) <= kPercpuMaxAlign, "the units' colour allows no more than 64 bytes");

 public:
  constexpr StaticPercpu() noexcept = default;
  StaticPercpu(const StaticPercpu&) = delete;
  StaticPercpu& operator=(const StaticPercpu&) = delete;

  /// For the this_cpu operations; never null. The first call in the process allocates, and is not
  /// for signal handlers; all others are. No memory is fatal, by name.
  PercpuPtr<T> get() noexcept {
    // Acquire: pairs with the release in percpu_first_use(): the memory is zero.
    std::byte* unit0 = unit0_.load(std::memory_order_acquire);
    if (unit0 == nullptr) [[unlikely]]
      unit0 = detail::percpu_first_use(unit0_, sizeof(T), alignof(T));
    return {reinterpret_cast<T*>(unit0)};
  }

 private:
  std::atomic<std::byte*> unit0_{nullptr};
};

}  // namespace mmkit
