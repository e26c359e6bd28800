// SPDX-License-Identifier: MIT
//
// Each allocation of base's own fails in turn, once or for ever.
#include <gtest/gtest.h>

#include <cstdint>
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

}  // namespace
}  // namespace mmkit
