// SPDX-License-Identifier: MIT
//
// Map audit - in audit builds, MapMode is held against the caller.
//
// read_only:  the bytes are hashed when the mapping begins and when it ends; a difference is
//             misuse. Not held against a mapping that overlapped in time with a writing one of the same
//             object, whose writes are not this caller's.
// write_only: the bytes are overwritten when the mapping begins, so that who reads them sees
//             garbage and not what happened to be there. Not done to an object that is mapped already.
// A mapping that there is no memory to note goes unaudited.
// Locking:    Control::audit_mutex, a leaf
// Complexity: O(live mappings)
#include <cstring>
#include <mmkit/zpool/zpool.hpp>
#include <new>

#include "zpool/zpool_control.hpp"

namespace mmkit {
namespace {

constexpr int kUnwrittenByte = 0xa5;

// FNV-1a: spreads well enough to notice a write, and is six lines.
std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::byte b : bytes) {
    hash ^= static_cast<std::uint64_t>(b);
    hash *= 0x100000001b3;
  }
  return hash;
}

}  // namespace

struct AuditedMapping : ListNode<> {
  Handle handle = Handle::none;
  MapMode mode = MapMode::read_write;
  std::uint64_t hash = 0;
  bool beside_writer = false;
};

void* Zpool::audit_map(Handle handle, std::span<std::byte> bytes, MapMode mode) noexcept {
  Control& control = *control_;
  auto* fresh = new (std::nothrow) AuditedMapping;
  if (fresh == nullptr) return nullptr;
  fresh->handle = handle;
  fresh->mode = mode;
  bool alone = true;
  MutexLock lock(control.audit_mutex);
  for (auto* at = control.audited.front(); at != nullptr; at = control.audited.next(*at)) {
    if (at->handle != handle) continue;
    alone = false;
    if (mode != MapMode::read_only) at->beside_writer = true;
    if (at->mode != MapMode::read_only) fresh->beside_writer = true;
  }
  if (mode == MapMode::write_only && alone) {
    std::memset(bytes.data(), kUnwrittenByte, bytes.size());
  }
  if (mode == MapMode::read_only && !fresh->beside_writer) fresh->hash = hash_of(bytes);
  control.audited.push_back(*fresh);
  return fresh;
}

void Zpool::audit_unmap(Handle handle, std::span<const std::byte> bytes, void* audit) noexcept {
  if (audit == nullptr) return;
  auto* noted = static_cast<AuditedMapping*>(audit);
  Control& control = *control_;
  MutexLock lock(control.audit_mutex);
  control.audited.remove(*noted);
  // The bytes of a pool that a fork left behind are not there; that it was used is named next.
  const bool held = noted->mode == MapMode::read_only && !noted->beside_writer && !control.lost();
  const bool broken = held && noted->hash != hash_of(bytes);
  lock.unlock();
  delete noted;
  if (broken) report(handle, "written through a read-only mapping");
}

}  // namespace mmkit
