// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <atomic>
#include <mmkit/base/growing_table.hpp>
#include <thread>
#include <vector>

namespace mmkit {
namespace {

struct Chunk {
  std::uint64_t first = 0xf1f1;
  std::uint64_t last = 0x1a1a;
};

TEST(GrowingTable, IsEmptyAtFirst) {
  const GrowingTable<Chunk> table;
  EXPECT_EQ(table.count(), 0u);
  EXPECT_EQ(table.bytes(), 0u);
  for (const std::size_t index : {std::size_t{0}, std::size_t{1}, ~std::size_t{0}}) {
    EXPECT_EQ(table.find(index), nullptr);
  }
}

TEST(GrowingTable, FindsWhatWasAppendedAndNothingElse) {
  GrowingTable<Chunk> table;
  for (std::size_t i = 0; i < 100; ++i) {
    Chunk* const chunk = table.append().value();
    EXPECT_EQ(chunk->first, 0xf1f1u) << "constructed";
    EXPECT_EQ(table.find(i), chunk);
    EXPECT_EQ(table.count(), i + 1);
    for (const std::size_t index : {i + 1, i + 2, i + 1000, ~std::size_t{0}}) {
      EXPECT_EQ(table.find(index), nullptr);
    }
  }
}

TEST(GrowingTable, NeverMovesAChunk) {
  GrowingTable<Chunk> table;
  std::vector<Chunk*> chunks;
  for (std::size_t i = 0; i < 1000; ++i) {
    chunks.push_back(table.append().value());
    chunks.back()->first = i;
  }
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(table.find(i), chunks[i]);
    EXPECT_EQ(chunks[i]->first, i);
  }
}

TEST(GrowingTable, CountsWhatItHolds) {
  GrowingTable<Chunk> table;
  for (std::size_t i = 1; i <= 500; ++i) {
    ASSERT_TRUE(table.append());
    EXPECT_GE(table.bytes(), i * (sizeof(Chunk) + sizeof(void*)));
    // All directories together: twice the last one at most, which is at most twice too long.
    EXPECT_LE(table.bytes(), i * (sizeof(Chunk) + 4 * sizeof(void*)) + 128);
  }
}

struct alignas(256) Aligned {
  std::byte bytes[256];
};

TEST(GrowingTable, AlignsItsChunks) {
  GrowingTable<Aligned> table;
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(table.append().value()) % 256, 0u);
  }
}

struct Counted {
  Counted() noexcept { ++alive; }
  ~Counted() { --alive; }
  static inline int alive = 0;
};

TEST(GrowingTable, EndsItsChunks) {
  {
    GrowingTable<Counted> table;
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(table.append());
    EXPECT_EQ(Counted::alive, 50);
  }
  EXPECT_EQ(Counted::alive, 0);
}

// A reader finds a chunk whole or not at all, however often the directory is replaced meanwhile.
TEST(GrowingTable, IsReadWhileItGrows) {
  GrowingTable<Chunk> table;
  std::atomic<std::size_t> published{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int id = 0; id < 2; ++id) {
    readers.emplace_back([&] {
      while (!stop.load()) {
        const std::size_t count = published.load();
        for (std::size_t i = 0; i < count; ++i) {
          const Chunk* chunk = table.find(i);
          ASSERT_NE(chunk, nullptr);
          ASSERT_EQ(chunk->last, 0x1a1au);
        }
        // Not announced: there or not, but never half.
        if (const Chunk* chunk = table.find(count); chunk != nullptr) {
          ASSERT_EQ(chunk->last, 0x1a1au);
        }
      }
    });
  }
  for (std::size_t i = 0; i < 600; ++i) {
    ASSERT_TRUE(table.append());
    published.store(i + 1);
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace mmkit
