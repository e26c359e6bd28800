// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <random>
#include <string>
#include <vector>

#include "genalloc/run_bounds.hpp"
#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

using testing::CapturedLeaks;

constexpr std::uintptr_t kTop = ~std::uintptr_t{0};

std::unique_ptr<GenPool> make(GenPoolOptions options = {}) {
  return GenPool::create(options).value();
}

TEST(GenPool, RefusesAnOrderAbove47) {
  EXPECT_EQ(GenPool::create({.min_alloc_order = 48}).error(), Errc::invalid_argument);
  EXPECT_TRUE(GenPool::create({.min_alloc_order = 47}));
}

TEST(GenPool, RefusesAPolicyThatIsNotSound) {
  EXPECT_FALSE(GenPool::create({.fit = FirstFitAlign{3}}));
  EXPECT_FALSE(GenPool::create({.min_alloc_order = 4, .fit = FixedFit{8}}));
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 0x1000}));
  EXPECT_EQ(pool->allocate(16, FirstFitAlign{0}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate(16, FirstFitAlign{24}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate(16, FixedFit{8}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate(0).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate_at(0x1000, 0).error(), Errc::invalid_argument);
}

TEST(GenPool, RefusesChunksThatWrapOrOverlapOrAreEmpty) {
  const auto pool = make();
  EXPECT_EQ(pool->add_chunk({.start = 1, .size_bytes = 0}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->add_chunk({.start = kTop, .size_bytes = 2}).error(), Errc::invalid_argument);
  ASSERT_TRUE(pool->add_chunk({.start = 1000, .size_bytes = 100}));
  for (const auto& [start, size] : {std::pair<std::uintptr_t, std::size_t>{1000, 100},
                                    {999, 2},
                                    {1099, 1},
                                    {900, 300},
                                    {1050, 10}}) {
    EXPECT_EQ(pool->add_chunk({.start = start, .size_bytes = size}).error(), Errc::already_exists);
  }
  EXPECT_TRUE(pool->add_chunk({.start = 1100, .size_bytes = 1}));
  EXPECT_TRUE(pool->add_chunk({.start = 999, .size_bytes = 1}));
  EXPECT_EQ(pool->size_bytes(), 102u);
  EXPECT_FALSE(pool->contains(999, 2)) << "two chunks that touch are two";
  EXPECT_TRUE(pool->contains(1000, 100));
  EXPECT_TRUE(pool->contains(1050, 0));
  EXPECT_FALSE(pool->contains(1101, 0));
}

TEST(GenPool, HandsOutAddressZeroAndTheTopOfTheAddressSpace) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = kTop - 511, .size_bytes = 512}));
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 64}));
  EXPECT_EQ(pool->allocate(64).value(), 0u);
  EXPECT_EQ(pool->allocate(511).value(), kTop - 511);
  EXPECT_EQ(pool->allocate(1).value(), kTop);
  EXPECT_EQ(pool->allocate(1).error(), Errc::no_space);
  EXPECT_EQ(pool->try_free(kTop, 2).error(), Errc::invalid_argument);
  EXPECT_TRUE(pool->try_free(kTop, 1));
  EXPECT_TRUE(pool->try_free(kTop - 511, 511));
  EXPECT_TRUE(pool->try_free(0, 64));
  EXPECT_TRUE(pool->validate());
}

TEST(GenPool, AsksTheChunkAddedLastFirst) {
  const auto pool = make();
  int first = 0, second = 0;
  ASSERT_TRUE(pool->add_chunk({.start = 1000, .size_bytes = 10, .owner = &first}));
  ASSERT_TRUE(pool->add_chunk({.start = 2000, .size_bytes = 5, .owner = &second}));
  void* owner = this;
  EXPECT_EQ(pool->allocate(6, FirstFit{}, &owner).value(), 1000u);
  EXPECT_EQ(owner, &first);
  EXPECT_EQ(pool->allocate(5, BestFit{}, &owner).value(), 2000u);
  EXPECT_EQ(owner, &second);
  EXPECT_FALSE(pool->allocate(5, FirstFit{}, &owner));
  EXPECT_EQ(owner, nullptr);
  pool->free(2000, 5, &owner);
  EXPECT_EQ(owner, &second);
  std::vector<std::uintptr_t> starts;
  pool->for_each_chunk([&](const GenPoolChunk& chunk) { starts.push_back(chunk.start); });
  EXPECT_EQ(starts, (std::vector<std::uintptr_t>{2000, 1000}));
  pool->free(1000, 6);
}

TEST(GenPool, CountsATailSmallerThanAGranuleAndNeverHandsItOut) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 7, .size_bytes = 40}));
  EXPECT_EQ(pool->available_bytes(), 40u);
  EXPECT_EQ(pool->largest_free_bytes(), 32u);
  EXPECT_EQ(pool->allocate(33).error(), Errc::no_space);
  EXPECT_EQ(pool->allocate(17).value(), 7u);
  EXPECT_EQ(pool->available_bytes(), 8u);
  EXPECT_EQ(pool->try_free(7, 40).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->try_free(7 + 32, 8).error(), Errc::invalid_argument);
  EXPECT_TRUE(pool->try_free(7, 32));
}

TEST(GenPool, RemovesAChunkThatIsFree) {
  const auto pool = make();
  for (std::uintptr_t start = 1000; start <= 3000; start += 1000) {
    ASSERT_TRUE(pool->add_chunk({.start = start, .size_bytes = 600}));
  }
  EXPECT_EQ(pool->remove_chunk(1001).error(), Errc::not_found);
  const std::uintptr_t place = pool->allocate(10, FixedFit{100}).value();
  EXPECT_EQ(place, 3100u);
  EXPECT_EQ(pool->remove_chunk(3000).error(), Errc::busy);
  EXPECT_TRUE(pool->remove_chunk(2000));
  EXPECT_EQ(pool->size_bytes(), 1200u);
  pool->free(place, 10);
  EXPECT_TRUE(pool->remove_chunk(3000));
  EXPECT_EQ(pool->allocate(1).value(), 1000u);
  EXPECT_TRUE(pool->add_chunk({.start = 2000, .size_bytes = 5}));
  EXPECT_EQ(pool->allocate(1).value(), 2000u);
  EXPECT_EQ(pool->stats().chunks, 2u);
  EXPECT_TRUE(pool->validate());
  pool->free(1000, 1);
  pool->free(2000, 1);
}

TEST(GenPool, GivesPhysicalAddressesOnlyWhereThereAreSome) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 0x100, .phys = 0xff000}));
  EXPECT_EQ(pool->virt_to_phys(0x1010).value(), 0xff010u);
  EXPECT_FALSE(pool->virt_to_phys(0x1100));
  const DmaBlock block = pool->allocate_dma(32, FixedFit{0x20}).value();
  EXPECT_EQ(block.phys, 0xff020u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.address), 0x1020u);
  EXPECT_EQ(pool->allocate_zeroed_dma(16).error(), Errc::not_supported) << "not of kind host";
  ASSERT_TRUE(pool->add_chunk({.start = 0x2000, .size_bytes = 0x100}));
  EXPECT_EQ(pool->virt_to_phys(0x2000).error(), Errc::not_supported);
  EXPECT_EQ(pool->allocate_dma(16).error(), Errc::not_supported);
  EXPECT_EQ(pool->available_bytes(), 0x200u - 32);
  pool->free(0x1020, 32);
}

TEST(GenPool, ZeroesWhatWasAskedForAndNoMore) {
  std::vector<unsigned char> memory(256, 0xaa);
  {
    const auto pool = make({.min_alloc_order = 4, .kind = AddressKind::host});
    const auto start = reinterpret_cast<std::uintptr_t>(memory.data());
    ASSERT_TRUE(pool->add_chunk({.start = start, .size_bytes = 256, .phys = 0}));
    const DmaBlock block = pool->allocate_zeroed_dma(20).value();
    EXPECT_EQ(block.phys, 0u);
    for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(memory[i], 0);
    for (unsigned i = 20; i < 32; ++i) EXPECT_EQ(memory[i], 0xaa);
    pool->free(start, 20);
  }
  for (unsigned i = 32; i < 256; ++i) EXPECT_EQ(memory[i], 0xaa) << "accessible again";
}

TEST(GenPool, NeverTouchesWhatItManages) {
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  void* const memory = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  {
    const auto pool = make({.min_alloc_order = 4});
    ASSERT_TRUE(
        pool->add_chunk({.start = reinterpret_cast<std::uintptr_t>(memory), .size_bytes = kBytes}));
    std::mt19937 random(1);
    std::vector<std::pair<std::uintptr_t, std::size_t>> live;
    for (int i = 0; i < 20'000; ++i) {
      const std::size_t size = 1 + random() % 3000;
      const Fit fits[] = {FirstFit{}, BestFit{}, FirstFitAlign{256}, FirstFitOrderAlign{},
                          RelaxedFit{}};
      const auto place = pool->allocate(size, fits[random() % 5]);
      if (place) live.emplace_back(*place, size);
      if (!place || random() % 2 == 0) {
        pool->free(live.back().first, live.back().second);
        live.pop_back();
      }
    }
    for (const auto& [start, size] : live) pool->free(start, size);
    EXPECT_TRUE(pool->validate());
    EXPECT_EQ(pool->largest_free_bytes(), kBytes);
  }
  ::munmap(memory, kBytes);
}

TEST(GenPool, RelaxedFitFindsTheLastPlaceWhereverItIs) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 64 * 512}));
  std::vector<std::uintptr_t> places;
  while (const auto place = pool->allocate(512, RelaxedFit{})) places.push_back(*place);
  EXPECT_EQ(places.size(), 64u);
  for (const std::uintptr_t place : places) {
    pool->free(place, 512);
    EXPECT_EQ(pool->allocate(512, RelaxedFit{}).value(), place);
  }
  pool->free(0, 64 * 512);
}

TEST(GenPool, WhatBestFitLeavesOfALongRunFirstFitFinds) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 60'000}));
  EXPECT_EQ(pool->allocate(600, BestFit{}).value(), 0u);
  EXPECT_EQ(pool->allocate(30'000, FirstFit{}).value(), 600u);
  EXPECT_EQ(pool->largest_free_bytes(), 29'400u);
  pool->free(0, 30'600);
}

TEST(GenPool, TakesRequestsOf2To32GranulesAndMore) {
  constexpr std::size_t kHuge = (std::size_t{1} << 32) + 1000;
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kHuge + 1}));
  EXPECT_EQ(pool->allocate(kHuge).value(), 0u);
  EXPECT_EQ(pool->allocate(2).error(), Errc::no_space);
  EXPECT_EQ(pool->allocate(1).value(), kHuge);
  pool->free(0, kHuge);
  EXPECT_EQ(pool->allocate(kHuge, BestFit{}).value(), 0u);
  pool->free(0, kHuge + 1);
  EXPECT_EQ(pool->largest_free_bytes(), kHuge + 1);
}

TEST(GenPool, BoundariesMakeAFreeMatchItsAllocation) {
  const auto pool = make({.track_boundaries = true});
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 3000}));
  ASSERT_EQ(pool->allocate(10).value(), 0u);
  ASSERT_EQ(pool->allocate(10).value(), 10u);
  ASSERT_EQ(pool->allocate(2000).value(), 20u);
  for (const auto& [start, size] : {std::pair<std::uintptr_t, std::size_t>{0, 9},
                                    {0, 11},
                                    {0, 20},
                                    {1, 9},
                                    {20, 1999},
                                    {20, 512},
                                    {600, 10},
                                    {0, 2020}}) {
    EXPECT_EQ(pool->try_free(start, size).error(), Errc::invalid_argument) << start << " " << size;
  }
  EXPECT_TRUE(pool->validate());
  EXPECT_TRUE(pool->try_free(10, 10));
  EXPECT_TRUE(pool->try_free(0, 10));
  EXPECT_TRUE(pool->try_free(20, 2000));
  EXPECT_EQ(pool->available_bytes(), 3000u);
  EXPECT_TRUE(pool->validate());
}

TEST(GenPool, TheDefaultPolicyCanBeChanged) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 100}));
  pool->free(pool->allocate(10).value(), 10);
  ASSERT_TRUE(pool->allocate_at(20, 80));
  ASSERT_TRUE(pool->try_free(40, 5));
  EXPECT_EQ(pool->allocate(5).value(), 0u);
  pool->set_fit(BestFit{});
  EXPECT_EQ(pool->allocate(5).value(), 40u);
  pool->set_fit(FirstFitAlign{3});
  EXPECT_EQ(pool->allocate(5).error(), Errc::invalid_argument);
  pool->set_fit(FirstFit{});
  pool->free(0, 5);
  pool->free(20, 80);
}

// The highest place, as some want it: takes what is at the upper end of the last run.
std::size_t highest(const BitmapView& bitmap, std::size_t start, std::size_t run, const void* data,
                    std::uintptr_t) noexcept {
  ++*const_cast<int*>(static_cast<const int*>(data));
  std::size_t found = bitmap.bits();
  for (std::size_t at = bitmap.next_free_run(start, run); at < bitmap.bits();
       at = bitmap.next_free_run(at + 1, run)) {
    found = at;
  }
  return found;
}

TEST(GenPool, ASearchOfTheCallersOwnDecides) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 1000, .size_bytes = 700}));
  int calls = 0;
  const Fit fit = Fit::custom(&highest, &calls);
  EXPECT_EQ(pool->allocate(10, fit).value(), 1690u);
  EXPECT_EQ(pool->allocate(10, fit).value(), 1680u);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(pool->allocate(681, fit).error(), Errc::no_space);
  const Fit liar = Fit::custom([](const BitmapView&, std::size_t, std::size_t, const void*,
                                  std::uintptr_t) noexcept { return std::size_t{685}; },
                               nullptr);
  EXPECT_EQ(pool->allocate(10, liar).error(), Errc::no_space) << "what it says is checked";
  pool->free(1680, 20);
}

TEST(GenPool, CountsWhatHappened) {
  const auto pool = make({.min_alloc_order = 4, .name = "counted"});
  EXPECT_EQ(pool->name(), "counted");
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 1600}));
  ASSERT_TRUE(pool->allocate(800));
  ASSERT_TRUE(pool->allocate(160));
  pool->free(0, 800);
  EXPECT_FALSE(pool->allocate(1000));
  EXPECT_FALSE(pool->allocate(1500));
  const GenPoolStats stats = pool->stats();
  EXPECT_EQ(stats.size_bytes, 1600u);
  EXPECT_EQ(stats.available_bytes, 1440u);
  EXPECT_EQ(stats.peak_used_bytes, 960u);
  EXPECT_EQ(stats.largest_free_bytes, 800u);
  EXPECT_EQ(stats.free_runs, 2u);
  EXPECT_EQ(stats.chunks, 1u);
  EXPECT_EQ(stats.allocations, 2u);
  EXPECT_EQ(stats.frees, 1u);
  EXPECT_EQ(stats.failed_fragmented, 1u);
  EXPECT_EQ(stats.failed_no_space, 1u);
  EXPECT_GT(stats.words_touched, 0u);
  pool->free(800, 160);
}

// Of each chunk, so that it holds for any number of them; the pool has 128 KiB besides.
TEST(GenPool, ItsMetadataStaysWithinOneAndAHalfBitsAGranule) {
  constexpr std::size_t kSmall = std::size_t{1} << 16, kLarge = std::size_t{1} << 20;
  for (const std::size_t granules : {kSmall, kSmall + 1, 3 * kSmall - 7, kLarge - 1, kLarge,
                                     kLarge + 1, 3 * kLarge + 100, 16 * kLarge}) {
    for (const Fit& fit : {Fit(FirstFit{}), Fit(BestFit{})}) {
      const auto pool = make({.fit = fit});
      const std::size_t before = pool->stats().metadata_bytes;
      ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = granules}));
      const double bits = 8.0 * static_cast<double>(pool->stats().metadata_bytes - before) /
                          static_cast<double>(granules);
      EXPECT_LT(bits, granules < kLarge ? 3.0 : 1.5) << granules;
      EXPECT_LT(before, std::size_t{128} << 10);
    }
  }
}

TEST(GenPool, ReportsWhatIsLeft) {
  CapturedLeaks leaks;
  {
    const auto pool = make({.min_alloc_order = 4, .name = "left"});
    ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 1600}));
    ASSERT_TRUE(pool->allocate(20));
  }
  ASSERT_EQ(leaks.reports().size(), 1u);
  EXPECT_EQ(leaks.reports()[0],
            (testing::CapturedReport{"genalloc", "left", "bytes left at destruction", 32}));
}

TEST(RunBound, ComparesAGroupAsEachOfItsLanes) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::uint64_t words[8];
    const std::uint64_t most = round % 2 == 0 ? 0x7fff : 40;
    std::uint32_t expected = 0;
    const std::uint64_t want = random() % (most + 1);
    for (unsigned lane = 0; lane < 32; ++lane) {
      const std::uint64_t hint = random() % (most + 1);
      words[lane / 4] =
          genalloc::RunBound::with(lane % 4 == 0 ? 0 : words[lane / 4], lane % 4, hint);
      expected |= static_cast<std::uint32_t>(hint >= want) << lane;
    }
    ASSERT_EQ(genalloc::RunBound::at_least(words, want), expected);
    ASSERT_EQ(genalloc::RunBound::at_least_portable(words, want), expected);
  }
}

}  // namespace
}  // namespace mmkit
