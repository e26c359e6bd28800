// SPDX-License-Identifier: MIT
//
// Aim: with a limit, every object is in the pool or in the spill file and comes back as it was; what
// cannot be written is reported and nothing is lost before. Method: real drivers with a small limit,
// a driver that cannot evict, and files that refuse.
#include <fcntl.h>
#include <gmock/gmock.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "commands.hpp"
#include "exit_code.hpp"
#include "odd_driver.hpp"
#include "pool_store.hpp"
#include "support/captured_failure.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> object_of(std::size_t index) {
  return std::vector<std::byte>(100 + index * 37 % 3000, std::byte(index & 0xff));
}

DriverChoice driver(const std::string& type) {
  return {type, type, ""};
}

TEST(SpillFile, GivesBackWhatWasWritten) {
  const ScratchDirectory directory;
  SpillFile file(directory.path());
  EXPECT_TRUE(std::filesystem::is_empty(directory.path())) << "it has no name";
  const std::vector<std::byte> first = object_of(1), second = object_of(2);
  EXPECT_EQ(file.append(first), 0u);
  EXPECT_EQ(file.append(second), first.size());
  EXPECT_EQ(file.size_bytes(), first.size() + second.size());
  std::vector<std::byte> read(second.size());
  file.read(first.size(), read);
  EXPECT_EQ(read, second);
  EXPECT_EQ(file.error(), 0);
}

TEST(SpillFile, ReportsAFullDiskForGood) {
  SpillFile file(::open("/dev/full", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(file.append(object_of(1)), std::nullopt);
  EXPECT_EQ(file.error(), ENOSPC);
  EXPECT_EQ(file.append(object_of(1)), std::nullopt);
  EXPECT_EQ(file.size_bytes(), 0u);
  try {
    file.report_error();
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::no_output);
    EXPECT_THAT(problem.what(), HasSubstr("the spill file cannot be written: No space left"));
  }
}

TEST(SpillFile, ReportsWhatIsNotThere) {
  const ScratchDirectory directory;
  SpillFile file(directory.path());
  EXPECT_EQ(file.append(object_of(1)), 0u);
  std::vector<std::byte> read(5000);
  try {
    file.read(0, read);
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::verification_failed);
    EXPECT_THAT(problem.what(), HasSubstr("it ends there"));
  }
}

TEST(SpillFile, NamesADirectoryThatIsNone) {
  const ScratchDirectory directory;
  try {
    SpillFile file(directory.path("none"));
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::no_output);
    EXPECT_THAT(problem.what(), HasSubstr("none': No such file or directory"));
  }
}

class LimitedStore : public ::testing::TestWithParam<const char*> {};

TEST_P(LimitedStore, HasEveryObjectInThePoolOrInTheFile) {
  constexpr std::size_t kObjects = 2000;
  const ScratchDirectory directory;
  PoolStore store(driver(GetParam()), default_registry(), kObjects,
                  SpillPlan{64 * kPageSize, directory.path()});
  for (std::size_t i = 0; i < kObjects; ++i) ASSERT_TRUE(store.put(i, object_of(i)));
  EXPECT_EQ(store.fault(kObjects), "");
  EXPECT_GT(store.spill().evicted, kObjects / 2);
  EXPECT_LE(store.pool().total_bytes(), 64 * kPageSize);
  std::size_t in_pool = 0, in_file = 0;
  for (std::size_t i = 0; i < kObjects; ++i) {
    const std::vector<std::byte> wanted = object_of(i);
    store.read(i, wanted.size(), [&](std::span<const std::byte> bytes) {
      ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), wanted.begin(), wanted.end())) << i;
    });
    ++(store.handle_of(i) == Handle::none ? in_file : in_pool);
  }
  EXPECT_EQ(in_file, store.spill().objects());
  EXPECT_EQ(in_pool, store.pool().stats().objects);
  for (std::size_t i = 0; i < kObjects; i += 2) store.drop(i);
}

INSTANTIATE_TEST_SUITE_P(Drivers, LimitedStore,
                         ::testing::Values("zbud", "z3fold", "zsmalloc", "zheap"));

TEST(PassedStore, WritesPastAPoolThatCannotEvict) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(std::make_shared<OddDriver>("odd", Oddity::none)));
  const ScratchDirectory directory;
  PoolStore store(driver("odd"), registry, 10, SpillPlan{4 * kPageSize, directory.path()});
  for (std::size_t i = 0; i < 10; ++i) ASSERT_TRUE(store.put(i, object_of(i)));
  EXPECT_EQ(store.spill().evicted, 0u);
  EXPECT_EQ(store.spill().passed, 6u);
  EXPECT_EQ(store.fault(10), "");
  const std::vector<std::byte> wanted = object_of(9);
  store.read(9, wanted.size(), [&](std::span<const std::byte> bytes) {
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), wanted.begin(), wanted.end()));
  });
}

TEST(FullSpill, EndsAndLosesNothingBefore) {
  const testing::CapturedLeaks leaks;
  {
    PoolStore store(driver("zbud"), default_registry(), 100, 4 * kPageSize,
                    std::make_unique<SpillFile>(::open("/dev/full", O_RDWR | O_CLOEXEC)));
    std::size_t stored = 0;
    try {
      for (std::size_t i = 0; i < 100; ++i, ++stored) ASSERT_TRUE(store.put(i, object_of(i)));
      FAIL();
    } catch (const Problem& problem) {
      EXPECT_EQ(problem.code(), ExitCode::no_output);
      EXPECT_THAT(problem.what(), HasSubstr("No space left on device"));
    }
    EXPECT_EQ(store.spill().objects(), 0u);
    EXPECT_EQ(store.pool().stats().objects, stored) << "what was not written is still in the pool";
    EXPECT_EQ(store.fault(stored), "");
  }
  EXPECT_TRUE(leaks.reports().empty());
}

TEST(PackWithLimit, FindsAFileThatIsNotWhatWasWritten) {
  // The objects go past the pool into /dev/zero, which takes everything and keeps nothing.
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(std::make_shared<OddDriver>("odd", Oddity::none)));
  PoolStore store(driver("odd"), registry, 3, kPageSize,
                  std::make_unique<SpillFile>(::open("/dev/zero", O_RDWR | O_CLOEXEC)));
  for (std::size_t i = 1; i < 3; ++i) ASSERT_TRUE(store.put(i, object_of(i)));
  const std::vector<std::byte> wanted = object_of(2);
  store.read(2, wanted.size(), [&](std::span<const std::byte> bytes) {
    EXPECT_FALSE(std::equal(bytes.begin(), bytes.end(), wanted.begin(), wanted.end()));
  });
}

TEST(PackWithLimit, CountsOnlyWhatStayedInTheDensity) {
  const ScratchDirectory directory;
  for (int i = 0; i < 40; ++i) {
    directory.write("f" + std::to_string(i), text_page(static_cast<std::uint64_t>(i)));
  }
  PackOptions options;
  options.paths = {directory.path()};
  options.drivers = {"zbud"};
  options.spill = {4 * kPageSize, ""};
  options.form = ResultForm::json;
  CapturedConsole captured;
  EXPECT_EQ(run_pack(options, captured.console(), default_registry()), ExitCode::ok);
  const nlohmann::json result = nlohmann::json::parse(captured.result());
  const nlohmann::json& row = result["drivers"][0];
  EXPECT_EQ(result["limit_bytes"], 4 * kPageSize);
  EXPECT_EQ(row["objects"], 40);
  EXPECT_EQ(row["pages"], 4);
  EXPECT_EQ(row["evicted_objects"], 36) << "of these pages zbud holds one a page";
  EXPECT_EQ(row["passed_objects"], 0);
  EXPECT_EQ(row["payload_in_pool_bytes"].get<int>() + row["spilled_bytes"].get<int>(),
            row["payload_bytes"].get<int>());
  EXPECT_DOUBLE_EQ(row["density"],
                   row["payload_in_pool_bytes"].get<double>() / row["held_bytes"].get<double>());
  EXPECT_EQ(row["verified"], true);
}

}  // namespace
}  // namespace mmkit::tool
