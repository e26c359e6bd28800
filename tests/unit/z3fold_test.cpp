// SPDX-License-Identifier: MIT
//
// Where z3fold puts objects, and beside which page source: by the rules of the kernel's.
#include <gtest/gtest.h>

#include <string>

#include "support/captured_failure.hpp"
#include "support/z3fold_fixture.hpp"

namespace mmkit {
namespace {

class Z3fold : public testing::Z3foldTest {};

// ---------------------------------------------------------------- making one

TEST_F(Z3fold, RefusesAnEnvironmentThatIsNone) {
  BackendEnv env{.name = {}, .params = {}, .pages = nullptr, .gfp = {}, .pool_tag = 1, .evict = {}};
  EXPECT_EQ(Z3foldPool::create(BackendEnv(env)).error(), Errc::invalid_argument) << "no source";
  env.pages = source_.get();
  env.pool_tag = 0;
  EXPECT_EQ(Z3foldPool::create(BackendEnv(env)).error(), Errc::invalid_argument) << "no tag";
  env.pool_tag = 1;
  EXPECT_TRUE(Z3foldPool::create(BackendEnv(env)));
}

TEST_F(Z3fold, SaysWhatItCanDo) {
  const DriverTraits traits = z3fold_driver().traits();
  EXPECT_EQ(z3fold_driver().type(), "z3fold");
  EXPECT_EQ(traits.max_object_bytes, kPageSize);
  EXPECT_TRUE(traits.can_shrink);
  EXPECT_TRUE(traits.can_compact);
  EXPECT_FALSE(traits.highmem);
}

// ---------------------------------------------------------------- places

TEST_F(Z3fold, TakesFirstThenLastThenMiddle) {
  const Handle first = add(700), last = add(65), middle = add(1000);
  EXPECT_EQ(page(last), page(first));
  EXPECT_EQ(page(middle), page(first));
  EXPECT_EQ(chunk(first), 2u) << "behind the place of the kernel's header";
  EXPECT_EQ(chunk(last), 62u) << "flush with the end";
  EXPECT_EQ(chunk(middle), 13u) << "right behind FIRST";
  const Handle fourth = add(1);
  EXPECT_NE(page(fourth), page(first)) << "three at most";
  EXPECT_EQ(pool_->total_pages(), 2u);
}

TEST_F(Z3fold, GivesALargeObjectAPageOfItsOwn) {
  const Handle shared = add(kMostShared);
  EXPECT_EQ(chunk(shared), 2u);
  const Handle whole = add(kMostShared + 1), largest = add(kPageSize);
  EXPECT_EQ(chunk(whole), 0u);
  EXPECT_EQ(chunk(largest), 0u);
  EXPECT_EQ(pool_->total_pages(), 3u);
  EXPECT_EQ(page(add_chunks(1)), page(shared)) << "one chunk is left there, none beside the others";
  EXPECT_EQ(pool_->allocate(kPageSize + 1, Gfp::kernel).error(), Errc::no_space);
  expect_whole();
  free(whole);
  free(largest);
  EXPECT_EQ(pool_->total_pages(), 1u);
}

TEST_F(Z3fold, FillsAPageToItsLastChunk) {
  for (std::size_t first = 1; first <= 60; ++first) {
    const Trio trio = add_trio(first, 61 - first == 0 ? 1 : 61 - first, 1);
    EXPECT_EQ(chunk(trio.middle), 2 + first);
    EXPECT_EQ(chunk(trio.last), 63u);
    expect_whole();
    for (const Handle handle : {trio.first, trio.middle, trio.last}) free(handle);
    EXPECT_EQ(pool_->total_pages(), 0u);
  }
}

TEST_F(Z3fold, TakesThePlaceBeforeMiddleIfItFitsThereElseTheOneBehind) {
  const Trio trio = add_trio(10, 10, 10);
  free(trio.first);
  free(trio.last);  // MIDDLE is alone: 10 chunks before it, 42 behind
  const Handle fits = add_chunks(10);
  EXPECT_EQ(page(fits), page(trio.middle));
  EXPECT_EQ(chunk(fits), 2u);
  free(fits);
  const Handle too_long = add_chunks(11);
  EXPECT_EQ(page(too_long), page(trio.middle));
  EXPECT_EQ(chunk(too_long), 64u - 11);
  EXPECT_EQ(pool_->total_pages(), 1u);
}

TEST_F(Z3fold, TakesThePageWhoseRoomFitsBestAndOfThoseTheOneListedLast) {
  const Handle thirty = add_chunks(32), ten = add_chunks(52), twenty = add_chunks(42);
  EXPECT_EQ(page(add_chunks(15)), page(twenty));
  EXPECT_EQ(page(add_chunks(10)), page(ten));
  EXPECT_EQ(page(add_chunks(25)), page(thirty));

  const Handle a = add_chunks(55), b = add_chunks(55);
  EXPECT_NE(page(a), page(b));
  EXPECT_EQ(page(add_chunks(7)), page(b));
  EXPECT_EQ(page(add_chunks(7)), page(a));
}

TEST_F(Z3fold, LooksAtPagesOfOtherCpusBeforeItOpensOne) {
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  if (cpus.size() < 2) GTEST_SKIP() << "needs two CPUs";
  testing::bind_thread(::pthread_self(), {cpus[0]});
  const Handle far_fitting = add_chunks(40), far_roomy = add_chunks(30);
  EXPECT_NE(page(far_fitting), page(far_roomy));
  testing::bind_thread(::pthread_self(), {cpus[1]});
  // Not only an exact match, and the one that fits best.
  EXPECT_EQ(page(add_chunks(20)), page(far_fitting));
  const Handle near = add_chunks(33);
  EXPECT_NE(page(near), page(far_roomy));
  // Its own come first, whichever fits better.
  EXPECT_EQ(page(add_chunks(28)), page(near));
  EXPECT_EQ(page(add_chunks(31)), page(far_roomy));
  EXPECT_EQ(pool_->total_pages(), 3u);
}

// However often a thread changes its CPU: as many pages as when it stays.
TEST_F(Z3fold, NeedsAsManyPagesWhereverItsThreadRuns) {
  const auto pages_needed = [this](bool wanders) {
    const std::vector<unsigned>& cpus = testing::allowed_cpus();
    std::vector<Handle> handles;
    for (std::size_t i = 0; i < 3000; ++i) {
      if (wanders && i % 7 == 0) testing::bind_thread(::pthread_self(), {cpus[i % cpus.size()]});
      handles.push_back(pool_->allocate(600 + i * 7919 % 1500, Gfp::kernel).value());
    }
    const std::size_t pages = pool_->total_pages();
    for (const Handle handle : handles) EXPECT_TRUE(pool_->free(handle));
    return pages;
  };
  const std::size_t at_rest = pages_needed(false), wandering = pages_needed(true);
  EXPECT_LE(wandering, at_rest + at_rest / 100);
}

// ---------------------------------------------------------------- beside the page source

TEST_F(Z3fold, IsOpenWhileAPageIsFetchedAndGivenBack) {
  Handle inside = Handle::none;
  source_->on_allocate = [&](const PageRequest& request) {
    EXPECT_EQ(request.pages, 1u);
    EXPECT_TRUE(pool_->validate());
    inside = add(100);
  };
  const Handle outside = add(200);
  EXPECT_NE(page(inside), page(outside));
  Handle late = Handle::none;
  source_->on_free = [&] {
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(pool_->total_pages(), 1u);
    late = add(100);
  };
  free(outside);
  EXPECT_EQ(page(late), page(inside));
}

TEST_F(Z3fold, SaysTryAgainWhereItWouldHaveToWait) {
  free(add(100));  // a page that is retained
  Result<Handle> inside = Handle::none;
  source_->on_allocate = [&](const PageRequest& request) {
    EXPECT_TRUE(has(request.gfp, Gfp::nowait));
    inside = pool_->allocate(100, Gfp::nowait);
  };
  EXPECT_TRUE(pool_->allocate(100, Gfp::nowait));
  EXPECT_EQ(inside.error(), Errc::try_again);
  EXPECT_EQ(pool_->stats().failures, 1u);
}

TEST_F(Z3fold, AsksForPagesAsTheCallAndThePoolSay) {
  make({}, Gfp::movable);
  Gfp seen{};
  source_->on_allocate = [&](const PageRequest& request) { seen = request.gfp; };
  ASSERT_TRUE(pool_->allocate(100, Gfp::zero | Gfp::no_warn));
  EXPECT_TRUE(has(seen, Gfp::movable));
  EXPECT_TRUE(has(seen, Gfp::no_warn));
  EXPECT_FALSE(has(seen, Gfp::zero)) << "the object is cleared, and not the whole page";
}

// ---------------------------------------------------------------- handles, red zones

TEST_F(Z3fold, RefusesHandlesOfOtherPoolsByItself) {
  const Handle handle = add(100);
  const Handle foreign{handle_bits::raw(handle) ^ std::uint64_t{1} << handle_bits::kTagShift};
  EXPECT_EQ(pool_->free(foreign).error(), Errc::invalid_argument);
  EXPECT_EQ(pool_->map(foreign, MapMode::read_write).error(), Errc::not_found);
  EXPECT_EQ(pool_->free(Handle::none).error(), Errc::invalid_argument);
  pool_->touch(foreign);
}

TEST_F(Z3fold, TakesFewBytesAPageAndAHandle) {
  for (int i = 0; i < 30'000; ++i) ASSERT_TRUE(pool_->allocate(1280, Gfp::kernel));
  const ZpoolStats stats = pool_->stats();
  EXPECT_EQ(stats.pages, 10'000u);
  EXPECT_LE(stats.metadata_bytes, 30'000 * 8 + 10'000 * 44 + 32 * 1024);
}

TEST_F(Z3fold, FindsWhatOverranThePageBeforeInAuditBuilds) {
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    const Handle handle = add(100);
    std::byte* const object = pool_->map(handle, MapMode::read_write)->data();
    for (const std::ptrdiff_t off : {-1, -128}) {
      const std::byte before = object[off];
      object[off] = ~before;
      EXPECT_EQ(pool_->validate().error(), Errc::bad_format);
      object[off] = before;
      EXPECT_TRUE(pool_->validate());
    }
    pool_->unmap(handle);
  } else {
    GTEST_SKIP() << "red zones are for audit builds";
  }
}

TEST_F(Z3fold, ReportsWhatIsLeftAndEndsWithWorkWaiting) {
  const testing::CapturedLeaks leaks;
  std::vector<Trio> trios;
  for (int i = 0; i < 6; ++i) trios.push_back(add_trio(20, 20, 20));
  for (const Trio& trio : trios) {
    free(trio.first);
    free(trio.last);
  }
  const std::size_t objects = pool_->stats().objects;
  make();  // the pool before ends
  EXPECT_EQ(memory_->stats().held_pages, 0u);
  ASSERT_EQ(leaks.reports().size(), 1u);
  EXPECT_EQ(leaks.reports()[0],
            (testing::CapturedReport{"z3fold", "z", "objects left at destruction", objects}));
}

}  // namespace
}  // namespace mmkit
