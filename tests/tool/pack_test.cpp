// SPDX-License-Identifier: MIT
//
// Aim: `mmkit pack` finds out a driver that does not do its work, and its figures are right for one
// that does. Method: the command's own function with a registry of made-up drivers, each wrong in
// one way.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "odd_driver.hpp"
#include "support/captured_failure.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

using ::testing::HasSubstr;

class Pack : public ::testing::Test {
 protected:
  static constexpr std::size_t kPages = 6;  // 4 of text, 1 incompressible, 1 zero

  Pack() {
    directory_.write("a", text_page(1), 2);
    directory_.write("b", text_page(2), 2);
    directory_.write("c", random_page(3));
    directory_.write("d", Page{});
    options_.paths = {directory_.path()};
  }

  void add_driver(const std::string& type, Oddity oddity) {
    ASSERT_TRUE(registry_.register_driver(std::make_shared<OddDriver>(type, oddity)).has_value());
  }

  ExitCode pack() { return run_pack(options_, captured_.console(), registry_); }
  nlohmann::json pack_json() {
    options_.form = ResultForm::json;
    code_ = pack();
    return nlohmann::json::parse(captured_.result());
  }

  ScratchDirectory directory_;
  CapturedConsole captured_;
  DriverRegistry registry_;
  PackOptions options_;
  ExitCode code_ = ExitCode::internal;
};

TEST_F(Pack, PassesADriverThatKeepsWhatItGets) {
  add_driver("honest", Oddity::none);
  const nlohmann::json result = pack_json();
  EXPECT_EQ(code_, ExitCode::ok);
  const nlohmann::json& row = result["drivers"][0];
  EXPECT_EQ(row["objects"], 5);
  EXPECT_EQ(row["refused_objects"], 0);
  EXPECT_EQ(row["payload_bytes"], result["corpus"]["object_bytes"]);
  EXPECT_EQ(row["pages"], 5);
  EXPECT_EQ(row["held_bytes"], 5 * kPageSize);
  EXPECT_GE(row["metadata_bytes"], 5 * 64);  // the driver's; the front end adds its own
  EXPECT_DOUBLE_EQ(row["density"], row["payload_bytes"].get<double>() / (5 * kPageSize));
  EXPECT_DOUBLE_EQ(
      row["density_with_metadata"],
      row["payload_bytes"].get<double>() / (5 * kPageSize + row["metadata_bytes"].get<double>()));
  EXPECT_EQ(row["verified"], true);
  EXPECT_EQ(result["malloc"]["verified"], true);
  EXPECT_EQ(captured_.messages(), "");
}

TEST_F(Pack, FailsWhenADriverTurnsABit) {
  add_driver("damaging", Oddity::turns_a_bit);
  const nlohmann::json result = pack_json();
  EXPECT_EQ(code_, ExitCode::verification_failed);
  EXPECT_EQ(result["drivers"][0]["verified"], false);
  EXPECT_EQ(result["drivers"][0]["mismatches"], 1);
  EXPECT_EQ(result["malloc"]["verified"], true);
  EXPECT_THAT(captured_.messages(), HasSubstr("error: damaging: 1 of 5 objects did not come back; "
                                              "first: page 2 of the input"));
}

TEST_F(Pack, FailsWhenADriverMixesUpObjects) {
  directory_.write("a", text_page(1));  // otherwise the first two pages are equal, and rightly so
  directory_.write("aa", random_page(8), 1);
  directory_.write("ab", random_page(9), 1);
  add_driver("mixing", Oddity::mixes_up);
  EXPECT_EQ(pack(), ExitCode::verification_failed);
  EXPECT_THAT(captured_.result(), HasSubstr("FAILED"));
  EXPECT_THAT(captured_.messages(), HasSubstr("mixing: 1 of "));
}

TEST_F(Pack, FailsWhenTheBooksDoNotAddUp) {
  add_driver("forgetful", Oddity::loses_count);
  EXPECT_EQ(pack(), ExitCode::verification_failed);
  EXPECT_THAT(captured_.messages(),
              HasSubstr("forgetful: 5 objects were stored, stats() counts 4"));
}

TEST_F(Pack, FailsWhenPagesAreCountedInTwoWays) {
  add_driver("double", Oddity::counts_pages_twice);
  EXPECT_EQ(pack(), ExitCode::verification_failed);
  EXPECT_THAT(captured_.messages(), HasSubstr("stats() counts 5 pages, total_bytes() is 40960"));
}

TEST_F(Pack, FailsWhenTheStructureIsBroken) {
  add_driver("broken", Oddity::breaks);
  EXPECT_EQ(pack(), ExitCode::verification_failed);
  EXPECT_THAT(captured_.messages(), HasSubstr("broken: validate() says bad_format"));
}

TEST_F(Pack, KeepsRefusedObjectsAside) {
  add_driver("small", Oddity::refuses_large);
  const nlohmann::json result = pack_json();
  EXPECT_EQ(code_, ExitCode::ok);
  const nlohmann::json& row = result["drivers"][0];
  EXPECT_GT(row["refused_objects"], 0);
  EXPECT_EQ(row["objects"].get<int>() + row["refused_objects"].get<int>() +
                result["corpus"]["same_filled_pages"].get<int>(),
            static_cast<int>(kPages));
  EXPECT_EQ(row["payload_bytes"].get<int>() + row["refused_bytes"].get<int>(),
            result["corpus"]["object_bytes"]);
}

TEST_F(Pack, EndsWhenThereIsNoMemoryAndLeavesNothingBehind) {
  add_driver("poor", Oddity::has_no_memory);
  const testing::CapturedLeaks leaks;
  try {
    pack();
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::out_of_memory);
    EXPECT_THAT(problem.what(), HasSubstr("no memory for a pool of poor"));
  }
  EXPECT_TRUE(leaks.reports().empty());
}

TEST_F(Pack, NamesADriverThatFailsForNoReason) {
  add_driver("moody", Oddity::is_busy);
  try {
    pack();
    FAIL();
  } catch (const Problem& problem) {
    EXPECT_EQ(problem.code(), ExitCode::internal);
    EXPECT_STREQ(problem.what(), "moody failed in store: busy");
  }
}

TEST_F(Pack, RunsEveryDriverOfTheRegistrySortedByName) {
  add_driver("zz", Oddity::none);
  add_driver("aa", Oddity::none);
  const nlohmann::json result = pack_json();
  ASSERT_EQ(result["drivers"].size(), 2U);
  EXPECT_EQ(result["drivers"][0]["name"], "aa");
  EXPECT_EQ(result["drivers"][1]["name"], "zz");
}

TEST_F(Pack, RunsADriverNamedTwiceOnce) {
  add_driver("aa", Oddity::none);
  add_driver("zz", Oddity::none);
  options_.drivers = {"zz", "zz"};
  const nlohmann::json result = pack_json();
  ASSERT_EQ(result["drivers"].size(), 1U);
  EXPECT_EQ(result["drivers"][0]["name"], "zz");
}

TEST_F(Pack, RefusesUnknownDriversAndParametersBeforeReading) {
  add_driver("known", Oddity::none);
  options_.paths = {directory_.path("missing")};
  for (const auto& [driver, words] :
       {std::pair{"unknown", "there is no driver 'unknown'; known: known"},
        std::pair{"known:size=7", "driver 'known' does not take the parameters 'size=7'"}}) {
    options_.drivers = {driver};
    try {
      pack();
      FAIL();
    } catch (const Problem& problem) {
      EXPECT_EQ(problem.code(), ExitCode::usage);
      EXPECT_STREQ(problem.what(), words);
    }
  }
}

TEST_F(Pack, FetchesADriverThroughTheLoader) {
  registry_.set_loader([](DriverRegistry& registry, std::string_view type) {
    return registry.register_driver(std::make_shared<OddDriver>(std::string(type), Oddity::none));
  });
  options_.drivers = {"fetched"};
  EXPECT_EQ(pack_json()["drivers"][0]["name"], "fetched");
}

}  // namespace
}  // namespace mmkit::tool
