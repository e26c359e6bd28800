// SPDX-License-Identifier: MIT
//
// FrameTable: states and places without any memory behind them, and that validate() notices every
// bit of its maps that is wrong. Which frames are chosen in the long run is the model test's.
#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <memory>
#include <mmkit/base/gfp.hpp>
#include <mmkit/page/page_size.hpp>
#include <vector>

#include "page/frame_table.hpp"

namespace mmkit::page_detail {
namespace {

class FrameTableTest : public ::testing::Test {
 protected:
  explicit FrameTableTest(unsigned node_count = 2, FrameIndex node_frames = 200)
      : bytes_(FrameTable::bytes_for(std::size_t{node_count} * node_frames)),
        memory_(new (std::align_val_t{kPageSize}) std::byte[bytes_]{}),
        nodes_(new FrameNode[node_count]),
        table_(memory_, nodes_.get(), node_count, node_frames) {}
  ~FrameTableTest() override { ::operator delete[](memory_, std::align_val_t{kPageSize}); }

  FrameIndex place(std::size_t pages, std::size_t align = 1, int node = kAnyNode) {
    return table_.place(pages, align, node).first;
  }
  void give_back(FrameIndex first, FrameIndex pages) {
    table_.depart(first, pages);
    table_.settle_free({first, pages});
  }
  bool valid() const { return table_.validate().has_value(); }

  std::size_t bytes_;
  std::byte* memory_;
  std::unique_ptr<FrameNode[]> nodes_;
  FrameTable table_;
};

TEST_F(FrameTableTest, BeginsEmptyAndValid) {
  EXPECT_TRUE(valid());
  EXPECT_EQ(table_.frames(), 400u);
  EXPECT_EQ(table_.counts().held_pages, 0u);
  EXPECT_EQ(table_.descriptor_bytes(), 0u);
}

TEST_F(FrameTableTest, FillsFromTheBottomNodeByNode) {
  EXPECT_EQ(place(150), 0u);
  EXPECT_EQ(place(51), 200u);  // no room left in node 0
  EXPECT_EQ(place(50), 150u);
  EXPECT_EQ(place(149), 251u);
  EXPECT_EQ(place(1), kNoFrame);
  EXPECT_EQ(place(201), kNoFrame);  // longer than a node
  EXPECT_TRUE(valid());
  EXPECT_EQ(table_.counts().held_pages, 400u);
}

TEST_F(FrameTableTest, AlignsByFrameNumber) {
  EXPECT_EQ(place(1), 0u);
  EXPECT_EQ(place(3, 16), 16u);
  EXPECT_EQ(place(1, 128), 128u);
  EXPECT_EQ(place(1, 256), 256u);
  EXPECT_EQ(place(1, 256), kNoFrame);
  EXPECT_EQ(place(16), 19u);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, PrefersANodeAndFallsBackInOrder) {
  EXPECT_EQ(place(1, 1, 1), 200u);
  EXPECT_EQ(place(199, 1, 1), 201u);
  EXPECT_EQ(place(1, 1, 1), 0u);
  table_.retain(200, 1);
  EXPECT_EQ(place(1, 1, 0), 1u);  // its own fresh frame before another's retained one
  EXPECT_EQ(place(1), 200u);      // any node: what is retained first
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, ReusesAnExactRunThenCutsALongerOne) {
  const FrameIndex ten = place(10);
  const FrameIndex three = place(3);
  table_.retain(three, 3);
  table_.retain(ten, 10);
  const Place exact = table_.place(3, 1, kAnyNode);
  EXPECT_EQ(exact.first, three);
  EXPECT_TRUE(exact.dirty);
  EXPECT_EQ(place(3), ten);
  EXPECT_EQ(place(7), ten + 3);
  EXPECT_EQ(table_.counts().retained_pages, 0u);
  EXPECT_TRUE(valid());
  EXPECT_FALSE(table_.place(1, 1, kAnyNode).dirty);
}

TEST_F(FrameTableTest, CutsARunInTheMiddleForAnAlignedRequest) {
  EXPECT_EQ(place(3), 0u);
  EXPECT_EQ(place(20), 3u);
  table_.retain(3, 20);
  EXPECT_EQ(place(4, 8), 8u);
  EXPECT_EQ(table_.counts().retained_pages, 16u);
  EXPECT_TRUE(valid());
  EXPECT_EQ(place(5), 3u);
  EXPECT_EQ(place(11), 12u);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, ResidentPlacesJoinNeighboursThatWereFreedApart) {
  for (FrameIndex i = 0; i < 6; ++i) EXPECT_EQ(place(2), 2 * i);
  for (const FrameIndex first : {0u, 8u, 4u, 2u}) table_.retain(first, 2);
  EXPECT_EQ(table_.place_resident(7, 1, kAnyNode).first, kNoFrame);
  const Place joined = table_.place_resident(5, 1, kAnyNode);
  EXPECT_EQ(joined.first, 0u);
  EXPECT_TRUE(joined.dirty);
  EXPECT_TRUE(valid());
  EXPECT_EQ(table_.place_resident(1, 1, kAnyNode).first, 5u);
  EXPECT_EQ(table_.place_resident(2, 1, 1).first, 8u);  // of another node than preferred
  EXPECT_EQ(table_.place_resident(1, 1, kAnyNode).first, kNoFrame);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, TheLastResortTakesFreedAndFreeFramesTogether) {
  EXPECT_EQ(place(200), 0u);
  for (FrameIndex i = 0; i < 4; ++i) EXPECT_EQ(place(50), 200 + 50 * i);
  table_.retain(250, 50);
  give_back(300, 50);
  EXPECT_EQ(place(100), kNoFrame);
  EXPECT_EQ(table_.place_any(101, 1, kAnyNode).first, kNoFrame);
  const Place mixed = table_.place_any(70, 1, kAnyNode);
  EXPECT_EQ(mixed.first, 250u);
  EXPECT_TRUE(mixed.dirty);
  EXPECT_TRUE(valid());
  EXPECT_EQ(table_.place_any(30, 1, 0).first, 320u);
  EXPECT_EQ(table_.place_any(1, 1, kAnyNode).first, kNoFrame);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, KnowsEveryKindOfRun) {
  EXPECT_EQ(place(4), 0u);
  EXPECT_EQ(place(4), 4u);
  EXPECT_EQ(table_.kind_of(0, 4), RunKind::held);
  EXPECT_EQ(table_.kind_of(4, 4), RunKind::held);
  for (const std::size_t pages : {std::size_t{0}, std::size_t{3}, std::size_t{5}, std::size_t{8},
                                  std::size_t{400}, ~std::size_t{0}}) {
    EXPECT_EQ(table_.kind_of(0, pages), RunKind::other_size) << pages;
  }
  EXPECT_EQ(table_.kind_of(1, 3), RunKind::other_size);
  EXPECT_EQ(table_.kind_of(8, 1), RunKind::not_held);
  EXPECT_EQ(table_.kind_of(300, 1), RunKind::not_held);
  table_.retain(4, 4);
  EXPECT_EQ(table_.kind_of(4, 4), RunKind::not_held);
  EXPECT_EQ(table_.kind_of(0, 8), RunKind::other_size);
  table_.depart(0, 4);
  EXPECT_EQ(table_.kind_of(0, 4), RunKind::not_held);
  table_.settle_free({0, 4});
}

TEST_F(FrameTableTest, CollectsTheOldestAndSettlesEitherWay) {
  for (FrameIndex i = 0; i < 5; ++i) EXPECT_EQ(place(10), 10 * i);
  for (const FrameIndex first : {20u, 0u, 40u, 10u}) table_.retain(first, 10);
  DepartingRuns batch = table_.collect_oldest(15);
  EXPECT_EQ(table_.counts().retained_pages, 10u);
  EXPECT_EQ(table_.counts().departing_pages, 30u);
  EXPECT_TRUE(valid());  // a walk need not wait for them
  EXPECT_EQ(place(40), 50u);
  batch.sort();
  const FrameSpan first = batch.pop_joined();
  EXPECT_EQ(first.first, 0u);
  EXPECT_EQ(first.pages, 10u);
  table_.settle_free(first);
  const FrameSpan second = batch.pop_joined();
  EXPECT_EQ(second.first, 20u);
  table_.settle_retained(second);
  table_.settle_retained(batch.pop_joined());
  EXPECT_TRUE(batch.empty());
  EXPECT_TRUE(valid());
  EXPECT_EQ(table_.counts().retained_pages, 30u);
  EXPECT_EQ(table_.counts().departing_pages, 0u);
  EXPECT_EQ(place(10), 40u);  // retained last
  EXPECT_EQ(place(11), 90u);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, DescriptorsCountFramesOnceHandedOut) {
  EXPECT_EQ(place(8), 0u);
  const std::size_t eight = table_.descriptor_bytes();
  EXPECT_EQ(eight, 8 * sizeof(FrameLink) + 4);
  give_back(0, 8);
  EXPECT_EQ(table_.descriptor_bytes(), eight);
  EXPECT_EQ(place(8), 0u);
  EXPECT_EQ(table_.descriptor_bytes(), eight);
}

// Each bit of each map is turned over in turn, in a table that has runs of every kind.
TEST_F(FrameTableTest, ValidateNoticesEveryWrongBit) {
  for (FrameIndex i = 0; i < 8; ++i) EXPECT_EQ(place(5), 5 * i);
  EXPECT_EQ(place(3, 1, 1), 200u);
  EXPECT_EQ(place(70, 1, 1), 203u);
  for (const FrameIndex first : {5u, 10u, 25u}) table_.retain(first, 5);
  table_.retain(203, 70);
  give_back(15, 5);
  ASSERT_TRUE(valid());
  const std::size_t map_bytes = align_up<std::size_t>(divide_up<std::size_t>(400, 8), kPageSize);
  int wrong = 0;
  for (std::size_t map = 0; map < 4; ++map) {
    for (std::size_t bit = 0; bit < 400; ++bit) {
      std::byte& byte = memory_[map * map_bytes + bit / 8];
      byte ^= std::byte{1} << (bit % 8);
      EXPECT_FALSE(valid()) << "map " << map << " bit " << bit;
      byte ^= std::byte{1} << (bit % 8);
      ++wrong;
    }
  }
  EXPECT_EQ(wrong, 1600);
  EXPECT_TRUE(valid());
}

TEST_F(FrameTableTest, ValidateNoticesWrongLinksAndHints) {
  for (FrameIndex i = 0; i < 8; ++i) EXPECT_EQ(place(5), 5 * i);
  for (const FrameIndex first : {5u, 15u, 25u}) table_.retain(first, 5);
  ASSERT_TRUE(valid());
  const std::size_t map_bytes = align_up<std::size_t>(divide_up<std::size_t>(400, 8), kPageSize);
  FrameLink* const links = reinterpret_cast<FrameLink*>(memory_ + 4 * map_bytes);
  for (const FrameIndex run : {5u, 15u, 25u}) {
    for (FrameIndex FrameLink::*const field :
         {&FrameLink::next, &FrameLink::prev, &FrameLink::newer, &FrameLink::older,
          &FrameLink::pages}) {
      const FrameIndex before = links[run].*field;
      for (const FrameIndex wrong : {run, FrameIndex{0}, FrameIndex{6}, FrameIndex{1000}}) {
        if (wrong == before) continue;
        links[run].*field = wrong;
        EXPECT_FALSE(valid()) << run << " " << wrong;
      }
      links[run].*field = before;
    }
  }
  ASSERT_TRUE(valid());
  const std::size_t ones = FreeHints::class_of(1);
  nodes_[0].hints.set(ones, 41);  // frame 40 is free
  EXPECT_FALSE(valid());
  nodes_[0].hints.set(ones, 40);
  EXPECT_TRUE(valid());
  nodes_[0].held += 1;
  EXPECT_FALSE(valid());
  nodes_[0].held -= 1;
  nodes_[0].high = 39;
  EXPECT_FALSE(valid());
}

}  // namespace
}  // namespace mmkit::page_detail
