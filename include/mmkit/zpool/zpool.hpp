// SPDX-License-Identifier: MIT
//
// Zpool - a pool of compressed objects: the front end before whatever driver places them.
//
// Adds to a driver: the tag that keeps handles of other pools out, a name for each misuse, a limit
// with eviction, and a place in the list of live pools. It holds no object and no page itself.
//
//   caller --> Zpool --> ZpoolBackend (driver) --> LimitedPageSource --> PageSource
//                 ^            | evict, no lock held       | counts against limit_bytes
//                 +------------+
//
// Flow:       a call checks the tag, goes to the backend, and comes up once. Where the backend
//             finds no page because of the limit, allocate evicts and tries again (retry).
// Locking:    none of its own on the way to the driver
// Complexity: the driver's, and a comparison
#pragma once

#include <cstddef>
#include <memory>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/registry.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace mmkit {

class Zpool;

/// Asked to give up an object: write it elsewhere and free it. Success means that the handle is
/// freed; success without that counts as a refusal. Free it by try_free() where other threads use the
/// pool: one may have mapped or freed it since it was chosen. Called with no lock held, from shrink()
/// or from an allocation that meets the limit. May use the pool, but not destroy it. Must not throw.
using EvictFn = std::function<Status(Zpool&, Handle)>;

/// The driver to take unless you need another one.
inline constexpr std::string_view kDefaultDriver = "zheap";

/// How a pool is made.
struct ZpoolOptions {
  std::string name{};                  ///< for messages and tools; need not be unique
  Gfp gfp = Gfp::kernel;               ///< joined to the flags of every allocation
  EvictFn evict{};                     ///< empty: the pool is not evictable
  PageSource* pages = nullptr;         ///< null: default_page_source(). Outlives the pool
  DriverRegistry* registry = nullptr;  ///< null: default_registry()
  std::string params{};         ///< for the driver: `key=value`, separated by commas or spaces
  std::size_t limit_bytes = 0;  ///< total_bytes() never exceeds it, rounded down to pages; 0: none
};

/// A mapped object, unmapped when this ends. While it lives the object stays where it is, is not
/// evicted and cannot be freed. Thread safety: caller serialises; different mappings, also of the
/// same object, may be used by different threads.
class [[nodiscard]] Mapping {
 public:
  /// Maps nothing.
  Mapping() noexcept = default;
  Mapping(Mapping&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        bytes_(std::exchange(other.bytes_, {})),
        handle_(other.handle_),
        audit_(other.audit_) {}
  /// Ends the mapping that was here; assigned to itself it stays.
  Mapping& operator=(Mapping&& other) noexcept {
    Mapping moved(std::move(other));
    std::swap(pool_, moved.pool_);
    std::swap(bytes_, moved.bytes_);
    std::swap(handle_, moved.handle_);
    std::swap(audit_, moved.audit_);
    return *this;
  }
  inline ~Mapping();

  /// The object where it lies: at least the size asked for, and not a byte of any other object.
  /// Empty when nothing is mapped.
  std::span<std::byte> bytes() noexcept { return bytes_; }
  std::span<const std::byte> const_bytes() const noexcept { return bytes_; }
  /// Whether something is mapped.
  explicit operator bool() const noexcept { return pool_ != nullptr; }

 private:
  friend class Zpool;
  Mapping(Zpool* pool, Handle handle, std::span<std::byte> bytes, void* audit) noexcept
      : pool_(pool), bytes_(bytes), handle_(handle), audit_(audit) {}

  Zpool* pool_ = nullptr;
  std::span<std::byte> bytes_;
  Handle handle_ = Handle::none;
  void* audit_ = nullptr;  // audit builds: what was promised (map_audit.cpp)
};

/// A pool. Made by create(); never moves.
/// Thread safety: every function is safe, but not against destruction.
class Zpool {
 public:
  /// Makes a pool of a kind; a registry that does not know it asks its loader.
  /// Errors: not_found (unknown type), invalid_argument (a parameter of the driver; a limit below
  /// one page), out_of_memory (also: 65,535 pools live). Complexity: O(types), some kilobytes.
  static Result<std::unique_ptr<Zpool>> create(std::string_view type,
                                               ZpoolOptions options = {}) noexcept;
  Zpool(const Zpool&) = delete;
  Zpool& operator=(const Zpool&) = delete;
  /// Live objects go to the leak handler and are gone; a live mapping is misuse.
  ~Zpool();

  std::string_view type() const noexcept;
  std::string_view name() const noexcept;
  /// Whether shrink() can work: the driver can, and an evict callback was given.
  bool evictable() const noexcept;
  std::size_t max_object_bytes() const noexcept;
  std::size_t limit_bytes() const noexcept;

  /// Makes room for an object of 1 to max_object_bytes() bytes, whose contents are undefined, or
  /// zero with Gfp::zero. Errors: invalid_argument (size 0; Gfp::highmem with a driver that
  /// cannot), no_space (too large for the driver), out_of_memory (no page, or the limit and nothing
  /// to evict), try_again (Gfp::nowait, and a lock is taken). A failed call changes nothing.
  /// Complexity: the driver's; at the limit as many evictions as it takes.
  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp = Gfp::kernel) noexcept {
    Result<Handle> handle = backend_->allocate(size_bytes, gfp);
    if (!handle) [[unlikely]]
      return retry(handle.error(), nullptr, size_bytes, gfp);
    MMKIT_ASSERT(handle_bits::tag(*handle) == tag_);
    return *handle;  // rebuilt in registers; a copy would go through the stack
  }

  /// Allocates, copies the object in and publishes it, in one: faster than allocate, map, write,
  /// unmap, and no other thread sees the object before it is whole. Errors: as allocate().
  Result<Handle> store(std::span<const std::byte> object, Gfp gfp = Gfp::kernel) noexcept {
    Result<Handle> handle = backend_->store(object, gfp);
    if (!handle) [[unlikely]] {
      return retry(handle.error(), object.data(), object.size(), gfp);
    }
    MMKIT_ASSERT(handle_bits::tag(*handle) == tag_);
    return *handle;  // rebuilt in registers; a copy would go through the stack
  }

  /// Frees an object. Misuse: `null handle`, `foreign handle`, `dead handle`, `mapped handle
  /// freed`.
  void free(Handle handle) noexcept {
    const Status freed = try_free(handle);
    if (!freed) [[unlikely]]
      report_free(handle, freed.error());
  }
  /// Frees an object if it can be. Errors: invalid_argument (null, foreign or dead), busy (mapped);
  /// nothing changed then.
  Status try_free(Handle handle) noexcept {
    if (handle_bits::tag(handle) != tag_) [[unlikely]]
      return fail(Errc::invalid_argument);
    return backend_->free(handle);
  }

  /// Maps an object. Misuse: `null handle`, `foreign handle`, `dead handle`. Any number of objects
  /// may be mapped at once, and each any number of times. Complexity: one atomic operation here and
  /// one when the mapping ends.
  Mapping map(Handle handle, MapMode mode = MapMode::read_write) noexcept {
    if (handle_bits::tag(handle) != tag_) [[unlikely]]
      report_map(handle, Errc::not_found);
    const Result<std::span<std::byte>> bytes = backend_->map(handle, mode);
    if (!bytes) [[unlikely]]
      report_map(handle, bytes.error());
    return mapping(handle, *bytes, mode);
  }
  /// Maps an object if it lives. Errors: not_found (null, foreign, freed, evicted); out_of_memory
  /// (this one object is mapped more than fifty times, and there is no memory to count it).
  Result<Mapping> try_map(Handle handle, MapMode mode = MapMode::read_write) noexcept {
    if (handle_bits::tag(handle) != tag_) [[unlikely]]
      return fail(Errc::not_found);
    const Result<std::span<std::byte>> bytes = backend_->map(handle, mode);
    if (!bytes) [[unlikely]]
      return fail(bytes.error());
    return mapping(handle, *bytes, mode);
  }

  /// Recently used: evicted later. A handle that is dead by now is ignored, since an eviction may
  /// have come first. Misuse: `null handle`, `foreign handle`.
  void touch(Handle handle) noexcept {
    if (handle_bits::tag(handle) != tag_) [[unlikely]]
      report_free(handle, Errc::invalid_argument);
    backend_->touch(handle);
  }

  /// Evicts the oldest objects until so many pages have left the pool. Errors, in the status:
  /// invalid_argument (0 pages, an empty pool, not evictable; also when the pool is empty before so
  /// many pages have left it), try_again (gave up). The outcome says what was reclaimed before.
  ShrinkOutcome shrink(std::size_t pages) noexcept;
  /// Moves objects together and gives back the pages that become empty; returns how many.
  /// Errors: not_supported (objects of this driver do not move).
  Result<std::size_t> compact() noexcept;

  /// Bytes of the pages that hold objects. Complexity: O(1).
  std::size_t total_bytes() const noexcept { return backend_->total_pages() * kPageSize; }
  ZpoolStats stats() const noexcept;
  /// Walks the driver's structures. Errors: bad_format when an invariant does not hold.
  Status validate() const noexcept;

 private:
  friend class Mapping;
  struct Control;

  explicit Zpool(std::unique_ptr<Control> control) noexcept;
  Status start(std::string_view params) noexcept;

  Mapping mapping(Handle handle, std::span<std::byte> bytes, MapMode mode) noexcept {
    void* audit = nullptr;
    if constexpr (MMKIT_CHECK_LEVEL >= 2) audit = audit_map(handle, bytes, mode);
    return {this, handle, bytes, audit};
  }
  void unmap(Handle handle, std::span<const std::byte> bytes, void* audit) noexcept {
    if constexpr (MMKIT_CHECK_LEVEL >= 2) audit_unmap(handle, bytes, audit);
    backend_->unmap(handle);
  }

  // Once more after evicting, if the limit was what stood in the way. A null object: allocate.
  Result<Handle> retry(Errc why, const std::byte* object, std::size_t size_bytes, Gfp gfp) noexcept;
  Status evict(Handle handle) noexcept;
  [[noreturn]] void report(Handle handle, std::string_view fault) const noexcept;
  [[noreturn]] void report_free(Handle handle, Errc why) const noexcept;
  [[noreturn]] void report_map(Handle handle, Errc why) const noexcept;
  void* audit_map(Handle handle, std::span<std::byte> bytes, MapMode mode) noexcept;
  void audit_unmap(Handle handle, std::span<const std::byte> bytes, void* audit) noexcept;

  // Read only after create(), but for the child of a fork that lost the pages.
  ZpoolBackend* backend_ = nullptr;
  std::uint16_t tag_ = 0;
  std::unique_ptr<Control> control_;
};

Mapping::~Mapping() {
  if (pool_ != nullptr) pool_->unmap(handle_, bytes_, audit_);
}

/// The longest name that for_each_live_pool shows whole.
inline constexpr std::size_t kMostNameBytesListed = 256;

/// A live pool as tools see it. The views live for the call of the visitor.
struct ZpoolInfo {
  std::string_view type;
  std::string_view name;  ///< its first kMostNameBytesListed bytes
  std::uint16_t tag = 0;  ///< the top 16 bits of its handles
  std::size_t limit_bytes = 0;
  ZpoolStats stats;
};

/// Calls `visit` with each pool that lives when the call begins and still does when its turn comes,
/// oldest first, with no lock held. Needs no memory. `visit` must not throw:
/// the program ends if it does. Thread safety: safe. Complexity: O(pools).
void for_each_live_pool(const std::function<void(const ZpoolInfo&)>& visit) noexcept;

}  // namespace mmkit
