// SPDX-License-Identifier: MIT
//
// Eviction: a pool asks for objects back, and stays whole whatever the one who is asked does.
//
// Each misbehaving callback is a test: the pool is filled with objects that know what is in them,
// shrunk, and looked at from all sides.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "contract/zpool_contract.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using testing::expect_unchanged;
using testing::PoolSnapshot;
using testing::TrackedObjects;

class ZpoolEviction : public testing::ZpoolContract {
 protected:
  void SetUp() override {
    ZpoolContract::SetUp();
    if (!traits().can_shrink) GTEST_SKIP() << "this driver cannot shrink";
  }
  void TearDown() override {
    objects_.reset();
    ZpoolContract::TearDown();
  }

  /// A pool whose callback is `answer`, with `count` objects of all sizes in it.
  Zpool& make_filled(std::function<Status(Handle)> answer, std::size_t count = 200) {
    answer_ = std::move(answer);
    Zpool& pool = make_pool({.evict = [this](Zpool& asker, Handle handle) {
      EXPECT_EQ(&asker, pool_.get());
      asked_.push_back(handle);
      return answer_(handle);
    }});
    objects_ = std::make_unique<TrackedObjects>(pool);
    for (std::size_t i = 0; i < count; ++i) objects_->add(1 + i * 7919 % max_bytes());
    return pool;
  }
  TrackedObjects& objects() { return *objects_; }

  /// Written elsewhere and freed, as a good callback does. Tests that it was a live object.
  Status give_up(Handle handle) {
    EXPECT_TRUE(objects_->contains(handle)) << "asked for an object that is not there";
    objects_->free(handle);
    ++given_up_;
    return {};
  }
  void expect_sound() { ZpoolContract::expect_sound(*pool_, *objects_); }

  std::function<Status(Handle)> answer_;
  std::unique_ptr<TrackedObjects> objects_;
  std::vector<Handle> asked_;   // by the pool, in order
  std::uint64_t given_up_ = 0;  // by the callback, with success
};
MMKIT_FOR_EACH_DRIVER(ZpoolEviction);

// ---------------------------------------------------------------- what is refused

// For every driver, also one that cannot shrink.
class ZpoolShrink : public testing::ZpoolContract {};
MMKIT_FOR_EACH_DRIVER(ZpoolShrink);

TEST_P(ZpoolShrink, IsRefusedWithoutACallback) {
  Zpool& pool = make_pool();
  EXPECT_FALSE(pool.evictable());
  TrackedObjects objects(pool);
  for (int i = 0; i < 10; ++i) objects.add(1000);
  const PoolSnapshot before(pool);
  for (const std::size_t pages : {0u, 1u, 1000u}) {
    const ShrinkOutcome outcome = pool.shrink(pages);
    EXPECT_EQ(outcome.reclaimed_pages, 0u);
    EXPECT_EQ(outcome.status.error(), Errc::invalid_argument);
  }
  expect_unchanged(pool, before, 0);
}

TEST_P(ZpoolShrink, IsPossibleWhenTheDriverCanAndACallbackIsGiven) {
  const auto evict = [](Zpool& pool, Handle handle) { return pool.try_free(handle); };
  Zpool& pool = make_pool({.evict = evict});
  EXPECT_EQ(pool.evictable(), traits().can_shrink);
  const Handle handle = pool.allocate(1000).value();
  const ShrinkOutcome outcome = pool.shrink(1);
  if (!traits().can_shrink) {
    EXPECT_EQ(outcome.status.error(), Errc::invalid_argument);
    pool.free(handle);
    return;
  }
  EXPECT_TRUE(outcome.status);
  EXPECT_GE(outcome.reclaimed_pages, 1u);
  EXPECT_EQ(pool.try_map(handle).error(), Errc::not_found);
  EXPECT_EQ(held_pages(), 0u);
}

TEST_P(ZpoolEviction, OfNoPagesOrFromAnEmptyPoolIsRefused) {
  Zpool& pool = make_filled([](Handle) -> Status { return fail(Errc::busy); }, /*count=*/0);
  for (const std::size_t pages : {0u, 1u, 1000u}) {
    const ShrinkOutcome outcome = pool.shrink(pages);
    EXPECT_EQ(outcome.reclaimed_pages, 0u);
    EXPECT_EQ(outcome.status.error(), Errc::invalid_argument);
  }
  objects().add(100);
  const ShrinkOutcome of_nothing = pool.shrink(0);
  EXPECT_EQ(of_nothing.reclaimed_pages, 0u);
  EXPECT_EQ(of_nothing.status.error(), Errc::invalid_argument);
  EXPECT_TRUE(asked_.empty());
  expect_sound();
}

// ---------------------------------------------------------------- the callback does as asked

TEST_P(ZpoolEviction, FreesAsManyPagesAsItSays) {
  Zpool& pool = make_filled([this](Handle handle) { return give_up(handle); });
  for (const std::size_t wanted : {1u, 2u, 5u, 1u, 13u}) {
    const std::size_t before = held_pages();
    const ShrinkOutcome outcome = pool.shrink(wanted);
    EXPECT_TRUE(outcome.status);
    EXPECT_GE(outcome.reclaimed_pages, wanted);
    EXPECT_EQ(before - held_pages(), outcome.reclaimed_pages);
    EXPECT_EQ(pool.stats().evicted, given_up_);
    expect_sound();
  }
  // Nobody is asked twice for what is gone.
  EXPECT_EQ(std::set<Handle>(asked_.begin(), asked_.end()).size(), asked_.size());
}

TEST_P(ZpoolEviction, EmptiesThePoolAndThenSaysThatItIsEmpty) {
  Zpool& pool = make_filled([this](Handle handle) { return give_up(handle); });
  const std::size_t all = held_pages();
  const ShrinkOutcome exactly = pool.shrink(all);
  EXPECT_TRUE(exactly.status);
  EXPECT_EQ(exactly.reclaimed_pages, all);
  EXPECT_EQ(objects().size(), 0u);
  expect_sound();
  EXPECT_EQ(pool.shrink(1).status.error(), Errc::invalid_argument);

  for (int i = 0; i < 50; ++i) objects().add(1000);
  const std::size_t again = held_pages();
  const ShrinkOutcome too_many = pool.shrink(again + 1000);
  EXPECT_EQ(too_many.reclaimed_pages, again) << "what there was is reclaimed";
  EXPECT_EQ(too_many.status.error(), Errc::invalid_argument) << "an empty pool, by then";
  expect_sound();
}

TEST_P(ZpoolEviction, GivesAHandleThatCanBeMappedAndTouched) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    EXPECT_TRUE(objects().intact(handle));
    {
      const Mapping mapping = pool_->map(handle);
      EXPECT_EQ(pool_->try_free(handle).error(), Errc::busy);
    }
    pool_->touch(handle);
    return give_up(handle);
  });
  EXPECT_TRUE(pool.shrink(10).status);
  expect_sound();
}

// With no lock held: the pool answers everything.
TEST_P(ZpoolEviction, LeavesThePoolOpenToItsCallback) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    EXPECT_TRUE(pool_->validate());
    EXPECT_EQ(pool_->stats().objects, objects().size());
    EXPECT_EQ(pool_->total_bytes(), held_pages() * kPageSize);
    EXPECT_EQ(pool_->type(), type());
    static_cast<void>(pool_->compact());
    bool listed = false;
    for_each_live_pool([&](const ZpoolInfo& info) { listed |= info.stats.objects != 0; });
    EXPECT_TRUE(listed);
    const Status given_up = give_up(handle);
    EXPECT_TRUE(pool_->validate());
    return given_up;
  });
  EXPECT_TRUE(pool.shrink(5).status);
  expect_sound();
}

TEST_P(ZpoolEviction, LeavesOtherPoolsOpenToItsCallback) {
  const std::unique_ptr<Zpool> refuge = make();
  std::vector<Handle> moved;
  Zpool& pool = make_filled([&](Handle handle) -> Status {
    const std::size_t size = objects().size_bytes(handle);
    {
      const Mapping mapping = pool_->map(handle, MapMode::read_only);
      moved.push_back(refuge->store(mapping.const_bytes().first(size)).value());
    }
    const std::unique_ptr<Zpool> short_lived = make();
    return give_up(handle);
  });
  EXPECT_TRUE(pool.shrink(7).status);
  EXPECT_TRUE(pool.validate());
  EXPECT_EQ(moved.size(), given_up_);
  for (const Handle handle : moved) refuge->free(handle);
  expect_sound();
}

// ---------------------------------------------------------------- the callback does not

TEST_P(ZpoolEviction, GivesUpWhenTheCallbackRefuses) {
  Zpool& pool = make_filled([](Handle) -> Status { return fail(Errc::busy); });
  const PoolSnapshot before(pool);
  const ShrinkOutcome outcome = pool.shrink(3);
  EXPECT_EQ(outcome.reclaimed_pages, 0u);
  EXPECT_EQ(outcome.status.error(), Errc::try_again);
  EXPECT_FALSE(asked_.empty());
  expect_unchanged(pool, before, 0);
  expect_sound();
}

TEST_P(ZpoolEviction, TakesALieForARefusal) {
  Zpool& pool = make_filled([](Handle) -> Status { return {}; });
  const PoolSnapshot before(pool);
  const ShrinkOutcome outcome = pool.shrink(3);
  EXPECT_EQ(outcome.reclaimed_pages, 0u);
  EXPECT_EQ(outcome.status.error(), Errc::try_again);
  EXPECT_FALSE(asked_.empty());
  expect_unchanged(pool, before, 0);
  expect_sound();
}

TEST_P(ZpoolEviction, SaysWhatItReclaimedBeforeItGaveUp) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    if (given_up_ >= 12) return fail(Errc::busy);
    return give_up(handle);
  });
  const std::size_t before = held_pages();
  const ShrinkOutcome outcome = pool.shrink(1000);
  EXPECT_EQ(outcome.status.error(), Errc::try_again);
  EXPECT_EQ(before - held_pages(), outcome.reclaimed_pages);
  EXPECT_EQ(pool.stats().evicted, 12u);
  expect_sound();
}

TEST_P(ZpoolEviction, CopesWithEveryPatternOfRefusals) {
  // Every how-manieth answer is a refusal or a lie.
  for (const std::size_t every : {2u, 3u, 5u}) {
    for (const bool lies : {false, true}) {
      Zpool& pool = make_filled([this, every, lies](Handle handle) -> Status {
        if (asked_.size() % every != 0) return give_up(handle);
        if (lies) return {};
        return fail(Errc::try_again);
      });
      given_up_ = 0;
      for (int round = 0; round < 10; ++round) {
        const std::size_t before = held_pages();
        const ShrinkOutcome outcome = pool.shrink(3);
        EXPECT_EQ(before - held_pages(), outcome.reclaimed_pages);
        EXPECT_EQ(pool.stats().evicted, given_up_);
        expect_sound();
      }
      objects_.reset();
    }
  }
}

// The object is gone, so its page may go; it was not given up, so it is not counted.
TEST_P(ZpoolEviction, BelievesTheHandleWhenAFreeingCallbackReportsFailure) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    objects().free(handle);
    return fail(Errc::io_error);
  });
  const std::size_t before = held_pages();
  const ShrinkOutcome outcome = pool.shrink(20);
  EXPECT_EQ(before - held_pages(), outcome.reclaimed_pages);
  EXPECT_EQ(pool.stats().evicted, 0u);
  expect_sound();
}

TEST_P(ZpoolEviction, CopesWithACallbackThatAllocates) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    const std::size_t size = objects().size_bytes(handle);
    objects().add(size);
    objects().add(1 + size / 2);
    const Status given_up = give_up(handle);
    objects().add(1 + size / 3);
    return given_up;
  });
  for (int round = 0; round < 5; ++round) {
    static_cast<void>(pool.shrink(2));
    expect_sound();
  }
  EXPECT_EQ(pool.stats().evicted, given_up_);
}

// The object next to the one that is asked for, which is likely to share its page.
TEST_P(ZpoolEviction, CopesWithACallbackThatFreesTheSibling) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    const std::vector<Handle> all = objects().handles();
    const auto at = std::find(all.begin(), all.end(), handle);
    if (at != all.begin()) objects().free(*(at - 1));
    if (at + 1 != all.end()) objects().free(*(at + 1));
    return give_up(handle);
  });
  for (int round = 0; round < 5; ++round) {
    const std::size_t before = held_pages();
    const ShrinkOutcome outcome = pool.shrink(2);
    EXPECT_LE(outcome.reclaimed_pages, before - held_pages());
    EXPECT_GE(outcome.reclaimed_pages, outcome.status ? 2u : 0u);
    expect_sound();
  }
}

TEST_P(ZpoolEviction, CopesWithACallbackThatFreesEverything) {
  Zpool& pool = make_filled([this](Handle) -> Status {
    objects().free_all();
    return {};
  });
  const ShrinkOutcome outcome = pool.shrink(1);
  EXPECT_TRUE(outcome.status);
  EXPECT_GE(outcome.reclaimed_pages, 1u);
  EXPECT_EQ(asked_.size(), 1u);
  EXPECT_EQ(held_pages(), 0u);
  expect_sound();
}

TEST_P(ZpoolEviction, CopesWithACallbackThatFreesAnUnrelatedObjectInstead) {
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    const std::vector<Handle> all = objects().handles();
    const Handle other = all.front() == handle ? all.back() : all.front();
    if (other != handle) objects().free(other);
    return {};  // a lie, as far as `handle` goes
  });
  static_cast<void>(pool.shrink(2));
  EXPECT_EQ(pool.stats().evicted, 0u);
  expect_sound();
}

TEST_P(ZpoolEviction, CopesWithACallbackThatReplacesTheObject) {
  // The handle's slot is used again before the callback returns: the new object is not the old one.
  Zpool& pool = make_filled([this](Handle handle) -> Status {
    const std::size_t size = objects().size_bytes(handle);
    const Status given_up = give_up(handle);
    const Handle replacement = objects().add(size);
    EXPECT_NE(replacement, handle);
    return given_up;
  });
  for (int round = 0; round < 3; ++round) {
    static_cast<void>(pool.shrink(1));
    expect_sound();
  }
  EXPECT_EQ(pool.stats().evicted, given_up_);
  EXPECT_EQ(std::set<Handle>(asked_.begin(), asked_.end()).size(), asked_.size());
}

TEST_P(ZpoolEviction, LeavesAnObjectThatIsMappedDuringTheCallback) {
  std::vector<Mapping> kept;
  for (const bool lies : {false, true}) {
    Zpool& pool = make_filled([this, &kept, lies](Handle handle) -> Status {
      kept.push_back(pool_->map(handle, MapMode::read_only));
      EXPECT_EQ(pool_->try_free(handle).error(), Errc::busy);
      if (lies) return {};
      return fail(Errc::busy);
    });
    const PoolSnapshot before(pool);
    const ShrinkOutcome outcome = pool.shrink(1);
    EXPECT_EQ(outcome.reclaimed_pages, 0u);
    EXPECT_EQ(outcome.status.error(), Errc::try_again);
    ASSERT_FALSE(kept.empty());
    expect_unchanged(pool, before, 0);
    ASSERT_EQ(kept.size(), asked_.size());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      EXPECT_TRUE(objects().intact(asked_[i], kept[i].const_bytes()));
    }
    kept.clear();
    expect_sound();
    objects_.reset();
    asked_.clear();
  }
}

TEST_P(ZpoolEviction, CopesWithACallbackThatShrinks) {
  // As deep as that, but not so often that the pool is empty by then: the objects that leave together
  // may be many.
  int depth = 0;
  int inner_shrinks = 0;
  Zpool& pool = make_filled([this, &depth, &inner_shrinks](Handle handle) -> Status {
    ++depth;
    if (depth <= 4 && ++inner_shrinks <= 8) {
      const ShrinkOutcome inner = pool_->shrink(1);
      EXPECT_TRUE(inner.status);
      EXPECT_TRUE(pool_->validate());
    }
    --depth;
    return give_up(handle);
  });
  const std::size_t before = held_pages();
  const ShrinkOutcome outcome = pool.shrink(3);
  EXPECT_TRUE(outcome.status);
  EXPECT_GE(outcome.reclaimed_pages, 3u);
  // The inner ones freed some too, which a driver may count with what left the pool meanwhile.
  EXPECT_GE(before - held_pages(), outcome.reclaimed_pages);
  EXPECT_EQ(pool.stats().evicted, given_up_);
  expect_sound();
}

// All the way down: the innermost finds nothing left, and says that others are at it.
TEST_P(ZpoolEviction, CopesWithACallbackThatShrinksUntilNothingIsLeft) {
  std::vector<Errc> errors;
  Zpool& pool = make_filled(
      [this, &errors](Handle handle) -> Status {
        if (const ShrinkOutcome inner = pool_->shrink(1); !inner.status) {
          errors.push_back(inner.status.error());
        }
        if (!objects().contains(handle)) return fail(Errc::not_found);
        return give_up(handle);
      },
      /*count=*/30);
  const ShrinkOutcome outcome = pool.shrink(1);
  EXPECT_TRUE(outcome.status);
  ASSERT_FALSE(errors.empty());
  EXPECT_EQ(errors.front(), Errc::try_again);
  EXPECT_EQ(std::set<Handle>(asked_.begin(), asked_.end()).size(), asked_.size())
      << "asked for one object from two sides at once";
  expect_sound();
}

// ---------------------------------------------------------------- mapped objects, order

TEST_P(ZpoolEviction, NeverAsksForAMappedObject) {
  std::set<Handle> held;
  Zpool& pool = make_filled([this, &held](Handle handle) -> Status {
    EXPECT_FALSE(held.contains(handle));
    return give_up(handle);
  });
  std::vector<Mapping> mappings;
  const std::vector<Handle> all = objects().handles();
  for (std::size_t i = 0; i < all.size(); i += 7) {
    mappings.push_back(pool.map(all[i], MapMode::read_only));
    held.insert(all[i]);
  }
  const std::size_t before = held_pages();
  ShrinkOutcome outcome = pool.shrink(10);
  EXPECT_EQ(before - held_pages(), outcome.reclaimed_pages);
  for (int i = 0; i < 100; ++i) outcome = pool.shrink(1000);
  EXPECT_FALSE(outcome.status);
  for (const Handle handle : held) EXPECT_TRUE(objects().intact(handle));
  mappings.clear();
  held.clear();
  expect_sound();
  EXPECT_TRUE(pool.shrink(held_pages()).status) << "what was mapped goes when it no longer is";
  EXPECT_EQ(objects().size(), 0u);
  expect_sound();
}

TEST_P(ZpoolEviction, GivesUpWhenEverythingIsMapped) {
  Zpool& pool = make_filled([this](Handle handle) { return give_up(handle); });
  std::vector<Mapping> mappings;
  for (const Handle handle : objects().handles()) {
    mappings.push_back(pool.map(handle, MapMode::read_only));
  }
  const PoolSnapshot before(pool);
  const ShrinkOutcome outcome = pool.shrink(1);
  EXPECT_EQ(outcome.reclaimed_pages, 0u);
  EXPECT_EQ(outcome.status.error(), Errc::try_again);
  EXPECT_TRUE(asked_.empty());
  expect_unchanged(pool, before, 0);
  mappings.clear();
  EXPECT_TRUE(pool.shrink(1).status);
  expect_sound();
}

// Coarse, so that it holds for drivers that keep generations instead of a list.
TEST_P(ZpoolEviction, BeginsAtTheOldEnd) {
  Zpool& pool = make_filled([this](Handle handle) { return give_up(handle); }, /*count=*/0);
  std::vector<Handle> handles;
  for (int i = 0; i < 1024; ++i) handles.push_back(objects().add(max_bytes()));
  // The older half becomes the younger one.
  for (std::size_t i = 0; i < handles.size() / 2; ++i) pool.touch(handles[i]);
  EXPECT_TRUE(pool.shrink(16).status);
  for (const Handle handle : asked_) {
    const auto at = std::find(handles.begin(), handles.end(), handle) - handles.begin();
    EXPECT_GE(at, 512) << "a touched object went before an older one";
  }
  expect_sound();
}

// ---------------------------------------------------------------- threads

// Several threads shrink while others add and free: nobody is asked for an object that is gone or
// that somebody else is being asked for.
TEST_P(ZpoolEviction, AsksForEachObjectOnceHoweverManyThreadsShrink) {
  std::mutex mutex;
  std::set<Handle> live;
  std::set<Handle> in_question;
  const auto evict = [&](Zpool& pool, Handle handle) -> Status {
    {
      const std::lock_guard lock(mutex);
      EXPECT_TRUE(in_question.insert(handle).second) << "asked for from two sides at once";
      // A thread that frees may have been faster.
      if (live.erase(handle) == 0) {
        in_question.erase(handle);
        return fail(Errc::not_found);
      }
    }
    EXPECT_TRUE(pool.try_free(handle));
    const std::lock_guard lock(mutex);
    in_question.erase(handle);
    return {};
  };
  Zpool& pool = make_pool({.evict = evict});
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < 2; ++id) {
    threads.emplace_back([&, id] {
      for (std::size_t i = 0; i < testing::scaled(3000); ++i) {
        const Handle handle = pool.allocate(1 + (i * 7919 + id) % max_bytes()).value();
        Handle freed = Handle::none;
        {
          const std::lock_guard lock(mutex);
          live.insert(handle);
          if (live.size() > 150) {
            freed = *live.begin();
            live.erase(live.begin());
          }
        }
        if (freed != Handle::none) {
          EXPECT_TRUE(pool.try_free(freed));
        }
      }
    });
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < testing::scaled(300); ++i) static_cast<void>(pool.shrink(3));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(pool.validate());
  EXPECT_EQ(pool.stats().objects, live.size());
  for (const Handle handle : live) pool.free(handle);
  EXPECT_EQ(held_pages(), 0u);
}

}  // namespace
}  // namespace mmkit
