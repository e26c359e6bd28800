// SPDX-License-Identifier: MIT
//
// Physical addresses, the DMA and zeroing forms, what a pool contains, and the ends of the address
// space.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <vector>

namespace mmkit {
namespace {

constexpr std::uintptr_t kTop = ~std::uintptr_t{0};

std::unique_ptr<GenPool> make(GenPoolOptions options = {}) {
  return GenPool::create(options).value();
}

std::uintptr_t address_of(const DmaBlock& block) {
  return reinterpret_cast<std::uintptr_t>(block.address);
}

TEST(GenPoolPhysical, AddressesRunAlongWithThoseOfTheChunk) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 0x1003, .size_bytes = 0x105, .phys = 0x777}));
  for (std::uintptr_t i = 0; i < 0x105; ++i) {
    EXPECT_EQ(pool->virt_to_phys(0x1003 + i).value(), 0x777 + i);
  }
  EXPECT_EQ(pool->virt_to_phys(0x1002).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->virt_to_phys(0x1108).error(), Errc::invalid_argument);
}

TEST(GenPoolPhysical, IsTheOwnOfEachChunk) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = 100, .size_bytes = 100, .phys = 0}));
  ASSERT_TRUE(pool->add_chunk({.start = 200, .size_bytes = 100, .phys = 0x5000}));
  ASSERT_TRUE(pool->add_chunk({.start = 300, .size_bytes = 100}));
  EXPECT_EQ(pool->virt_to_phys(100).value(), 0u) << "0 is an address";
  EXPECT_EQ(pool->virt_to_phys(199).value(), 99u);
  EXPECT_EQ(pool->virt_to_phys(200).value(), 0x5000u);
  EXPECT_EQ(pool->virt_to_phys(300).error(), Errc::not_supported);
  EXPECT_EQ(pool->virt_to_phys(400).error(), Errc::invalid_argument);
}

TEST(GenPoolDma, TakesThePolicyThatItIsGiven) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 0x1000, .phys = 0x90000}));
  const DmaBlock low = pool->allocate_dma(1).value();
  const DmaBlock aligned = pool->allocate_dma(20, FirstFitAlign{256}).value();
  const DmaBlock fixed = pool->allocate_dma(20, FixedFit{0x800}).value();
  EXPECT_EQ(low.phys, 0x90000u);
  EXPECT_EQ(aligned.phys, 0x90100u);
  EXPECT_EQ(fixed.phys, 0x90800u);
  EXPECT_EQ(address_of(fixed), 0x1800u);
  pool->free(0x1000, 1);
  pool->free(0x1100, 20);
  pool->free(0x1800, 20);
}

TEST(GenPoolDma, EachErrorLeavesThePoolAsItWas) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk({.start = 0x1000, .size_bytes = 0x100, .phys = 0x90000}));
  EXPECT_EQ(pool->allocate_dma(0).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate_dma(0x101).error(), Errc::no_space);
  EXPECT_EQ(pool->allocate_dma(16, FirstFitAlign{3}).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate_zeroed_dma(0).error(), Errc::invalid_argument);
  EXPECT_EQ(pool->allocate_zeroed_dma(16).error(), Errc::not_supported) << "of kind opaque";
  EXPECT_EQ(pool->allocate_zeroed_dma(16, BestFit{}).error(), Errc::not_supported);
  EXPECT_EQ(pool->available_bytes(), 0x100u);
  // The chunk added last is asked first, and has no physical address.
  ASSERT_TRUE(pool->add_chunk({.start = 0x2000, .size_bytes = 0x40}));
  EXPECT_EQ(pool->allocate_dma(0x40).error(), Errc::not_supported);
  EXPECT_EQ(pool->available_bytes(), 0x140u);
  const DmaBlock block = pool->allocate_dma(0x41).value();
  EXPECT_EQ(block.phys, 0x90000u) << "where only the other has room";
  pool->free(address_of(block), 0x41);
  EXPECT_TRUE(pool->validate());
}

class ZeroedDma : public ::testing::Test {
 protected:
  static constexpr std::size_t kBytes = 1024;
  ZeroedDma() {
    memory_.fill(0xaa);
    pool_ = make({.min_alloc_order = 4, .kind = AddressKind::host});
    EXPECT_TRUE(pool_->add_chunk({.start = start(), .size_bytes = kBytes, .phys = 0x4000}));
  }
  std::uintptr_t start() const { return reinterpret_cast<std::uintptr_t>(memory_.data()); }

  alignas(1024) std::array<unsigned char, kBytes> memory_{};
  std::unique_ptr<GenPool> pool_;
};

TEST_F(ZeroedDma, IsZeroAsFarAsAskedForWhateverWasThere) {
  for (const std::size_t size : {1u, 15u, 16u, 17u, 300u}) {
    const DmaBlock block = pool_->allocate_zeroed_dma(size, FirstFitAlign{64}).value();
    auto* const bytes = static_cast<unsigned char*>(block.address);
    EXPECT_EQ(address_of(block) % 64, 0u);
    EXPECT_EQ(block.phys - 0x4000, address_of(block) - start());
    const std::size_t rounded = (size + 15) / 16 * 16;
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(bytes[i], 0) << size << " " << i;
    for (std::size_t i = size; i < rounded; ++i) ASSERT_EQ(bytes[i], 0xaa) << size << " " << i;
    for (std::size_t i = 0; i < size; ++i) bytes[i] = 0xaa;
    pool_->free(address_of(block), size);
  }
}

TEST_F(ZeroedDma, ARefusalWritesNothing) {
  EXPECT_EQ(pool_->allocate_zeroed_dma(kBytes + 1).error(), Errc::no_space);
  pool_.reset();  // whatever was free may be looked at again
  for (const unsigned char byte : memory_) ASSERT_EQ(byte, 0xaa);
}

TEST_F(ZeroedDma, TheOrdinaryFormWritesNothing) {
  const DmaBlock block = pool_->allocate_dma(100).value();
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_EQ(static_cast<unsigned char*>(block.address)[i], 0xaa);
  }
  pool_->free(address_of(block), 100);
}

TEST(GenPoolZeroedDma, NeedsAPhysicalAddressAndWritesNothingWithoutOne) {
  std::array<unsigned char, 64> memory;
  memory.fill(0xaa);
  {
    const auto pool = make({.kind = AddressKind::host});
    ASSERT_TRUE(pool->add_chunk(
        {.start = reinterpret_cast<std::uintptr_t>(memory.data()), .size_bytes = 64}));
    EXPECT_EQ(pool->allocate_zeroed_dma(10).error(), Errc::not_supported);
    EXPECT_EQ(pool->available_bytes(), 64u);
  }
  for (const unsigned char byte : memory) EXPECT_EQ(byte, 0xaa);
}

TEST(GenPoolContains, AnEmptyRangeIsWhereItStarts) {
  const auto pool = make({.min_alloc_order = 4});
  EXPECT_FALSE(pool->contains(0, 0)) << "a pool without chunks";
  ASSERT_TRUE(pool->add_chunk({.start = 100, .size_bytes = 40}));
  EXPECT_FALSE(pool->contains(99, 0));
  EXPECT_TRUE(pool->contains(100, 0));
  EXPECT_TRUE(pool->contains(139, 0)) << "a tail belongs to its chunk";
  EXPECT_FALSE(pool->contains(140, 0));
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 16}));
  EXPECT_TRUE(pool->contains(0, 0));
}

TEST(GenPoolContains, ARangeThatWrapsIsInNoChunk) {
  const auto pool = make();
  ASSERT_TRUE(pool->add_chunk({.start = kTop - 99, .size_bytes = 100}));
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = 100}));
  EXPECT_TRUE(pool->contains(kTop, 0));
  EXPECT_TRUE(pool->contains(kTop, 1));
  EXPECT_FALSE(pool->contains(kTop, 2)) << "kTop and 0 are no neighbours";
  EXPECT_TRUE(pool->contains(kTop - 99, 100));
  EXPECT_FALSE(pool->contains(kTop - 99, 101));
  EXPECT_FALSE(pool->contains(1, kTop));
  EXPECT_FALSE(pool->contains(kTop, kTop));
  EXPECT_FALSE(pool->contains(0, kTop));
}

TEST(GenPoolTop, AChunkUpToTheLastAddressIsServedByEachCall) {
  const auto pool = make({.min_alloc_order = 4});
  ASSERT_TRUE(pool->add_chunk(
      {.start = kTop - 0xff, .size_bytes = 0x100, .phys = ~std::uint64_t{0} - 0xff}));
  EXPECT_EQ(pool->virt_to_phys(kTop).value(), ~std::uint64_t{0});
  EXPECT_EQ(pool->largest_free_bytes(), 0x100u);
  ASSERT_TRUE(pool->allocate_at(kTop - 0xf, 0x10));
  EXPECT_EQ(pool->allocate_at(kTop - 0xf, 0x11).error(), Errc::invalid_argument) << "wraps";
  EXPECT_EQ(pool->allocate_dma(0xf0).value().phys, ~std::uint64_t{0} - 0xff);
  EXPECT_EQ(pool->available_bytes(), 0u);
  EXPECT_EQ(pool->try_free(kTop - 0xff, 0x101).error(), Errc::invalid_argument);
  EXPECT_TRUE(pool->try_free(kTop - 0xff, 0x100));
  std::vector<std::pair<std::uintptr_t, std::size_t>> runs;
  pool->for_each_free_run(
      [&](const FreeRun& run) { runs.emplace_back(run.start, run.size_bytes); });
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0], std::pair(kTop - 0xff, std::size_t{0x100}));
  EXPECT_TRUE(pool->validate());
  EXPECT_TRUE(pool->remove_chunk(kTop - 0xff));
}

TEST(GenPoolTop, TheWholeAddressSpaceButOneByteIsAChunkOfLargeGranules) {
  const auto pool = make({.min_alloc_order = 47});
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kTop}));
  EXPECT_EQ(pool->size_bytes(), kTop);
  constexpr std::size_t kGranule = std::size_t{1} << 47;
  EXPECT_EQ(pool->allocate(kGranule + 1).value(), 0u);
  EXPECT_EQ(pool->allocate(1).value(), 2 * kGranule);
  EXPECT_EQ(pool->allocate(kTop).error(), Errc::no_space);
  EXPECT_EQ(pool->largest_free_bytes(), (131'071 - 3) * kGranule) << "the tail is no granule";
  pool->free(0, 3 * kGranule);
  EXPECT_EQ(pool->available_bytes(), kTop);
}

}  // namespace
}  // namespace mmkit
