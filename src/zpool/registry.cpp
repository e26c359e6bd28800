// SPDX-License-Identifier: MIT
#include <mmkit/zpool/registry.hpp>

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/zpool/z3fold.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <new>
#include <string_view>
#include <utility>

#include "zpool/driver_entry.hpp"

namespace mmkit {
namespace detail {

bool is_type_name(std::string_view type) noexcept {
  if (type.empty() || type.size() > kMaxTypeName) return false;
  if (type.front() < 'a' || type.front() > 'z') return false;
  return std::all_of(type.begin(), type.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

DriverEntry::DriverEntry(std::string_view type, std::shared_ptr<const ZpoolDriver> driver) noexcept
    : type_bytes_(type.size()), driver_(std::move(driver)) {
  std::memcpy(type_, type.data(), type.size());
}

void DriverEntry::release_hold() noexcept {
  // Release and acquire: the last to let go sees what all others did with the driver.
  holds_.fetch_sub(1, std::memory_order_release);
  drop();
}

void DriverEntry::drop() noexcept {
  if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void DriverRelease::operator()(DriverEntry* entry) const noexcept {
  entry->release_hold();
}

}  // namespace detail

using detail::DriverEntry;
using detail::DriverHold;

namespace {

// An allocator for shared_ptr whose failure is not an exception.
template <class T>
struct NoThrowHeap {
  using value_type = T;
  NoThrowHeap() noexcept = default;
  template <class U>
  NoThrowHeap(const NoThrowHeap<U>&) noexcept {}  // NOLINT: allocators convert
  T* allocate(std::size_t count) noexcept {
    void* memory = ::operator new(count * sizeof(T), std::nothrow);
    if (memory == nullptr) report_failure({"zpool", {}, "no memory for the loader", 0});
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) noexcept { ::operator delete(memory); }
  bool operator==(const NoThrowHeap&) const noexcept { return true; }
};

}  // namespace

// A type being fetched, on the stack of the thread that fetches it.
struct DriverRegistry::Loading : ListNode<> {
  bool is_mine() const noexcept { return ::pthread_equal(thread, ::pthread_self()) != 0; }

  std::string_view type;
  std::string_view waits_for;  // another type being fetched; empty: none
  pthread_t thread{};
};

DriverRegistry::DriverRegistry() noexcept = default;

DriverRegistry::~DriverRegistry() {
  leave_fork();
  MutexLock lock(mutex_);
  while (DriverEntry* entry = entries_.pop_front()) entry->drop();
}

Status DriverRegistry::register_driver(std::shared_ptr<const ZpoolDriver> driver) noexcept {
  if (driver == nullptr || !detail::is_type_name(driver->type())) {
    return fail(Errc::invalid_argument);
  }
  // Here, since a constructor could not fail; joining twice does nothing.
  if (Status joined = join_fork(LockRank::registry); !joined) return joined;
  const std::string_view type = driver->type();
  auto* entry = new (std::nothrow) DriverEntry(type, std::move(driver));
  if (entry == nullptr) return fail(Errc::out_of_memory);
  MutexLock lock(mutex_);
  if (find(entry->type()) != nullptr) {
    lock.unlock();
    entry->drop();
    return fail(Errc::already_exists);
  }
  entry->number = ++last_number_;
  entries_.push_back(*entry);
  return {};
}

Status DriverRegistry::unregister_driver(std::string_view type) noexcept {
  MutexLock lock(mutex_);
  DriverEntry* entry = find(type);
  if (entry == nullptr) return fail(Errc::not_found);
  // New holds need the lock that is held here, so none comes in between.
  if (MMKIT_MUTATE(MMKIT_MUTANT_registry_unregister_ignores_holds, entry->is_held(), false)) {
    return fail(Errc::busy);
  }
  entries_.remove(*entry);
  lock.unlock();
  entry->drop();
  return {};
}

bool DriverRegistry::has_pool(std::string_view type) noexcept {
  MutexLock lock(mutex_);
  return find_or_load(type) != nullptr;
}

Result<DriverTraits> DriverRegistry::traits(std::string_view type) noexcept {
  MutexLock lock(mutex_);
  const DriverEntry* entry = find_or_load(type);
  if (entry == nullptr) return fail(Errc::not_found);
  const std::shared_ptr<const ZpoolDriver> driver = entry->shared_driver();
  lock.unlock();
  return driver->traits();
}

DriverHold DriverRegistry::hold(std::string_view type) noexcept {
  MutexLock lock(mutex_);
  DriverEntry* entry = find_or_load(type);
  return entry == nullptr ? nullptr : entry->hold();
}

void DriverRegistry::for_each_type(const std::function<void(std::string_view)>& visit) const {
  char type[detail::kMaxTypeName];
  std::uint64_t last = 0;
  MutexLock lock(mutex_);
  const std::uint64_t newest = last_number_;
  while (true) {
    // From the front each time: the entry before may be gone, and there is a handful.
    const DriverEntry* next = entries_.front();
    while (next != nullptr && next->number <= last) next = entries_.next(*next);
    if (next == nullptr || next->number > newest) return;
    last = next->number;
    const std::string_view copy(type, next->type().copy(type, sizeof type));
    lock.unlock();
    visit(copy);
    lock.lock();
  }
}

void DriverRegistry::set_loader(Loader loader) {
  std::shared_ptr<const Loader> fresh;
  if (loader) fresh = std::allocate_shared<const Loader>(NoThrowHeap<Loader>(), std::move(loader));
  // A fork in the middle of a load must find it, also when no driver was registered yet. Where the
  // system takes no handler, register_driver() asks again, and can say so.
  static_cast<void>(join_fork(LockRank::registry));
  // The one before ends outside the lock: what it captured may do anything.
  MutexLock lock(mutex_);
  std::swap(loader_, fresh);
  lock.unlock();
}

DriverEntry* DriverRegistry::find(std::string_view type) const noexcept {
  for (DriverEntry* at = entries_.front(); at != nullptr; at = entries_.next(*at)) {
    if (at->type() == type) return at;
  }
  return nullptr;
}

DriverRegistry::Loading* DriverRegistry::find_loading(std::string_view type) const noexcept {
  for (Loading* at = loading_.front(); at != nullptr; at = loading_.next(*at)) {
    if (at->type == type) return at;
  }
  return nullptr;
}

// Ends, because nobody begins a wait that closes a ring.
bool DriverRegistry::waits_for_this_thread(const Loading* loading) const noexcept {
  while (loading != nullptr && !loading->is_mine()) loading = find_loading(loading->waits_for);
  return loading != nullptr;
}

void DriverRegistry::note_wait(std::string_view type) noexcept {
  for (Loading* at = loading_.front(); at != nullptr; at = loading_.next(*at)) {
    if (at->is_mine()) at->waits_for = type;
  }
}

DriverEntry* DriverRegistry::find_or_load(std::string_view type) noexcept {
  if (!detail::is_type_name(type)) return nullptr;
  if (DriverEntry* known = find(type)) return known;
  if (loader_ == nullptr) return nullptr;

  if (const Loading* other =
          MMKIT_MUTATE(MMKIT_MUTANT_registry_all_who_wait_load, find_loading(type), nullptr)) {
    // A loader that asks for what it is loading, or for what waits for that, would wait for ever.
    if (waits_for_this_thread(other)) return nullptr;
    note_wait(type);
    while (find_loading(type) != nullptr) loaded_.wait(mutex_);
    note_wait({});
    return find(type);
  }
  Loading mine;
  mine.type = type;
  mine.thread = ::pthread_self();
  loading_.push_back(mine);
  const std::shared_ptr<const Loader> loader = loader_;
  mutex_.unlock();
  // Its status is for its own log; what counts is whether the type is known now.
  static_cast<void>((*loader)(*this, type));
  mutex_.lock();
  loading_.remove(mine);
  loaded_.notify_all();
  return find(type);
}

void DriverRegistry::lock_for_fork() noexcept {
  mutex_.lock_for_fork();
}
void DriverRegistry::unlock_after_fork() noexcept {
  mutex_.unlock();
}

// Threads that were loading are not in the child: whoever asks there loads again.
void DriverRegistry::on_child() noexcept {
  MutexLock lock(mutex_);
  for (Loading* at = loading_.front(); at != nullptr;) {
    Loading* next = loading_.next(*at);
    const bool stays = MMKIT_MUTATE(MMKIT_MUTANT_registry_loads_stay_in_child, at->is_mine(), true);
    if (!stays) loading_.remove(*at);
    at = next;
  }
  // It counts waiters that are gone, and would wait for them.
  ::new (static_cast<void*>(&loaded_)) CondVar;
}

// The built-in drivers, named one by one: a driver that registered itself from a static initialiser
// would be left out of a program that links the library statically.
DriverRegistry& default_registry() noexcept {
  static DriverRegistry& registry = []() noexcept -> DriverRegistry& {
    alignas(DriverRegistry) static std::byte memory[sizeof(DriverRegistry)];
    auto* made = ::new (static_cast<void*>(memory)) DriverRegistry;
    for (const ZpoolDriver* driver :
         {&zbud_driver(), &z3fold_driver(), &zsmalloc_driver(), &zheap_driver()}) {
      // An aliasing pointer without an owner: the driver is never destroyed, and nothing is
      // allocated.
      const std::shared_ptr<const ZpoolDriver> shared(std::shared_ptr<void>(), driver);
      if (Status known = made->register_driver(shared); !known) {
        report_failure({"zpool", {}, "no memory for the built-in drivers", 0});
      }
    }
    return *made;
  }();
  return registry;
}

}  // namespace mmkit
