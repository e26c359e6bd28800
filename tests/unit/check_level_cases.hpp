// SPDX-License-Identifier: MIT
//
// Check level cases - which of the three checks evaluate their condition, at the level of the file
// that includes this one. Each of check_level_{0,1,2}_test.cpp sets its level before it does: only
// macros depend on the level there, so that the levels can meet in one program.
#pragma once

#include <gtest/gtest.h>

#include <mmkit/base/check.hpp>
#include <optional>
#include <type_traits>

namespace mmkit {
namespace {

// Counts how often a condition is asked for.
struct Asked {
  int count = 0;
  bool yes() {
    ++count;
    return true;
  }
};

TEST(MMKIT_LEVEL_SUITE, EvaluatesWhatItsLevelSays) {
  Asked check;
  MMKIT_CHECK(check.yes());
  EXPECT_EQ(check.count, 1);
  Asked assertion;
  MMKIT_ASSERT(assertion.yes());
  EXPECT_EQ(assertion.count, MMKIT_CHECK_LEVEL >= 1 ? 1 : 0);
  Asked audit;
  MMKIT_AUDIT(audit.yes());
  EXPECT_EQ(audit.count, MMKIT_CHECK_LEVEL >= 2 ? 1 : 0);
}

TEST(MMKIT_LEVEL_SUITE, StandsWhereAStatementMay) {
  int branch = 0;
  for (int i = 0; i < 2; ++i) {
    if (i == 0)
      MMKIT_ASSERT(i == 0);
    else
      MMKIT_AUDIT(i == 1);
    branch += i == 0 ? (MMKIT_CHECK(i < 2), 1) : 2;
  }
  EXPECT_EQ(branch, 3);
}

TEST(MMKIT_LEVEL_SUITE, TakesConditionsOfManyForms) {
  const std::optional<int> full = 1;  // converts to bool explicitly alone
  const int* const pointer = &*full;
  MMKIT_CHECK(full);
  MMKIT_ASSERT(full);
  MMKIT_AUDIT(full);
  MMKIT_CHECK(pointer);
  MMKIT_CHECK(std::is_same_v<int, int>);  // with a comma
  MMKIT_ASSERT(std::is_same_v<int, int>);
  MMKIT_AUDIT(std::is_same_v<int, int>);
  MMKIT_ASSERT([&] { return *pointer == 1; }());
}

constexpr int halved(int even) noexcept {
  MMKIT_CHECK(even % 2 == 0);
  MMKIT_ASSERT(even >= 0);
  MMKIT_AUDIT(even < 1000);
  return even / 2;
}
static_assert(halved(4) == 2);

}  // namespace
}  // namespace mmkit
