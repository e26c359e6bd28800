// SPDX-License-Identifier: MIT
//
// Every function over every byte, against the definition in wider arithmetic; then the ends of
// 64-bit words, where the overflows are.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <mmkit/base/bits.hpp>

namespace mmkit {
namespace {

constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kHighestPower = std::uint64_t{1} << 63;

// Usable in constant expressions, also where the checks are on.
static_assert(is_power_of_two(8u) && !is_power_of_two(0u) && !is_power_of_two(6u));
static_assert(log2_floor(9u) == 3 && log2_ceil(9u) == 4);
static_assert(align_up(13u, 8u) == 16 && align_down(13u, 8u) == 8 && divide_up(13u, 8u) == 2);

TEST(Bits, KnowsPowersOfTwoAndTheirLogarithms) {
  for (unsigned value = 0; value < 256; ++value) {
    const auto byte = static_cast<std::uint8_t>(value);
    unsigned power = 0;
    while (power < 8 && (1u << power) != value) ++power;
    EXPECT_EQ(is_power_of_two(byte), power < 8) << value;
    if (value == 0) continue;
    unsigned floor = 0;
    while ((2u << floor) <= value) ++floor;
    unsigned ceil = 0;
    while ((1u << ceil) < value) ++ceil;
    EXPECT_EQ(log2_floor(byte), floor) << value;
    EXPECT_EQ(log2_ceil(byte), ceil) << value;
  }
}

TEST(Bits, RoundsEveryByteToEveryPower) {
  for (unsigned value = 0; value < 256; ++value) {
    for (unsigned unit = 1; unit <= 128; unit *= 2) {
      const auto v = static_cast<std::uint8_t>(value);
      const auto u = static_cast<std::uint8_t>(unit);
      const unsigned up = (value + unit - 1) / unit * unit;
      EXPECT_EQ(align_down(v, u), value / unit * unit) << value << " to " << unit;
      EXPECT_EQ(is_aligned(v, u), value % unit == 0) << value << " to " << unit;
      if (up < 256) {
        EXPECT_EQ(align_up(v, u), up) << value << " to " << unit;
      }
    }
  }
}

TEST(Bits, DividesEveryByteByEveryByte) {
  for (unsigned value = 0; value < 256; ++value) {
    for (unsigned unit = 1; unit < 256; ++unit) {
      EXPECT_EQ(divide_up(static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(unit)),
                (value + unit - 1) / unit);
    }
  }
}

TEST(Bits, RoundsAtTheTopOfTheRange) {
  EXPECT_EQ(align_up(kTop - 4095, std::uint64_t{4096}), kTop - 4095);
  EXPECT_EQ(align_up(kTop - 4096, std::uint64_t{4096}), kTop - 4095);
  EXPECT_EQ(align_up(kTop, std::uint64_t{1}), kTop);
  EXPECT_EQ(align_up(std::uint64_t{1}, kHighestPower), kHighestPower);
  EXPECT_EQ(align_up(kHighestPower, kHighestPower), kHighestPower);
  EXPECT_EQ(align_down(kTop, kHighestPower), kHighestPower);
  EXPECT_EQ(align_down(kTop, std::uint64_t{4096}), kTop - 4095);
  EXPECT_EQ(divide_up(kTop, std::uint64_t{4096}), kTop / 4096 + 1);
  EXPECT_EQ(divide_up(kTop, kTop), 1u);
  EXPECT_EQ(log2_floor(kTop), 63u);
  EXPECT_EQ(log2_ceil(kTop), 64u);
  EXPECT_EQ(log2_ceil(kHighestPower), 63u);
  EXPECT_EQ(log2_ceil(kHighestPower + 1), 64u);
}

TEST(Bits, SaysWhenASumOrAProductFits) {
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b = 0; b < 256; ++b) {
      std::uint8_t sum = 0;
      std::uint8_t product = 0;
      const auto x = static_cast<std::uint8_t>(a);
      const auto y = static_cast<std::uint8_t>(b);
      ASSERT_EQ(add_fits(x, y, &sum), a + b < 256);
      ASSERT_EQ(multiply_fits(x, y, &product), a * b < 256);
      if (a + b < 256) {
        ASSERT_EQ(sum, a + b);
      }
      if (a * b < 256) {
        ASSERT_EQ(product, a * b);
      }
    }
  }
  std::uint64_t out = 0;
  EXPECT_TRUE(add_fits(kTop, std::uint64_t{0}, &out));
  EXPECT_EQ(out, kTop);
  EXPECT_TRUE(add_fits(kTop - 1, std::uint64_t{1}, &out));
  EXPECT_FALSE(add_fits(kTop, std::uint64_t{1}, &out));
  EXPECT_FALSE(add_fits(kTop, kTop, &out));
  EXPECT_TRUE(multiply_fits(kTop, std::uint64_t{1}, &out));
  EXPECT_EQ(out, kTop);
  EXPECT_TRUE(multiply_fits(kTop, std::uint64_t{0}, &out));
  EXPECT_EQ(out, 0u);
  EXPECT_TRUE(multiply_fits(std::uint64_t{0xffffffff}, std::uint64_t{0x100000001}, &out));
  EXPECT_EQ(out, kTop);
  EXPECT_FALSE(multiply_fits(std::uint64_t{1} << 32, std::uint64_t{1} << 32, &out));
}

TEST(Bits, LetsARangeEndAtTheTopOfTheAddressSpaceAndNotWrap) {
  constexpr std::uintptr_t kTopAddress = std::numeric_limits<std::uintptr_t>::max();
  EXPECT_TRUE(range_fits(0, 0));
  EXPECT_TRUE(range_fits(0, kTopAddress));
  EXPECT_TRUE(range_fits(1, kTopAddress));
  EXPECT_FALSE(range_fits(2, kTopAddress));
  EXPECT_TRUE(range_fits(kTopAddress, 0));
  EXPECT_TRUE(range_fits(kTopAddress, 1));
  EXPECT_FALSE(range_fits(kTopAddress, 2));
  EXPECT_TRUE(range_fits(kTopAddress - 4095, 4096));
  EXPECT_FALSE(range_fits(kTopAddress - 4095, 4097));
}

TEST(Bits, MasksTheLowestBits) {
  EXPECT_EQ(low_bits(0), 0u);
  for (unsigned count = 1; count < 64; ++count) {
    EXPECT_EQ(low_bits(count), (std::uint64_t{1} << count) - 1) << count;
  }
  EXPECT_EQ(low_bits(64), kTop);
}

}  // namespace
}  // namespace mmkit
