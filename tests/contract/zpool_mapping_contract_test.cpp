// SPDX-License-Identifier: MIT
//
// Mappings: pointers to where objects lie, any number of them, each of which holds its object fast.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "contract/zpool_contract.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::expect_unchanged;
using testing::has_pattern;
using testing::make_pattern;
using testing::PoolSnapshot;
using testing::TrackedObjects;
using testing::write_pattern;

class ZpoolMapping : public testing::ZpoolContract {};
MMKIT_FOR_EACH_DRIVER(ZpoolMapping);

TEST_P(ZpoolMapping, OfNothingIsEmpty) {
  Mapping nothing;
  EXPECT_FALSE(nothing);
  EXPECT_TRUE(nothing.bytes().empty());
  EXPECT_TRUE(nothing.const_bytes().empty());
}

TEST_P(ZpoolMapping, GivesAtLeastTheSizeAskedFor) {
  Zpool& pool = make_pool();
  for (const std::size_t size : sizes()) {
    const Handle handle = pool.allocate(size).value();
    for (const MapMode mode : {MapMode::read_write, MapMode::read_only, MapMode::write_only}) {
      Mapping mapping = pool.map(handle, mode);
      EXPECT_TRUE(mapping);
      EXPECT_GE(mapping.bytes().size(), size);
      EXPECT_EQ(mapping.bytes().data(), mapping.const_bytes().data());
      EXPECT_EQ(mapping.bytes().size(), mapping.const_bytes().size());
    }
    pool.free(handle);
  }
}

// What is written through a mapping that may write is what the next one reads.
TEST_P(ZpoolMapping, KeepsWhatIsWrittenInEveryWritingMode) {
  Zpool& pool = make_pool();
  for (const std::size_t size : sizes()) {
    const Handle handle = pool.store(make_pattern(size, 1)).value();
    std::uint64_t key = 1;
    for (const MapMode mode : {MapMode::read_write, MapMode::write_only, MapMode::read_write}) {
      if (mode == MapMode::read_write) {
        EXPECT_TRUE(has_pattern(pool.map(handle).const_bytes().first(size), key));
      }
      {
        Mapping mapping = pool.map(handle, mode);
        write_pattern(mapping.bytes().first(size), ++key);
      }
      const Mapping reader = pool.map(handle, MapMode::read_only);
      EXPECT_TRUE(has_pattern(reader.const_bytes().first(size), key)) << size;
    }
    pool.free(handle);
  }
}

TEST_P(ZpoolMapping, ChangesNoAccounts) {
  Zpool& pool = make_pool();
  const Handle handle = pool.allocate(1000).value();
  const PoolSnapshot before(pool);
  {
    const Mapping one = pool.map(handle);
    const Mapping two = pool.map(handle, MapMode::read_only);
    expect_unchanged(pool, before, 0);
  }
  expect_unchanged(pool, before, 0);
  pool.free(handle);
}

// ---------------------------------------------------------------- moves

TEST_P(ZpoolMapping, MovesToItsNewOwner) {
  Zpool& pool = make_pool();
  const Handle handle = pool.store(make_pattern(500, 3)).value();
  {
    Mapping first = pool.map(handle, MapMode::read_only);
    const std::byte* const place = first.const_bytes().data();
    Mapping second(std::move(first));
    EXPECT_FALSE(first);  // NOLINT: what a moved-from mapping is, is the question
    EXPECT_TRUE(first.bytes().empty());
    EXPECT_EQ(second.const_bytes().data(), place);
    Mapping third;
    third = std::move(second);
    EXPECT_FALSE(second);  // NOLINT
    EXPECT_TRUE(second.bytes().empty());
    EXPECT_EQ(third.const_bytes().data(), place);
    EXPECT_TRUE(has_pattern(third.const_bytes().first(500), 3));
    EXPECT_EQ(pool.try_free(handle).error(), Errc::busy) << "mapped once, by whoever has it";
  }
  EXPECT_TRUE(pool.try_free(handle));
}

TEST_P(ZpoolMapping, EndsTheOldOneWhenItIsAssignedTo) {
  Zpool& pool = make_pool();
  const Handle one = pool.allocate(100).value();
  const Handle two = pool.allocate(100).value();
  Mapping mapping = pool.map(one);
  mapping = pool.map(two);
  EXPECT_TRUE(pool.try_free(one));
  EXPECT_EQ(pool.try_free(two).error(), Errc::busy);
  mapping = Mapping();
  EXPECT_FALSE(mapping);
  EXPECT_TRUE(pool.try_free(two));
}

TEST_P(ZpoolMapping, SurvivesAnAssignmentToItself) {
  Zpool& pool = make_pool();
  const Handle handle = pool.store(make_pattern(100, 9)).value();
  Mapping mapping = pool.map(handle, MapMode::read_only);
  Mapping& itself = mapping;
  mapping = std::move(itself);
  ASSERT_TRUE(mapping);
  EXPECT_TRUE(has_pattern(mapping.const_bytes().first(100), 9));
  EXPECT_EQ(pool.try_free(handle).error(), Errc::busy);
  mapping = Mapping();
  EXPECT_TRUE(pool.try_free(handle));
}

TEST_P(ZpoolMapping, MayBePassedToAnotherThread) {
  Zpool& pool = make_pool();
  const Handle handle = pool.store(make_pattern(700, 4)).value();
  Mapping mapping = pool.map(handle, MapMode::read_only);
  std::thread([moved = std::move(mapping)] {
    EXPECT_TRUE(has_pattern(moved.const_bytes().first(700), 4));
  }).join();
  EXPECT_TRUE(pool.try_free(handle));
}

// ---------------------------------------------------------------- many

// Around the number of mappings that a driver can count cheaply, and far above it.
constexpr std::size_t kCounts[] = {1, 2, 57, 58, 59, 60, 61, 62, 63, 64, 65, 1000};

TEST_P(ZpoolMapping, OfOneObjectMayBeAnyNumber) {
  Zpool& pool = make_pool();
  for (const std::size_t count : kCounts) {
    const Handle handle = pool.store(make_pattern(900, count)).value();
    std::vector<Mapping> mappings;
    for (std::size_t i = 0; i < count; ++i) {
      mappings.push_back(pool.map(handle, MapMode::read_only));
      EXPECT_EQ(mappings.back().const_bytes().data(), mappings.front().const_bytes().data());
      EXPECT_EQ(pool.try_free(handle).error(), Errc::busy);
    }
    EXPECT_TRUE(pool.validate());
    EXPECT_TRUE(has_pattern(mappings.back().const_bytes().first(900), count));
    std::mt19937_64 random(testing::test_seed(count));
    std::shuffle(mappings.begin(), mappings.end(), random);
    while (!mappings.empty()) {
      EXPECT_EQ(pool.try_free(handle).error(), Errc::busy) << mappings.size() << " of " << count;
      mappings.pop_back();
    }
    EXPECT_TRUE(pool.validate());
    EXPECT_TRUE(pool.try_free(handle)) << count;
  }
}

TEST_P(ZpoolMapping, IsCountedForEachOfManyObjectsMappedVeryOften) {
  Zpool& pool = make_pool();
  std::vector<Handle> handles;
  std::vector<std::vector<Mapping>> mappings(5);
  for (std::size_t i = 0; i < mappings.size(); ++i) {
    handles.push_back(pool.store(make_pattern(600, i)).value());
  }
  for (int round = 0; round < 100; ++round) {
    for (std::size_t i = 0; i < handles.size(); ++i) {
      mappings[i].push_back(pool.map(handles[i], MapMode::read_only));
    }
  }
  for (const std::size_t i : {2u, 0u, 4u, 1u, 3u}) {
    EXPECT_TRUE(has_pattern(mappings[i].front().const_bytes().first(600), i));
    mappings[i].resize(1);
    EXPECT_EQ(pool.try_free(handles[i]).error(), Errc::busy);
    mappings[i].clear();
    EXPECT_TRUE(pool.try_free(handles[i]));
    EXPECT_TRUE(pool.validate());
  }
}

// A count that goes up and down across the edge of what is counted cheaply.
TEST_P(ZpoolMapping, CountsAcrossTheEdgeAndBack) {
  Zpool& pool = make_pool();
  const Handle handle = pool.allocate(64).value();
  std::vector<Mapping> mappings;
  while (mappings.size() < 55) mappings.push_back(pool.map(handle, MapMode::read_only));
  for (int round = 0; round < 20; ++round) {
    while (mappings.size() < 70) mappings.push_back(pool.map(handle, MapMode::read_only));
    while (mappings.size() > 50) mappings.pop_back();
    EXPECT_TRUE(pool.validate());
    EXPECT_EQ(pool.try_free(handle).error(), Errc::busy);
  }
  mappings.clear();
  EXPECT_TRUE(pool.try_free(handle));
}

TEST_P(ZpoolMapping, OfOneObjectMayBeHeldByManyThreads) {
  Zpool& pool = make_pool();
  const Handle handle = pool.store(make_pattern(2000, 11)).value();
  constexpr std::ptrdiff_t kThreads = 4;
  std::barrier all_mapped(kThreads + 1);
  std::barrier looked_at(kThreads + 1);
  std::vector<std::thread> threads;
  for (std::ptrdiff_t id = 0; id < kThreads; ++id) {
    threads.emplace_back([&] {
      // Up and down across the edge while the others do the same.
      for (int round = 0; round < 20; ++round) {
        std::vector<Mapping> some;
        for (int i = 0; i < 30; ++i) some.push_back(pool.map(handle, MapMode::read_only));
      }
      std::vector<Mapping> mappings;
      for (int i = 0; i < 250; ++i) mappings.push_back(pool.map(handle, MapMode::read_only));
      EXPECT_TRUE(has_pattern(mappings.back().const_bytes().first(2000), 11));
      all_mapped.arrive_and_wait();
      looked_at.arrive_and_wait();
    });
  }
  all_mapped.arrive_and_wait();
  EXPECT_EQ(pool.try_free(handle).error(), Errc::busy);
  EXPECT_TRUE(pool.validate());
  looked_at.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(pool.validate());
  EXPECT_TRUE(pool.try_free(handle)) << "mappings were lost or counted twice";
}

TEST_P(ZpoolMapping, OfManyObjectsAtOnceHoldsEach) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  for (std::size_t i = 0; i < 400; ++i) objects.add(1 + i * 7919 % max_bytes());
  std::vector<std::pair<Handle, Mapping>> mappings;
  for (const Handle handle : objects.handles()) {
    mappings.emplace_back(handle, pool.map(handle, MapMode::read_only));
  }
  objects.expect_intact_and_apart();
  std::mt19937_64 random(testing::test_seed(5));
  std::shuffle(mappings.begin(), mappings.end(), random);
  while (!mappings.empty()) {
    auto& [handle, mapping] = mappings.back();
    EXPECT_TRUE(objects.intact(handle, mapping.const_bytes()));
    EXPECT_EQ(objects.try_free(handle).error(), Errc::busy);
    mapping = Mapping();
    EXPECT_TRUE(objects.try_free(handle));
    mappings.pop_back();
  }
  expect_sound(pool, objects);
}

// Objects beside a mapped one come and go, and it stays where it is.
TEST_P(ZpoolMapping, HoldsItsObjectWhileOthersComeAndGo) {
  Zpool& pool = make_pool();
  TrackedObjects objects(pool);
  std::vector<Handle> kept;
  std::vector<Mapping> mappings;
  for (int i = 0; i < 20; ++i) {
    kept.push_back(objects.add(200));
    objects.add(700);
    mappings.push_back(pool.map(kept.back(), MapMode::read_only));
  }
  std::vector<const std::byte*> places;
  for (const Mapping& mapping : mappings) places.push_back(mapping.const_bytes().data());
  for (std::size_t round = 0; round < 10; ++round) {
    for (const Handle handle : objects.handles()) {
      if (std::count(kept.begin(), kept.end(), handle) == 0) objects.free(handle);
    }
    for (std::size_t i = 0; i < 40; ++i) objects.add(1 + (round * 40 + i) * 997 % max_bytes());
    if (traits().can_compact) {
      EXPECT_TRUE(pool.compact());
    }
    for (std::size_t i = 0; i < kept.size(); ++i) {
      EXPECT_EQ(pool.map(kept[i], MapMode::read_only).const_bytes().data(), places[i]);
      EXPECT_TRUE(objects.intact(kept[i], mappings[i].const_bytes()));
    }
    EXPECT_TRUE(pool.validate());
  }
  mappings.clear();
  expect_sound(pool, objects);
}

TEST_P(ZpoolMapping, MayReadWhileAnotherObjectIsWritten) {
  Zpool& pool = make_pool();
  const Handle read = pool.store(make_pattern(300, 1)).value();
  const Handle written = pool.allocate(300).value();
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < 500; ++i) {
      Mapping mapping = pool.map(written, MapMode::write_only);
      write_pattern(mapping.bytes().first(300), i);
    }
  });
  for (int i = 0; i < 500; ++i) {
    const Mapping mapping = pool.map(read, MapMode::read_only);
    EXPECT_TRUE(has_pattern(mapping.const_bytes().first(300), 1));
  }
  writer.join();
  pool.free(read);
  pool.free(written);
}

}  // namespace
}  // namespace mmkit
