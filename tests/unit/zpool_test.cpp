// SPDX-License-Identifier: MIT
//
// The front end alone, over backends that do what each test tells them.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/stub_driver.hpp"

namespace mmkit {
namespace {

using testing::EmptyBackend;
using testing::has_pattern;
using testing::make_pattern;
using testing::make_stub;

static_assert(!std::is_copy_constructible_v<Zpool> && !std::is_move_constructible_v<Zpool>);
static_assert(!std::is_copy_constructible_v<Mapping> && !std::is_copy_assignable_v<Mapping>);
static_assert(std::is_nothrow_move_constructible_v<Mapping>);
static_assert(std::is_nothrow_move_assignable_v<Mapping>);
static_assert(std::is_nothrow_default_constructible_v<Mapping>);

// One object of one page, and a journal of what was asked of it.
class OneObject : public EmptyBackend {
 public:
  explicit OneObject(BackendEnv&& env) : env_(std::move(env)), name_(env_.name) {}
  ~OneObject() override {
    if (run_.data != nullptr) env_.pages->free_pages(run_);
  }

  Result<Handle> allocate(std::size_t size_bytes, Gfp gfp) noexcept override {
    calls += 'a';
    last_gfp = gfp;
    ++tries;
    if (run_.data != nullptr) return refuse(Errc::out_of_memory);
    const Result<PageRun> run = env_.pages->allocate_pages({});
    if (!run) return refuse(run.error());
    run_ = *run;
    size_ = size_bytes;
    return handle();
  }
  Status free(Handle) noexcept override {
    calls += 'f';
    env_.pages->free_pages(std::exchange(run_, {}));
    return {};
  }
  void touch(Handle) noexcept override { calls += 't'; }
  Result<std::span<std::byte>> map(Handle, MapMode) noexcept override {
    calls += 'm';
    if (map_error != Errc{}) return fail(map_error);
    return std::span(run_.data, size_);
  }
  void unmap(Handle) noexcept override { calls += 'u'; }
  ShrinkOutcome shrink(std::size_t pages) noexcept override {
    calls += 's';
    if (on_shrink) return on_shrink(pages);
    return {0, fail(Errc::try_again)};
  }
  std::size_t total_pages() const noexcept override { return run_.pages; }
  ZpoolStats stats() const noexcept override {
    ZpoolStats stats;
    stats.failures = failures;
    stats.metadata_bytes = 100;
    if (on_stats) std::exchange(on_stats, nullptr)();
    return stats;
  }

  Handle handle() const { return handle_bits::make(env_.pool_tag, 1, 1); }
  const BackendEnv& env() const { return env_; }

  std::string calls;
  Gfp last_gfp{};
  Errc map_error{};
  int tries = 0;
  std::uint64_t failures = 0;
  std::function<ShrinkOutcome(std::size_t)> on_shrink;
  mutable std::function<void()> on_stats;  // once, after the numbers were read

 private:
  Result<Handle> refuse(Errc why) {
    ++failures;
    return fail(why);
  }

  BackendEnv env_;
  std::string name_;
  PageRun run_{};
  std::size_t size_ = 0;
};

class ZpoolFrontEnd : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
    register_stub("stub", {.max_object_bytes = 1000, .can_shrink = true});
  }
  void register_stub(std::string type, DriverTraits traits) {
    ASSERT_TRUE(registry_.register_driver(make_stub(
        std::move(type),
        [this](BackendEnv&& env) -> Result<std::unique_ptr<ZpoolBackend>> {
          params_ = env.params;
          if (refusal_ != Errc{}) return fail(refusal_);
          auto backend = std::make_unique<OneObject>(std::move(env));
          backend_ = backend.get();
          return std::unique_ptr<ZpoolBackend>(std::move(backend));
        },
        traits)));
  }
  Result<std::unique_ptr<Zpool>> try_make(ZpoolOptions options = {},
                                          std::string_view type = "stub") {
    options.registry = &registry_;
    options.pages = source_.get();
    return Zpool::create(type, std::move(options));
  }
  Zpool& make(ZpoolOptions options = {}, std::string_view type = "stub") {
    pool_ = try_make(std::move(options), type).value();
    return *pool_;
  }
  static EvictFn refusing() {
    return [](Zpool&, Handle) -> Status { return fail(Errc::busy); };
  }

  std::unique_ptr<SimPageAllocator> source_;
  DriverRegistry registry_;
  Errc refusal_{};
  std::string params_;
  OneObject* backend_ = nullptr;  // of the pool made last
  std::unique_ptr<Zpool> pool_;
};

TEST_F(ZpoolFrontEnd, RefusesATypeThatNobodyKnows) {
  EXPECT_EQ(try_make({}, "unknown").error(), Errc::not_found);
  EXPECT_EQ(try_make({}, "").error(), Errc::not_found);
  EXPECT_EQ(try_make({}, "Not A Type").error(), Errc::not_found);
}

TEST_F(ZpoolFrontEnd, HandsTheDriverWhatWasAskedFor) {
  make({.name = "n", .gfp = Gfp::movable, .params = "a=1,b=2"});
  EXPECT_EQ(backend_->env().gfp, Gfp::movable);
  EXPECT_EQ(params_, "a=1,b=2");
  EXPECT_NE(backend_->env().pool_tag, 0);
  EXPECT_NE(backend_->env().pages, nullptr);
  EXPECT_FALSE(backend_->env().evict) << "no callback was given";
  EXPECT_EQ(pool_->type(), "stub");
  EXPECT_EQ(pool_->name(), "n");
  EXPECT_EQ(pool_->max_object_bytes(), 1000u);
  EXPECT_EQ(pool_->limit_bytes(), 0u);
}

TEST_F(ZpoolFrontEnd, IsEvictableWhenTheDriverCanAndACallbackIsGiven) {
  register_stub("rigid", {.can_shrink = false});
  EXPECT_FALSE(make().evictable());
  EXPECT_TRUE(make({.evict = refusing()}).evictable());
  EXPECT_TRUE(backend_->env().evict);
  EXPECT_FALSE(make({}, "rigid").evictable());
  EXPECT_FALSE(make({.evict = refusing()}, "rigid").evictable());
  EXPECT_FALSE(backend_->env().evict) << "a driver that cannot shrink gets no callback";
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::invalid_argument);
  EXPECT_EQ(backend_->calls, "") << "and is not asked to";
}

TEST_F(ZpoolFrontEnd, PassesOnWhyADriverMakesNoPool) {
  for (const Errc why : {Errc::out_of_memory, Errc::invalid_argument, Errc::not_supported}) {
    refusal_ = why;
    EXPECT_EQ(try_make().error(), why);
  }
  refusal_ = {};
  // Nothing of the failed ones is left: not the hold on the driver, not the tag.
  EXPECT_TRUE(registry_.unregister_driver("stub"));
}

TEST_F(ZpoolFrontEnd, PassesCallsOn) {
  Zpool& pool = make();
  const Handle handle = pool.allocate(10, Gfp::zero).value();
  EXPECT_EQ(backend_->last_gfp, Gfp::zero);
  EXPECT_EQ(pool.total_bytes(), kPageSize);
  pool.touch(handle);
  { const Mapping mapping = pool.map(handle); }
  { EXPECT_TRUE(pool.try_map(handle)); }
  EXPECT_EQ(pool.compact().error(), Errc::not_supported);
  EXPECT_TRUE(pool.validate());
  pool.free(handle);
  EXPECT_EQ(backend_->calls, "atmumuf");
}

TEST_F(ZpoolFrontEnd, KeepsForeignHandlesFromTheDriver) {
  Zpool& pool = make();
  const std::uint16_t tag = backend_->env().pool_tag;
  for (const int other : {0, tag - 1, tag + 1, tag ^ 0x8000}) {
    const Handle foreign = handle_bits::make(static_cast<std::uint16_t>(other), 1, 1);
    EXPECT_EQ(pool.try_free(foreign).error(), Errc::invalid_argument);
    EXPECT_EQ(pool.try_map(foreign).error(), Errc::not_found);
  }
  EXPECT_EQ(backend_->calls, "");
}

// The store that a driver gets for nothing.
TEST_F(ZpoolFrontEnd, StoresThroughAMappingWhereTheDriverHasNoStoreOfItsOwn) {
  Zpool& pool = make();
  const Handle handle = pool.store(make_pattern(333, 4), Gfp::movable).value();
  EXPECT_EQ(backend_->calls, "amu");
  EXPECT_EQ(backend_->last_gfp, Gfp::movable);
  EXPECT_TRUE(has_pattern(pool.map(handle, MapMode::read_only).const_bytes(), 4));
  pool.free(handle);

  backend_->map_error = Errc::out_of_memory;
  backend_->calls.clear();
  EXPECT_EQ(pool.store(make_pattern(333, 5)).error(), Errc::out_of_memory);
  EXPECT_EQ(backend_->calls, "amf") << "what cannot be filled is not left behind";
  EXPECT_EQ(pool.total_bytes(), 0u);
}

TEST_F(ZpoolFrontEnd, CountsItselfAmongTheMetadata) {
  EXPECT_GE(make().stats().metadata_bytes, 100 + sizeof(Zpool));
}

// ---------------------------------------------------------------- at the limit

TEST_F(ZpoolFrontEnd, DoesNotEvictForADriverThatFailsByItself) {
  Zpool& pool = make({.evict = refusing(), .limit_bytes = kPageSize});
  const Handle handle = pool.allocate(10).value();
  // Full by its own rule; the page source was not even asked.
  EXPECT_EQ(pool.allocate(10).error(), Errc::out_of_memory);
  EXPECT_EQ(backend_->calls.find('s'), std::string::npos);
  EXPECT_EQ(pool.stats().failures, 1u);
  pool.free(handle);
}

TEST_F(ZpoolFrontEnd, TriesAgainAfterEachEvictionThatFreedAPage) {
  Zpool& pool = make({.evict = refusing(), .limit_bytes = kPageSize});
  // The page under the limit is taken from below, so that every allocation meets the limit.
  PageSource& limited = *backend_->env().pages;
  PageRun run = limited.allocate_pages({}).value();
  int shrinks = 0;
  backend_->on_shrink = [&](std::size_t pages) -> ShrinkOutcome {
    EXPECT_EQ(pages, 1u);
    if (++shrinks == 3) limited.free_pages(run);
    return {1, {}};  // a page was freed; before the third time another thread took it
  };
  const Handle handle = pool.allocate(10).value();
  EXPECT_EQ(shrinks, 3);
  EXPECT_EQ(pool.stats().failures, 0u);
  pool.free(handle);
}

TEST_F(ZpoolFrontEnd, GivesUpWhenOthersTakeEveryPageThatIsFreed) {
  Zpool& pool = make({.evict = refusing(), .limit_bytes = kPageSize});
  PageSource& limited = *backend_->env().pages;
  const PageRun run = limited.allocate_pages({}).value();
  int shrinks = 0;
  backend_->on_shrink = [&](std::size_t) -> ShrinkOutcome {
    ++shrinks;
    return {1, {}};
  };
  EXPECT_EQ(pool.allocate(10).error(), Errc::out_of_memory);
  EXPECT_GT(shrinks, 1);
  EXPECT_LT(shrinks, 100);
  EXPECT_EQ(pool.stats().failures, 1u);
  limited.free_pages(run);
}

TEST_F(ZpoolFrontEnd, LooksOnceMoreWhenAShrinkFreedNoPage) {
  Zpool& pool = make({.evict = refusing(), .limit_bytes = kPageSize});
  PageSource& limited = *backend_->env().pages;
  const PageRun run = limited.allocate_pages({}).value();
  EXPECT_EQ(pool.allocate(10).error(), Errc::out_of_memory);
  EXPECT_EQ(std::count(backend_->calls.begin(), backend_->calls.end(), 's'), 1);
  EXPECT_EQ(backend_->calls.back(), 'a');
  EXPECT_EQ(pool.stats().failures, 1u);
  limited.free_pages(run);
}

// The attempts that were made good are not failures, at any moment: the accounts are read while an
// allocation is under way.
TEST_F(ZpoolFrontEnd, CountsNoMoreRetriesThanFailures) {
  Zpool& pool = make({.evict = refusing(), .limit_bytes = kPageSize});
  PageSource& limited = *backend_->env().pages;
  const PageRun run = limited.allocate_pages({}).value();
  backend_->on_stats = [&] { EXPECT_FALSE(pool.allocate(10)); };
  EXPECT_LE(pool.stats().failures, 1u);
  EXPECT_EQ(pool.stats().failures, 1u);
  limited.free_pages(run);
}

}  // namespace
}  // namespace mmkit
