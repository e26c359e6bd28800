// SPDX-License-Identifier: MIT
//
// Driver - what a kind of pool offers, and what one pool of it can do.
//
//   Zpool (front end) --> ZpoolBackend (one pool) --> PageSource
//   DriverRegistry    --> ZpoolDriver  (one kind) --> makes ZpoolBackends
//
// The front end checks the tag of a handle, counts against the limit and names misuse; a backend
// does everything else. Callbacks leave through BackendEnv::evict, with no lock held.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mmkit/base/gfp.hpp>
#include <mmkit/base/result.hpp>
#include <mmkit/page/page_source.hpp>
#include <mmkit/zpool/handle.hpp>
#include <span>
#include <string_view>

namespace mmkit {

/// What the caller promises to do with a mapping; audit builds hold it against the caller.
enum class MapMode {
  read_write,
  read_only,  ///< writes nothing
  write_only  ///< reads nothing that was there before: the bytes are undefined until written
};

/// How far a shrink came.
struct ShrinkOutcome {
  std::size_t reclaimed_pages = 0;  ///< pages that left the pool
  Status status;                    ///< success: as many as were asked for
};

/// A pool in numbers. Read together under the pool's lock.
struct ZpoolStats {
  std::size_t objects = 0;            ///< live handles
  std::size_t payload_bytes = 0;      ///< sum of the sizes asked for
  std::size_t pages = 0;              ///< pages that hold objects
  std::size_t metadata_bytes = 0;     ///< everything held besides those pages
  std::size_t compactable_pages = 0;  ///< pages that compact() would free
  std::uint64_t allocations = 0, frees = 0;
  std::uint64_t failures = 0;  ///< allocations that failed, for whatever reason
  std::uint64_t evicted = 0;   ///< objects that the evict callback gave up
  std::uint64_t moved = 0;     ///< objects moved by compaction
};

/// What a kind of pool can do.
struct DriverTraits {
  std::size_t max_object_bytes = kPageSize;
  bool can_shrink = false;
  bool can_compact = false;
  bool highmem = false;  ///< accepts Gfp::highmem
  /// The most pages that come and go as one: a shrink may free so many, less one, beyond what it was
  /// asked for.
  std::size_t most_run_pages = 1;
};

/// What a pool gets from the front end. The views live for the call; `pages` outlives the pool.
struct BackendEnv {
  std::string_view name{};
  std::string_view params{};    ///< `key=value`, separated by commas or spaces
  PageSource* pages = nullptr;  ///< never null
  Gfp gfp = Gfp::kernel;        ///< joined to the flags of every allocation
  std::uint16_t pool_tag = 0;   ///< the top 16 bits of every handle; the other 48 are not all zero
  std::function<Status(Handle)> evict{};  ///< empty: not evictable. Called with no lock held
};

/// One pool. Misuse that returns no Status goes to the failure handler.
/// Thread safety: every function is safe, but not against destruction.
class ZpoolBackend {
 public:
  virtual ~ZpoolBackend() = default;

  /// Makes room for an object. Errors: invalid_argument (size 0; a flag the driver cannot serve),
  /// no_space (larger than the driver stores), out_of_memory, try_again (nowait and a lock taken).
  virtual Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept = 0;

  /// Allocates, copies, publishes. Errors: as allocate(). This default maps; a driver that can
  /// publish after the copy overrides it.
  virtual Result<Handle> store(std::span<const std::byte> object, Gfp gfp) noexcept {
    Result<Handle> handle = allocate(object.size(), gfp);
    if (!handle) return handle;
    Result<std::span<std::byte>> bytes = map(*handle, MapMode::write_only);
    if (!bytes) {
      static_cast<void>(free(*handle));  // nobody else knows it: it cannot fail
      return fail(bytes.error());
    }
    std::memcpy(bytes->data(), object.data(), object.size());
    unmap(*handle);
    return handle;
  }

  /// Errors: invalid_argument (dead or never given), busy (mapped). Nothing changed then.
  virtual Status free(Handle handle) noexcept = 0;
  /// Recently used: evicted later. A dead handle is ignored, since an eviction may have come first.
  virtual void touch(Handle) noexcept {}
  /// The object's bytes, at least as many as were asked for, where they lie. Errors: not_found.
  virtual Result<std::span<std::byte>> map(Handle handle, MapMode mode) noexcept = 0;
  /// Ends one mapping. Of an object that is not mapped: misuse, `handle not mapped`.
  virtual void unmap(Handle handle) noexcept = 0;
  /// Evicts the oldest objects until so many pages are free. Errors: invalid_argument (0 pages, an
  /// empty pool, no evict callback), try_again (gave up after its retries).
  virtual ShrinkOutcome shrink(std::size_t pages) noexcept = 0;
  /// Moves objects together; the pages freed. Errors: not_supported.
  virtual Result<std::size_t> compact() noexcept = 0;
  /// The largest object this pool takes, where a parameter decides; 0: what the driver's traits say.
  virtual std::size_t max_object_bytes() const noexcept { return 0; }
  /// Pages that hold objects. Complexity: O(1), no lock.
  virtual std::size_t total_pages() const noexcept = 0;
  virtual ZpoolStats stats() const noexcept = 0;
  /// Walks the structure. Errors: bad_format when an invariant does not hold.
  virtual Status validate() const noexcept = 0;
};

/// One kind of pool. Thread safety: safe.
class ZpoolDriver {
 public:
  virtual ~ZpoolDriver() = default;
  /// `[a-z][a-z0-9_]{0,31}`, the same for life.
  virtual std::string_view type() const noexcept = 0;
  virtual DriverTraits traits() const noexcept = 0;
  /// Errors: invalid_argument (an unknown or bad parameter), out_of_memory.
  virtual Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&& env) const noexcept = 0;
};

/// The errors that all drivers share, in the order in which they are looked for: size 0, a flag the
/// driver cannot serve (invalid_argument), too large (no_space).
inline Status check_object_request(std::size_t size_bytes, Gfp gfp,
                                   const DriverTraits& traits) noexcept {
  if (size_bytes == 0) return fail(Errc::invalid_argument);
  if (has(gfp, Gfp::highmem) && !traits.highmem) return fail(Errc::invalid_argument);
  if (size_bytes > traits.max_object_bytes) return fail(Errc::no_space);
  return {};
}

}  // namespace mmkit
