// SPDX-License-Identifier: MIT
//
// MappedBacking, step by step under its own names: what each asks of the page source and of the
// system, and in which order. Here among the fault tests because these count the calls.
//
// The source notes what is asked of it. When a page is given back it looks into the process's own
// list of mappings: no unit may map that page then.
#include <gtest/gtest.h>

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <string>
#include <vector>

#include "fault/page_failing_system.hpp"
#include "percpu/chunk_heap.hpp"
#include "percpu/mapped_backing.hpp"
#include "support/page_memory.hpp"
#include "support/sanitized.hpp"

namespace mmkit::percpu {
namespace {

using testing::FailingSystem;
using testing::SystemCall;
using EntryRun = MappedBacking::EntryRun;
using PageList = MappedBacking::PageList;

constexpr unsigned kUnits = 5;

// Whether a range of addresses maps a page of a file.
bool is_mapped(const std::byte* base, std::size_t size_bytes, std::uint64_t file_offset) {
  const auto first = reinterpret_cast<std::uintptr_t>(base);
  std::FILE* const maps = std::fopen("/proc/self/maps", "r");
  char line[512];
  bool found = false;
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    std::uint64_t begin = 0, end = 0, offset = 0, inode = 0;
    if (std::sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %" SCNu64, &begin, &end,
                    &offset, &inode) != 4 ||
        inode == 0 || begin < first || end > first + size_bytes) {
      continue;
    }
    found = found || (file_offset >= offset && file_offset - offset < end - begin);
  }
  std::fclose(maps);
  return found;
}

class NotingSource final : public PageSource {
 public:
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    steps += 'a';
    asks_for_zero = asks_for_zero && has(request.gfp, Gfp::zero);
    return source->allocate_pages(request);
  }
  void free_pages(PageRun run) noexcept override {
    steps += 'f';
    freed_while_mapped =
        freed_while_mapped || is_mapped(watched, watched_bytes, source->share(run)->offset_bytes);
    source->free_pages(run);
  }
  Result<SharedRange> share(const PageRun& run) const noexcept override {
    steps += 's';
    return source->share(run);
  }
  PageSourceStats stats() const noexcept override { return source->stats(); }

  // What happened, repetitions left out.
  std::string order() const {
    std::string brief = steps;
    brief.erase(std::unique(brief.begin(), brief.end()), brief.end());
    return brief;
  }

  std::unique_ptr<SimPageAllocator> source =
      SimPageAllocator::create({.capacity_bytes = std::size_t{4} << 20, .shareable = true}).value();
  mutable std::string steps;
  bool asks_for_zero = true;
  bool freed_while_mapped = false;
  const std::byte* watched = nullptr;
  std::size_t watched_bytes = 0;
};

class PercpuMappedSteps : public ::testing::Test {
 protected:
  PercpuMappedSteps() {
    EXPECT_TRUE(backing_.open(chunk_));
    pages_.watched = chunk_.place.base;
    pages_.watched_bytes = space_.chunk_bytes();
  }
  ~PercpuMappedSteps() override {
    EXPECT_TRUE(backing_.close(chunk_));
    EXPECT_FALSE(pages_.freed_while_mapped);
    EXPECT_EQ(held(), 0u);
  }

  std::size_t held() const { return pages_.stats().held_pages; }
  std::byte* entry(unsigned unit, unsigned number) const {
    return chunk_.place.base + unit * kPercpuUnitStride - colour_bytes(unit) + number * kPageSize;
  }
  std::byte* block(unsigned unit, unsigned number) const {
    return chunk_.place.base + unit * kPercpuUnitStride + number * kPageSize;
  }
  // Where exactly the list has a page.
  static bool has_exactly(const PageList& list, EntryRun run) {
    for (unsigned unit = 0; unit < MappedBacking::kMostUnits; ++unit) {
      for (unsigned number = 0; number < kEntries; ++number) {
        const bool expected = unit < kUnits && number >= run.begin && number < run.end;
        if ((list.of_unit[unit][number].data != nullptr) != expected) return false;
      }
    }
    return true;
  }

  NotingSource pages_;
  AddressSpace space_{kUnits};
  MappedBacking backing_{kUnits, space_.chunk_bytes(), pages_};
  ChunkHeap heap_{kUnits, space_, backing_};
  Chunk chunk_{heap_, space_.take_place().value()};
};

TEST_F(PercpuMappedSteps, GetPagesIsAnEmptyListOfTheCallsOwn) {
  PageList first = MappedBacking::get_pages();
  EXPECT_TRUE(has_exactly(first, {0, 0}));
  first.of_unit[1][1].pages = 7;
  first.of_unit[1][1].data = entry(1, 1);
  EXPECT_TRUE(has_exactly(MappedBacking::get_pages(), {0, 0}));
}

TEST_F(PercpuMappedSteps, AllocPagesTakesAZeroedPageForEachUnitAndEntry) {
  PageList list = MappedBacking::get_pages();
  FailingSystem system;
  EXPECT_TRUE(backing_.alloc_pages(chunk_, {2, 5}, list));
  EXPECT_TRUE(has_exactly(list, {2, 5}));
  EXPECT_EQ(pages_.order(), "a");
  EXPECT_TRUE(pages_.asks_for_zero);
  EXPECT_EQ(held(), kUnits * 3);
  EXPECT_EQ(system.calls(SystemCall::mmap), 0u) << "nothing is mapped yet";
  backing_.free_pages(list);
  EXPECT_TRUE(has_exactly(list, {0, 0}));
  EXPECT_EQ(held(), 0u);
}

TEST_F(PercpuMappedSteps, AllocPagesPassesByWhatANeighbourBrought) {
  EXPECT_TRUE(backing_.populate(chunk_, {4, 6}));  // entries 4, 5, 6
  PageList list = MappedBacking::get_pages();
  EXPECT_TRUE(backing_.alloc_pages(chunk_, {6, 9}, list));
  EXPECT_TRUE(has_exactly(list, {7, 9}));
  backing_.free_pages(list);
}

TEST_F(PercpuMappedSteps, MapPagesPutsEachPageInItsPlaceAndNeighboursInOneCall) {
  PageList list = MappedBacking::get_pages();
  ASSERT_TRUE(backing_.alloc_pages(chunk_, {3, 9}, list));
  FailingSystem system;
  ASSERT_TRUE(backing_.map_pages(chunk_, {3, 9}, list));
  EXPECT_EQ(system.calls(SystemCall::mmap), kUnits) << "a call a unit, as frames come in order";
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    for (unsigned number = 3; number < 9; ++number) {
      *entry(unit, number) = static_cast<std::byte>(unit * 16 + number);
      EXPECT_EQ(list.of_unit[unit][number].data[0], static_cast<std::byte>(unit * 16 + number));
      const std::uint64_t offset = pages_.source->share(list.of_unit[unit][number])->offset_bytes;
      EXPECT_TRUE(is_mapped(pages_.watched, pages_.watched_bytes, offset));
    }
  }
  ASSERT_TRUE(os::close({chunk_.place.base, space_.chunk_bytes()}));
  backing_.free_pages(list);
}

TEST_F(PercpuMappedSteps, MapPagesDividesWhatDoesNotLieSideBySide) {
  PageList list = MappedBacking::get_pages();
  ASSERT_TRUE(backing_.alloc_pages(chunk_, {0, 6}, list));
  std::swap(list.of_unit[2][1], list.of_unit[2][4]);  // 0 | 4 | 2 3 | 1 | 5
  FailingSystem system;
  ASSERT_TRUE(backing_.map_pages(chunk_, {0, 6}, list));
  EXPECT_EQ(system.calls(SystemCall::mmap), kUnits - 1 + 5);
  for (unsigned number = 0; number < 6; ++number) {
    *entry(2, number) = static_cast<std::byte>(number + 1);
    EXPECT_EQ(list.of_unit[2][number].data[0], static_cast<std::byte>(number + 1));
  }
  ASSERT_TRUE(os::close({chunk_.place.base, space_.chunk_bytes()}));
  backing_.free_pages(list);
}

TEST_F(PercpuMappedSteps, PopulateAllocatesAllThenMapsAllThenMakesThemPresent) {
  ASSERT_TRUE(backing_.populate(chunk_, {5, 8}));
  EXPECT_EQ(pages_.order(), "as") << "no page after the first mapping, and none given back";
  EXPECT_EQ(held(), kUnits * 4) << "three blocks lie over four entries";
  if (testing::kSanitized) GTEST_SKIP() << "shadow memory faults too";
  const std::uint64_t before = testing::thread_faults();
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    std::memset(block(unit, 5), 0x5a, 3 * kPageSize);
  }
  EXPECT_EQ(testing::thread_faults(), before);
}

TEST_F(PercpuMappedSteps, UnmapPagesMovesThemToTheListAndFreesNone) {
  ASSERT_TRUE(backing_.populate(chunk_, {5, 8}));
  pages_.steps.clear();
  PageList list = MappedBacking::get_pages();
  FailingSystem system;
  MappedBacking::pre_unmap_flush(chunk_, {5, 9});
  EXPECT_TRUE(backing_.unmap_pages(chunk_, {5, 9}, list));
  MappedBacking::post_unmap_tlb_flush(chunk_, {5, 9});
  EXPECT_EQ(system.calls(SystemCall::mmap), kUnits) << "a call a unit";
  EXPECT_TRUE(has_exactly(list, {5, 9}));
  EXPECT_EQ(pages_.steps, "");
  EXPECT_EQ(held(), kUnits * 4) << "the list has them";
  for (const auto& entries : list.of_unit) {
    for (const PageRun& page : entries) {
      if (page.data == nullptr) continue;
      const std::uint64_t offset = pages_.source->share(page)->offset_bytes;
      EXPECT_FALSE(is_mapped(pages_.watched, pages_.watched_bytes, offset));
    }
  }
  backing_.free_pages(list);
  EXPECT_EQ(held(), 0u);
  // Nothing is noted any more: it can be populated anew.
  EXPECT_TRUE(backing_.populate(chunk_, {5, 8}));
  EXPECT_EQ(held(), kUnits * 4);
}

TEST_F(PercpuMappedSteps, UnmapPagesThatTheSystemStopsPutsThemBackAsTheyWere) {
  ASSERT_TRUE(backing_.populate(chunk_, {5, 8}));
  for (unsigned unit = 0; unit < kUnits; ++unit) *block(unit, 6) = static_cast<std::byte>(unit + 1);
  for (unsigned at = 1; at <= kUnits; ++at) {
    PageList list = MappedBacking::get_pages();
    {
      FailingSystem system;
      system.fail_nth(SystemCall::mmap, at, testing::Failing::once);
      EXPECT_FALSE(backing_.unmap_pages(chunk_, {5, 9}, list));
    }
    EXPECT_TRUE(has_exactly(list, {0, 0}));
    for (unsigned unit = 0; unit < kUnits; ++unit) {
      EXPECT_EQ(*block(unit, 6), static_cast<std::byte>(unit + 1)) << "stopped at " << at;
    }
  }
}

TEST_F(PercpuMappedSteps, DepopulateUnmapsInEveryUnitBeforeAPageGoes) {
  ASSERT_TRUE(backing_.populate(chunk_, {0, 16}));
  EXPECT_EQ(held(), kUnits * kEntries);
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    std::memset(block(unit, 0), 0x6b, 16 * kPageSize);
  }
  pages_.steps.clear();
  // Both neighbours stay: the entries under their edges too.
  const auto given =
      backing_.depopulate(chunk_, {3, 6}, blocks_between(0, 3) | blocks_between(6, 16));
  EXPECT_EQ(given.blocks, blocks_between(3, 6));
  EXPECT_EQ(given.fresh, blocks_between(4, 5)) << "at the edges there are bytes that stayed";
  EXPECT_EQ(pages_.steps, std::string(kUnits * 2, 'f')) << "entries 4 and 5";
  EXPECT_FALSE(pages_.freed_while_mapped);
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    for (const unsigned number : {0u, 2u, 6u, 15u}) {
      const std::byte* const begin = block(unit, number);
      EXPECT_TRUE(
          std::all_of(begin, begin + kPageSize, [](std::byte b) { return b == std::byte{0x6b}; }));
    }
  }
  // The neighbour on the left goes: so does the page between.
  pages_.steps.clear();
  const auto next =
      backing_.depopulate(chunk_, {2, 3}, blocks_between(0, 2) | blocks_between(6, 16));
  EXPECT_EQ(next.blocks, blocks_between(2, 3));
  EXPECT_EQ(pages_.steps, std::string(kUnits, 'f'));
  // Populated again, what is said to be fresh is.
  ASSERT_TRUE(backing_.populate(chunk_, {2, 6}));
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    const std::byte* const begin = block(unit, 4);
    EXPECT_TRUE(
        std::all_of(begin, begin + kPageSize, [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_F(PercpuMappedSteps, ABlockBetweenTwoThatStayGivesNothingBackButItsMark) {
  ASSERT_TRUE(backing_.populate(chunk_, {0, 3}));
  pages_.steps.clear();
  const auto given =
      backing_.depopulate(chunk_, {1, 2}, blocks_between(0, 1) | blocks_between(2, 3));
  EXPECT_EQ(given.blocks, blocks_between(1, 2));
  EXPECT_EQ(given.fresh, 0u);
  EXPECT_EQ(pages_.steps, "");
  EXPECT_EQ(held(), kUnits * 4);
}

TEST_F(PercpuMappedSteps, CloseUnmapsAllInOneCallBeforeAPageGoes) {
  ASSERT_TRUE(backing_.populate(chunk_, {0, 2}));
  ASSERT_TRUE(backing_.populate(chunk_, {9, 12}));
  pages_.steps.clear();
  FailingSystem system;
  EXPECT_TRUE(backing_.close(chunk_));
  EXPECT_EQ(system.calls(SystemCall::mmap), 1u);
  EXPECT_EQ(pages_.steps, std::string(kUnits * 7, 'f'));
  EXPECT_FALSE(pages_.freed_while_mapped);
  EXPECT_EQ(held(), 0u);
  EXPECT_TRUE(backing_.open(chunk_));  // for the end of the test
}

}  // namespace
}  // namespace mmkit::percpu
