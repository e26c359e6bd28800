// SPDX-License-Identifier: MIT
//
// What z3fold's compaction moves, when, and where to; and what it leaves alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "support/scale.hpp"
#include "support/seed.hpp"
#include "support/z3fold_fixture.hpp"

namespace mmkit {
namespace {

class Z3foldCompact : public testing::Z3foldTest {
 protected:
  std::size_t compact() {
    const std::size_t before = pool_->total_pages();
    const std::size_t freed = pool_->compact().value();
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(before - pool_->total_pages(), freed);
    expect_whole();
    return freed;
  }
};

// ---------------------------------------------------------------- MIDDLE slides

TEST_F(Z3foldCompact, SlidesMiddleAgainstFirstOverAGapOfThreeChunks) {
  for (const unsigned gap : {0u, 1u, 2u, 3u, 7u}) {
    const Trio trio = add_trio(10, 20, 10);
    free(trio.first);
    const Handle first = add_chunks(10 - gap);
    ASSERT_EQ(page(first), page(trio.middle));
    free(trio.last);
    compact();
    EXPECT_EQ(chunk(trio.middle), gap >= 3 ? 12 - gap : 12u) << gap;
    EXPECT_EQ(chunk(first), 2u);
    free(first);
    free(trio.middle);
  }
}

TEST_F(Z3foldCompact, SlidesMiddleAgainstLastOverAGapOfThreeChunks) {
  for (const unsigned gap : {0u, 2u, 3u, 20u}) {
    const Trio trio = add_trio(10, 42 - gap, 10);
    free(trio.first);
    compact();
    EXPECT_EQ(chunk(trio.middle), gap >= 3 ? 12 + gap : 12u) << gap;
    EXPECT_EQ(chunk(trio.last), 54u);
    free(trio.middle);
    free(trio.last);
  }
}

TEST_F(Z3foldCompact, MakesALoneMiddleFirst) {
  const Trio trio = add_trio(10, 20, 10);
  free(trio.first);
  free(trio.last);
  EXPECT_EQ(chunk(trio.middle), 12u) << "it is done later";
  EXPECT_EQ(compact(), 0u);
  EXPECT_EQ(chunk(trio.middle), 2u);
  EXPECT_EQ(pool_->stats().moved, 1u);
  EXPECT_EQ(page(add_chunks(42)), page(trio.middle)) << "all of the rest is one room";
}

TEST_F(Z3foldCompact, LeavesMiddleBetweenTwo) {
  const Trio trio = add_trio(20, 10, 10);
  free(trio.first);
  const Handle first = add_chunks(5);
  ASSERT_EQ(page(first), page(trio.middle));
  compact();
  EXPECT_EQ(chunk(trio.middle), 22u);
  EXPECT_EQ(pool_->stats().moved, 0u);
}

TEST_F(Z3foldCompact, NeverSlidesAMappedMiddle) {
  const Trio trio = add_trio(10, 20, 10);
  const auto mapped = pool_->map(trio.middle, MapMode::read_only);
  ASSERT_TRUE(mapped);
  free(trio.first);
  free(trio.last);
  EXPECT_EQ(compact(), 0u);
  EXPECT_EQ(pool_->stats().moved, 0u);
  EXPECT_EQ(chunk(trio.middle), 12u);
  EXPECT_EQ(pool_->free(trio.middle).error(), Errc::busy);
  pool_->unmap(trio.middle);
  compact();
  EXPECT_EQ(chunk(trio.middle), 2u);
}

// ---------------------------------------------------------------- lone objects move

TEST_F(Z3foldCompact, MovesALoneObjectIntoThePageThatFitsBest) {
  const Trio trio = add_trio(11, 20, 31);
  const Handle roomy = add_chunks(40), exact = add_chunks(51);
  free(trio.middle);
  free(trio.last);
  EXPECT_EQ(pool_->total_pages(), 3u);
  EXPECT_EQ(pool_->stats().compactable_pages, 1u);
  EXPECT_EQ(compact(), 1u);
  EXPECT_EQ(page(exact), page(trio.first)) << "by the same handle, the largest first";
  EXPECT_NE(page(exact), page(roomy));
  EXPECT_EQ(chunk(exact), 13u);
  EXPECT_EQ(pool_->stats().compactable_pages, 0u);
  EXPECT_EQ(pool_->stats().moved, 1u);
}

TEST_F(Z3foldCompact, NeverMovesAMappedObject) {
  const Handle lone = add_chunks(31), other = add_chunks(32);
  ASSERT_NE(page(lone), page(other));
  ASSERT_TRUE(pool_->map(lone, MapMode::read_only));
  ASSERT_TRUE(pool_->map(other, MapMode::read_only));
  const std::uintptr_t at = address(lone);
  EXPECT_EQ(compact(), 0u);
  EXPECT_EQ(address(lone), at);
  pool_->unmap(lone);
  pool_->unmap(other);
}

TEST_F(Z3foldCompact, NeverMovesWhatIsMappedHoweverOften) {
  const Trio a = add_trio(20, 20, 20), b = add_trio(20, 20, 20);
  free(a.first);
  free(a.last);
  free(b.first);
  std::uintptr_t at = 0;
  for (int i = 0; i < 100; ++i) {  // across the point where a slot counts no further
    const auto bytes = pool_->map(a.middle, MapMode::read_only);
    ASSERT_TRUE(bytes);
    at = reinterpret_cast<std::uintptr_t>(bytes->data());
    EXPECT_EQ(compact(), 0u);
    EXPECT_EQ(address(a.middle), at);
  }
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(compact(), 0u);
    pool_->unmap(a.middle);
  }
  EXPECT_EQ(compact(), 1u);
  EXPECT_NE(address(a.middle), at);
}

// A small object fits anywhere, a whole one nowhere.
TEST_F(Z3foldCompact, LeavesWholePagesAlone) {
  add_chunks(10);
  const Handle whole = add(kPageSize);
  const std::uintptr_t at = address(whole);
  EXPECT_EQ(compact(), 0u);
  EXPECT_EQ(address(whole), at);
}

TEST_F(Z3foldCompact, LeavesNoLoneObjectThatWouldFitElsewhere) {
  std::mt19937_64 random(testing::test_seed(5));
  for (std::uint64_t round = 0; round < testing::scaled(30, 4); ++round) {
    testing::Handles handles;
    for (int i = 0; i < 400; ++i) {
      handles.push_back(add(1 + random() % (round % 2 == 0 ? kPageSize : 1500)));
    }
    std::shuffle(handles.begin(), handles.end(), random);
    const std::size_t kept = 20 + random() % 200;
    for (std::size_t i = kept; i < handles.size(); ++i) ASSERT_TRUE(pool_->free(handles[i]));
    handles.resize(kept);
    const std::size_t promised = pool_->stats().compactable_pages;
    EXPECT_EQ(compact(), promised);
    EXPECT_EQ(pool_->stats().compactable_pages, 0u);

    // By addresses alone: chunks taken in each page, and its objects.
    std::map<std::uintptr_t, std::vector<std::pair<std::size_t, std::size_t>>> pages;
    for (const Handle handle : handles) {
      const auto bytes = pool_->map(handle, MapMode::read_only);
      pages[page(handle)].push_back({chunk(handle), (bytes->size() + kChunk - 1) / kChunk});
      pool_->unmap(handle);
    }
    EXPECT_EQ(pages.size(), pool_->total_pages());
    for (const auto& [lone_page, lone] : pages) {
      if (lone.size() != 1 || lone[0].first == 0) continue;
      for (auto [other_page, others] : pages) {
        if (other_page == lone_page || others.size() == 3 || others[0].first == 0) continue;
        std::sort(others.begin(), others.end());
        // The gaps that a third object may use: all when there is no MIDDLE.
        std::size_t end = 2, widest = 0;
        others.push_back({64, 0});
        for (const auto& [start, length] : others) {
          widest = std::max(widest, start - end);
          end = start + length;
        }
        EXPECT_LT(widest, lone[0].second) << "a lone object fits elsewhere";
      }
    }
    EXPECT_EQ(compact(), 0u) << "twice is no more than once";
    for (const Handle handle : handles) ASSERT_TRUE(pool_->free(handle));
    made_.clear();
  }
}

// ---------------------------------------------------------------- deferred work

TEST_F(Z3foldCompact, SlidesWhenAnAllocationWouldElseOpenAPage) {
  const Trio trio = add_trio(10, 10, 10);
  free(trio.first);
  free(trio.last);
  EXPECT_EQ(pool_->stats().moved, 0u);
  EXPECT_EQ(page(add_chunks(50)), page(trio.middle)) << "42 chunks in one piece, but 52 in all";
  EXPECT_EQ(pool_->total_pages(), 1u);
  EXPECT_EQ(pool_->stats().moved, 1u);
  expect_whole();
}

TEST_F(Z3foldCompact, MovesALoneObjectWhenAnAllocationWouldElseOpenAPage) {
  for (const std::size_t size_bytes : {61 * kChunk, kPageSize}) {
    const Trio a = add_trio(20, 20, 20), b = add_trio(20, 20, 20);
    free(a.middle);
    free(a.last);
    free(b.middle);
    const std::uint64_t moved = pool_->stats().moved;
    const Handle large = add(size_bytes);
    EXPECT_EQ(pool_->total_pages(), 2u) << "the emptied page is taken";
    EXPECT_EQ(page(a.first), page(b.first));
    EXPECT_NE(page(large), page(b.first));
    EXPECT_EQ(pool_->stats().moved, moved + 1);
    expect_whole();
    for (const Handle handle : {a.first, b.first, b.last, large}) free(handle);
  }
}

TEST_F(Z3foldCompact, MovesNothingInAnAllocationThatFails) {
  const Trio a = add_trio(10, 20, 30);
  add_chunks(60);
  add_chunks(55);
  free(a.first);
  free(a.last);
  const std::uintptr_t at = address(a.middle);
  source_->fails = true;
  EXPECT_EQ(pool_->allocate(45 * kChunk, Gfp::kernel).error(), Errc::out_of_memory);
  EXPECT_EQ(pool_->allocate(kPageSize, Gfp::kernel).error(), Errc::out_of_memory);
  EXPECT_EQ(pool_->stats().moved, 0u);
  EXPECT_EQ(address(a.middle), at);
  EXPECT_TRUE(pool_->validate());
  source_->fails = false;
}

TEST_F(Z3foldCompact, FreesMoveObjectsWhileLoneOnesAbound) {
  constexpr std::size_t kPages = 200;
  std::vector<Trio> trios;
  for (std::size_t i = 0; i < kPages; ++i) trios.push_back(add_trio(20, 20, 20));
  EXPECT_EQ(pool_->total_pages(), kPages);
  // One lone object in seventy: let be.
  for (std::size_t i = 0; i < 2; ++i) {
    free(trios[i].first);
    free(trios[i].last);
  }
  for (std::size_t i = 2; i < 40; ++i) free(trios[i].first);
  EXPECT_EQ(pool_->stats().moved, 0u);
  // Two thirds go, and nobody calls compact().
  for (std::size_t i = 2; i < kPages; ++i) {
    if (i >= 40) free(trios[i].first);
    free(trios[i].last);
  }
  EXPECT_GT(pool_->stats().moved, 0u);
  EXPECT_LE(pool_->total_pages(), kPages / 3 + kPages / 16) << "200 objects, three to a page";
  expect_whole();
}

// The page that takes an object in is as old as it was.
TEST_F(Z3foldCompact, KeepsTheAgeOfThePageThatTakesAnObjectIn) {
  const Trio young = add_trio(20, 17, 25);
  const Handle host = add_chunks(24), blocks = add_chunks(38), old = add(kPageSize);
  ASSERT_EQ(page(blocks), page(host));
  pool_->touch(young.last);
  for (const Handle handle : {blocks, young.first, young.middle}) free(handle);
  const Handle guest = young.last;  // the largest, of the youngest page
  EXPECT_EQ(compact(), 1u);
  EXPECT_EQ(page(guest), page(host));
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (testing::Handles{host, guest, old}));
}

}  // namespace
}  // namespace mmkit
