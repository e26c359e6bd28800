// SPDX-License-Identifier: MIT
#include <mmkit/zpool/slot_pins.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace mmkit {
namespace {

using namespace slot_word;

class SlotPinsTest : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kTag = 7;
  static constexpr std::uint64_t kPlace = 0x2a'5555'aaaa;

  std::uint64_t word() const { return slot_.load(); }
  Status pin() {
    const Result<std::uint64_t> pinned = pins_.pin(handle_, slot_);
    if (!pinned) return fail(pinned.error());
    return {};
  }

  SlotPins pins_{kTag};
  SlotPins::Slot slot_{make(kPlace, /*generation=*/3, kLive)};
  const Handle handle_ = handle_bits::make(kTag, 3, 11);
};

TEST(SlotWord, KeepsItsPartsApart) {
  const std::uint64_t most_place = (std::uint64_t{1} << kPlaceBits) - 1;
  for (const std::uint64_t place : {std::uint64_t{0}, std::uint64_t{1}, most_place}) {
    for (const std::uint64_t generation : {0u, 1u, 0xffffu}) {
      for (std::uint64_t state = 0; state < 64; ++state) {
        const std::uint64_t word = make(place, generation, state);
        EXPECT_EQ(place_of(word), place);
        EXPECT_EQ(generation_of(word), generation);
        EXPECT_EQ(state_of(word), state);
        EXPECT_EQ(with_state(word, kBusy), make(place, generation, kBusy));
        EXPECT_EQ(freed(word, kCached), make(place, (generation + 1) & 0xffff, kCached));
      }
    }
  }
}

TEST_F(SlotPinsTest, NamesByTagAndGeneration) {
  EXPECT_TRUE(pins_.names(handle_, word()));
  EXPECT_FALSE(pins_.names(handle_bits::make(kTag, 4, 11), word()));
  EXPECT_FALSE(pins_.names(handle_bits::make(kTag + 1, 3, 11), word()));
  slot_ = make(kPlace, 3, kCached);
  EXPECT_FALSE(pins_.names(handle_, word()));
  EXPECT_EQ(pin().error(), Errc::not_found);
}

TEST_F(SlotPinsTest, CountsMappingsFarBeyondItsBitsAndBack) {
  constexpr int kMappings = 200;
  for (int i = 1; i <= kMappings; ++i) {
    ASSERT_TRUE(pin());
    EXPECT_EQ(state_of(word()), kLive + (i < 60 ? static_cast<unsigned>(i) : 60u));
    EXPECT_EQ(pins_.take(handle_, slot_, kFree).error(), Errc::busy);
    EXPECT_FALSE(SlotPins::begin_move(slot_, kPlace));
  }
  for (int i = 0; i < kMappings; ++i) ASSERT_TRUE(pins_.unpin(handle_, slot_)) << i;
  EXPECT_EQ(word(), make(kPlace, 3, kLive));
  EXPECT_FALSE(pins_.unpin(handle_, slot_)) << "one mapping too many";
  EXPECT_EQ(word(), make(kPlace, 3, kLive));
}

TEST_F(SlotPinsTest, TakesAnObjectOnce) {
  EXPECT_TRUE(pins_.is_live(handle_, slot_));
  EXPECT_EQ(pins_.take(handle_, slot_, kCached).value(), make(kPlace, 3, kLive));
  EXPECT_EQ(word(), make(kPlace, 4, kCached)) << "the place is kept";
  EXPECT_FALSE(pins_.is_live(handle_, slot_));
  EXPECT_EQ(pins_.take(handle_, slot_, kCached).error(), Errc::invalid_argument);
  EXPECT_EQ(pin().error(), Errc::not_found);
  EXPECT_FALSE(pins_.unpin(handle_, slot_));
}

TEST_F(SlotPinsTest, MovesWhatIsLiveAndWhereItIsSaidToBe) {
  EXPECT_FALSE(SlotPins::begin_move(slot_, kPlace + 1));
  ASSERT_TRUE(SlotPins::begin_move(slot_, kPlace));
  EXPECT_EQ(state_of(word()), kBusy);
  EXPECT_TRUE(pins_.is_live(handle_, slot_));
  EXPECT_FALSE(SlotPins::begin_move(slot_, kPlace)) << "by two movers";
  SlotPins::end_move(slot_, 99);
  EXPECT_EQ(word(), make(99, 3, kLive));
  for (const std::uint64_t state : {kFree, kCached}) {
    slot_ = make(kPlace, 3, state);
    EXPECT_FALSE(SlotPins::begin_move(slot_, kPlace));
  }
}

// Whoever wants an object that is being moved gets it at its new place.
TEST_F(SlotPinsTest, WaitsForAMover) {
  for (const bool takes : {false, true}) {
    slot_ = make(kPlace, 3, kLive);
    ASSERT_TRUE(SlotPins::begin_move(slot_, kPlace));
    std::atomic<bool> begun{false};
    std::uint64_t seen = 0;
    std::thread other([&] {
      begun = true;
      const Result<std::uint64_t> got =
          takes ? pins_.take(handle_, slot_, kFree) : pins_.pin(handle_, slot_);
      seen = got ? place_of(*got) : 0;
    });
    while (!begun) std::this_thread::yield();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    EXPECT_EQ(state_of(word()), kBusy);
    SlotPins::end_move(slot_, 99);
    other.join();
    EXPECT_EQ(seen, 99u);
    EXPECT_EQ(word(), takes ? make(99, 4, kFree) : make(99, 3, kLive + 1));
  }
  // One of another name does not wait.
  slot_ = make(kPlace, 5, kBusy);
  EXPECT_EQ(pin().error(), Errc::not_found);
  EXPECT_EQ(pins_.take(handle_, slot_, kFree).error(), Errc::invalid_argument);
}

}  // namespace
}  // namespace mmkit
