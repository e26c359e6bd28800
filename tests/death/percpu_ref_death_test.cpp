// SPDX-License-Identifier: MIT
//
// Misuse of PercpuRef, by the message it ends with.
#include <gtest/gtest.h>

#include <memory>
#include <mmkit/percpu/ref.hpp>
#include <utility>

#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

class PercpuRefDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  std::unique_ptr<PercpuRef> ref = std::move(PercpuRef::create({})).value();
};

TEST_F(PercpuRefDeathTest, APutTooManyIsFoundAtOnceWhenItCountsCentrally) {
  ref->kill();
  EXPECT_DEATH(ref->put(), "^mmkit: percpu: reference count below zero");
}

TEST_F(PercpuRefDeathTest, PutsTooManyPerCpuAreFoundByTheKillThatSumsThem) {
  ref->put();
  ref->put();
  EXPECT_DEATH(ref->kill(), "^mmkit: percpu: reference count below zero");
  EXPECT_DEATH(ref->switch_to_atomic(), "^mmkit: percpu: reference count below zero");
}

TEST_F(PercpuRefDeathTest, ThePutThatShouldHaveBeenTheKillsIsFoundByTheKill) {
  ref->put();
  EXPECT_DEATH(ref->kill(), "^mmkit: percpu: reference count below zero");
}

TEST_F(PercpuRefDeathTest, AGetFromNothingIsNamed) {
  ref->kill();
  EXPECT_DEATH(ref->get(), "^mmkit: percpu: reference taken from zero");
}

TEST_F(PercpuRefDeathTest, ReinitIsForTheDeadAlone) {
  EXPECT_DEATH(ref->reinit(), "^mmkit: percpu: reference count in use");
  ref->switch_to_atomic();
  EXPECT_DEATH(ref->reinit(), "^mmkit: percpu: reference count in use");
}

TEST_F(PercpuRefDeathTest, ReinitWaitsForTheLastReference) {
  ref->get();
  ref->get();
  ref->kill();
  set_failure_handler(&testing::print_failure_fields);
  EXPECT_DEATH(ref->reinit(), "\\[percpu\\|\\|reference count in use\\|2\\]");
  ref->put();
  EXPECT_DEATH(ref->reinit(), "\\[percpu\\|\\|reference count in use\\|1\\]");
  set_failure_handler(nullptr);
  ref->put();
  ref->reinit();
}

TEST_F(PercpuRefDeathTest, ResurrectIsForTheKilledAlone) {
  EXPECT_DEATH(ref->resurrect(), "^mmkit: percpu: reference count not killed");
}

}  // namespace
}  // namespace mmkit
