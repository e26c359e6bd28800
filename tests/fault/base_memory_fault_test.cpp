// SPDX-License-Identifier: MIT
//
// Each allocation of base's own fails in turn, once or for ever.
#include <gtest/gtest.h>

#include <cstdint>
#include <mmkit/base/growing_array.hpp>
#include <mmkit/base/growing_table.hpp>

#include "fault/page_failing_system.hpp"

namespace mmkit {
namespace {

using testing::Failing;
using testing::FailingSystem;
using testing::SystemCall;

struct alignas(64) Chunk {
  std::uint64_t number = 0;
};

// Grows a table to `chunks`, repeating an append that failed `patience` times; how many failed.
unsigned grow(GrowingTable<Chunk>& table, std::size_t chunks, unsigned patience) {
  unsigned failures = 0;
  while (table.count() < chunks) {
    const std::size_t count = table.count();
    const Result<Chunk*> chunk = table.append();
    if (chunk.has_value()) {
      (*chunk)->number = count;
      continue;
    }
    EXPECT_EQ(chunk.error(), Errc::out_of_memory);
    EXPECT_EQ(table.count(), count);
    EXPECT_EQ(table.find(count), nullptr);
    if (failures++ == patience) break;
  }
  for (std::size_t i = 0; i < table.count(); ++i) {
    if (table.find(i) == nullptr || table.find(i)->number != i) ADD_FAILURE() << "chunk " << i;
  }
  return failures;
}

constexpr std::size_t kChunks = 40;  // directories of 6, 14, 30 and 62

TEST(GrowingTableFault, LosesNothingWhicheverAllocationFailsOnce) {
  FailingSystem system;
  std::uint64_t nth = 1;
  for (;; ++nth) {
    GrowingTable<Chunk> table;
    system.fail_nth(SystemCall::metadata, nth, Failing::once);
    const unsigned failures = grow(table, kChunks, /*patience=*/1);
    ASSERT_EQ(table.count(), kChunks);
    ASSERT_EQ(failures, system.failed());
    if (system.failed() == 0) break;
  }
  EXPECT_EQ(nth, kChunks + 4 + 1);  // each chunk and each directory was failed
}

TEST(GrowingTableFault, KeepsWhatItHasWhenMemoryEndsForEver) {
  FailingSystem system;
  for (std::uint64_t nth = 1; nth <= kChunks + 4; ++nth) {
    GrowingTable<Chunk> table;
    system.fail_nth(SystemCall::metadata, nth, Failing::for_ever);
    ASSERT_EQ(grow(table, kChunks, /*patience=*/3), 4u);
    ASSERT_LT(table.count(), kChunks);
    system.succeed();
    ASSERT_EQ(grow(table, kChunks, /*patience=*/0), 0u);
    ASSERT_EQ(table.count(), kChunks);
  }
}

// Segments for 64, 192, 448 and 960 elements.
constexpr std::uint32_t kElements = 960, kSegments = 4;

// Grows an array in steps that take several segments, too, and looks at every element.
void grow(GrowingArray<std::uint64_t>& array, unsigned* failures) {
  // Three failures in a row are for ever.
  for (const std::uint32_t size : {1u, 300u, kElements}) {
    while (array.size() < size) {
      const std::uint32_t from = array.size();
      if (array.grow(size)) {
        for (std::uint32_t i = from; i < size; ++i) array[i] = i;
        break;
      }
      EXPECT_EQ(array.size(), from) << "as it was";
      EXPECT_EQ(array.find(from), nullptr);
      if (++*failures == 3) return;
    }
  }
  for (std::uint32_t i = 0; i < array.size(); ++i) EXPECT_EQ(array[i], i);
}

TEST(GrowingArrayFault, LosesNothingWhicheverAllocationFails) {
  FailingSystem system;
  for (const Failing how : {Failing::once, Failing::for_ever}) {
    for (std::uint64_t nth = 1; nth <= kSegments; ++nth) {
      GrowingArray<std::uint64_t> array;
      unsigned failures = 0;
      system.fail_nth(SystemCall::metadata, nth, how);
      grow(array, &failures);
      EXPECT_EQ(system.failed(), failures);
      EXPECT_GE(failures, 1u) << "each segment was failed";
      EXPECT_EQ(array.size() == kElements, how == Failing::once);
      system.succeed();
      grow(array, &failures);
      EXPECT_EQ(array.size(), kElements);
    }
  }
}

}  // namespace
}  // namespace mmkit
