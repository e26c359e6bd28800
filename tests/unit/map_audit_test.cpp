// SPDX-License-Identifier: MIT
//
// What audit builds do so that MapMode is a promise; below them a mapping is left alone. The broken
// promises are death tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zpool.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/driver_variants.hpp"
#include "support/pattern.hpp"

namespace mmkit {
namespace {

using testing::has_pattern;
using testing::make_pattern;
using testing::write_pattern;

constexpr bool kAudits = MMKIT_CHECK_LEVEL >= 2;
constexpr std::size_t kSize = 256;

class MapAudit : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    source_ = SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
    pool_ = Zpool::create(GetParam(), {.pages = source_.get()}).value();
    handle_ = pool_->store(make_pattern(kSize, 1)).value();
  }
  void TearDown() override { pool_->free(handle_); }
  Mapping map(MapMode mode) { return pool_->map(handle_, mode); }

  std::unique_ptr<SimPageAllocator> source_;
  std::unique_ptr<Zpool> pool_;
  Handle handle_ = Handle::none;
};
INSTANTIATE_TEST_SUITE_P(Driver, MapAudit, ::testing::ValuesIn(testing::registered_types()),
                         [](const auto& type) { return type.param; });

TEST_P(MapAudit, OverwritesWhatAWriterPromisedNotToRead) {
  {
    const Mapping mapping = map(MapMode::write_only);
    const auto bytes = mapping.const_bytes().first(kSize);
    EXPECT_EQ(has_pattern(bytes, 1), !kAudits);
    if (kAudits) {
      EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [&](std::byte b) {
        return b == bytes.front();
      })) << "the same garbage every time";
    }
  }
  Mapping mapping = map(MapMode::write_only);
  write_pattern(mapping.bytes().first(kSize), 2);
  mapping = Mapping();
  EXPECT_TRUE(has_pattern(map(MapMode::read_only).const_bytes().first(kSize), 2));
}

TEST_P(MapAudit, LeavesTheNeighbourAlone) {
  const Handle neighbour = pool_->store(make_pattern(kSize, 7)).value();
  { const Mapping garbage = map(MapMode::write_only); }
  EXPECT_TRUE(has_pattern(pool_->map(neighbour, MapMode::read_only).const_bytes().first(kSize), 7));
  pool_->free(neighbour);
}

TEST_P(MapAudit, LeavesAnObjectAloneThatSomebodyReads) {
  const Mapping reader = map(MapMode::read_only);
  const Mapping writer = map(MapMode::write_only);
  EXPECT_TRUE(has_pattern(reader.const_bytes().first(kSize), 1));
}

TEST_P(MapAudit, LetsReadersReadTogether) {
  std::vector<Mapping> readers;
  for (int i = 0; i < 100; ++i) readers.push_back(map(MapMode::read_only));
  for (const Mapping& reader : readers) {
    EXPECT_TRUE(has_pattern(reader.const_bytes().first(kSize), 1));
  }
}

// A writer beside it may change what a reader sees: not the reader's doing. In whatever order the
// two begin and end.
TEST_P(MapAudit, DoesNotBlameAReaderForAWriterBesideIt) {
  for (const MapMode mode : {MapMode::read_write, MapMode::write_only}) {
    Mapping reader = map(MapMode::read_only);
    Mapping writer = map(mode);
    write_pattern(writer.bytes().first(kSize), 3);
    reader = Mapping();
    writer = Mapping();

    writer = map(mode);
    reader = map(MapMode::read_only);
    write_pattern(writer.bytes().first(kSize), 4);
    writer = Mapping();
    reader = Mapping();

    reader = map(MapMode::read_only);
    writer = map(mode);
    write_pattern(writer.bytes().first(kSize), 5);
    writer = Mapping();
    reader = Mapping();
  }
  EXPECT_TRUE(has_pattern(map(MapMode::read_only).const_bytes().first(kSize), 5));
}

TEST_P(MapAudit, GoesWithAMappingThatMoves) {
  Mapping reader = map(MapMode::read_only);
  Mapping writer;
  {
    Mapping inner = map(MapMode::read_write);
    writer = std::move(inner);
  }
  write_pattern(writer.bytes().first(kSize), 6);
  Mapping other(std::move(reader));
  writer = Mapping();
  EXPECT_TRUE(has_pattern(other.const_bytes().first(kSize), 6));
}

TEST_P(MapAudit, HoldsForMappingsInManyThreads) {
  std::vector<Handle> handles;
  for (std::uint64_t i = 0; i < 4; ++i) {
    handles.push_back(pool_->store(make_pattern(kSize, 10 + i)).value());
  }
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      for (std::uint64_t i = 0; i < 300; ++i) {
        {
          Mapping writer = pool_->map(handles[id], MapMode::write_only);
          write_pattern(writer.bytes().first(kSize), id * 1000 + i);
        }
        const Mapping reader = pool_->map(handles[id], MapMode::read_only);
        EXPECT_TRUE(has_pattern(reader.const_bytes().first(kSize), id * 1000 + i));
        const Mapping shared = pool_->map(handle_, MapMode::read_only);
        EXPECT_TRUE(has_pattern(shared.const_bytes().first(kSize), 1));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Handle handle : handles) pool_->free(handle);
}

}  // namespace
}  // namespace mmkit
