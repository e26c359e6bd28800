// SPDX-License-Identifier: MIT
//
// What AddressSanitizer may see of a pool's memory: in a pool of kind host what is free is out of
// bounds, and what is allocated is not. Other builds make the same calls and poison nothing.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>

#include "base/poison.hpp"

namespace mmkit {
namespace {

#ifdef MMKIT_POISONS_FOR_ASAN
constexpr bool kPoisons = true;
bool is_poisoned(std::uintptr_t address) {
  return __asan_address_is_poisoned(reinterpret_cast<const void*>(address)) != 0;
}
#else
constexpr bool kPoisons = false;
bool is_poisoned(std::uintptr_t) {
  return false;
}
#endif

class GenPoolPoison : public ::testing::Test {
 protected:
  static constexpr std::size_t kBytes = 1024;

  std::uintptr_t at(std::size_t offset) const {
    return reinterpret_cast<std::uintptr_t>(memory_.data()) + offset;
  }
  std::unique_ptr<GenPool> pool_of(AddressKind kind) const {
    auto pool = GenPool::create({.min_alloc_order = 4, .kind = kind}).value();
    EXPECT_TRUE(pool->add_chunk({.start = at(0), .size_bytes = kBytes, .phys = 0}));
    return pool;
  }
  /// Every byte from `first` to before `end` is in bounds, or none.
  void expect(std::size_t first, std::size_t end, bool poisoned) const {
    for (std::size_t i = first; i < end; ++i) {
      ASSERT_EQ(is_poisoned(at(i)), poisoned && kPoisons) << i;
    }
  }

  alignas(64) std::array<std::byte, kBytes> memory_{};
};

TEST_F(GenPoolPoison, FollowsAllocateAndFree) {
  {
    const auto pool = pool_of(AddressKind::host);
    expect(0, kBytes, true);
    EXPECT_EQ(pool->allocate(100).value(), at(0));
    expect(0, 112, false);
    expect(112, kBytes, true);
    ASSERT_TRUE(pool->allocate_at(at(512), 32));
    expect(112, 512, true);
    expect(512, 544, false);
    expect(544, kBytes, true);
    ASSERT_TRUE(pool->try_free(at(16), 32)) << "a part";
    expect(0, 16, false);
    expect(16, 48, true);
    expect(48, 112, false);
    EXPECT_FALSE(pool->try_free(at(0), 112)) << "partly free already";
    expect(0, 16, false);
    expect(48, 112, false);
    pool->free(at(0), 16);
    pool->free(at(48), 64);
    pool->free(at(512), 32);
    expect(0, kBytes, true);
  }
  expect(0, kBytes, false);
}

TEST_F(GenPoolPoison, FollowsEveryPolicyAndTheZeroingForms) {
  const auto pool = pool_of(AddressKind::host);
  for (const Fit& fit : {Fit(FirstFit{}), Fit(BestFit{}), Fit(FirstFitAlign{64}),
                         Fit(FirstFitOrderAlign{}), Fit(FixedFit{256}), Fit(RelaxedFit{})}) {
    const std::uintptr_t start = pool->allocate(48, fit).value();
    expect(start - at(0), start - at(0) + 48, false);
    *reinterpret_cast<std::byte*>(start + 47) = std::byte{1};
    pool->free(start, 48);
    expect(0, kBytes, true);
    const DmaBlock block = pool->allocate_zeroed_dma(48, fit).value();
    EXPECT_EQ(static_cast<std::byte*>(block.address)[47], std::byte{0});
    pool->free(reinterpret_cast<std::uintptr_t>(block.address), 48);
    expect(0, kBytes, true);
  }
}

TEST_F(GenPoolPoison, EndsWithTheChunk) {
  const auto pool = pool_of(AddressKind::host);
  ASSERT_TRUE(pool->remove_chunk(at(0)));
  expect(0, kBytes, false);
}

TEST_F(GenPoolPoison, LeavesAPoolOfOpaqueAddressesAlone) {
  const auto pool = pool_of(AddressKind::opaque);
  EXPECT_EQ(pool->allocate(100).value(), at(0));
  expect(0, kBytes, false);
  pool->free(at(0), 100);
  expect(0, kBytes, false);
}

}  // namespace
}  // namespace mmkit
