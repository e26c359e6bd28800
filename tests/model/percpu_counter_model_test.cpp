// SPDX-License-Identifier: MIT
//
// PercpuCounter against one plain number: random amounts, small and extreme, from any CPU.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <mmkit/percpu/counter.hpp>
#include <random>
#include <utility>

#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

// Mostly about a batch, sometimes about 2^31, sometimes any number.
std::int64_t some_amount(std::mt19937_64& random) {
  const std::uint64_t bits = random();
  switch (bits % 16) {
    case 0:
      return static_cast<std::int64_t>(random());
    case 1:
      return static_cast<std::int64_t>(random() >> 32) - (std::int64_t{1} << 31);
    case 2:
      return bits % 32 < 16 ? kMin : kMax;
    default:
      return static_cast<std::int64_t>(bits >> 4 & 127) - 64;
  }
}

void compare_with_a_number(std::int32_t batch, unsigned units, std::uint64_t stream) {
  const auto allocator = testing::make_percpu_allocator(units);
  std::mt19937_64 random(testing::test_seed(stream));
  testing::Wanderer wanderer(random());
  std::uint64_t expected = random();
  PercpuCounter counter =
      std::move(PercpuCounter::create(static_cast<std::int64_t>(expected), batch, allocator.get()))
          .value();
  const std::uint64_t used =
      batch == 0 ? std::max(32u, 2 * possible_cpus()) : static_cast<std::uint64_t>(batch);
  const std::uint64_t off_at_most = (used - 1) * allocator->units();
  const std::uint64_t operations = testing::scaled(200'000, 2000);
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (random() % 512 == 0) wanderer.move();
    const std::int64_t amount = some_amount(random);
    switch (random() % 64) {
      case 0:
        counter.set(amount);
        expected = static_cast<std::uint64_t>(amount);
        break;
      case 1: {
        PercpuCounter moved = std::move(counter);
        counter = std::move(moved);
        break;
      }
      default:
        counter.add(amount);
        expected += static_cast<std::uint64_t>(amount);
    }
    const auto sum = static_cast<std::int64_t>(expected);
    ASSERT_EQ(counter.sum(), sum) << "operation " << i;
    // In wrapping arithmetic: off in [-off_at_most, off_at_most].
    ASSERT_LE(static_cast<std::uint64_t>(counter.read()) - expected + off_at_most, 2 * off_at_most)
        << "operation " << i;
    const std::int64_t other =
        random() % 2 != 0 ? amount : static_cast<std::int64_t>(expected + random() % 400 - 200);
    ASSERT_EQ(counter.compare(other), sum < other   ? -1
                                      : sum > other ? 1
                                                    : 0)
        << "operation " << i << ": " << sum << " against " << other;
  }
  testing::bind_thread(::pthread_self(), testing::allowed_cpus());
}

TEST(PercpuCounterModel, AgreesWithAPlainNumber) {
  compare_with_a_number(/*batch=*/32, /*units=*/0, 1);
}
TEST(PercpuCounterModel, AgreesAtABatchOfOne) {
  compare_with_a_number(/*batch=*/1, /*units=*/3, 2);
}
TEST(PercpuCounterModel, AgreesAtTheUsualBatchOnManyUnits) {
  compare_with_a_number(/*batch=*/0, /*units=*/256, 3);
}
TEST(PercpuCounterModel, AgreesAtTheLargestBatch) {
  compare_with_a_number(std::numeric_limits<std::int32_t>::max(), /*units=*/17, 4);
}

}  // namespace
}  // namespace mmkit
