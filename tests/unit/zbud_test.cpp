// SPDX-License-Identifier: MIT
//
// Where zbud puts objects and in which order it asks for them back: exactly as the kernel's does.
//
// Through the class itself, without the front end. A place is told by an object's address: the page
// it is in, and the offset there.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/hooked_source.hpp"
#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::uint16_t kTag = 99;
constexpr std::size_t kChunk = ZbudPage::kChunkBytes;
constexpr std::size_t kMax = 3968;

using testing::HookedSource;

class Zbud : public ::testing::Test {
 protected:
  void SetUp() override {
    memory_ = SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20}).value();
    source_ = std::make_unique<HookedSource>(*memory_);
    make();
  }
  void TearDown() override {
    answer_ = [this](Handle handle) { return pool_->free(handle); };
    while (pool_->total_pages() != 0) ASSERT_TRUE(pool_->shrink(pool_->total_pages()).status);
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(memory_->stats().held_pages, 0u);
  }

  void make(std::string_view params = {}, Gfp gfp = Gfp::kernel) {
    pool_ = ZbudPool::create(BackendEnv{.name = "z",
                                        .params = params,
                                        .pages = source_.get(),
                                        .gfp = gfp,
                                        .pool_tag = kTag,
                                        .evict =
                                            [this](Handle handle) {
                                              asked_.push_back(handle);
                                              return answer_(handle);
                                            }})
                .value();
  }

  Handle add(std::size_t size_bytes) {
    const Handle handle = pool_->allocate(size_bytes, Gfp::kernel).value();
    EXPECT_TRUE(pool_->validate());
    return handle;
  }
  // An object that leaves exactly so many chunks of its page free.
  Handle add_leaving(unsigned free_chunks) {
    return add((ZbudPage::kUsableChunks - free_chunks) * kChunk);
  }
  void free(Handle handle) {
    EXPECT_TRUE(pool_->free(handle));
    EXPECT_TRUE(pool_->validate());
  }
  std::uintptr_t address(Handle handle) {
    const auto bytes = pool_->map(handle, MapMode::read_only);
    EXPECT_TRUE(bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(bytes->data());
    pool_->unmap(handle);
    return address;
  }
  std::uintptr_t page(Handle handle) { return address(handle) / kPageSize; }
  std::size_t offset(Handle handle) { return address(handle) % kPageSize; }
  bool live(Handle handle) {
    const bool live = pool_->map(handle, MapMode::read_only).has_value();
    if (live) pool_->unmap(handle);
    return live;
  }
  Status give_up(Handle handle) { return pool_->free(handle); }
  static Status refuse(Handle) { return fail(Errc::busy); }
  void make_refusing_of(Handle kept) {
    answer_ = [this, kept](Handle handle) {
      return handle == kept ? refuse(handle) : give_up(handle);
    };
  }

  std::unique_ptr<SimPageAllocator> memory_;
  std::unique_ptr<HookedSource> source_;
  std::function<Status(Handle)> answer_ = [this](Handle handle) { return give_up(handle); };
  std::vector<Handle> asked_;
  std::unique_ptr<ZbudPool> pool_;
};

using Handles = std::vector<Handle>;

// ---------------------------------------------------------------- making one

TEST_F(Zbud, RefusesAnEnvironmentThatIsNone) {
  BackendEnv env{.name = {}, .params = {}, .pages = nullptr, .gfp = {}, .pool_tag = 1, .evict = {}};
  EXPECT_EQ(ZbudPool::create(BackendEnv(env)).error(), Errc::invalid_argument) << "no source";
  env.pages = source_.get();
  env.pool_tag = 0;
  EXPECT_EQ(ZbudPool::create(BackendEnv(env)).error(), Errc::invalid_argument) << "no tag";
  env.pool_tag = 1;
  EXPECT_TRUE(ZbudPool::create(BackendEnv(env)));
}

TEST_F(Zbud, SaysWhatItCanDo) {
  const DriverTraits traits = zbud_driver().traits();
  EXPECT_EQ(zbud_driver().type(), "zbud");
  EXPECT_EQ(traits.max_object_bytes, kMax);
  EXPECT_TRUE(traits.can_shrink);
  EXPECT_FALSE(traits.can_compact);
  EXPECT_FALSE(traits.highmem);
  EXPECT_EQ(pool_->compact().error(), Errc::not_supported);
}

// ---------------------------------------------------------------- places

TEST_F(Zbud, PutsTheFirstObjectBehindTheFirstChunk) {
  for (const std::size_t size : {std::size_t{1}, kChunk - 1, kChunk, kChunk + 1, kMax}) {
    const Handle handle = add(size);
    EXPECT_EQ(offset(handle), kChunk) << size;
    EXPECT_EQ(pool_->total_pages(), 1u);
    free(handle);
    EXPECT_EQ(pool_->total_pages(), 0u);
  }
}

TEST_F(Zbud, PutsTheSecondObjectFlushWithThePagesEnd) {
  for (const std::size_t size :
       {std::size_t{1}, kChunk - 1, kChunk, kChunk + 1, std::size_t{1000}}) {
    const Handle first = add(2000);
    const Handle last = add(size);
    EXPECT_EQ(page(last), page(first));
    EXPECT_EQ(offset(last), kPageSize - (size + kChunk - 1) / kChunk * kChunk) << size;
    free(first);
    free(last);
  }
}

TEST_F(Zbud, PutsNoThirdObjectIntoAPage) {
  const Handle first = add(10);
  const Handle second = add(10);
  const Handle third = add(10);
  EXPECT_EQ(page(second), page(first));
  EXPECT_NE(page(third), page(first));
  EXPECT_EQ(offset(third), kChunk);
}

TEST_F(Zbud, FillsAPageToItsLastChunkAndNoFurther) {
  for (unsigned chunks = 1; chunks <= ZbudPage::kMaxChunks; ++chunks) {
    const Handle first = add(chunks * kChunk);
    const Handle fits = add((63 - chunks) * kChunk);
    EXPECT_EQ(page(fits), page(first)) << chunks;
    EXPECT_EQ(offset(fits), (chunks + 1) * kChunk) << "buddies meet, and do not overlap";
    free(fits);
    if (chunks > 1) {  // larger than the largest goes nowhere
      const Handle too_large = add((63 - chunks) * kChunk + 1);
      EXPECT_NE(page(too_large), page(first)) << chunks;
      free(too_large);
    }
    free(first);
  }
}

TEST_F(Zbud, TakesFirstBeforeLastInAPageThatHasBothFree) {
  const Handle first = add(500);
  const Handle last = add(600);
  free(first);
  const Handle again = add(700);
  EXPECT_EQ(page(again), page(last));
  EXPECT_EQ(offset(again), kChunk) << "FIRST was free";
  free(last);
  const Handle end = add(800);
  EXPECT_EQ(page(end), page(again));
  EXPECT_EQ(offset(end), kPageSize - 13 * kChunk);
}

TEST_F(Zbud, TakesThePageWhoseRoomFitsBest) {
  const Handle thirty = add_leaving(30);
  const Handle ten = add_leaving(10);
  const Handle twenty = add_leaving(20);
  // Upward from the chunks needed: an exact fit, then the next larger room.
  EXPECT_EQ(page(add(15 * kChunk)), page(twenty));
  EXPECT_EQ(page(add(10 * kChunk)), page(ten));
  EXPECT_EQ(page(add(1)), page(thirty));
  const std::size_t pages = pool_->total_pages();
  add(1);
  EXPECT_EQ(pool_->total_pages(), pages + 1) << "no page has room for another";
}

TEST_F(Zbud, TakesThePageThatWasListedLast) {
  const Handle a = add_leaving(20);
  const Handle b = add_leaving(20);
  const Handle c = add_leaving(20);
  EXPECT_EQ(page(add(20 * kChunk)), page(c));
  EXPECT_EQ(page(add(20 * kChunk)), page(b));
  EXPECT_EQ(page(add(20 * kChunk)), page(a));
}

TEST_F(Zbud, ListsAPageAnewWhenABuddyLeaves) {
  const Handle a = add_leaving(20);
  const Handle a_buddy = add(20 * kChunk);
  const Handle b = add_leaving(20);
  free(a_buddy);  // behind b in age, before it in the list
  EXPECT_EQ(page(add(20 * kChunk)), page(a));
  EXPECT_EQ(page(add(20 * kChunk)), page(b));
}

TEST_F(Zbud, DoesNotChangeTheListWhenAnObjectIsTouchedOrMapped) {
  const Handle a = add_leaving(20);
  const Handle b = add_leaving(20);
  pool_->touch(a);
  address(a);
  EXPECT_EQ(page(add(20 * kChunk)), page(b));
}

TEST_F(Zbud, HoldsAtLeastHalfAsManyPagesAsObjects) {
  std::mt19937_64 random(testing::test_seed(1));
  Handles handles;
  for (std::uint64_t i = 0; i < testing::scaled(3000); ++i) {
    if (handles.size() < 100 || random() % 2 == 0) {
      handles.push_back(add(1 + random() % kMax));
    } else {
      std::swap(handles[random() % handles.size()], handles.back());
      free(handles.back());
      handles.pop_back();
    }
    EXPECT_GE(2 * pool_->total_pages(), handles.size());
    EXPECT_LE(pool_->total_pages(), handles.size());
  }
}

// ---------------------------------------------------------------- order of eviction

TEST_F(Zbud, EvictsTheOldestPageFirst) {
  const Handle a = add(kMax), b = add(kMax), c = add(kMax);
  for (const Handle handle : {a, b, c}) {
    const ShrinkOutcome outcome = pool_->shrink(1);
    EXPECT_TRUE(outcome.status);
    EXPECT_EQ(outcome.reclaimed_pages, 1u);
    EXPECT_EQ(asked_.back(), handle);
  }
  EXPECT_EQ(asked_.size(), 3u);
}

TEST_F(Zbud, EvictsFirstBeforeLast) {
  const Handle first = add(100);
  const Handle last = add(100);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{first, last}));
  asked_.clear();

  // By place and not by age.
  const Handle old_first = add(500);
  const Handle old_last = add(100);
  free(old_first);
  const Handle new_first = add(200);
  EXPECT_EQ(page(new_first), page(old_last));
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{new_first, old_last}));
}

TEST_F(Zbud, MakesAPageYoungWhenItGetsABuddy) {
  const Handle a = add_leaving(20);
  const Handle b = add(kMax);
  const Handle a_buddy = add(20 * kChunk);
  EXPECT_EQ(page(a_buddy), page(a));
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{b, a, a_buddy}));
}

TEST_F(Zbud, MakesAPageYoungWhenEitherBuddyIsTouched) {
  const Handle a = add(2000), a_buddy = add(1900);
  const Handle b = add(kMax), c = add(kMax);
  pool_->touch(a_buddy);
  pool_->touch(b);
  EXPECT_TRUE(pool_->shrink(3).status);
  EXPECT_EQ(asked_, (Handles{c, a, a_buddy, b}));

  asked_.clear();
  const Handle d = add(2000), d_buddy = add(1900);
  const Handle e = add(kMax);
  pool_->touch(d);
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{e, d, d_buddy}));
}

// Neither looking at an object nor losing one makes a page younger.
TEST_F(Zbud, KeepsTheAgeOfAPageThatIsMappedOrLosesABuddy) {
  const Handle a = add(2000), a_buddy = add(1900);
  const Handle b = add(kMax);
  address(a);
  free(a_buddy);
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{a, b}));
}

TEST_F(Zbud, PutsAPageThatSurvivesToTheYoungEnd) {
  const Handle a = add(kMax), b = add(kMax), c = add(kMax);
  make_refusing_of(a);
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{a, b}));
  answer_ = [&](Handle handle) { return give_up(handle); };
  EXPECT_TRUE(pool_->shrink(2).status);
  EXPECT_EQ(asked_, (Handles{a, b, c, a}));
}

TEST_F(Zbud, StopsAtTheFirstBuddyThatStays) {
  const Handle first = add(2000), last = add(1900);
  make_refusing_of(first);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  for (const Handle handle : asked_) EXPECT_EQ(handle, first) << "LAST is not asked for in vain";
  EXPECT_TRUE(live(last));
}

TEST_F(Zbud, KeepsTheSecondBuddyThatStaysAlone) {
  const Handle first = add(2000), last = add(1900);
  make_refusing_of(last);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(asked_.front(), first);
  EXPECT_FALSE(live(first));
  EXPECT_TRUE(live(last));
  EXPECT_EQ(pool_->stats().evicted, 1u);
  // The room of the one that went is there for the next one.
  const Handle next = add(2000);
  EXPECT_EQ(page(next), page(last));
  EXPECT_EQ(offset(next), kChunk);
}

TEST_F(Zbud, GivesUpAfterItsRetries) {
  for (const unsigned retries : {8u, 1u, 3u, 20u}) {
    make(retries == 8 ? std::string() : "reclaim_retries=" + std::to_string(retries));
    Handles pages;
    for (int i = 0; i < 30; ++i) pages.push_back(add(kMax));
    answer_ = &Zbud::refuse;
    asked_.clear();
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    // The oldest so many, and they are the youngest now.
    EXPECT_EQ(asked_, Handles(pages.begin(), pages.begin() + retries));
    asked_.clear();
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    ASSERT_EQ(asked_.size(), retries);
    EXPECT_EQ(asked_.front(), pages[retries]);
    for (const Handle handle : pages) free(handle);
  }
}

TEST_F(Zbud, CountsItsRetriesForEachPageAnew) {
  make("reclaim_retries=2");
  Handles pages;
  for (int i = 0; i < 8; ++i) pages.push_back(add(kMax));
  answer_ = [&](Handle handle) {
    return asked_.size() % 2 == 1 ? refuse(handle) : give_up(handle);
  };
  const ShrinkOutcome outcome = pool_->shrink(4);
  EXPECT_TRUE(outcome.status);
  EXPECT_EQ(outcome.reclaimed_pages, 4u);
  EXPECT_EQ(asked_.size(), 8u);
}

TEST_F(Zbud, SkipsAPageWithAMappedBuddy) {
  for (const bool map_first : {false, true}) {
    const Handle a = add(2000), a_buddy = add(1900);
    const Handle b = add(kMax);
    const Handle mapped = map_first ? a : a_buddy;
    ASSERT_TRUE(pool_->map(mapped, MapMode::read_only));
    asked_.clear();
    EXPECT_TRUE(pool_->shrink(1).status);
    EXPECT_EQ(asked_, Handles{b}) << "neither buddy of the mapped one is asked for";
    EXPECT_TRUE(live(a));
    EXPECT_TRUE(live(a_buddy));
    pool_->unmap(mapped);
    EXPECT_TRUE(pool_->shrink(1).status);
    EXPECT_EQ(asked_, (Handles{b, a, a_buddy}));
  }
}

TEST_F(Zbud, PassesOverMappedPagesHoweverMany) {
  make("reclaim_retries=1");
  Handles pages;
  for (int i = 0; i < 6; ++i) pages.push_back(add(kMax));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(pool_->map(pages[static_cast<std::size_t>(i)], MapMode::read_only));
  }
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, Handles{pages[3]});
  EXPECT_EQ(pool_->shrink(3).reclaimed_pages, 2u) << "then all that is left is mapped";
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(asked_, (Handles{pages[3], pages[4], pages[5]}));
  for (int i = 0; i < 3; ++i) pool_->unmap(pages[static_cast<std::size_t>(i)]);
}

// ---------------------------------------------------------------- inside an eviction

TEST_F(Zbud, PutsNothingIntoAPageThatIsBeingEvicted) {
  const Handle leaving = add_leaving(40);
  Handle inside = Handle::none;
  answer_ = [&](Handle handle) {
    inside = add(30 * kChunk);
    EXPECT_NE(page(inside), page(leaving));
    const Status freed = give_up(handle);
    EXPECT_NE(page(add(5 * kChunk)), 0u);
    return freed;
  };
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(pool_->total_pages(), 1u);
  EXPECT_TRUE(live(inside));
}

TEST_F(Zbud, GivesThePageBackWhenTheSiblingIsFreedInside) {
  const Handle first = add(2000), last = add(1900);
  answer_ = [&](Handle handle) {
    EXPECT_EQ(handle, first);
    free(last);
    EXPECT_EQ(pool_->total_pages(), 1u) << "the page is the eviction's until it ends";
    return give_up(handle);
  };
  const ShrinkOutcome outcome = pool_->shrink(1);
  EXPECT_TRUE(outcome.status);
  EXPECT_EQ(outcome.reclaimed_pages, 1u);
  EXPECT_EQ(asked_, Handles{first});
  EXPECT_EQ(pool_->total_pages(), 0u);
  EXPECT_EQ(pool_->stats().evicted, 1u);
}

TEST_F(Zbud, KeepsThePageWhenOnlyTheSiblingIsFreedInside) {
  const Handle first = add(2000), last = add(1900);
  answer_ = [&](Handle handle) {
    if (live(last)) free(last);
    return refuse(handle);
  };
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_TRUE(live(first));
  EXPECT_EQ(pool_->stats().evicted, 0u);
  const Handle next = add(1900);
  EXPECT_EQ(page(next), page(first)) << "LAST's room is there again";
}

// The slot of the sibling's handle names another object by the time the sibling is asked for.
TEST_F(Zbud, DoesNotAskForAnObjectThatGotTheSiblingsSlot) {
  const Handle first = add(2000), last = add(1900);
  Handle heir = Handle::none;
  answer_ = [&](Handle handle) {
    if (handle == first) {
      free(last);
      heir = add(kMax);
      EXPECT_EQ(handle_bits::index(heir), handle_bits::index(last));
    }
    return give_up(handle);
  };
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, Handles{first});
  EXPECT_TRUE(live(heir));
}

TEST_F(Zbud, TellsAnEmptyPoolFromOneThatOthersAreEmptying) {
  add(kMax);
  answer_ = [&](Handle handle) {
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    const Status freed = give_up(handle);
    EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
    return freed;
  };
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::invalid_argument);
}

TEST_F(Zbud, TouchesNothingOfAPageThatIsBeingEvicted) {
  const Handle a = add(kMax), b = add(kMax);
  answer_ = [&](Handle handle) {
    pool_->touch(handle);
    EXPECT_TRUE(pool_->validate());
    return handle == a ? refuse(handle) : give_up(handle);
  };
  EXPECT_TRUE(pool_->shrink(1).status);
  EXPECT_EQ(asked_, (Handles{a, b}));
  EXPECT_TRUE(live(a));
}

// ---------------------------------------------------------------- beside the page source

TEST_F(Zbud, IsOpenWhileAPageIsFetched) {
  Handle inside = Handle::none;
  source_->on_allocate = [&](const PageRequest& request) {
    EXPECT_EQ(request.pages, 1u);
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(pool_->stats().objects, 0u);
    inside = add(100);
  };
  const Handle outside = add(200);
  EXPECT_NE(page(inside), page(outside)) << "each got the page it asked for, as in the kernel";
  EXPECT_EQ(pool_->total_pages(), 2u);
}

TEST_F(Zbud, IsOpenWhileAPageIsGivenBack) {
  Handle inside = Handle::none;
  source_->on_free = [&] {
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(pool_->total_pages(), 0u);
    inside = add(100);
  };
  free(add(200));
  EXPECT_TRUE(live(inside));
  EXPECT_EQ(pool_->total_pages(), 1u);
}

TEST_F(Zbud, SaysTryAgainWhereItWouldHaveToWait) {
  free(add(100));  // a page that is retained
  Result<Handle> inside = Handle::none;
  bool was_nowait = false;
  // A call that must not wait keeps the lock while it asks the source, which does not wait either.
  source_->on_allocate = [&](const PageRequest& request) {
    was_nowait = has(request.gfp, Gfp::nowait);
    inside = pool_->allocate(100, Gfp::nowait);
  };
  const Result<Handle> outside = pool_->allocate(100, Gfp::nowait);
  EXPECT_TRUE(outside);
  EXPECT_TRUE(was_nowait);
  EXPECT_EQ(inside.error(), Errc::try_again);
  EXPECT_EQ(pool_->stats().failures, 1u);
}

TEST_F(Zbud, AsksForPagesAsTheCallAndThePoolSay) {
  make({}, Gfp::movable);
  Gfp seen{};
  source_->on_allocate = [&](const PageRequest& request) { seen = request.gfp; };
  ASSERT_TRUE(pool_->allocate(100, Gfp::zero | Gfp::no_warn));
  EXPECT_TRUE(has(seen, Gfp::movable));
  EXPECT_TRUE(has(seen, Gfp::no_warn));
  EXPECT_FALSE(has(seen, Gfp::zero)) << "the object is cleared, and not the whole page";
}

// ---------------------------------------------------------------- handles, red zones

TEST_F(Zbud, RefusesHandlesOfOtherPoolsByItself) {
  const Handle handle = add(100);
  const Handle foreign{handle_bits::raw(handle) ^ std::uint64_t{1} << handle_bits::kTagShift};
  EXPECT_EQ(pool_->free(foreign).error(), Errc::invalid_argument);
  EXPECT_EQ(pool_->map(foreign, MapMode::read_write).error(), Errc::not_found);
  EXPECT_EQ(pool_->free(Handle::none).error(), Errc::invalid_argument);
  pool_->touch(foreign);
}

// Each reuse of a slot costs a generation; an object that comes and goes for ever uses up slots,
// and the pool keeps count.
TEST_F(Zbud, OutlivesTheGenerationsOfASlot) {
  const Handle first = pool_->allocate(100, Gfp::kernel).value();
  ASSERT_TRUE(pool_->free(first));
  for (int i = 0; i < 140'000; ++i) {
    const Handle handle = pool_->allocate(100, Gfp::kernel).value();
    ASSERT_NE(handle, first);
    ASSERT_TRUE(pool_->free(handle));
    ASSERT_FALSE(pool_->free(handle));
  }
  EXPECT_TRUE(pool_->validate());
  EXPECT_FALSE(live(first));
}

TEST_F(Zbud, FindsWhatOverranThePageBeforeInAuditBuilds) {
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    const Handle handle = add(100);
    std::byte* const object = pool_->map(handle, MapMode::read_write)->data();
    EXPECT_TRUE(pool_->validate());
    const std::byte before = object[-1];
    object[-1] = ~before;
    EXPECT_EQ(pool_->validate().error(), Errc::bad_format);
    object[-1] = before;
    EXPECT_TRUE(pool_->validate());
    pool_->unmap(handle);
  } else {
    GTEST_SKIP() << "red zones are for audit builds";
  }
}

}  // namespace
}  // namespace mmkit
