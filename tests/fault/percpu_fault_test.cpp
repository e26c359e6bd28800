// SPDX-License-Identifier: MIT
//
// Every page, every call to the system and every allocation of metadata fails in turn, once and for
// ever, in each operation of a PercpuAllocator, with both backings. What failed has changed nothing:
// chunks page by page and statistics are as before; what is live keeps its bytes; memory that is
// handed out later is zero; and in the end everything has gone back to where it came from.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <string>
#include <vector>

#include "fault/page_failing_system.hpp"
#include "fault/zpool_failing_heap.hpp"
#include "support/page_memory.hpp"
#include "support/pattern.hpp"

namespace mmkit {
namespace {

using testing::Failing;
using testing::FailingHeap;
using testing::FailingSystem;

constexpr std::size_t kPoolBytes = std::size_t{32} << 20;

unsigned units() {
  return std::max(3u, possible_cpus());
}

// Bytes of files in memory that this process has mapped.
std::size_t shared_bytes() {
  std::size_t bytes = 0;
  std::FILE* const file = std::fopen("/proc/self/maps", "r");
  if (file == nullptr) return 0;
  char line[512];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    unsigned long begin = 0, end = 0;
    const bool is_file = std::strstr(line, "/memfd:") != nullptr;
    if (is_file && std::sscanf(line, "%lx-%lx", &begin, &end) == 2) bytes += end - begin;
  }
  std::fclose(file);
  return bytes;
}

// What an allocator shows of itself, without what a failure may leave: counts of failures, and a
// chunk in which there is nothing, no memory even.
struct Picture {
  struct Chunk {
    bool reserved;
    std::size_t free_bytes, largest_free_bytes;
    std::vector<std::pair<bool, std::size_t>> pages;  // populated, free bytes
    bool operator==(const Chunk&) const = default;
  };
  std::vector<Chunk> chunks;
  std::vector<std::uint64_t> stats;
  bool operator==(const Picture&) const = default;

  /// For a system that takes nothing back either: what is allocated is the same, at least.
  bool has_objects_of(const Picture& other) const {
    return std::equal(stats.begin() + 2, stats.end(), other.stats.begin() + 2) &&
           std::equal(chunks.begin(), chunks.end(), other.chunks.begin(), other.chunks.end(),
                      [](const Chunk& a, const Chunk& b) {
                        return a.free_bytes == b.free_bytes &&
                               a.largest_free_bytes == b.largest_free_bytes;
                      });
  }

  explicit Picture(PercpuAllocator& allocator) {
    allocator.for_each_chunk([&](PercpuChunk& chunk) {
      Chunk one{chunk.reserved(), chunk.free_bytes(), chunk.largest_free_bytes(), {}};
      bool nothing = chunk.free_bytes() == kPercpuUnitBytes;
      for (unsigned page = 0; page < chunk.pages(); ++page) {
        one.pages.emplace_back(chunk.populated(page), chunk.free_bytes(page));
        nothing = nothing && !chunk.populated(page);
      }
      if (!nothing) chunks.push_back(std::move(one));
    });
    const PercpuStats s = allocator.stats();
    stats = {
        s.populated_pages, s.empty_populated_pages, s.live_bytes, s.allocations, s.frees, s.live,
        s.peak_live};
  }
};

class World {
 public:
  explicit World(PercpuBacking backing)
      : source_(SimPageAllocator::create(
                    {.capacity_bytes = kPoolBytes, .retain_bytes = kPoolBytes, .shareable = true})
                    .value()),
        backing_(backing) {}
  ~World() { finish(); }

  Status create(std::size_t reserved_bytes = 5000) {
    PercpuOptions options{
        .max_cpus = units(), .backing = backing_, .reserved_bytes = reserved_bytes};
    if (backing_ == PercpuBacking::mapped) options.pages = &pages;
    auto made = PercpuAllocator::create(options);
    if (!made) return fail(made.error());
    allocator = *std::move(made);
    return {};
  }
  // Null when there is none.
  std::byte* add(std::size_t size_bytes, std::size_t align = 8) {
    const auto p = allocator->allocate(size_bytes, align);
    return p ? admit(p->unit0, size_bytes) : nullptr;
  }
  std::byte* admit(std::byte* p, std::size_t size_bytes) {
    objects_.push_back({p, size_bytes});
    for (unsigned unit = 0; unit < units(); ++unit) {
      const std::span<std::byte> copy = copy_of(objects_.back(), unit);
      is_well_ = is_well_ && std::all_of(copy.begin(), copy.end(),
                                         [](std::byte b) { return b == std::byte{0}; });
      testing::write_pattern(copy, key(p, unit));
    }
    return p;
  }
  void drop(std::byte* p) {
    const auto one = std::find_if(objects_.begin(), objects_.end(),
                                  [p](const Object& object) { return object.p == p; });
    objects_.erase(one);
    allocator->free({p});
  }
  // Nothing has changed in what is live, and everything that was handed out was zero.
  bool is_well() {
    for (const Object& object : objects_) {
      for (unsigned unit = 0; unit < units(); ++unit) {
        is_well_ = is_well_ && testing::has_pattern(copy_of(object, unit), key(object.p, unit));
      }
    }
    // Mapped: each page that the source gave is mapped once more than the source does, and no other.
    const std::size_t pages_mapped = (shared_bytes() - own_shared_bytes_) / kPageSize;
    if (backing_ == PercpuBacking::mapped) {
      EXPECT_EQ(pages_mapped, held_pages());
    }
    return is_well_ && allocator->validate().has_value();
  }
  // Uses all there is, so that whatever was not zeroed shows; then frees it.
  void use_everything() {
    std::vector<std::byte*> all;
    const std::size_t chunks = allocator->stats().chunks;
    for (const std::size_t size_bytes : {std::size_t{3000}, std::size_t{200}, std::size_t{40}}) {
      while (allocator->stats().chunks <= chunks && all.size() < 4000) {
        std::byte* const p = add(size_bytes);
        if (p == nullptr) break;
        all.push_back(p);
      }
    }
    EXPECT_TRUE(is_well());
    for (std::byte* const p : all) drop(p);
  }
  void finish() {
    if (allocator == nullptr) return;
    finish_objects();
    allocator->balance();
    EXPECT_TRUE(allocator->validate());
    EXPECT_EQ(allocator->stats().live_bytes, 0u);
    allocator.reset();
    EXPECT_EQ(held_pages(), left_pages_);
  }
  // Pages that an allocator before could not unmap: they are neither its nor the source's now.
  void leave_pages_of_now() { left_pages_ = held_pages(); }
  void finish_objects() {
    for (const Object& object : objects_) allocator->free({object.p});
    objects_.clear();
  }
  std::size_t held_pages() const { return source_->stats().held_pages; }

 private:
  struct Object {
    std::byte* p;
    std::size_t size_bytes;
  };
  static std::span<std::byte> copy_of(const Object& object, unsigned unit) {
    return {per_cpu_ptr(PercpuPtr<std::byte>{object.p}, unit), object.size_bytes};
  }
  static std::uint64_t key(const std::byte* p, unsigned unit) {
    return reinterpret_cast<std::uintptr_t>(p) * 1024 + unit;
  }

  std::unique_ptr<SimPageAllocator> source_;
  PercpuBacking backing_;
  std::vector<Object> objects_;
  bool is_well_ = true;
  std::size_t left_pages_ = 0;
  const std::size_t own_shared_bytes_ = shared_bytes();

 public:
  FailingPageSource pages{*source_};
  std::unique_ptr<PercpuAllocator> allocator;
};

enum class Fault { page, call };

// Where the n-th page or call fails.
class Injection {
 public:
  Injection(World& world, Fault fault, std::uint64_t n, Failing how)
      : world_(world), fault_(fault) {
    if (fault == Fault::page) {
      world_.pages.fail_nth(n, how == Failing::once ? FailingPageSource::Repeat::once
                                                    : FailingPageSource::Repeat::for_ever);
    } else {
      system_.fail_nth(n, how);
    }
  }
  // How often something failed; nothing does from here on.
  std::uint64_t end() {
    world_.pages.succeed();
    system_.succeed();
    return fault_ == Fault::page ? world_.pages.failed_calls() : system_.failed();
  }

 private:
  FailingSystem system_;
  World& world_;
  const Fault fault_;
};

struct Case {
  PercpuBacking backing;
  Fault fault;
  Failing how;
};
std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.backing == PercpuBacking::lazy ? "Lazy" : "Mapped") +
         (info.param.fault == Fault::page ? "Page" : "Call") +
         (info.param.how == Failing::once ? "Once" : "ForEver");
}

class PercpuFault : public ::testing::TestWithParam<Case> {
 protected:
  // False: it failed, and must have changed nothing.
  using Operation = std::function<bool(World&)>;

  /// Fails each point of `operate` in turn, on worlds that `prepare` made alike; how many points.
  std::uint64_t fail_each(const std::function<void(World&)>& prepare, const Operation& operate) {
    const auto [backing, fault, how] = GetParam();
    for (std::uint64_t n = 1;; ++n) {
      SCOPED_TRACE("point " + std::to_string(n));
      const std::size_t blocks = FailingHeap::live_blocks();
      const std::size_t bytes = testing::mapped_bytes();
      std::uint64_t failed = 0;
      {
        World world(backing);
        EXPECT_TRUE(world.create());
        prepare(world);
        const Picture before(*world.allocator);
        bool good = false;
        {
          Injection injection(world, fault, n, how);
          good = operate(world);
          failed = injection.end();
        }
        EXPECT_TRUE(world.is_well());
        if (!good) {
          EXPECT_NE(failed, 0u);
          const Picture after(*world.allocator);
          const bool stuck = fault == Fault::call && how == Failing::for_ever;
          EXPECT_TRUE(after == before || (stuck && after.has_objects_of(before)));
          EXPECT_TRUE(operate(world));
          EXPECT_TRUE(world.is_well());
        }
        world.use_everything();
        world.finish();
      }
      EXPECT_EQ(FailingHeap::live_blocks(), blocks);
      EXPECT_LT(testing::mapped_bytes(), bytes + (std::size_t{8} << 20));
      if (failed == 0 || HasFailure()) return n - 1;
    }
  }
};

// So many objects that everything is full, but for what is set aside: the last chunk by pages.
void fill(World& world) {
  const std::size_t chunks = world.allocator->stats().chunks;
  while (world.allocator->stats().chunks == chunks) world.add(kPageSize, 64);
  for (int i = 0; i < 7; ++i) world.add(kPageSize, 64);
  world.add(8 * kPageSize, 64);
}

TEST_P(PercpuFault, Allocate) {
  for (const std::size_t size_bytes :
       {std::size_t{4}, std::size_t{64}, std::size_t{12'000}, kPercpuMaxBytes}) {
    SCOPED_TRACE(size_bytes);
    // In an empty allocator, in one that has nothing left, and in one with gaps of a page.
    fail_each([](World&) {}, [=](World& world) { return world.add(size_bytes) != nullptr; });
    EXPECT_NE(fail_each([](World& world) { fill(world); },
                        [=](World& world) { return world.add(size_bytes) != nullptr; }),
              0u);
    fail_each(
        [](World& world) {
          std::vector<std::byte*> pages;
          for (int i = 0; i < 8; ++i) pages.push_back(world.add(kPageSize, 64));
          for (std::size_t i = 0; i < pages.size(); i += 3) world.drop(pages[i]);
          world.allocator->balance();
        },
        [=](World& world) { return world.add(size_bytes) != nullptr; });
  }
}

TEST_P(PercpuFault, AllocateReserved) {
  const std::uint64_t points = fail_each([](World&) {},
                                         [](World& world) {
                                           const auto p =
                                               world.allocator->allocate_reserved(100, 8);
                                           return p && world.admit(p->unit0, 100) != nullptr;
                                         });
  EXPECT_EQ(points, 0u);  // it is there, whatever else is not
}

TEST_P(PercpuFault, Free) {
  // The last objects of many pages and chunks: pages and chunks go back meanwhile.
  fail_each(
      [](World& world) {
        while (world.allocator->stats().chunks < 5) world.add(2000);
      },
      [](World& world) {
        world.allocator->stats();
        std::vector<std::byte*> all;
        for (int i = 0; i < 60; ++i) all.push_back(world.add(600));
        for (std::byte* const p : all) {
          if (p != nullptr) world.drop(p);
        }
        return true;
      });
  fail_each(
      [](World& world) {
        while (world.allocator->stats().chunks < 5) world.add(2000);
      },
      [](World& world) {
        world.finish_objects();
        return true;
      });
}

// A chunk with two objects, and around them pages that are populated, and pages that are not.
void make_islands(World& world) {
  std::vector<std::byte*> pages;
  for (int i = 0; i < 12; ++i) pages.push_back(world.add(kPageSize, 64));
  for (const std::size_t i : {0u, 1u, 3u, 4u, 5u, 7u, 8u, 9u, 10u}) world.drop(pages[i]);
}

TEST_P(PercpuFault, Populate) {
  const std::uint64_t points = fail_each(
      [](World& world) {
        make_islands(world);
        world.allocator->balance();
      },
      [](World& world) {
        bool good = true;
        world.allocator->for_each_chunk([&](PercpuChunk& chunk) {
          if (!chunk.reserved()) good = good && chunk.populate(0, 14).has_value();
        });
        return good;
      });
  EXPECT_EQ(points != 0, GetParam().backing == PercpuBacking::mapped);
}

TEST_P(PercpuFault, Depopulate) {
  const std::uint64_t points = fail_each(make_islands, [](World& world) {
    unsigned pages = 0, empty = 0;
    world.allocator->for_each_chunk([&](PercpuChunk& chunk) {
      for (unsigned page = 0; page < 11; ++page) {
        empty += chunk.populated(page) && chunk.free_bytes(page) == kPageSize ? 1u : 0u;
      }
      pages += chunk.depopulate(0, 11);
      for (unsigned page = 0; page < 11; ++page) {
        empty -= chunk.populated(page) && chunk.free_bytes(page) == kPageSize ? 1u : 0u;
      }
    });
    EXPECT_EQ(pages, empty);  // what it says is what it did
    return pages != 0;
  });
  EXPECT_EQ(points != 0, GetParam().fault == Fault::call);
}

TEST_P(PercpuFault, Balance) {
  const auto prepare = [](World& world) {
    std::vector<std::byte*> all;
    while (world.allocator->stats().chunks < 5) all.push_back(world.add(2000));
    for (std::size_t i = 10; i < all.size(); ++i) {
      if (i % 40 != 0) world.drop(all[i]);
    }
  };
  World undisturbed(GetParam().backing);
  ASSERT_TRUE(undisturbed.create());
  prepare(undisturbed);
  undisturbed.allocator->balance();
  const Picture expected(*undisturbed.allocator);
  fail_each(prepare, [&](World& world) {
    world.allocator->balance();
    return true;
  });
  // A balance that could not is made good by the next.
  for (std::uint64_t n = 1; n < 40; ++n) {
    World world(GetParam().backing);
    ASSERT_TRUE(world.create());
    prepare(world);
    {
      Injection injection(world, GetParam().fault, n, GetParam().how);
      world.allocator->balance();
      injection.end();
    }
    world.allocator->balance();
    EXPECT_TRUE(Picture(*world.allocator) == expected) << "point " << n;
  }
}

TEST_P(PercpuFault, Create) {
  const auto [backing, fault, how] = GetParam();
  for (const std::size_t reserved_bytes : {std::size_t{0}, std::size_t{65'536}}) {
    for (std::uint64_t n = 1;; ++n) {
      SCOPED_TRACE("point " + std::to_string(n));
      const std::size_t blocks = FailingHeap::live_blocks();
      const std::size_t bytes = testing::mapped_bytes();
      std::uint64_t failed = 0;
      {
        World world(backing);
        Status status;
        {
          Injection injection(world, fault, n, how);
          status = world.create(reserved_bytes);
          failed = injection.end();
        }
        if (!status) {
          EXPECT_NE(failed, 0u);
          EXPECT_EQ(status.error(), Errc::out_of_memory);
          // For ever means that nothing can be unmapped either: then the pages must stay.
          if (how == Failing::once || fault == Fault::page) {
            EXPECT_EQ(world.held_pages(), 0u);
          }
          world.leave_pages_of_now();
          EXPECT_TRUE(world.create(reserved_bytes));
        }
        world.use_everything();
      }
      EXPECT_EQ(FailingHeap::live_blocks(), blocks);
      if (how == Failing::once || fault == Fault::page) {
        EXPECT_LT(testing::mapped_bytes(), bytes + (std::size_t{8} << 20));
      }
      if (failed == 0 || HasFailure()) break;
    }
  }
}

TEST_P(PercpuFault, Destroy) {
  const auto [backing, fault, how] = GetParam();
  for (std::uint64_t n = 1;; ++n) {
    SCOPED_TRACE("point " + std::to_string(n));
    const std::size_t blocks = FailingHeap::live_blocks();
    std::uint64_t failed = 0;
    {
      World world(backing);
      ASSERT_TRUE(world.create());
      make_islands(world);
      world.finish_objects();
      {
        Injection injection(world, fault, n, how);
        world.allocator.reset();
        failed = injection.end();
      }
      if (how == Failing::once || fault == Fault::page) {
        EXPECT_EQ(world.held_pages(), 0u);
      }
    }
    EXPECT_EQ(FailingHeap::live_blocks(), blocks);
    if (failed == 0 || HasFailure()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Each, PercpuFault,
    ::testing::Values(Case{PercpuBacking::lazy, Fault::call, Failing::once},
                      Case{PercpuBacking::lazy, Fault::call, Failing::for_ever},
                      Case{PercpuBacking::mapped, Fault::page, Failing::once},
                      Case{PercpuBacking::mapped, Fault::page, Failing::for_ever},
                      Case{PercpuBacking::mapped, Fault::call, Failing::once},
                      Case{PercpuBacking::mapped, Fault::call, Failing::for_ever}),
    name_of);

// Units are not whole pages apart, so that a page beside those given back holds bytes of the next blocks
// too: what is allocated meanwhile must not be there.
TEST(PercpuFaultLazy, WhatIsAllocatedWhilePagesGoBackIsNotBesideThem) {
  PercpuOptions options;
  options.max_cpus = units();
  const auto allocator = PercpuAllocator::create(options).value();
  allocator->free(allocator->allocate(3 * kPageSize, 64).value());
  std::vector<PercpuPtr<std::byte>> objects;
  constexpr std::size_t kSizeBytes = 3000;
  FailingSystem system;
  system.on_taking_back([&] {
    while (objects.size() < 8) {
      objects.push_back(allocator->allocate(kSizeBytes, 8).value());
      for (unsigned unit = 0; unit < allocator->units(); ++unit) {
        std::memset(per_cpu_ptr(objects.back(), unit), 0xab, kSizeBytes);
      }
    }
  });
  unsigned given = 0;
  allocator->for_each_chunk(
      [&](PercpuChunk& chunk) { given += chunk.depopulate(0, chunk.pages()); });
  system.on_taking_back(nullptr);
  EXPECT_GE(given, 3u);
  ASSERT_EQ(objects.size(), 8u);
  EXPECT_EQ(allocator->stats().chunks, 1u) << "there was room in the same one";
  for (const PercpuPtr<std::byte> object : objects) {
    for (unsigned unit = 0; unit < allocator->units(); ++unit) {
      const std::byte* const bytes = per_cpu_ptr(object, unit);
      EXPECT_TRUE(std::all_of(bytes, bytes + kSizeBytes,
                              [](std::byte byte) { return byte == std::byte{0xab}; }))
          << "unit " << unit;
    }
    allocator->free(object);
  }
  EXPECT_TRUE(allocator->validate());
}

}  // namespace
}  // namespace mmkit
