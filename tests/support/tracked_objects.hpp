// SPDX-License-Identifier: MIT
//
// TrackedObjects - the objects of a pool beside a record of what must be in them.
//
// Every object gets a pattern of its own, looked at before each free and whenever a test asks. An
// expectation that does not hold fails the running test and goes on.
// Locking:    none: one thread. A pool may have several of these, one a thread
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mmkit/zpool/zpool.hpp>
#include <span>
#include <utility>
#include <vector>

#include "support/pattern.hpp"

namespace mmkit::testing {

class TrackedObjects {
 public:
  /// `first_key` tells the patterns of several of these apart.
  explicit TrackedObjects(Zpool& pool, std::uint64_t first_key = 0)
      : pool_(pool), next_key_(first_key) {}
  TrackedObjects(const TrackedObjects&) = delete;
  TrackedObjects& operator=(const TrackedObjects&) = delete;
  ~TrackedObjects() { free_all(); }

  /// Allocates an object and writes its pattern through a mapping.
  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp = Gfp::kernel) {
    const Result<Handle> handle = pool_.allocate(size_bytes, gfp);
    if (!handle) return handle;
    Mapping mapping = pool_.map(*handle, MapMode::write_only);
    EXPECT_GE(mapping.bytes().size(), size_bytes);
    write_pattern(mapping.bytes().first(size_bytes), next_key_);
    note(*handle, size_bytes);
    return handle;
  }

  /// Stores an object that has its pattern already.
  Result<Handle> store(std::size_t size_bytes, Gfp gfp = Gfp::kernel) {
    const Result<Handle> handle = pool_.store(make_pattern(size_bytes, next_key_), gfp);
    if (handle) note(*handle, size_bytes);
    return handle;
  }

  /// An object that must come to be: allocated and stored in turns.
  Handle add(std::size_t size_bytes) {
    const Result<Handle> handle = next_key_ % 2 == 0 ? allocate(size_bytes) : store(size_bytes);
    EXPECT_TRUE(handle.has_value()) << size_bytes << " bytes: " << name(handle.error());
    return handle ? *handle : Handle::none;
  }

  /// Whether the object holds what was written.
  ::testing::AssertionResult intact(Handle handle) const {
    const auto at = objects_.find(handle);
    if (at == objects_.end()) return ::testing::AssertionFailure() << "not one of these objects";
    const Result<Mapping> mapping = pool_.try_map(handle, MapMode::read_only);
    if (!mapping) return ::testing::AssertionFailure() << "map: " << name(mapping.error());
    return intact(at->second, mapping->const_bytes());
  }
  /// As above, through a mapping that the caller has.
  ::testing::AssertionResult intact(Handle handle, std::span<const std::byte> bytes) const {
    return intact(objects_.at(handle), bytes);
  }

  /// Checks the pattern and frees.
  void free(Handle handle) {
    EXPECT_TRUE(intact(handle));
    pool_.free(handle);
    objects_.erase(handle);
  }
  /// Frees what can be freed, mapped objects not. Returns the pool's answer.
  Status try_free(Handle handle) {
    Status freed = pool_.try_free(handle);
    if (freed) objects_.erase(handle);
    return freed;
  }
  void free_all() {
    while (!objects_.empty()) free(objects_.begin()->first);
  }

  bool contains(Handle handle) const { return objects_.contains(handle); }
  std::size_t size() const { return objects_.size(); }
  std::size_t size_bytes(Handle handle) const { return objects_.at(handle).size_bytes; }
  std::size_t payload_bytes() const {
    std::size_t sum = 0;
    for (const auto& [handle, object] : objects_) sum += object.size_bytes;
    return sum;
  }
  /// The live handles in the order of allocation.
  std::vector<Handle> handles() const {
    std::vector<std::pair<std::uint64_t, Handle>> by_key;
    for (const auto& [handle, object] : objects_) by_key.emplace_back(object.key, handle);
    std::sort(by_key.begin(), by_key.end());
    std::vector<Handle> handles;
    for (const auto& [key, handle] : by_key) handles.push_back(handle);
    return handles;
  }

  /// Maps all at once: each holds its pattern, and no two share a byte.
  void expect_intact_and_apart() const {
    std::vector<Mapping> mappings;
    std::vector<std::span<const std::byte>> places;
    for (const auto& [handle, object] : objects_) {
      Result<Mapping> mapping = pool_.try_map(handle, MapMode::read_only);
      ASSERT_TRUE(mapping) << name(mapping.error());
      EXPECT_TRUE(intact(object, mapping->const_bytes()));
      places.push_back(mapping->const_bytes());
      mappings.push_back(*std::move(mapping));
    }
    std::sort(places.begin(), places.end(), [](auto a, auto b) { return a.data() < b.data(); });
    for (std::size_t i = 1; i < places.size(); ++i) {
      EXPECT_LE(places[i - 1].data() + places[i - 1].size(), places[i].data());
    }
  }

 private:
  struct Object {
    std::size_t size_bytes;
    std::uint64_t key;
  };

  void note(Handle handle, std::size_t size_bytes) {
    EXPECT_NE(handle, Handle::none);
    const bool fresh = objects_.emplace(handle, Object{size_bytes, next_key_}).second;
    EXPECT_TRUE(fresh) << "a live handle was given twice";
    ++next_key_;
  }
  static ::testing::AssertionResult intact(const Object& object, std::span<const std::byte> bytes) {
    if (bytes.size() < object.size_bytes) {
      return ::testing::AssertionFailure()
             << "mapped " << bytes.size() << " bytes of " << object.size_bytes;
    }
    const std::size_t at = find_pattern_break(bytes.first(object.size_bytes), object.key);
    if (at == object.size_bytes) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure()
           << "byte " << at << " of " << object.size_bytes << " is not what was written";
  }

  Zpool& pool_;
  std::map<Handle, Object> objects_;
  std::uint64_t next_key_;
};

}  // namespace mmkit::testing
