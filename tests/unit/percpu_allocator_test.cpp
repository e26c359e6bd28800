// SPDX-License-Identifier: MIT
//
// PercpuAllocator, call by call on one thread: what it takes and refuses, what its statistics say to
// the last byte, what a chunk shows and does, and what the operating system says of its memory.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/percpu/this_cpu.hpp>
#include <set>
#include <vector>

#include "percpu/chunk.hpp"
#include "support/child_process.hpp"
#include "support/percpu_memory.hpp"
#include "support/percpu_threads.hpp"
#include "support/sanitized.hpp"

namespace mmkit {
namespace {

using Bytes = PercpuPtr<std::byte>;
using Sizes = std::initializer_list<std::size_t>;

constexpr std::size_t kPages = kPercpuUnitBytes / kPageSize;

std::unique_ptr<PercpuAllocator> make(const PercpuOptions& options = {}) {
  return std::move(PercpuAllocator::create(options)).value();
}
Errc refusal(const PercpuOptions& options) {
  const auto made = PercpuAllocator::create(options);
  return made ? Errc{} : made.error();
}
Bytes allocate(PercpuAllocator& allocator, std::size_t size_bytes, std::size_t align = 8) {
  return allocator.allocate(size_bytes, align).value();
}
std::byte* base_of(const PercpuChunk& chunk) {
  return static_cast<const percpu::Chunk&>(chunk).place.base;
}
template <class F>
void visit_ordinary(PercpuAllocator& allocator, F&& f) {
  allocator.for_each_chunk([&](PercpuChunk& chunk) {
    if (!chunk.reserved()) f(chunk);
  });
}
bool zero_everywhere(const PercpuAllocator& allocator, Bytes p, std::size_t size_bytes) {
  for (unsigned unit = 0; unit < allocator.units(); ++unit) {
    for (std::size_t at = 0; at < size_bytes; ++at) {
      if (per_cpu_read(Bytes{p.unit0 + at}, unit) != std::byte{0}) return false;
    }
  }
  return true;
}
void fill_everywhere(const PercpuAllocator& allocator, Bytes p, std::size_t size_bytes, int value) {
  for (unsigned unit = 0; unit < allocator.units(); ++unit) {
    std::memset(per_cpu_ptr(p, unit), value, size_bytes);
  }
}

// ---------------------------------------------------------------- creating

TEST(PercpuAllocator, HasTheUnitsThatWereAskedFor) {
  EXPECT_EQ(make()->units(), possible_cpus());
  EXPECT_EQ(make({.max_cpus = possible_cpus()})->units(), possible_cpus());
  const auto large = make({.max_cpus = std::max(256u, possible_cpus())});
  EXPECT_EQ(large->units(), std::max(256u, possible_cpus()));
  EXPECT_EQ(large->stats().units, large->units());
  EXPECT_EQ(large->stats().unit_bytes, kPercpuUnitBytes);
}

TEST(PercpuAllocator, RefusesOptionsThatMakeNoSense) {
  if (possible_cpus() > 1) {
    EXPECT_EQ(refusal({.max_cpus = possible_cpus() - 1}), Errc::invalid_argument);
  }
  EXPECT_EQ(refusal({.max_cpus = 16385}), Errc::invalid_argument);
  EXPECT_EQ(refusal({.max_cpus = ~0u}), Errc::invalid_argument);
  EXPECT_EQ(refusal({.max_cpus = 17, .backing = PercpuBacking::mapped}), Errc::invalid_argument);
  EXPECT_EQ(refusal({.reserved_bytes = 64 * 1024 + 1}), Errc::invalid_argument);
  EXPECT_EQ(refusal({.reserved_bytes = ~std::size_t{0}}), Errc::invalid_argument);
  EXPECT_TRUE(PercpuAllocator::create({.reserved_bytes = 64 * 1024}));
}

TEST(PercpuAllocator, RefusesPagesThatCannotBeShared) {
  if (possible_cpus() > 16) GTEST_SKIP() << "a mapped backing has at most 16 units";
  const auto pages = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  EXPECT_EQ(refusal({.backing = PercpuBacking::mapped, .pages = pages.get()}), Errc::not_supported);
  EXPECT_EQ(pages->stats().held_pages, 0u);
}

TEST(PercpuAllocator, InstanceIsOneAndIsThereForAll) {
  PercpuAllocator& one = PercpuAllocator::instance();
  EXPECT_EQ(&one, &PercpuAllocator::instance());
  EXPECT_EQ(one.units(), possible_cpus());
  const auto p = one.allocate_reserved(64, 8);
  ASSERT_TRUE(p);
  one.free(*p);
}

// ---------------------------------------------------------------- allocating

class PercpuAllocatorOf : public ::testing::TestWithParam<PercpuBacking> {
 protected:
  void SetUp() override {
    // One more than there can be CPUs: no memory is ever set aside for that one.
    const unsigned units = std::max(2u, possible_cpus()) + 1;
    if (GetParam() == PercpuBacking::mapped && units > 16) {
      GTEST_SKIP() << "a mapped backing has at most 16 units";
    }
    allocator_ = make({.max_cpus = units, .backing = GetParam(), .reserved_bytes = 2 * kPageSize});
  }
  void TearDown() override {
    if (allocator_ == nullptr) return;
    EXPECT_TRUE(allocator_->validate());
    EXPECT_EQ(allocator_->stats().live, 0u);
  }
  std::unique_ptr<PercpuAllocator> allocator_;
};
INSTANTIATE_TEST_SUITE_P(Each, PercpuAllocatorOf,
                         ::testing::Values(PercpuBacking::lazy, PercpuBacking::mapped),
                         [](const auto& made) {
                           return made.param == PercpuBacking::lazy ? "Lazy" : "Mapped";
                         });

TEST_P(PercpuAllocatorOf, TakesEverySizeAndAlignmentUpToTheLargest) {
  std::vector<std::pair<Bytes, std::size_t>> all;
  for (const std::size_t size_bytes :
       Sizes{1,   2,   4,   5,   7,    8,    9,    16,   63,   64,     65,     127,   128,
             129, 192, 193, 256, 1000, 1024, 1025, 4096, 4097, 20'000, 32'767, 32'768}) {
    for (std::size_t align = 1; align <= kPercpuMaxAlign; align *= 2) {
      for (const Gfp gfp : {Gfp::kernel, Gfp::nowait}) {
        const auto p = allocator_->allocate(size_bytes, align, gfp);
        if (!p && gfp == Gfp::nowait) continue;  // there may be no memory at hand
        ASSERT_TRUE(p) << size_bytes << " aligned to " << align;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p->unit0) % align, 0u);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(per_cpu_ptr(*p, 2)) % align, 0u);
        EXPECT_TRUE(zero_everywhere(*allocator_, *p, size_bytes)) << size_bytes;
        fill_everywhere(*allocator_, *p, size_bytes, 0x5a);
        all.emplace_back(*p, size_bytes);
      }
    }
  }
  EXPECT_TRUE(allocator_->validate());
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.first.unit0 < b.first.unit0; });
  for (std::size_t i = 1; i < all.size(); ++i) {
    ASSERT_LE(all[i - 1].first.unit0 + all[i - 1].second, all[i].first.unit0) << "they overlap";
  }
  for (const auto& [p, size_bytes] : all) allocator_->free(p);
}

TEST_P(PercpuAllocatorOf, RefusesSizesAndAlignmentsThatAreNone) {
  const PercpuStats before = allocator_->stats();
  for (const Gfp gfp : {Gfp::kernel, Gfp::nowait}) {
    for (const std::size_t size_bytes : {std::size_t{0}, kPercpuMaxBytes + 1, ~std::size_t{0}}) {
      EXPECT_EQ(allocator_->allocate(size_bytes, 8, gfp).error(), Errc::invalid_argument);
    }
    for (const std::size_t size_bytes : {std::size_t{8}, std::size_t{64}, kPercpuMaxBytes}) {
      for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{6},
                                      std::size_t{48}, std::size_t{128}, ~std::size_t{0}}) {
        EXPECT_EQ(allocator_->allocate(size_bytes, align, gfp).error(), Errc::invalid_argument)
            << size_bytes << " aligned to " << align;
      }
    }
  }
  for (const std::size_t size_bytes : {std::size_t{0}, kPercpuMaxBytes + 1}) {
    EXPECT_EQ(allocator_->allocate_reserved(size_bytes, 8).error(), Errc::invalid_argument);
  }
  for (const std::size_t align : {std::size_t{0}, std::size_t{3}, std::size_t{128}}) {
    EXPECT_EQ(allocator_->allocate_reserved(8, align).error(), Errc::invalid_argument);
  }
  const PercpuStats after = allocator_->stats();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.live_bytes, before.live_bytes);
}

TEST_P(PercpuAllocatorOf, MemoryIsZeroAgainWhoeverWroteIt) {
  for (const std::size_t size_bytes : Sizes{4, 8, 16, 24, 40, 64, 72, 128, 136, 200, 1024, 5000}) {
    std::set<std::byte*> places;
    for (int round = 0; round < 40; ++round) {
      std::array<Bytes, 3> some;
      for (Bytes& p : some) {
        p = allocate(*allocator_, size_bytes);
        ASSERT_TRUE(zero_everywhere(*allocator_, p, size_bytes)) << size_bytes << " " << round;
        fill_everywhere(*allocator_, p, size_bytes, 0xa5);
        places.insert(p.unit0);
      }
      for (const Bytes p : some) allocator_->free(p);
      if (round % 10 == 9) allocator_->balance();
    }
    EXPECT_LT(places.size(), 120u) << "no place was used twice: this tests nothing";
  }
}

TEST_P(PercpuAllocatorOf, TheReservedPartIsApartAndHasAnEnd) {
  std::byte* base = nullptr;
  allocator_->for_each_chunk([&](PercpuChunk& chunk) {
    if (chunk.reserved()) base = base_of(chunk);
  });
  ASSERT_NE(base, nullptr);
  std::vector<Bytes> all;
  while (true) {
    const auto p = allocator_->allocate_reserved(512, 64);
    if (!p) {
      EXPECT_EQ(p.error(), Errc::no_space);
      break;
    }
    EXPECT_GE(p->unit0, base);
    EXPECT_LE(p->unit0 + 512, base + 2 * kPageSize);
    EXPECT_TRUE(zero_everywhere(*allocator_, *p, 512));
    fill_everywhere(*allocator_, *p, 512, 0x11);
    all.push_back(*p);
  }
  EXPECT_EQ(all.size(), 2 * kPageSize / 512);
  EXPECT_EQ(allocator_->stats().failures, 1u);
  // Others do not come here, and what is freed is there again, and zero.
  const Bytes other = allocate(*allocator_, 512);
  EXPECT_TRUE(other.unit0 < base || other.unit0 >= base + kPercpuUnitBytes);
  allocator_->free(other);
  allocator_->free(all[3]);
  const auto again = allocator_->allocate_reserved(512, 64);
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, all[3]);
  EXPECT_TRUE(zero_everywhere(*allocator_, *again, 512));
  allocator_->balance();
  for (const Bytes p : all) allocator_->free(p);
  allocator_->balance();
  EXPECT_EQ(allocator_->stats().chunks, 2u) << "the reserved chunk and an empty one";
}

TEST(PercpuAllocator, WithoutAReservedPartThereIsNoSpaceInIt) {
  const auto allocator = make();
  EXPECT_EQ(allocator->allocate_reserved(8, 8).error(), Errc::no_space);
  visit_ordinary(*allocator, [](PercpuChunk& chunk) { EXPECT_FALSE(chunk.reserved()); });
}

// ---------------------------------------------------------------- statistics

TEST_P(PercpuAllocatorOf, StatisticsAreExact) {
  const testing::PinnedThread pinned;
  const auto check = [&](std::uint64_t allocations, std::uint64_t frees, std::uint64_t peak,
                         std::size_t live_bytes, std::size_t least, std::size_t most) {
    const PercpuStats stats = allocator_->stats();
    EXPECT_EQ(stats.allocations, allocations);
    EXPECT_EQ(stats.frees, frees);
    EXPECT_EQ(stats.live, allocations - frees);
    EXPECT_EQ(stats.peak_live, peak);
    EXPECT_EQ(stats.live_bytes, live_bytes);
    EXPECT_EQ(stats.min_alloc_bytes, least);
    EXPECT_EQ(stats.max_alloc_bytes, most);
    EXPECT_EQ(stats.failures, 0u);
    EXPECT_EQ(stats.nowait_failures, 0u);
  };
  check(0, 0, 0, 0, 0, 0);
  const Bytes a = allocate(*allocator_, 24);
  check(1, 0, 1, 24, 24, 24);
  const Bytes b = allocate(*allocator_, 100);  // rounded to eights
  check(2, 0, 2, 24 + 104, 24, 104);
  const Bytes c = allocate(*allocator_, 4, 4);
  check(3, 0, 3, 24 + 104 + 4, 4, 104);
  const Bytes d = allocate(*allocator_, 3001);
  check(4, 0, 4, 24 + 104 + 4 + 3008, 4, 3008);
  allocator_->free(b);
  check(4, 1, 4, 24 + 4 + 3008, 4, 3008);
  allocator_->free(d);
  EXPECT_TRUE(allocator_->try_free(a));
  check(4, 3, 4, 4, 4, 3008);
  const Bytes e = allocator_->allocate_reserved(10, 8).value();
  check(5, 3, 4, 4 + 16, 4, 3008);
  allocator_->free({});
  EXPECT_TRUE(allocator_->try_free({}));
  check(5, 3, 4, 4 + 16, 4, 3008);
  allocator_->balance();
  check(5, 3, 4, 4 + 16, 4, 3008);
  allocator_->free(c);
  allocator_->free(e);
  check(5, 5, 4, 0, 4, 3008);
}

TEST_P(PercpuAllocatorOf, StatisticsCountChunksAndPages) {
  const PercpuStats empty = allocator_->stats();
  EXPECT_EQ(empty.chunks, 2u);
  EXPECT_EQ(empty.max_chunks, 2u);
  // Two of the reserved part, and some set aside for those who cannot wait.
  EXPECT_GE(empty.populated_pages, 3u);
  EXPECT_EQ(empty.empty_populated_pages, empty.populated_pages);
  std::vector<Bytes> all;
  while (allocator_->stats().chunks < 6) all.push_back(allocate(*allocator_, kPageSize, 64));
  const PercpuStats full = allocator_->stats();
  EXPECT_EQ(full.max_chunks, 6u);
  EXPECT_EQ(full.populated_pages - full.empty_populated_pages, all.size());
  EXPECT_GE(full.metadata_bytes, empty.metadata_bytes + 4 * (2 * percpu::kGranules / 8));
  for (const Bytes p : all) allocator_->free(p);
  allocator_->balance();
  const PercpuStats after = allocator_->stats();
  EXPECT_EQ(after.chunks, 2u);
  EXPECT_EQ(after.max_chunks, 6u);
  EXPECT_EQ(after.populated_pages, after.empty_populated_pages);
  EXPECT_LE(after.populated_pages, empty.populated_pages + 2);
  EXPECT_EQ(after.metadata_bytes, empty.metadata_bytes);
}

// As many as will go without waiting; the last refusal is not for a lock.
std::vector<Bytes> allocate_now(PercpuAllocator& allocator, std::size_t size_bytes) {
  std::vector<Bytes> all;
  while (true) {
    const auto p = allocator.allocate(size_bytes, 8, Gfp::nowait);
    if (!p) {
      EXPECT_EQ(p.error(), Errc::out_of_memory);
      return all;
    }
    EXPECT_TRUE(zero_everywhere(allocator, *p, size_bytes));
    all.push_back(*p);
  }
}

TEST_P(PercpuAllocatorOf, ARefusalWithoutWaitingIsCountedAndEnlargesTheReserve) {
  std::vector<Bytes> all = allocate_now(*allocator_, 2000);
  EXPECT_GE(all.size(), 4u) << "two pages hold two each";
  EXPECT_EQ(allocator_->stats().failures, 1u);
  EXPECT_EQ(allocator_->stats().nowait_failures, 1u);
  // Another, who may wait, fills the reserve again, to twice its size.
  all.push_back(allocate(*allocator_, 2000));
  const std::vector<Bytes> more = allocate_now(*allocator_, 2000);
  EXPECT_GE(more.size(), 8u) << "four pages hold two each";
  EXPECT_EQ(allocator_->stats().nowait_failures, 2u);
  for (const Bytes p : all) allocator_->free(p);
  for (const Bytes p : more) allocator_->free(p);
}

// Units beyond those that have memory of the reserve: what is handed out must be zero there too, and
// they may have been written at any time before.
TEST_P(PercpuAllocatorOf, TheReserveServesAgainAndAgainWhateverWasWritten) {
  for (int round = 0; round < 6; ++round) {
    std::vector<Bytes> all;
    for (int i = 0; i < 20; ++i) all.push_back(allocate(*allocator_, kPageSize, 64));
    for (const Bytes p : all) fill_everywhere(*allocator_, p, kPageSize, 0x71);
    std::vector<Bytes> now = allocate_now(*allocator_, 500);
    EXPECT_GE(now.size(), 16u) << "round " << round << ": two pages hold eight each";
    for (const Bytes p : now) fill_everywhere(*allocator_, p, 500, 0x72);
    // What is freed is written, and nothing gives its pages back until somebody waits.
    for (const Bytes p : now) allocator_->free(p);
    if (round % 2 == 0) {
      for (const Bytes p : all) allocator_->free(p);
      all.clear();
    }
    allocator_->free(allocate(*allocator_, 3000));
    for (const Bytes p : all) allocator_->free(p);
    if (round == 3) allocator_->balance();
    EXPECT_TRUE(allocator_->validate());
  }
}

// ---------------------------------------------------------------- freeing, and misuse

TEST_P(PercpuAllocatorOf, TryFreeRefusesWhatIsNotLive) {
  const auto other = make();
  const Bytes foreign = allocate(*other, 64);
  int on_stack = 0;
  for (const std::size_t size_bytes : Sizes{4, 8, 64, 200, 1024, 3000}) {
    SCOPED_TRACE(size_bytes);
    const Bytes p = allocate(*allocator_, size_bytes, 4);
    const Bytes q = allocate(*allocator_, size_bytes, 4);
    fill_everywhere(*allocator_, p, size_bytes, 0x33);
    const PercpuStats before = allocator_->stats();
    const auto refuses = [&](const void* address) {
      auto* const unit0 = const_cast<std::byte*>(static_cast<const std::byte*>(address));
      return allocator_->try_free({unit0}).error() == Errc::invalid_argument;
    };
    EXPECT_TRUE(refuses(&on_stack));
    EXPECT_TRUE(refuses(reinterpret_cast<void*>(8)));
    EXPECT_TRUE(refuses(reinterpret_cast<void*>(~std::uintptr_t{7})));
    EXPECT_TRUE(refuses(foreign.unit0));
    for (std::size_t inside = 1; inside < size_bytes; inside += inside < 16 ? 1 : inside / 2) {
      EXPECT_TRUE(refuses(p.unit0 + inside)) << inside;
    }
    EXPECT_TRUE(refuses(p.unit0 - 1));
    EXPECT_TRUE(refuses(p.unit0 + kPercpuUnitStride)) << "the copy of another unit";
    EXPECT_TRUE(refuses(p.unit0 + 2 * kPercpuUnitStride));
    EXPECT_TRUE(refuses(p.unit0 + kPercpuUnitBytes)) << "between two units, or in the next";
    const PercpuStats after = allocator_->stats();
    EXPECT_EQ(after.frees, before.frees);
    EXPECT_EQ(after.live_bytes, before.live_bytes);
    for (std::size_t at = 0; at < size_bytes; ++at) {
      ASSERT_EQ(per_cpu_read(Bytes{p.unit0 + at}, 1), std::byte{0x33});
    }
    // Freed means freed, wherever the object went, and whether or not others were freed since.
    EXPECT_TRUE(allocator_->try_free(p));
    EXPECT_TRUE(refuses(p.unit0));
    EXPECT_TRUE(allocator_->try_free(q));
    EXPECT_TRUE(refuses(p.unit0));
    EXPECT_TRUE(refuses(q.unit0));
    allocator_->balance();
    EXPECT_TRUE(refuses(p.unit0));
    EXPECT_EQ(allocator_->stats().live, 0u);
  }
  other->free(foreign);
}

TEST_P(PercpuAllocatorOf, ADoubleFreeIsNeverGivenOutTwice) {
  const Bytes p = allocate(*allocator_, 64);
  allocator_->free(p);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(allocator_->try_free(p));
  std::set<std::byte*> given;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(given.insert(allocate(*allocator_, 64).unit0).second) << "given out twice";
  }
  for (std::byte* const one : given) allocator_->free({one});
}

TEST_P(PercpuAllocatorOf, KnowsItsAddresses) {
  const Bytes p = allocate(*allocator_, 100, 64);
  for (unsigned unit = 0; unit < allocator_->units(); ++unit) {
    for (const std::size_t at : Sizes{0, 1, 99}) {
      const std::byte* const address = p.unit0 + unit * kPercpuUnitStride + at;
      EXPECT_TRUE(allocator_->contains(address));
      EXPECT_EQ(allocator_->cpu_of(address).value(), unit);
      EXPECT_EQ(allocator_->canonical(address)->unit0, p.unit0 + at);
    }
  }
  std::byte* base = nullptr;
  visit_ordinary(*allocator_, [&](PercpuChunk& chunk) { base = base_of(chunk); });
  const std::byte* const end = base + allocator_->units() * kPercpuUnitStride;
  const int on_stack = 0;
  for (const void* const address :
       {static_cast<const void*>(nullptr), static_cast<const void*>(&on_stack),
        static_cast<const void*>(base - 1), static_cast<const void*>(base + kPercpuUnitBytes),
        static_cast<const void*>(base + kPercpuUnitStride - 1), static_cast<const void*>(end)}) {
    EXPECT_FALSE(allocator_->contains(address));
    EXPECT_EQ(allocator_->cpu_of(address).error(), Errc::invalid_argument);
    EXPECT_EQ(allocator_->canonical(address).error(), Errc::invalid_argument);
  }
  EXPECT_TRUE(allocator_->contains(base + kPercpuUnitBytes - 1));
  EXPECT_EQ(allocator_->cpu_of(base + kPercpuUnitStride).value(), 1u);
  allocator_->free(p);
}

TEST_P(PercpuAllocatorOf, AChunkThatWentIsNoLongerThere) {
  std::vector<Bytes> all;
  while (allocator_->stats().chunks < 4) all.push_back(allocate(*allocator_, kPercpuMaxBytes));
  const Bytes last = all.back();
  EXPECT_TRUE(allocator_->contains(last.unit0));
  for (const Bytes p : all) allocator_->free(p);
  allocator_->balance();
  EXPECT_FALSE(allocator_->contains(last.unit0));
  EXPECT_EQ(allocator_->try_free(last).error(), Errc::invalid_argument);
}

// ---------------------------------------------------------------- chunks

TEST_P(PercpuAllocatorOf, AChunkShowsWhatIsInIt) {
  const Bytes p = allocate(*allocator_, 3000);
  const Bytes q = allocate(*allocator_, 2000);
  std::size_t chunks = 0;
  visit_ordinary(*allocator_, [&](PercpuChunk& chunk) {
    ++chunks;
    EXPECT_EQ(chunk.pages(), kPages);
    EXPECT_EQ(chunk.free_bytes(), kPercpuUnitBytes - 5000);
    EXPECT_EQ(chunk.largest_free_bytes(), kPercpuUnitBytes - 5000);
    EXPECT_TRUE(chunk.populated(0));
    EXPECT_TRUE(chunk.populated(1));
    EXPECT_FALSE(chunk.populated(16));
    EXPECT_FALSE(chunk.populated(~0u));
    EXPECT_EQ(chunk.free_bytes(0), 0u);
    EXPECT_EQ(chunk.free_bytes(1), 2 * kPageSize - 5000);
    EXPECT_EQ(chunk.free_bytes(2), kPageSize);
    EXPECT_EQ(chunk.free_bytes(16), 0u);
  });
  EXPECT_EQ(chunks, 1u);
  allocator_->free(p);
  visit_ordinary(*allocator_, [&](PercpuChunk& chunk) {
    EXPECT_EQ(chunk.free_bytes(), kPercpuUnitBytes - 2000);
    EXPECT_EQ(chunk.largest_free_bytes(), kPercpuUnitBytes - 5000);
    EXPECT_EQ(chunk.free_bytes(0), 3000u);
  });
  allocator_->free(q);
}

TEST_P(PercpuAllocatorOf, PagesArePopulatedAndGivenBackAroundLiveObjects) {
  // Objects at pages 2, 3 and 9: one that fills its page, one that reaches over an edge.
  std::vector<Bytes> pages;
  for (int i = 0; i < 12; ++i) pages.push_back(allocate(*allocator_, kPageSize, 64));
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (i != 2 && i != 9) allocator_->free(pages[i]);
  }
  fill_everywhere(*allocator_, pages[2], kPageSize, 0x22);
  fill_everywhere(*allocator_, pages[9], kPageSize, 0x99);
  const auto keeps = [&] {
    for (unsigned unit = 0; unit < allocator_->units(); ++unit) {
      for (std::size_t at = 0; at < kPageSize; ++at) {
        if (per_cpu_read(Bytes{pages[2].unit0 + at}, unit) != std::byte{0x22}) return false;
        if (per_cpu_read(Bytes{pages[9].unit0 + at}, unit) != std::byte{0x99}) return false;
      }
    }
    return true;
  };
  visit_ordinary(*allocator_, [&](PercpuChunk& chunk) {
    ASSERT_EQ(base_of(chunk) + 2 * kPageSize, pages[2].unit0);
    EXPECT_TRUE(chunk.populate(0, 16));
    for (unsigned page = 0; page < 16; ++page) EXPECT_TRUE(chunk.populated(page)) << page;
    EXPECT_TRUE(chunk.populate(0, 16)) << "again";
    EXPECT_TRUE(chunk.populate(5, 5)) << "none";
    EXPECT_EQ(chunk.populate(0, 17).error(), Errc::invalid_argument);
    EXPECT_EQ(chunk.populate(6, 5).error(), Errc::invalid_argument);

    EXPECT_EQ(chunk.depopulate(2, 3), 0u) << "something lives there";
    EXPECT_EQ(chunk.depopulate(5, 5), 0u);
    EXPECT_EQ(chunk.depopulate(7, 5), 0u);
    EXPECT_EQ(chunk.depopulate(2, 5), 2u);
    EXPECT_EQ(chunk.depopulate(2, 5), 0u) << "they are gone";
    EXPECT_TRUE(keeps());
    EXPECT_EQ(chunk.depopulate(0, ~0u), 12u);
    for (unsigned page = 0; page < 16; ++page) {
      EXPECT_EQ(chunk.populated(page), page == 2 || page == 9) << page;
    }
    EXPECT_TRUE(keeps());
    EXPECT_TRUE(chunk.populate(1, 4));
    EXPECT_TRUE(chunk.populated(1) && chunk.populated(3) && !chunk.populated(4));
    EXPECT_TRUE(keeps());
  });
  EXPECT_TRUE(allocator_->validate());
  // What was written before, next to what stayed, does not come back.
  std::vector<Bytes> again;
  for (int i = 0; i < 14; ++i) {
    again.push_back(allocate(*allocator_, kPageSize, 64));
    EXPECT_TRUE(zero_everywhere(*allocator_, again.back(), kPageSize)) << i;
  }
  EXPECT_TRUE(keeps());
  for (const Bytes p : again) allocator_->free(p);
  allocator_->free(pages[2]);
  allocator_->free(pages[9]);
}

TEST_P(PercpuAllocatorOf, TheReservedPartKeepsItsPages) {
  allocator_->for_each_chunk([](PercpuChunk& chunk) {
    if (!chunk.reserved()) return;
    EXPECT_EQ(chunk.depopulate(0, 16), 0u);
    EXPECT_TRUE(chunk.populated(0) && chunk.populated(1) && !chunk.populated(2));
    EXPECT_TRUE(chunk.populate(0, 2));
    EXPECT_EQ(chunk.populate(0, 3).error(), Errc::invalid_argument) << "it ends after two";
    EXPECT_EQ(chunk.free_bytes(), 2 * kPageSize) << "what does not exist is not free";
    EXPECT_EQ(chunk.largest_free_bytes(), 2 * kPageSize);
    EXPECT_EQ(chunk.free_bytes(2), 0u);
  });
}

TEST_P(PercpuAllocatorOf, ObjectsThatCpusKeepAreReturnedBeforePagesGo) {
  std::vector<Bytes> all;
  for (int i = 0; i < 64; ++i) all.push_back(allocate(*allocator_, 64));
  fill_everywhere(*allocator_, all[0], 64, 0x77);
  for (const Bytes p : all) allocator_->free(p);
  unsigned given = 0;
  visit_ordinary(*allocator_, [&](PercpuChunk& chunk) {
    EXPECT_EQ(chunk.free_bytes(), kPercpuUnitBytes);
    given += chunk.depopulate(0, 1);
  });
  EXPECT_EQ(given, 1u);
}

TEST_P(PercpuAllocatorOf, BalanceLeavesOneFreeChunk) {
  std::vector<Bytes> all;
  while (allocator_->stats().chunks < 9) all.push_back(allocate(*allocator_, 5000));
  // One object in the middle stays.
  const Bytes kept = all[all.size() / 2];
  fill_everywhere(*allocator_, kept, 5000, 0x44);
  for (const Bytes p : all) {
    if (!(p == kept)) allocator_->free(p);
  }
  for (int round = 0; round < 3; ++round) {
    allocator_->balance();
    std::size_t free_chunks = 0;
    visit_ordinary(*allocator_, [&](PercpuChunk& chunk) {
      free_chunks += chunk.free_bytes() == kPercpuUnitBytes ? 1u : 0u;
    });
    EXPECT_EQ(free_chunks, 1u);
    EXPECT_EQ(allocator_->stats().chunks, 3u);
  }
  EXPECT_EQ(per_cpu_read(Bytes{kept.unit0 + 4999}, 2), std::byte{0x44});
  allocator_->free(kept);
}

// The fast paths know one region alone: what lies in the others goes the long way.
TEST_P(PercpuAllocatorOf, GoesOnInASecondRegion) {
  std::vector<Bytes> all;
  for (int i = 0; i < 150; ++i) {
    all.push_back(allocate(*allocator_, kPercpuMaxBytes));
    *per_cpu_ptr(all.back(), 1) = std::byte{0x66};
  }
  EXPECT_GT(allocator_->stats().chunks, 70u);
  // Small ones, of every kind of path, out of chunks beyond the first 64: those before are full.
  std::vector<std::vector<Bytes>> small;
  for (const std::size_t size_bytes : Sizes{4, 8, 64, 128, 1024, 1500}) {
    auto& row = small.emplace_back();
    for (int i = 0; i < 70; ++i) {
      row.push_back(allocate(*allocator_, size_bytes, 4));
      ASSERT_TRUE(zero_everywhere(*allocator_, row.back(), size_bytes));
      fill_everywhere(*allocator_, row.back(), size_bytes, 0x12);
      EXPECT_EQ(allocator_->cpu_of(row.back().unit0 + kPercpuUnitStride).value(), 1u);
    }
    EXPECT_FALSE(allocator_->try_free({row[7].unit0 + 1}));
    for (const Bytes p : row) allocator_->free(p);
    EXPECT_FALSE(allocator_->try_free(row[7]));
    for (Bytes& p : row) {
      p = allocate(*allocator_, size_bytes, 4);
      ASSERT_TRUE(zero_everywhere(*allocator_, p, size_bytes));
    }
  }
  EXPECT_TRUE(allocator_->validate());
  for (const auto& row : small) {
    for (const Bytes p : row) allocator_->free(p);
  }
  for (const Bytes p : all) allocator_->free(p);
  allocator_->balance();
  EXPECT_EQ(allocator_->stats().chunks, 2u);
}

// ---------------------------------------------------------------- memory

TEST_P(PercpuAllocatorOf, WastesLittleOnAMixOfSizes) {
  const std::size_t sizes[] = {8, 24, 48, 72};
  std::vector<Bytes> all;
  std::size_t asked_bytes = 0;
  for (std::size_t i = 0; i < 24'000; ++i) {
    const std::size_t size_bytes = sizes[i * 7 % 4];
    all.push_back(allocate(*allocator_, size_bytes));
    asked_bytes += size_bytes;
  }
  const PercpuStats stats = allocator_->stats();
  EXPECT_EQ(stats.live_bytes, asked_bytes) << "multiples of eight are not rounded";
  EXPECT_GE(static_cast<double>(asked_bytes),
            0.95 * static_cast<double>(stats.populated_pages * kPageSize));
  for (const Bytes p : all) allocator_->free(p);
}

// Pages of the chunks' addresses that are in memory.
std::size_t resident_pages(PercpuAllocator& allocator) {
  std::size_t pages = 0;
  const std::size_t bytes =
      (allocator.units() * kPercpuUnitStride + kPageSize - 1) / kPageSize * kPageSize;
  std::vector<unsigned char> present(bytes / kPageSize);
  allocator.for_each_chunk([&](PercpuChunk& chunk) {
    if (::mincore(base_of(chunk), bytes, present.data()) != 0) pages = ~std::size_t{0} / 2;
    for (const unsigned char page : present) pages += page & 1u;
  });
  return pages;
}

// In a child that may run on one CPU: 256 units of which one is touched.
TEST(PercpuAllocator, TakesMemoryOnlyWhereItIsTouchedAndGivesItBack) {
  if (testing::kSanitized) GTEST_SKIP() << "shadow memory is no measure";
  EXPECT_EQ(testing::run_in_child([] {
              testing::bind_thread(::pthread_self(), {testing::allowed_cpus().front()});
              const auto allocator = make({.max_cpus = std::max(256u, possible_cpus())});
              std::vector<Bytes> all(4096);
              for (Bytes& p : all) {
                p = allocate(*allocator, 64);
                std::memset(allocator->canonical(p.unit0)->unit0, 0x55, 64);
              }
              const std::size_t touched = resident_pages(*allocator);
              if (touched * kPageSize > 300 * 1024) return 1;
              if (touched * kPageSize < 4096 * 64) return 2;
              for (const Bytes p : all) allocator->free(p);
              allocator->balance();
              if (resident_pages(*allocator) * kPageSize > 64 * 1024) return 3;
              if (!allocator->validate()) return 4;
              // And all of it reads as zero again.
              for (Bytes& p : all) {
                p = allocate(*allocator, 64);
                for (const unsigned unit : {0u, 1u, 255u}) {
                  for (std::size_t at = 0; at < 64; ++at) {
                    if (per_cpu_read(Bytes{p.unit0 + at}, unit) != std::byte{0}) return 5;
                  }
                }
              }
              for (const Bytes p : all) allocator->free(p);
              return 0;
            }),
            0);
}

// The same for every unit that was opened.
TEST(PercpuAllocator, GivesBackTheMemoryOfEveryUnitThatWasOpened) {
  if (testing::kSanitized) GTEST_SKIP() << "shadow memory is no measure";
  EXPECT_EQ(testing::run_in_child([] {
              testing::bind_thread(::pthread_self(), {testing::allowed_cpus().front()});
              const auto allocator = make({.max_cpus = std::max(256u, possible_cpus())});
              std::vector<Bytes> all(64);
              for (Bytes& p : all) {
                p = allocate(*allocator, kPageSize, 64);
                fill_everywhere(*allocator, p, kPageSize, 0x55);
              }
              if (resident_pages(*allocator) < 64 * 256) return 1;
              for (const Bytes p : all) allocator->free(p);
              allocator->balance();
              // The page that a unit's neighbours of the reserve share with it stays.
              const std::size_t left = resident_pages(*allocator);
              return left * kPageSize <= 64 * 1024 + 256 * kPageSize ? 0 : 2;
            }),
            0);
}

TEST(PercpuAllocator, MappedPagesGoBackToTheirSource) {
  if (possible_cpus() > 16) GTEST_SKIP() << "a mapped backing has at most 16 units";
  const auto pages =
      SimPageAllocator::create({.capacity_bytes = std::size_t{64} << 20, .shareable = true})
          .value();
  {
    const unsigned units = std::max(4u, possible_cpus());
    const auto allocator =
        make({.max_cpus = units, .backing = PercpuBacking::mapped, .pages = pages.get()});
    const std::size_t at_first = pages->stats().held_pages;
    // The reserve: two blocks side by side lie over three pages in each unit.
    EXPECT_LE(at_first, units * 4);
    std::vector<Bytes> all;
    for (int i = 0; i < 4096; ++i) {
      all.push_back(allocate(*allocator, 64));
      fill_everywhere(*allocator, all.back(), 64, i);
    }
    EXPECT_GE(pages->stats().held_pages, units * 64);
    EXPECT_LE(pages->stats().held_pages, units * (64 + 5 + 4));
    for (const Bytes p : all) allocator->free(p);
    allocator->balance();
    EXPECT_LE(pages->stats().held_pages, at_first + units * 2);
    visit_ordinary(*allocator, [](PercpuChunk& chunk) { chunk.depopulate(0, 16); });
    EXPECT_EQ(pages->stats().held_pages, 0u);
    EXPECT_TRUE(allocator->validate());
  }
  EXPECT_EQ(pages->stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
