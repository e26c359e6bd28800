// SPDX-License-Identifier: MIT
//
// In which order z3fold asks for objects back, and what may happen while it asks.
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>

#include "support/child_process.hpp"
#include "support/z3fold_fixture.hpp"

namespace mmkit {
namespace {

using testing::Handles;

class Z3foldReclaim : public testing::Z3foldTest {};

// ---------------------------------------------------------------- order

TEST_F(Z3foldReclaim, EvictsTheOldestPageFirst) {
  const Handle a = add(kPageSize), b = add(kMostShared), c = add(kPageSize);
  for (const Handle handle : {a, b, c}) {
    const ShrinkOutcome outcome = pool_->shrink(1);
    EXPECT_TRUE(outcome.status);
    EXPECT_EQ(outcome.reclaimed_pages, 1u);
    EXPECT_EQ(asked_.back(), handle);
  }
  EXPECT_EQ(asked_.size(), 3u);
}

TEST_F(Z3foldReclaim, EvictsMiddleThenFirstThenLast) {
  const Trio trio = add_trio(20, 20, 20);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{trio.middle, trio.first, trio.last}));
}

TEST_F(Z3foldReclaim, MakesAPageYoungWhenItGetsAnObjectOrATouch) {
  const Handle a = add_chunks(40), b = add(kPageSize), c = add(kPageSize);
  const Handle a2 = add_chunks(22);
  ASSERT_EQ(page(a2), page(a));
  pool_->touch(b);
  EXPECT_TRUE(pool_->shrink(3).status);
  EXPECT_EQ(asked_, (Handles{c, a, a2, b}));
}

TEST_F(Z3foldReclaim, KeepsTheAgeOfAPageThatIsMappedOrLosesAnObject) {
  const Trio trio = add_trio(20, 20, 20);
  const Handle b = add(kPageSize);
  address(trio.first);
  free(trio.middle);
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{trio.first, trio.last, b}));
}

TEST_F(Z3foldReclaim, PutsAPageThatSurvivesToTheYoungEnd) {
  const Handle a = add(kPageSize), b = add(kPageSize), c = add(kPageSize);
  make_refusing_of(a);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{a, b}));
  answer_ = [&](Handle handle) { return give_up(handle); };
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{a, b, c, a}));
}

TEST_F(Z3foldReclaim, StopsAtTheFirstObjectThatStays) {
  const Trio trio = add_trio(20, 20, 20);
  make_refusing_of(trio.first);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  ASSERT_GE(asked_.size(), 2u);
  EXPECT_EQ(asked_[0], trio.middle);
  for (std::size_t i = 1; i < asked_.size(); ++i) EXPECT_EQ(asked_[i], trio.first);
  EXPECT_TRUE(live(trio.last));
  EXPECT_FALSE(live(trio.middle));
  EXPECT_EQ(pool_->stats().evicted, 1u);
}

TEST_F(Z3foldReclaim, GivesUpAfterItsRetries) {
  for (const unsigned retries : {8u, 1u, 3u, 20u}) {
    make(retries == 8 ? std::string() : "reclaim_retries=" + std::to_string(retries));
    Handles pages;
    for (int i = 0; i < 30; ++i) pages.push_back(add(kPageSize));
    answer_ = &Z3foldReclaim::refuse;
    asked_.clear();
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    EXPECT_EQ(asked_, Handles(pages.begin(), pages.begin() + retries));
    for (const Handle handle : pages) free(handle);
  }
}

TEST_F(Z3foldReclaim, PassesOverPagesWithAMappedObjectHoweverMany) {
  make("reclaim_retries=1");
  std::vector<Trio> trios;
  for (int i = 0; i < 3; ++i) trios.push_back(add_trio(20, 20, 20));
  const Handle open = add(kPageSize);
  ASSERT_TRUE(pool_->map(trios[0].first, MapMode::read_only));
  ASSERT_TRUE(pool_->map(trios[1].middle, MapMode::read_only));
  ASSERT_TRUE(pool_->map(trios[2].last, MapMode::read_only));
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, Handles{open});
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(asked_.size(), 1u);
  pool_->unmap(trios[0].first);
  pool_->unmap(trios[1].middle);
  pool_->unmap(trios[2].last);
}

// ---------------------------------------------------------------- inside an eviction

TEST_F(Z3foldReclaim, PutsNothingIntoAPageThatIsBeingEvictedAndMovesNothingOfIt) {
  const Trio trio = add_trio(10, 10, 10);
  free(trio.first);
  free(trio.last);
  const Handle other = add_chunks(62 - 9);
  Handle inside = Handle::none;
  answer_ = [&](Handle handle) {
    const std::uintptr_t at = address(handle);
    inside = add_chunks(10);
    EXPECT_NE(page(inside), page(handle));
    EXPECT_TRUE(pool_->compact());
    EXPECT_EQ(address(handle), at);
    return give_up(handle);
  };
  pool_->touch(other);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, Handles{trio.middle});
  EXPECT_TRUE(live(inside));
  expect_whole();
}

// The page at the end of the scan is a whole one that somebody else evicts already.
TEST_F(Z3foldReclaim, LeavesAWholePageToWhoIsEvictingIt) {
  const Handle whole = add(kPageSize);
  answer_ = [&](Handle handle) {
    if (asked_.size() > 1) return refuse(handle);
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    EXPECT_EQ(asked_, Handles{whole}) << "nobody asks for it a second time";
    const Status freed = give_up(handle);
    EXPECT_EQ(pool_->total_pages(), 1u) << "the page is the eviction's until it ends";
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    EXPECT_TRUE(pool_->validate());
    return freed;
  };
  const ShrinkOutcome outcome = pool_->shrink(1);
  EXPECT_TRUE(outcome.status);
  EXPECT_EQ(outcome.reclaimed_pages, 1u);
  EXPECT_EQ(asked_, Handles{whole});
  EXPECT_EQ(pool_->total_pages(), 0u);
  EXPECT_EQ(memory_->stats().held_pages, 0u);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::invalid_argument);
}

// A page that survives a partly failed eviction: what was freed meanwhile leaves nothing behind.
TEST_F(Z3foldReclaim, LeaksNothingWhenAPageSurvives) {
  const Handle stays = add_chunks(20);
  make_refusing_of(stays);
  const std::size_t before = pool_->stats().metadata_bytes;
  for (int i = 0; i < 3000; ++i) {
    const Handle a = pool_->allocate(20 * kChunk, Gfp::kernel).value();
    const Handle b = pool_->allocate(20 * kChunk, Gfp::kernel).value();
    ASSERT_EQ(page(a), page(stays));
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    EXPECT_EQ(pool_->total_pages(), 1u);
    if (live(a)) free(a);
    if (live(b)) free(b);
    ASSERT_TRUE(pool_->validate());
  }
  EXPECT_EQ(pool_->stats().objects, 1u);
  EXPECT_EQ(pool_->stats().metadata_bytes, before);
}

TEST_F(Z3foldReclaim, GivesThePageBackWhenItsOthersAreFreedInside) {
  const Trio trio = add_trio(20, 20, 20);
  answer_ = [&](Handle handle) {
    EXPECT_EQ(handle, trio.middle);
    free(trio.first);
    free(trio.last);
    return give_up(handle);
  };
  EXPECT_EQ(pool_->shrink(1).reclaimed_pages, 1u);
  EXPECT_EQ(asked_, Handles{trio.middle});
  EXPECT_EQ(pool_->total_pages(), 0u);
  EXPECT_EQ(pool_->stats().evicted, 1u);
}

TEST_F(Z3foldReclaim, DoesNotAskForAnObjectThatGotASiblingsSlot) {
  const Trio trio = add_trio(20, 20, 20);
  Handle heir = Handle::none;
  answer_ = [&](Handle handle) {
    if (handle == trio.middle) {
      free(trio.first);
      heir = add(kPageSize);
      EXPECT_EQ(handle_bits::index(heir), handle_bits::index(trio.first));
    }
    return give_up(handle);
  };
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{trio.middle, trio.last}));
  EXPECT_TRUE(live(heir));
}

TEST_F(Z3foldReclaim, TakesALieForARefusal) {
  const Trio trio = add_trio(20, 20, 20);
  answer_ = [](Handle) -> Status { return {}; };
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  for (const Handle handle : asked_) EXPECT_EQ(handle, trio.middle);
  EXPECT_EQ(pool_->stats().evicted, 0u);
}

TEST_F(Z3foldReclaim, WaitsForCompactionAfterAPartlyFailedEviction) {
  const Trio trio = add_trio(10, 10, 10);
  free(trio.first);
  const Handle first = add_chunks(3);
  ASSERT_EQ(page(first), page(trio.middle));
  make_refusing_of(first);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_TRUE(pool_->compact());
  EXPECT_TRUE(pool_->validate());
  expect_whole();
}

// A thread evicts while the process forks: its page is the child's to use.
TEST_F(Z3foldReclaim, GivesTheChildOfAForkThePagesThatWereBeingEvicted) {
  const Trio trio = add_trio(20, 20, 20);
  std::atomic<bool> asked{false}, forked{false};
  answer_ = [&](Handle handle) -> Status {
    asked = true;
    while (!forked) std::this_thread::yield();
    return give_up(handle);
  };
  std::thread evictor([&] { static_cast<void>(pool_->shrink(1)); });
  while (!asked) std::this_thread::yield();
  const int code = testing::run_in_child([&] {
    if (!pool_->validate()) return 1;
    for (const Handle handle : {trio.first, trio.middle, trio.last}) {
      if (!live(handle)) return 2;
    }
    if (!pool_->free(trio.first) || !pool_->free(trio.middle)) return 3;
    const Result<Handle> again = pool_->allocate(40 * kChunk, Gfp::kernel);
    if (!again || page(*again) != page(trio.last)) return 4;
    if (!pool_->free(*again) || !pool_->free(trio.last)) return 5;
    return pool_->total_pages() == 0 && pool_->validate() ? 0 : 6;
  });
  forked = true;
  evictor.join();
  EXPECT_EQ(code, 0);
  EXPECT_EQ(pool_->total_pages(), 0u);
}

}  // namespace
}  // namespace mmkit
