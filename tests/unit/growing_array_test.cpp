// SPDX-License-Identifier: MIT
#include <mmkit/base/growing_array.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

TEST(GrowingArray, BeginsEmpty) {
  GrowingArray<std::uint64_t> array;
  EXPECT_EQ(array.size(), 0u);
  EXPECT_EQ(array.bytes(), 0u);
  EXPECT_EQ(array.find(0), nullptr);
  EXPECT_EQ(array.find(0xffffffff), nullptr);
}

// Around the ends of the first segments, which hold 64, 128, 256, ... elements.
TEST(GrowingArray, HasEachElementAtItsIndexAndNoneBeyond) {
  GrowingArray<std::uint64_t> array;
  std::vector<std::uint64_t*> places;
  for (const std::uint32_t size : {1u, 63u, 64u, 65u, 191u, 192u, 193u, 447u, 448u, 449u, 5000u}) {
    ASSERT_TRUE(array.grow(size));
    EXPECT_EQ(array.size(), size);
    EXPECT_EQ(array.bytes(), size * sizeof(std::uint64_t));
    for (auto i = static_cast<std::uint32_t>(places.size()); i < size; ++i) {
      EXPECT_EQ(array[i], 0u) << "constructed";
      array[i] = i + 1;
      places.push_back(&array[i]);
    }
    for (std::uint32_t i = 0; i < size; ++i) {
      ASSERT_EQ(array[i], i + 1);
      ASSERT_EQ(array.find(i), places[i]) << "elements never move";
    }
    EXPECT_EQ(array.find(size), nullptr);
    ASSERT_TRUE(array.grow(size / 2)) << "it is that long";
    EXPECT_EQ(array.size(), size);
  }
}

TEST(GrowingArray, RefusesWhatItsIndexesCannotName) {
  GrowingArray<std::uint8_t> array;
  EXPECT_EQ(array.grow(0xffffffff).error(), Errc::out_of_memory);
  EXPECT_EQ(array.size(), 0u);
}

TEST(GrowingArray, AlignsItsElements) {
  struct alignas(64) Line {
    std::uint8_t bytes[64] = {};
  };
  GrowingArray<Line> array;
  ASSERT_TRUE(array.grow(300));
  for (std::uint32_t i = 0; i < 300; ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&array[i]) % 64, 0u);
  }
}

// Somebody who looks meanwhile finds an element made, or none.
TEST(GrowingArray, IsReadWhileItGrows) {
  struct Marked {
    std::uint32_t mark = 0xf1f1;
  };
  GrowingArray<Marked> array;
  std::atomic<bool> stop{false};
  std::uint64_t wrong = 0;
  std::thread reader([&] {
    do {
      const std::uint32_t size = array.size();
      for (std::uint32_t i = 0; i < size; ++i) wrong += array.find(i)->mark != 0xf1f1;
      if (const Marked* beyond = array.find(size)) wrong += beyond->mark != 0xf1f1;
    } while (!stop.load(std::memory_order_relaxed));
  });
  for (std::uint32_t size = 1; size <= 5000; ++size) EXPECT_TRUE(array.grow(size));
  stop.store(true, std::memory_order_relaxed);
  reader.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace mmkit
