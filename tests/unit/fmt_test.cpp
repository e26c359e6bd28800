// SPDX-License-Identifier: MIT
//
// The forms in which fmt prints what is mmkit's: exact, since others may read them.
#include <mmkit/fmt.hpp>

#include <gtest/gtest.h>

#include <string>

namespace mmkit {
namespace {

using fmt::format;

TEST(Fmt, PrintsEnumsByTheirWords) {
  EXPECT_EQ(format("{}", Errc::out_of_memory), "out_of_memory");
  EXPECT_EQ(format("{}", static_cast<Errc>(9999)), "unknown");
  EXPECT_EQ(format("{} {} {}", MapMode::read_write, MapMode::read_only, MapMode::write_only),
            "read_write read_only write_only");
  EXPECT_EQ(format("{}", static_cast<MapMode>(3)), "unknown");
  EXPECT_EQ(format("{} {}", AddressKind::opaque, AddressKind::host), "opaque host");
  EXPECT_EQ(format("{} {}", PercpuBacking::lazy, PercpuBacking::mapped), "lazy mapped");
  EXPECT_EQ(format("{} {}", PercpuMode::rseq, PercpuMode::fallback), "rseq fallback");
  EXPECT_EQ(format("{} {} {}", LockRank::fork, LockRank::pool, LockRank::leaf), "fork pool leaf");
  EXPECT_EQ(format("{}", static_cast<LockRank>(kLockRanks)), "unknown");
  EXPECT_EQ(format("{}", PluginFault::file_is_symlink), "file_is_symlink");
}

TEST(Fmt, JoinsFlags) {
  EXPECT_EQ(format("{}", Gfp::kernel), "kernel");
  EXPECT_EQ(format("{}", Gfp::zero), "zero");
  EXPECT_EQ(format("{}", Gfp::nowait | Gfp::zero | Gfp::highmem | Gfp::movable | Gfp::no_warn),
            "nowait|zero|highmem|movable|no_warn");
  EXPECT_EQ(format("{}", static_cast<Gfp>(0x41)), "nowait|0x40");
  EXPECT_EQ(format("{}", static_cast<Gfp>(0x40)), "0x40");
}

TEST(Fmt, PrintsHandlesAndFramesInHexadecimal) {
  EXPECT_EQ(format("{}", handle_bits::make(1, 2, 3)), "0x1000200000003");
  EXPECT_EQ(format("{}", Handle::none), "0x0");
  EXPECT_EQ(format("{}", Pfn{0x1234}), "0x1234");
}

TEST(Fmt, PrintsResults) {
  EXPECT_EQ(format("{}", Status()), "ok");
  EXPECT_EQ(format("{}", Status(fail(Errc::busy))), "busy");
  EXPECT_EQ(format("{}", Result<std::size_t>(42)), "42");
  EXPECT_EQ(format("{}", Result<std::size_t>(fail(Errc::no_space))), "no_space");
  EXPECT_EQ(format("{}", Result<Handle>(Handle{16})), "0x10");
  struct Unprintable {};
  EXPECT_EQ(format("{}", Result<Unprintable>(Unprintable{})), "ok");
}

TEST(Fmt, PadsAsStrings) {
  EXPECT_EQ(format("[{:>8}]", Errc::busy), "[    busy]");
  EXPECT_EQ(format("[{:-<12}]", Gfp::nowait), "[nowait------]");
  EXPECT_EQ(format("[{:^6}]", Handle{1}), "[ 0x1  ]");
  EXPECT_EQ(format("[{:<30}]", FreeRun{16, 8}), "[{start: 0x10, size_bytes: 8}  ]");
  EXPECT_EQ(format("[{:>4}]", Status()), "[  ok]");
  EXPECT_EQ(format("[{:>4}]", Result<int>(7)), "[   7]");
}

// Whatever lies in a structure is printed: each member has a number of its own.
TEST(Fmt, PrintsEveryMemberByItsName) {
  EXPECT_EQ(format("{}", PageSourceStats{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
            "{held_pages: 1, peak_pages: 2, resident_pages: 3, retained_pages: 4, "
            "descriptor_bytes: 5, allocations: 6, frees: 7, failures: 8, release_calls: 9, "
            "release_failures: 10}");
  EXPECT_EQ(format("{}", ZpoolStats{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
            "{objects: 1, payload_bytes: 2, pages: 3, metadata_bytes: 4, compactable_pages: 5, "
            "allocations: 6, frees: 7, failures: 8, evicted: 9, moved: 10}");
  EXPECT_EQ(format("{}", ZheapDensity{0.955, 0.5, 1, 2, 3, 4}),
            "{floor: 0.955, density: 0.5, blocks: 1, shards: 2, passed: 3, emptied: 4}");
  EXPECT_EQ(format("{}", GenPoolStats{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
            "{size_bytes: 1, available_bytes: 2, peak_used_bytes: 3, largest_free_bytes: 4, "
            "metadata_bytes: 5, chunks: 6, free_runs: 7, allocations: 8, frees: 9, "
            "failed_no_space: 10, failed_fragmented: 11, retries: 12, words_touched: 13, "
            "most_words_touched: 14}");
  EXPECT_EQ(format("{}", PercpuStats{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}),
            "{unit_bytes: 1, units: 2, chunks: 3, max_chunks: 4, populated_pages: 5, "
            "empty_populated_pages: 6, metadata_bytes: 7, live_bytes: 8, min_alloc_bytes: 9, "
            "max_alloc_bytes: 10, allocations: 11, frees: 12, live: 13, peak_live: 14, "
            "failures: 15, nowait_failures: 16}");
  EXPECT_EQ(format("{}", ShrinkOutcome{3, fail(Errc::try_again)}),
            "{reclaimed_pages: 3, status: try_again}");
  EXPECT_EQ(format("{}", DriverTraits{.max_object_bytes = 9, .can_shrink = true}),
            "{max_object_bytes: 9, can_shrink: true, can_compact: false, highmem: false, "
            "most_run_pages: 1}");
  EXPECT_EQ(format("{}", FailureReport{"zbud", "cache", "dead handle", 0x2a}),
            "{part: zbud, object: cache, fault: dead handle, value: 0x2a}");
}

TEST(Fmt, PrintsWhatIsInside) {
  ZsmallocClassStats of_class;
  of_class.number = 7;
  of_class.zspages[10] = 4;
  of_class.pages = 12;
  EXPECT_EQ(format("{}", of_class),
            "{number: 7, shape: {size_bytes: 0, objects: 0, pages: 0}, zspages: [0, 0, 0, 0, 0, "
            "0, 0, 0, 0, 0, 4], objects: 0, kept: 0, cells: 0, pages: 12, freeable_pages: 0}");
  ZpoolInfo info{.type = "zbud", .name = "cache", .tag = 3, .limit_bytes = 0, .stats = {}};
  info.stats.objects = 5;
  EXPECT_TRUE(
      format("{}", info)
          .starts_with("{type: zbud, name: cache, tag: 3, limit_bytes: 0, stats: {objects: 5, "));
  EXPECT_EQ(format("{}", PluginRefusal{PluginFault::no_file, Errc::not_found, "x", "no x"}),
            "{fault: no_file, code: not_found, type: x, message: no x}");
}

TEST(Fmt, PrintsAddressesAndWhatIsNotThere) {
  EXPECT_EQ(format("{}", GenPoolChunk{0x1000, 64, 32, std::uint64_t{0x80000000}, nullptr}),
            "{start: 0x1000, size_bytes: 64, available_bytes: 32, phys: 0x80000000, owner: 0x0}");
  EXPECT_EQ(format("{}", GenPoolChunk{0x1000, 64, 32, std::nullopt, nullptr}),
            "{start: 0x1000, size_bytes: 64, available_bytes: 32, phys: none, owner: 0x0}");
  EXPECT_EQ(format("{}", DmaBlock{nullptr, 0x40}), "{address: 0x0, phys: 0x40}");
  EXPECT_EQ(format("{}", PageRun{nullptr, 2, Pfn{9}}), "{data: 0x0, pages: 2, first: 0x9}");
  EXPECT_EQ(format("{}", SharedRange{-1, 4096}), "{fd: -1, offset_bytes: 4096}");
}

}  // namespace
}  // namespace mmkit
