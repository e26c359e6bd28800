// SPDX-License-Identifier: MIT
//
// The line a report becomes, leak handlers, and handlers changed by several threads. What ends the
// program is in tests/death/base_check_death_test.cpp.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mmkit/base/check.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

using testing::CapturedDescriptor;
using testing::CapturedLeaks;
using testing::CapturedReport;

std::string formatted(const FailureReport& report, std::size_t capacity) {
  // Bytes behind the capacity must stay as they are.
  std::string buffer(capacity + 16, '#');
  const std::size_t length = format_report(report, buffer.data(), capacity);
  EXPECT_LE(length, capacity);
  EXPECT_EQ(buffer.substr(capacity), std::string(16, '#')) << "capacity " << capacity;
  EXPECT_EQ(buffer.substr(length), std::string(buffer.size() - length, '#'));
  return buffer.substr(0, length);
}

TEST(FormatReport, NamesPartPoolFaultAndValue) {
  EXPECT_EQ(formatted({"zbud", "cache", "dead handle", 0x2a00000017}, 200),
            "mmkit: zbud pool 'cache': dead handle 0x2a00000017");
}

TEST(FormatReport, LeavesOutAPoolWithoutAName) {
  EXPECT_EQ(formatted({"page", {}, "misaligned address", 0}, 200),
            "mmkit: page: misaligned address 0x0");
}

TEST(FormatReport, PrintsTheGreatestValue) {
  EXPECT_EQ(formatted({"page", {}, "x", ~std::uint64_t{0}}, 200),
            "mmkit: page: x 0xffffffffffffffff");
}

TEST(FormatReport, TakesEmptyWords) {
  EXPECT_EQ(formatted({{}, {}, {}, 1}, 200), "mmkit: :  0x1");
}

TEST(FormatReport, CutsTheLineAtEveryCapacity) {
  const FailureReport report{"zbud", "cache", "dead handle", 0x2a};
  const std::string whole = formatted(report, 200);
  for (std::size_t capacity = 0; capacity <= whole.size() + 2; ++capacity) {
    EXPECT_EQ(formatted(report, capacity), whole.substr(0, capacity)) << "capacity " << capacity;
  }
}

TEST(FormatReport, WritesNothingWithoutABuffer) {
  EXPECT_EQ(format_report({"zbud", "cache", "dead handle", 1}, nullptr, 0), 0u);
}

TEST(FormatReport, CutsLongNamesButNeitherFaultNorValue) {
  const std::string part(1000, 'p');
  const std::string pool(1000, 'n');
  // The longest fault the library has, and the capacity the default handler gives.
  const std::string line =
      formatted({part, pool, "pool destroyed with live mapping", ~std::uint64_t{0}}, 511);
  EXPECT_TRUE(line.ends_with("...': pool destroyed with live mapping 0xffffffffffffffff")) << line;
  EXPECT_TRUE(line.starts_with("mmkit: ppp"));
  EXPECT_GT(std::count(line.begin(), line.end(), 'p'), 100);
  EXPECT_GT(std::count(line.begin(), line.end(), 'n'), 200);
}

TEST(FormatReport, ReadsNoFurtherThanTheViews) {
  const std::array<char, 3> unterminated{'a', 'b', 'c'};
  const std::string_view view(unterminated.data(), 2);
  EXPECT_EQ(formatted({view, view, view, 7}, 100), "mmkit: ab pool 'ab': ab 0x7");
}

TEST(LeakReport, IsOneLineOnStandardErrorAndTheProgramGoesOn) {
  CapturedDescriptor standard_error(STDERR_FILENO);
  errno = ENOLINK;
  report_leak({"zbud", "cache", "live objects", 12});
  EXPECT_EQ(errno, ENOLINK);
  EXPECT_EQ(standard_error.text(), "mmkit: zbud pool 'cache': live objects: 12\n");
}

TEST(LeakReport, KeepsErrnoWhenStandardErrorIsClosed) {
  const int kept = ::dup(STDERR_FILENO);
  ::close(STDERR_FILENO);
  errno = ENOLINK;
  report_leak({"zbud", "cache", "live objects", 12});
  const int after = errno;
  ::dup2(kept, STDERR_FILENO);
  ::close(kept);
  EXPECT_EQ(after, ENOLINK);
}

TEST(LeakReport, EndsWithANewlineHoweverLongTheNames) {
  const std::string longest(5000, 'n');
  CapturedDescriptor standard_error(STDERR_FILENO);
  report_leak({longest, longest, "live objects", ~std::uint64_t{0}});
  const std::string line = standard_error.text();
  EXPECT_TRUE(line.ends_with("...': live objects: 18446744073709551615\n")) << line;
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LeakReport, GoesToTheHandlerThatIsSet) {
  const CapturedLeaks leaks;
  report_leak({"zbud", "cache", "live objects", 12});
  report_leak({"page", {}, "live pages", 1});
  const std::vector<CapturedReport> expected{{"zbud", "cache", "live objects", 12},
                                             {"page", "", "live pages", 1}};
  EXPECT_EQ(leaks.reports(), expected);
}

TEST(LeakReport, MayBeMadeInASignalHandler) {
  struct sigaction action {};
  action.sa_handler = [](int) { report_leak({"zbud", "cache", "live objects", 3}); };
  struct sigaction before {};
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  CapturedDescriptor standard_error(STDERR_FILENO);
  ::raise(SIGUSR1);
  EXPECT_EQ(standard_error.text(), "mmkit: zbud pool 'cache': live objects: 3\n");
  ::sigaction(SIGUSR1, &before, nullptr);
}

// A handler that can be told from the others.
template <int kNumber>
void numbered(const FailureReport&) noexcept {}

template <int... kNumbers>
constexpr auto numbered_handlers(std::integer_sequence<int, kNumbers...>) {
  return std::array<FailureHandler, sizeof...(kNumbers)>{&numbered<kNumbers>...};
}

using SetHandler = FailureHandler (*)(FailureHandler) noexcept;

TEST(Handlers, ComeBackWhenReplacedAndNullIsTheDefault) {
  for (const SetHandler set : {&set_failure_handler, &set_leak_handler}) {
    const FailureHandler original = set(&numbered<0>);
    EXPECT_EQ(set(&numbered<1>), &numbered<0>);
    EXPECT_EQ(set(nullptr), &numbered<1>);
    EXPECT_EQ(set(original), nullptr);
  }
}

TEST(Handlers, OfFailuresAndOfLeaksAreTwo) {
  const FailureHandler failure = set_failure_handler(&numbered<0>);
  const FailureHandler leak = set_leak_handler(&numbered<1>);
  EXPECT_EQ(set_failure_handler(failure), &numbered<0>);
  EXPECT_EQ(set_leak_handler(leak), &numbered<1>);
}

// Each handler that goes in comes out once: an exchange, not a load and a store.
TEST(Handlers, AreExchangedWholeBySeveralThreads) {
  constexpr std::size_t kThreads = 4;
  constexpr int kRounds = 100'000;
  constexpr auto kHandlers = numbered_handlers(std::make_integer_sequence<int, kThreads>());
  for (const SetHandler set : {&set_failure_handler, &set_leak_handler}) {
    const FailureHandler original = set(nullptr);
    std::atomic<std::size_t> ready{0};
    std::array<std::array<int, kThreads + 1>, kThreads> seen{};  // the last column: null
    const auto column = [&](FailureHandler handler) {
      return static_cast<std::size_t>(std::find(kHandlers.begin(), kHandlers.end(), handler) -
                                      kHandlers.begin());
    };
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (++ready; ready != kThreads;) std::this_thread::yield();
        std::array<int, kThreads + 1> mine{};
        for (int i = 0; i < kRounds; ++i) ++mine[column(set(kHandlers[t]))];
        seen[t] = mine;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ++seen[0][column(set(original))];
    for (std::size_t handler = 0; handler <= kThreads; ++handler) {
      int total = 0;
      for (const auto& of_thread : seen) total += of_thread[handler];
      EXPECT_EQ(total, handler == kThreads ? 1 : kRounds) << "handler " << handler;
    }
  }
}

// Leaks reported while handlers change are heard by one of them, never by a torn pointer.
TEST(Handlers, HearReportsWhileOthersChangeThem) {
  static std::atomic<int> heard;
  heard = 0;
  constexpr int kReports = 2000;
  const FailureHandler a = [](const FailureReport&) noexcept { ++heard; };
  const FailureHandler b = [](const FailureReport& report) noexcept {
    if (report.value == 5) ++heard;
  };
  const FailureHandler original = set_leak_handler(a);
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    while (!stop) {
      set_leak_handler(b);
      set_leak_handler(a);
    }
  });
  for (int i = 0; i < kReports; ++i) report_leak({"zbud", {}, "live objects", 5});
  stop = true;
  changer.join();
  set_leak_handler(original);
  EXPECT_EQ(heard, kReports);
}

}  // namespace
}  // namespace mmkit
