// SPDX-License-Identifier: MIT
//
// PercpuRef against a plain count: every operation that is allowed in a state, from any CPU.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <mmkit/percpu/ref.hpp>
#include <random>
#include <utility>

#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

class RefModel {
 public:
  RefModel(PercpuAllocator& allocator, std::mt19937_64& random)
      : random_(random),
        ref_(std::move(PercpuRef::create([this] { ++released_; }, &allocator)).value()) {}

  // One operation; what it should do is done to the plain count beside.
  void step() {
    switch (random_() % 24) {
      case 0:
        kill();
        break;
      case 1:
        if (dead_ && count_ == 0) {
          ref_->reinit();
          live_again();
        }
        break;
      case 2:
        if (dead_ && random_() % 4 == 0) {
          ref_->resurrect();
          live_again();
        }
        break;
      case 3:
        if (count_ != 0) ref_->switch_to_atomic();
        break;
      case 4:
        if (count_ != 0) ref_->switch_to_percpu();
        break;
      case 5:
      case 6:
        expect(ref_->tryget(), count_ != 0);
        break;
      case 7:
      case 8:
        expect(ref_->tryget_live(), !dead_);
        break;
      default:
        get_or_put();
    }
    ASSERT_EQ(released_, expected_releases_);
    ASSERT_EQ(ref_->is_dying(), dead_);
    ASSERT_EQ(ref_->is_zero(), count_ == 0);
  }

 private:
  void kill() {
    const bool second = dead_;
    bool confirmed = false;
    ref_->kill_and_confirm([&] {
      confirmed = true;
      EXPECT_EQ(released_, expected_releases_);
    });
    EXPECT_EQ(confirmed, !second);
    if (second) return;
    dead_ = true;
    drop();
  }
  void live_again() {
    dead_ = false;
    ++count_;
  }
  void expect(bool got, bool should) {
    EXPECT_EQ(got, should);
    if (got) ++count_;
  }
  void get_or_put() {
    // The first reference stays until the kill.
    const std::uint64_t may_put = count_ - (dead_ ? 0 : 1);
    // Down as often as up, so that zero is met.
    if (may_put != 0 && random_() % 2 == 0) {
      ref_->put();
      drop();
    } else if (count_ != 0 && !(dead_ && random_() % 4 != 0)) {
      ref_->get();
      ++count_;
    }
  }
  void drop() {
    if (--count_ == 0) ++expected_releases_;
  }

  std::mt19937_64& random_;
  std::uint64_t count_ = 1;
  bool dead_ = false;
  std::uint64_t released_ = 0, expected_releases_ = 0;
  std::unique_ptr<PercpuRef> ref_;
};

void compare_with_a_count(unsigned units, std::uint64_t stream) {
  const auto allocator = testing::make_percpu_allocator(units);
  std::mt19937_64 random(testing::test_seed(stream));
  testing::Wanderer wanderer(random());
  const std::uint64_t lives = testing::scaled(200, 10);
  for (std::uint64_t life = 0; life < lives && !::testing::Test::HasFailure(); ++life) {
    RefModel model(*allocator, random);
    for (int i = 0; i < 2000 && !::testing::Test::HasFailure(); ++i) {
      if (random() % 256 == 0) wanderer.move();
      model.step();
    }
  }
  testing::bind_thread(::pthread_self(), testing::allowed_cpus());
  EXPECT_EQ(allocator->stats().live, 0u);
}

TEST(PercpuRefModel, AgreesWithAPlainCount) {
  compare_with_a_count(/*units=*/0, 1);
}
TEST(PercpuRefModel, AgreesOnManyUnits) {
  compare_with_a_count(/*units=*/256, 2);
}

}  // namespace
}  // namespace mmkit
