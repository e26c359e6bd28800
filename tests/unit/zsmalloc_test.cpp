// SPDX-License-Identifier: MIT
//
// zsmalloc - what its own class promises beyond what every driver does: where objects go, what a CPU
// keeps, what compaction and eviction choose.
#include <mmkit/zpool/zsmalloc.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mmkit/page/sim_page_allocator.hpp>
#include <set>
#include <vector>

#include "support/percpu_threads.hpp"
#include "support/zsmalloc_fixture.hpp"

namespace mmkit {
namespace {

class Zsmalloc : public testing::ZsmallocTest {};

// ---------------------------------------------------------------- where objects go

TEST_F(Zsmalloc, FillsTheFullestZspageFirst) {
  make("cache=0");
  add(300, 1000);
  // Holes everywhere, in one neighbourhood more than elsewhere.
  free_if([](std::size_t i) { return i % 8 == 0 || (i >= 100 && i < 160 && i % 3 != 0); });
  const auto fill = [&] {
    std::array<std::size_t, 11> groups{};
    std::copy_n(class_of(1000).zspages, 11, groups.begin());
    return groups;
  };
  std::size_t full = fill()[10];
  for (int i = 0; i < 10; ++i) {
    const std::array<std::size_t, 11> before = fill();
    add(1, 1000);
    const std::array<std::size_t, 11> after = fill();
    // The highest group that had any lost one to a higher group, or kept its number.
    int highest = 9;
    while (highest > 0 && before[static_cast<std::size_t>(highest)] == 0) --highest;
    for (int g = 0; g < highest; ++g) {
      EXPECT_EQ(after[static_cast<std::size_t>(g)], before[static_cast<std::size_t>(g)]);
    }
    EXPECT_GE(after[10], full);
    full = after[10];
  }
  EXPECT_TRUE(pool_->validate());
}

TEST_F(Zsmalloc, GivesAZspageBackWhenItsLastObjectGoes) {
  make("cache=0");
  add(1, 4096);
  EXPECT_EQ(pool_->total_pages(), 1u) << "a huge object has a page of its own";
  add(1, 100);
  EXPECT_GT(pool_->total_pages(), 1u);
  const std::size_t both = pool_->total_pages();
  free_if([](std::size_t i) { return i == 0; });
  EXPECT_EQ(pool_->total_pages(), both - 1);
}

// Fewer pages than the kernel's zspages of one length, or at most one of those more.
TEST_F(Zsmalloc, NeedsNoMorePagesThanZspagesOfOneLengthWould) {
  for (const char* params :
       {"cache=0,chain_pages=4", "cache=0,chain_pages=8", "cache=0,chain_pages=16"}) {
    for (const std::size_t size : {40u, 100u, 528u, 1000u, 1500u, 2100u, 3000u, 3600u}) {
      make(params);
      const SizeClasses& sizes = pool_->size_classes();
      const SizeClass& shape = sizes[sizes.find(size)];
      for (int step = 0; step < 12; ++step) {
        add(1 + handles_.size() / 2, size);
        const std::size_t zspages = (handles_.size() + shape.objects - 1) / shape.objects;
        EXPECT_LE(pool_->total_pages(), (zspages + 1) * shape.pages)
            << handles_.size() << " objects of " << size << ", " << params;
      }
      free_if([](std::size_t) { return true; });
      EXPECT_EQ(pool_->total_pages(), 0u);
    }
  }
}

TEST_F(Zsmalloc, TakesShorterRunsWhereLongOnesAreNotToBeHad) {
  source_ = SimPageAllocator::create({.capacity_bytes = 3 * kPageSize, .retain_bytes = 0}).value();
  make("");
  // The best length of this size is more than three pages.
  const SizeClasses& sizes = pool_->size_classes();
  ASSERT_GT(sizes[sizes.find(3600)].pages, 3u);
  add(3, 3600);
  EXPECT_EQ(pool_->total_pages(), 3u);
  EXPECT_EQ(pool_->allocate(3600, Gfp::kernel).error(), Errc::out_of_memory);
}

// Also where the room belonged to a larger or a smaller object of the class before.
TEST_F(Zsmalloc, MapsAsManyBytesAsWereAskedFor) {
  make("");
  add(600, 3700);  // so many that CPUs keep some
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t size : {3641u, 4096u, 3700u, 3999u}) {
      free_if([](std::size_t i) { return i < 10; });
      for (int i = 0; i < 10; ++i) {
        const Handle handle = pool_->allocate(size, Gfp::kernel).value();
        EXPECT_EQ(pool_->map(handle, MapMode::read_write).value().size(), size);
        pool_->unmap(handle);
        handles_.push_back(handle);
      }
    }
  }
  std::size_t payload = 0;
  for (const Handle handle : handles_) {
    payload += pool_->map(handle, MapMode::read_only).value().size();
    pool_->unmap(handle);
  }
  EXPECT_EQ(pool_->stats().payload_bytes, payload);
}

// ---------------------------------------------------------------- what a CPU keeps

TEST_F(Zsmalloc, KeepsWhatWasFreedLastWithItsPlace) {
  make("");
  add(2000, 1000);
  free_if([](std::size_t i) { return i == 1000; });  // room is granted on the way
  free_if([](std::size_t i) { return i == 1000; });
  std::set<std::byte*> places;
  for (std::size_t i = 0; i < 4; ++i) places.insert(address_of(handles_[500 + i]));
  free_if([](std::size_t i) { return i >= 500 && i < 504; });
  ASSERT_GE(class_of(1000).kept, 4u);
  const std::size_t in_use = class_of(1000).objects;
  add(4, 1000);
  EXPECT_EQ(class_of(1000).objects, in_use) << "no zspage was asked";
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(places.contains(address_of(handles_[handles_.size() - 1 - i])));
  }
}

// A zspage whose last object goes is given back at once, though this CPU has room to keep the object.
TEST_F(Zsmalloc, KeepsNothingOfSparseZspages) {
  constexpr std::size_t kBytes = 1020, kInAPage = 4;
  make("");
  add(2000, kBytes);
  const auto objects_by_page = [&] {
    std::map<std::uintptr_t, std::vector<Handle>> pages;
    for (const Handle handle : handles_) {
      pages[reinterpret_cast<std::uintptr_t>(address_of(handle)) / kPageSize].push_back(handle);
    }
    return pages;
  };
  // One object is left in each of forty pages, but where others take the places that were kept.
  std::set<Handle> gone;
  for (const auto& [page, objects] : objects_by_page()) {
    ASSERT_EQ(objects.size(), kInAPage);
    if (gone.size() < 40 * (kInAPage - 1)) gone.insert(objects.begin() + 1, objects.end());
  }
  free_if([&](std::size_t i) { return gone.contains(handles_[i]); });
  ASSERT_GT(class_of(kBytes).kept, 4u) << "this CPU has room";
  add(class_of(kBytes).kept, kBytes);
  ASSERT_EQ(class_of(kBytes).kept, 0u);
  std::size_t freed = 0;
  for (const auto& [page, objects] : objects_by_page()) {
    if (objects.size() != 1) continue;
    const std::size_t pages = pool_->total_pages();
    const Handle last = objects.front();
    free_if([&](std::size_t i) { return handles_[i] == last; });
    EXPECT_EQ(pool_->total_pages(), pages - 1);
    EXPECT_EQ(class_of(kBytes).kept, 0u);
    ++freed;
  }
  EXPECT_GE(freed, 10u);
  EXPECT_TRUE(pool_->validate());
}

TEST_F(Zsmalloc, KeepsNothingWithoutACache) {
  make("cache=0");
  add(2000, 1000);
  for (int i = 0; i < 5; ++i) {
    free_if([](std::size_t n) { return n % 9 == 0; });
    EXPECT_EQ(class_of(1000).kept, 0u);
    add(100, 1000);
  }
}

// A pool that empties on one CPU what another one has kept.
TEST_F(Zsmalloc, HasNoPagesWhenItIsEmptyWhicheverCpuKeptWhat) {
  const std::vector<unsigned>& cpus = testing::allowed_cpus();
  for (const std::size_t size : {64u, 1000u, 3700u}) {
    make("cache=64");
    add(5000, size);
    for (unsigned round = 0; round < 6; ++round) {
      testing::run_on(cpus[round % cpus.size()], [&] {
        free_if([](std::size_t i) { return i % 5 == 0; });
        add(handles_.size() / 8, size);
        free_if([](std::size_t i) { return i % 5 == 0; });
      });
      EXPECT_TRUE(pool_->validate());
    }
    testing::run_on(cpus.back(), [&] { free_if([](std::size_t) { return true; }); });
    EXPECT_EQ(pool_->total_pages(), 0u);
    EXPECT_EQ(pool_->stats().objects, 0u);
  }
}

// ---------------------------------------------------------------- compaction

TEST_F(Zsmalloc, CompactsUntilNoClassHasAZspageToSpare) {
  make("");
  for (int i = 0; i < 400; ++i) {
    for (const std::size_t size : {100u, 1000u, 1500u, 3000u}) add(1, size);
  }
  free_if([](std::size_t i) { return i % 3 != 0; });
  const ZpoolStats before = pool_->stats();
  EXPECT_GT(before.compactable_pages, 0u);
  const std::size_t freed = pool_->compact().value();
  const ZpoolStats after = pool_->stats();
  EXPECT_GE(freed, before.compactable_pages / 2) << "as announced, but for lengths";
  EXPECT_EQ(after.pages, before.pages - freed);
  EXPECT_EQ(after.compactable_pages, 0u);
  EXPECT_EQ(after.objects, before.objects);
  EXPECT_GT(after.moved, 0u);
  EXPECT_TRUE(pool_->validate());
  EXPECT_EQ(pool_->compact().value(), 0u);
  EXPECT_EQ(pool_->stats().moved, after.moved);
  pool_->for_each_class([](const ZsmallocClassStats& row) {
    EXPECT_EQ(row.freeable_pages, 0u);
    EXPECT_EQ(row.kept, 0u);
  });
}

TEST_F(Zsmalloc, MovesAroundWhatIsMapped) {
  make("cache=0");
  add(900, 1000);
  free_if([](std::size_t i) { return i % 3 != 0; });
  std::vector<std::byte*> mapped;
  for (std::size_t i = 0; i < handles_.size(); i += 20) {
    mapped.push_back(pool_->map(handles_[i], MapMode::read_write).value().data());
  }
  EXPECT_GT(pool_->compact().value(), 0u);
  for (std::size_t i = 0; i < handles_.size(); i += 20) {
    EXPECT_EQ(address_of(handles_[i]), mapped[i / 20]);
    pool_->unmap(handles_[i]);
  }
  EXPECT_TRUE(pool_->validate());
  static_cast<void>(pool_->compact());
  EXPECT_EQ(pool_->stats().compactable_pages, 0u);
}

TEST_F(Zsmalloc, ShowsClassesThatAddUpToThePool) {
  make("");
  for (std::size_t size = 1; size <= kPageSize; size += 7) add(3, size);
  std::size_t pages = 0, objects = 0, kept = 0;
  unsigned last = 0;
  pool_->for_each_class([&](const ZsmallocClassStats& row) {
    EXPECT_TRUE(pages == 0 || row.number > last);
    last = row.number;
    EXPECT_LE(row.objects, row.cells);
    std::size_t zspages = 0;
    for (const std::size_t of_group : row.zspages) zspages += of_group;
    EXPECT_GE(row.pages, zspages);
    pages += row.pages;
    objects += row.objects;
    kept += row.kept;
  });
  EXPECT_EQ(pages, pool_->stats().pages);
  EXPECT_EQ(objects - kept, pool_->stats().objects);
}

// ---------------------------------------------------------------- eviction

TEST_F(Zsmalloc, EvictsTheOldestGenerationFirst) {
  std::vector<Handle> asked;
  make("cache=0", [&](Handle handle) {
    asked.push_back(handle);
    return pool_->free(handle);
  });
  add(2000, 4096);
  // The first quarter is used again, by a touch; a second one lives by new neighbours alone.
  for (std::size_t i = 0; i < 500; ++i) pool_->touch(handles_[i]);
  const ShrinkOutcome done = pool_->shrink(300);
  EXPECT_TRUE(done.status);
  EXPECT_EQ(done.reclaimed_pages, 300u);
  const std::set<Handle> gone(asked.begin(), asked.end());
  EXPECT_EQ(gone.size(), 300u);
  for (std::size_t i = 0; i < 500; ++i) EXPECT_FALSE(gone.contains(handles_[i])) << i;
  for (std::size_t i = 1500; i < 2000; ++i) EXPECT_FALSE(gone.contains(handles_[i])) << i;
  std::erase_if(handles_, [&](Handle handle) { return gone.contains(handle); });
}

// What refused is young: the next shrink asks others.
TEST_F(Zsmalloc, AsksOthersAfterARefusal) {
  std::vector<Handle> asked;
  bool refuse = true;
  make("cache=0", [&](Handle handle) -> Status {
    asked.push_back(handle);
    if (refuse) return fail(Errc::busy);
    return pool_->free(handle);
  });
  add(200, 4096);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(asked.size(), ZsmallocPool::kReclaimRetries);
  const std::set<Handle> refused(asked.begin(), asked.end());
  refuse = false;
  asked.clear();
  EXPECT_TRUE(pool_->shrink(20).status);
  for (const Handle handle : asked) EXPECT_FALSE(refused.contains(handle));
  const std::set<Handle> gone(asked.begin(), asked.end());
  std::erase_if(handles_, [&](Handle handle) { return gone.contains(handle); });
}

TEST_F(Zsmalloc, PassesOverWhatIsMappedAndBelievesNoLie) {
  std::size_t asked = 0;
  make("cache=0", [&](Handle) -> Status {
    ++asked;
    return {};  // a lie
  });
  add(50, 4096);
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(pool_->stats().evicted, 0u);
  EXPECT_NE(asked, 0u);
  asked = 0;
  for (const Handle handle : handles_) ASSERT_TRUE(pool_->map(handle, MapMode::read_only));
  EXPECT_EQ(pool_->shrink(1).status.error(), Errc::try_again);
  EXPECT_EQ(asked, 0u);
  for (const Handle handle : handles_) pool_->unmap(handle);
}

TEST_F(Zsmalloc, EvictsObjectsThatCpusKeepWithTheirZspage) {
  make("", [&](Handle handle) { return pool_->free(handle); });
  add(3000, 1000);
  free_if([](std::size_t i) { return i % 100 == 0; });
  EXPECT_TRUE(pool_->shrink(pool_->total_pages()).status);
  EXPECT_EQ(pool_->total_pages(), 0u);
  handles_.clear();
}

}  // namespace
}  // namespace mmkit
