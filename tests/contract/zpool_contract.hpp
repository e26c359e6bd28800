// SPDX-License-Identifier: MIT
//
// ZpoolContract - the fixture of the tests that every driver passes.
//
// A suite derives from it and is instantiated once for each type that the default registry lists, and
// for variants of some (driver_variants.hpp), so a new driver is under test the moment it is
// registered. Nothing here knows a driver: what one
// can do is read from its traits.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <string>
#include <vector>

#include "support/driver_variants.hpp"
#include "support/tracked_objects.hpp"

namespace mmkit::testing {

inline std::string variant_as_test_name(const ::testing::TestParamInfo<DriverVariant>& info) {
  return info.param.name();
}

/// Instantiates a suite for every registered type, and for variants of some.
#define MMKIT_FOR_EACH_DRIVER(Suite)                                                 \
  INSTANTIATE_TEST_SUITE_P(Driver, Suite,                                            \
                           ::testing::ValuesIn(::mmkit::testing::driver_variants()), \
                           ::mmkit::testing::variant_as_test_name)

class ZpoolContract : public ::testing::TestWithParam<DriverVariant> {
 protected:
  // A range that also fits where addresses are few, such as under valgrind.
  void SetUp() override { make_source({.capacity_bytes = std::size_t{1} << 30}); }

  /// Every page that a test took has come back, whatever the test did.
  void TearDown() override {
    pool_.reset();
    EXPECT_EQ(held_pages(), 0u) << "pages that did not come back";
    EXPECT_TRUE(source_->validate());
  }

  void make_source(const SimPageAllocatorOptions& options) {
    pool_.reset();
    source_ = SimPageAllocator::create(options).value();
  }
  /// `options` with this test's page source.
  ZpoolOptions on_source(ZpoolOptions options = {}) {
    options.pages = source_.get();
    return options;
  }
  Result<std::unique_ptr<Zpool>> try_make(ZpoolOptions options = {}) {
    // What a test asks for comes last, and counts.
    options.params = params() + " " + options.params;
    return Zpool::create(type(), on_source(std::move(options)));
  }
  /// A pool of its own, which ends before the test does.
  std::unique_ptr<Zpool> make(ZpoolOptions options = {}) {
    return try_make(std::move(options)).value();
  }
  /// The pool of the test, which TearDown ends.
  Zpool& make_pool(ZpoolOptions options = {}) {
    pool_ = make(std::move(options));
    return *pool_;
  }

  const std::string& type() const { return GetParam().type; }
  const std::string& params() const { return GetParam().params; }
  DriverTraits traits() const { return default_registry().traits(type()).value(); }
  std::size_t max_bytes() const { return traits().max_object_bytes; }
  std::size_t held_pages() const { return source_->stats().held_pages; }

  /// Sizes at which drivers change their ways, and some between.
  std::vector<std::size_t> sizes() const {
    std::vector<std::size_t> all = {1,   7,   8,    9,    31,   32,   63,   64,   65,   127,  128,
                                    129, 500, 1000, 1023, 1365, 2000, 2016, 2047, 2048, 2049, 3000};
    all.push_back(max_bytes() - 1);
    all.push_back(max_bytes());
    return all;
  }

  /// What must hold of a pool at rest that has these objects and no other, on a source that serves
  /// no other pool.
  void expect_sound(const Zpool& pool, const TrackedObjects& objects) const {
    EXPECT_TRUE(pool.validate());
    const ZpoolStats stats = pool.stats();
    EXPECT_EQ(stats.objects, objects.size());
    EXPECT_EQ(stats.payload_bytes, objects.payload_bytes());
    EXPECT_EQ(stats.allocations, stats.frees + stats.objects);
    EXPECT_EQ(stats.pages, held_pages());
    EXPECT_EQ(pool.total_bytes(), held_pages() * kPageSize);
    EXPECT_GE(pool.total_bytes(), stats.payload_bytes);
    if (stats.objects == 0) {
      EXPECT_EQ(held_pages(), 0u);
    }
    objects.expect_intact_and_apart();
  }

  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
};

/// What a pool shows of itself, to see that a failed call changed none of it.
struct PoolSnapshot {
  explicit PoolSnapshot(const Zpool& pool) : stats(pool.stats()), total_bytes(pool.total_bytes()) {}

  ZpoolStats stats;
  std::size_t total_bytes;
};

/// Whether nothing changed but the count of failures, which grew by `failures`.
inline void expect_unchanged(const Zpool& pool, const PoolSnapshot& before,
                             std::uint64_t failures) {
  const ZpoolStats now = pool.stats();
  EXPECT_EQ(now.objects, before.stats.objects);
  EXPECT_EQ(now.payload_bytes, before.stats.payload_bytes);
  EXPECT_EQ(now.pages, before.stats.pages);
  EXPECT_EQ(now.allocations, before.stats.allocations);
  EXPECT_EQ(now.frees, before.stats.frees);
  EXPECT_EQ(now.evicted, before.stats.evicted);
  EXPECT_EQ(now.moved, before.stats.moved);
  EXPECT_EQ(now.failures, before.stats.failures + failures);
  EXPECT_EQ(pool.total_bytes(), before.total_bytes);
  EXPECT_TRUE(pool.validate());
}

}  // namespace mmkit::testing
