// SPDX-License-Identifier: MIT
#include <mmkit/zpool/zspage.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <vector>

namespace mmkit {
namespace {

class ZspageTest : public ::testing::Test {
 protected:
  Zspage& make(unsigned cells) {
    memory_.assign(Zspage::bytes_for(cells), std::byte{0xcc});
    const PageRun run{nullptr, 7, Pfn{0x1234'5678'9abc}};
    return *Zspage::make(memory_.data(), 42, run, 118, cells);
  }
  alignas(8) std::vector<std::byte> memory_;
};

TEST_F(ZspageTest, KnowsWhatItDescribes) {
  const Zspage& zspage = make(9);
  EXPECT_EQ(zspage.number(), 42u);
  EXPECT_EQ(zspage.size_class(), 118u);
  EXPECT_EQ(zspage.cells(), 9u);
  EXPECT_EQ(zspage.pages(), 7u);
  const PageRun run = zspage.run(nullptr);
  EXPECT_EQ(run.pages, 7u);
  EXPECT_EQ(run.first, Pfn{0x1234'5678'9abc});
  EXPECT_EQ(Zspage::bytes_for(9), 28u + 4 * 9);
}

TEST_F(ZspageTest, GivesEachCellOnceAndTakesItBack) {
  for (const unsigned cells : {1u, 2u, 9u, 10u, 255u, 256u}) {
    Zspage& zspage = make(cells);
    std::set<unsigned> taken;
    for (unsigned i = 0; i < cells; ++i) {
      EXPECT_EQ(zspage.group(), i * 10 / cells);
      const unsigned cell = zspage.take_cell(1000 + i);
      EXPECT_LT(cell, cells);
      EXPECT_TRUE(taken.insert(cell).second);
      EXPECT_EQ(zspage.owner(cell), 1000 + i);
      EXPECT_TRUE(zspage.validate());
    }
    EXPECT_EQ(zspage.group(), 10u);
    EXPECT_EQ(zspage.free_cells(), 0u);
    for (const unsigned cell : taken) {
      EXPECT_FALSE(zspage.is_free(cell));
      zspage.give_cell(cell);
      EXPECT_TRUE(zspage.is_free(cell));
      EXPECT_TRUE(zspage.validate());
    }
    EXPECT_EQ(zspage.in_use(), 0u);
    const unsigned last = *taken.rbegin();
    EXPECT_EQ(zspage.take_cell(7), last) << "the cell that was given last";
  }
}

TEST_F(ZspageTest, HasNoSlotInAClaimedCell) {
  Zspage& zspage = make(3);
  const unsigned cell = zspage.take_cell(Zspage::kClaimed);
  EXPECT_FALSE(zspage.is_free(cell));
  EXPECT_EQ(zspage.owner(cell), Zspage::kClaimed);
  zspage.set_owner(cell, 5);
  EXPECT_EQ(zspage.owner(cell), 5u);
  EXPECT_TRUE(zspage.validate());
}

TEST(ZspageBase, PacksAddressClassAndSize) {
  for (const std::uintptr_t page : {std::uintptr_t{1}, (std::uintptr_t{1} << 36) - 1}) {
    auto* const data = reinterpret_cast<std::byte*>(page << kPageShift);
    for (const unsigned size_class : {0u, 118u, 191u}) {
      for (const std::size_t size : {32u, 48u, 3632u, 4096u}) {
        const ZspageBase base(data, size_class, size);
        for (const bool keeps : {false, true}) {
          const ZspageBase other = base.with(keeps, !keeps);
          EXPECT_EQ(other.keeps(), keeps);
          EXPECT_EQ(other.isolated(), !keeps);
          EXPECT_EQ(other.data(), data);
          EXPECT_EQ(other.size_class(), size_class);
          EXPECT_EQ(other.size_bytes(), size);
          EXPECT_EQ(other.cell(3), data + 3 * size);
          EXPECT_TRUE(other.with(false, false) == base);
        }
      }
    }
  }
  EXPECT_EQ(ZspageBase::link(0xffffffff).next(), 0xffffffffu);
  EXPECT_TRUE(ZspageBase::can_describe(reinterpret_cast<std::byte*>(0x0000'ffff'ffff'f000)));
  EXPECT_FALSE(ZspageBase::can_describe(reinterpret_cast<std::byte*>(0x0001'0000'0000'0000)));
}

}  // namespace
}  // namespace mmkit
