// SPDX-License-Identifier: MIT
//
// What ends the program: by which line, and that it ends whatever the handler does.
#include <gtest/gtest.h>
#include <signal.h>

#include <limits>
#include <mmkit/base/bitmap.hpp>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/check.hpp>
#include <mmkit/base/result.hpp>
#include <string>

#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

using ::testing::KilledBySignal;

class BaseCheckDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// Dies by `message` where assertions are compiled in, and goes on where they are not.
#define EXPECT_ASSERT_DEATH(statement, message) \
  do {                                          \
    if constexpr (MMKIT_CHECK_LEVEL >= 1) {     \
      EXPECT_DEATH(statement, message);         \
    } else {                                    \
      statement;                                \
    }                                           \
  } while (false)

TEST_F(BaseCheckDeathTest, AFailurePrintsOneLineAndAborts) {
  EXPECT_EXIT(report_failure({"zbud", "cache", "dead handle", 0x2a00000017}),
              KilledBySignal(SIGABRT), "^mmkit: zbud pool 'cache': dead handle 0x2a00000017\n$");
}

TEST_F(BaseCheckDeathTest, AFailureKeepsFaultAndValueBehindLongNames) {
  const std::string name(4000, 'n');
  EXPECT_EXIT(report_failure({name, name, "pool destroyed with live mapping", 7}),
              KilledBySignal(SIGABRT), "nnn\\.\\.\\.': pool destroyed with live mapping 0x7\n$");
}

TEST_F(BaseCheckDeathTest, AFailureMayBeReportedInASignalHandler) {
  EXPECT_EXIT(
      {
        ::signal(SIGUSR1, [](int) { report_failure({"zbud", {}, "null handle", 0}); });
        ::raise(SIGUSR1);
      },
      KilledBySignal(SIGABRT), "^mmkit: zbud: null handle 0x0\n$");
}

TEST_F(BaseCheckDeathTest, AHandlerHearsTheFieldsAndItsReturnAborts) {
  EXPECT_EXIT(
      {
        set_failure_handler(&testing::print_failure_fields);
        report_failure({"zbud", "cache", "dead handle", 42});
      },
      KilledBySignal(SIGABRT), "^\\[zbud\\|cache\\|dead handle\\|42\\]\n$");
}

TEST_F(BaseCheckDeathTest, AHandlerMayEndTheProgramItsOwnWay) {
  EXPECT_EXIT(
      {
        set_failure_handler([](const FailureReport&) noexcept { ::_exit(17); });
        report_failure({"zbud", "cache", "dead handle", 42});
      },
      ::testing::ExitedWithCode(17), "^$");
}

TEST_F(BaseCheckDeathTest, NullBringsTheDefaultHandlerBack) {
  EXPECT_DEATH(
      {
        set_failure_handler(&testing::print_failure_fields);
        set_failure_handler(nullptr);
        report_failure({"zbud", {}, "dead handle", 1});
      },
      "^mmkit: zbud: dead handle 0x1\n$");
}

TEST_F(BaseCheckDeathTest, AFailureInAThreadEndsTheProgram) {
  EXPECT_DEATH(
      {
        std::thread([] { report_failure({"zbud", {}, "dead handle", 1}); }).join();
        ::_exit(0);
      },
      "dead handle 0x1");
}

TEST_F(BaseCheckDeathTest, ACheckNamesItsPlaceAndItsCondition) {
  const int pages = 3;
  const std::string place = "base_check_death_test.cpp:" + std::to_string(__LINE__ + 1);
  const auto fails = [&] { MMKIT_CHECK(pages == 4); };
  EXPECT_DEATH(fails(), "^mmkit: " + place + ": check failed: pages == 4, line 0x");
}

TEST_F(BaseCheckDeathTest, ACheckWithALongConditionKeepsItsEnd) {
  const int a_name_of_some_length = 1;
  const auto fails = [&] {
    MMKIT_CHECK(a_name_of_some_length == 2 && a_name_of_some_length != 3 &&
                a_name_of_some_length != 4 && a_name_of_some_length != 5 &&
                a_name_of_some_length != 6 && a_name_of_some_length != 7 &&
                a_name_of_some_length != 8 && a_name_of_some_length != 9 &&
                a_name_of_some_length != 10 && a_name_of_some_length != 11);
  };
  EXPECT_DEATH(fails(), "check failed: a_name_of_some_length == 2 .*, line 0x[0-9a-f]+\n$");
}

TEST_F(BaseCheckDeathTest, AssertionsFailAtTheirLevel) {
  EXPECT_ASSERT_DEATH(MMKIT_ASSERT(1 > 2), "check failed: 1 > 2");
  if constexpr (MMKIT_CHECK_LEVEL >= 2) {
    EXPECT_DEATH(MMKIT_AUDIT(1 > 3), "check failed: 1 > 3");
  } else {
    MMKIT_AUDIT(1 > 3);
  }
}

TEST_F(BaseCheckDeathTest, TheValueOfAFailedResultIsNamed) {
  Result<int> failed = fail(Errc::out_of_memory);
  const char* const line = "^mmkit: result out_of_memory: value of a failed result 0xc\n$";
  EXPECT_DEATH(static_cast<void>(failed.value()), line);
  EXPECT_DEATH(static_cast<void>(std::as_const(failed).value()), line);
  EXPECT_DEATH(static_cast<void>(std::move(failed).value()), line);
}

TEST_F(BaseCheckDeathTest, AFailureWithoutAReasonIsAFailedCheck) {
  EXPECT_DEATH(static_cast<void>(Result<int>{fail(Errc{})}), "check failed: failure.code");
  EXPECT_DEATH(static_cast<void>(Status{fail(Errc{})}), "check failed: failure.code");
}

TEST_F(BaseCheckDeathTest, AccessAgainstTheStateIsAnAssertion) {
  const Status good;
  const Result<int> value = 1;
  EXPECT_ASSERT_DEATH(static_cast<void>(good.error()), "check failed: !has_value");
  EXPECT_ASSERT_DEATH(static_cast<void>(value.error()), "check failed: !has_value");
  if constexpr (MMKIT_CHECK_LEVEL >= 1) {  // undefined below
    const Result<int> failed = fail(Errc::busy);
    EXPECT_DEATH(static_cast<void>(*failed), "check failed: has_value");
    EXPECT_DEATH(static_cast<void>(failed.operator->()), "check failed: has_value");
  }
}

TEST_F(BaseCheckDeathTest, ArithmeticOutsideItsRangeIsAnAssertion) {
  constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t page = 4096;
  EXPECT_ASSERT_DEATH(static_cast<void>(align_up(kTop - 4094, page)), "check failed: value <=");
  EXPECT_ASSERT_DEATH(static_cast<void>(align_up(kTop, page)), "check failed: value <=");
  EXPECT_ASSERT_DEATH(static_cast<void>(align_down(kTop, page - 1)), "is_power_of_two");
  EXPECT_ASSERT_DEATH(static_cast<void>(is_aligned(kTop, std::uint64_t{0})), "is_power_of_two");
  EXPECT_ASSERT_DEATH(static_cast<void>(log2_floor(0u)), "check failed: value != 0");
  EXPECT_ASSERT_DEATH(static_cast<void>(log2_ceil(0u)), "check failed: value != 0");
  if constexpr (MMKIT_CHECK_LEVEL >= 1) {  // undefined below
    const std::uint64_t word = 0;
    EXPECT_DEATH(static_cast<void>(divide_up(page, std::uint64_t{0})), "check failed: unit != 0");
    EXPECT_DEATH(static_cast<void>(low_bits(65)), "check failed: count <= 64");
    EXPECT_DEATH(static_cast<void>(bitmap::find_clear_run(&word, 0, 64, 0)), "count != 0");
    EXPECT_DEATH(static_cast<void>(bitmap::find_clear_run(&word, 0, 64, 1, 3)), "is_power_of_two");
  }
}

}  // namespace
}  // namespace mmkit
