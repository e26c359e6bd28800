// SPDX-License-Identifier: MIT
//
// BackendTest - the fixture of the unit tests of a driver: a pool without the front end, and its objects.
//
// Each object that add() makes holds a pattern of its own. At the end all are freed, and no page may
// be left.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/driver.hpp>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit::testing {

template <class Pool>
class BackendTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (pool_ == nullptr) return;
    for (const Handle handle : handles_) static_cast<void>(pool_->free(handle));
    EXPECT_EQ(pool_->total_pages(), 0u) << "an empty pool has no pages, whatever CPUs keep";
    EXPECT_TRUE(pool_->validate());
    pool_.reset();
    EXPECT_EQ(source_->stats().held_pages, 0u);
  }

  /// A pool on `source_`; the evict callback may free handles that it does not tell the test of.
  Pool& make(const std::string& params, std::function<Status(Handle)> evict = {},
             PageSource* pages = nullptr) {
    pool_ = Pool::create(BackendEnv{.name = "unit",
                                    .params = params,
                                    .pages = pages != nullptr ? pages : source_.get(),
                                    .gfp = Gfp::kernel,
                                    .pool_tag = 3,
                                    .evict = std::move(evict)})
                .value();
    objects_.clear();  // each pool has its own names
    return *pool_;
  }
  void add(std::size_t count, std::size_t size_bytes) {
    for (std::size_t i = 0; i < count; ++i) {
      note(pool_->store(make_pattern(size_bytes, keys_), Gfp::kernel).value(), size_bytes);
    }
  }
  /// An object as a caller that must not wait makes it.
  Status add_nowait(std::size_t size_bytes) {
    const Result<Handle> handle = pool_->store(make_pattern(size_bytes, keys_), Gfp::nowait);
    if (!handle) return fail(handle.error());
    note(*handle, size_bytes);
    return {};
  }
  void expect_intact() {
    EXPECT_TRUE(pool_->validate());
    for (const Handle handle : handles_) {
      const Object& object = objects_.at(handle);
      const auto bytes = pool_->map(handle, MapMode::read_only);
      ASSERT_TRUE(bytes);
      ASSERT_EQ(bytes->size(), object.size_bytes);
      EXPECT_TRUE(has_pattern(*bytes, object.key));
      pool_->unmap(handle);
    }
  }
  /// Frees those of the handles for which `which` says so by their number.
  void free_if(const std::function<bool(std::size_t)>& which) {
    std::vector<Handle> stay;
    for (std::size_t i = 0; i < handles_.size(); ++i) {
      if (which(i)) {
        EXPECT_TRUE(pool_->free(handles_[i]));
      } else {
        stay.push_back(handles_[i]);
      }
    }
    handles_ = std::move(stay);
  }
  std::byte* address_of(Handle handle) {
    std::byte* const address = pool_->map(handle, MapMode::read_only).value().data();
    pool_->unmap(handle);
    return address;
  }
  /// Forgets what an eviction has freed.
  void forget(const std::set<Handle>& gone) {
    std::erase_if(handles_, [&](Handle handle) { return gone.contains(handle); });
  }

  PinnedThread pinned_;
  std::unique_ptr<SimPageAllocator> source_ =
      SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20}).value();
  std::unique_ptr<Pool> pool_;
  std::vector<Handle> handles_;

 private:
  struct Object {
    std::uint64_t key;
    std::size_t size_bytes;
  };
  void note(Handle handle, std::size_t size_bytes) {
    handles_.push_back(handle);
    EXPECT_TRUE(objects_.insert({handle, {keys_++, size_bytes}}).second) << "a handle comes once";
  }

  std::unordered_map<Handle, Object> objects_;  // those that are gone, too
  std::uint64_t keys_ = 0;
};

}  // namespace mmkit::testing
