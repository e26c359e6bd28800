// SPDX-License-Identifier: MIT
//
// DriverRegistry - which kinds of pool there are, and how a missing one is fetched.
//
// An entry and its driver live as long as anybody holds them: a pool keeps both, so that a registry
// or the shared object that a driver came from may be dropped first.
//
//   create("x") -> known? -> yes: hold the entry
//                         -> no: ask the loader, once however many threads ask; look again
//
// Invariants: 1 type names are unique and match [a-z][a-z0-9_]{0,31}  2 an entry with pools stays
// Locking:    a Mutex of rank registry; loader and drivers are called without it
// Complexity: O(types), a handful
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/intrusive_list.hpp>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/driver.hpp>
#include <string_view>

namespace mmkit {

namespace detail {
class DriverEntry;
// Lets go of a hold on an entry.
struct DriverRelease {
  void operator()(DriverEntry* entry) const noexcept;
};
using DriverHold = std::unique_ptr<DriverEntry, DriverRelease>;
}  // namespace detail

/// The kinds of pool that a program knows. A new registry knows none.
/// Thread safety: every function is safe, but not against destruction.
class DriverRegistry final : private ForkParticipant {
 public:
  /// Makes a driver known, typically by calling register_driver. Success means it did, or tried;
  /// what counts is whether the type is known afterwards. Must not throw.
  using Loader = std::function<Status(DriverRegistry&, std::string_view type)>;

  DriverRegistry() noexcept;
  DriverRegistry(const DriverRegistry&) = delete;
  DriverRegistry& operator=(const DriverRegistry&) = delete;
  ~DriverRegistry();

  /// Adds a kind. Errors: invalid_argument (null, or a type name that does not match
  /// `[a-z][a-z0-9_]{0,31}`), already_exists (that type is known), out_of_memory.
  Status register_driver(std::shared_ptr<const ZpoolDriver> driver) noexcept;
  /// Removes a kind. Errors: not_found, busy (a pool of it lives).
  Status unregister_driver(std::string_view type) noexcept;
  /// Whether a kind is known; asks the loader for one that is not.
  bool has_pool(std::string_view type) noexcept;
  /// Calls `visit` with each type that is known when the call begins and still is when its turn
  /// comes, in the order of registration, with no lock held. Needs no memory. `visit` must not throw.
  void for_each_type(const std::function<void(std::string_view)>& visit) const;
  /// Sets who is asked for unknown types; an empty function: nobody. A call in progress ends with
  /// the loader it began with. Having no memory for it is fatal, by name.
  void set_loader(Loader loader);

  /// What a kind can do; asks the loader for one that is not known. Errors: not_found.
  Result<DriverTraits> traits(std::string_view type) noexcept;

 private:
  friend class Zpool;
  struct Loading;

  // For a pool: the entry of a type, which cannot be unregistered while held. Null: not known.
  detail::DriverHold hold(std::string_view type) noexcept MMKIT_EXCLUDES(mutex_);
  // Lets go of the lock while a loader runs.
  detail::DriverEntry* find_or_load(std::string_view type) noexcept MMKIT_REQUIRES(mutex_);
  detail::DriverEntry* find(std::string_view type) const noexcept MMKIT_REQUIRES(mutex_);
  Loading* find_loading(std::string_view type) const noexcept MMKIT_REQUIRES(mutex_);
  // Whether that load is this thread's, or waits for one of this thread's.
  bool waits_for_this_thread(const Loading* loading) const noexcept MMKIT_REQUIRES(mutex_);
  // Notes in this thread's loads what they wait for; empty: nothing.
  void note_wait(std::string_view type) noexcept MMKIT_REQUIRES(mutex_);

  void lock_for_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void unlock_after_fork() noexcept override MMKIT_NO_THREAD_SAFETY_ANALYSIS;
  void on_child() noexcept override;

  mutable Mutex mutex_{LockRank::registry};
  CondVar loaded_;
  IntrusiveList<detail::DriverEntry> entries_ MMKIT_GUARDED_BY(mutex_);
  std::uint64_t last_number_ MMKIT_GUARDED_BY(mutex_) = 0;
  IntrusiveList<Loading> loading_ MMKIT_GUARDED_BY(mutex_);
  std::shared_ptr<const Loader> loader_ MMKIT_GUARDED_BY(mutex_);
};

/// The registry that Zpool::create uses unless told otherwise. Knows the built-in drivers; never
/// destroyed. Thread safety: safe.
DriverRegistry& default_registry() noexcept;

}  // namespace mmkit
