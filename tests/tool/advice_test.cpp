// SPDX-License-Identifier: MIT
//
// The rule of `mmkit advise` on figures made up for each of its cases, and the command on a driver
// that fails.
#include "advice.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "odd_driver.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Advice, IsTheDensest) {
  const std::vector<Candidate> candidates{{"a", .5, 10, ""}, {"b", .9, 30, ""}, {"c", .8, 20, ""}};
  const std::optional<Advice> advice = advise(candidates);
  ASSERT_TRUE(advice.has_value());
  EXPECT_EQ(advice->recommended, 1u);
  EXPECT_EQ(advice->densest, 1u);
  EXPECT_EQ(advice->quickest, 0u);
  EXPECT_EQ(advice->runner_up, 2u);
  EXPECT_EQ(sentence_of(*advice, candidates, "it", "density"),
            "b suits it: density 0.900 at 30 ns an operation; next is c, 0.800 at 20 ns an "
            "operation; quickest is a, 0.500 at 10 ns an operation.");
}

TEST(Advice, IsTheQuickestWithinReachOfTheDensest) {
  const std::vector<Candidate> candidates{
      {"dense", .900, 30, ""}, {"quick", .892, 20, ""}, {"loose", .890, 10, ""}};
  const std::optional<Advice> advice = advise(candidates);
  ASSERT_TRUE(advice.has_value());
  EXPECT_EQ(advice->recommended, 1u) << "0.890 is more than a hundredth away";
  EXPECT_EQ(advice->densest, 0u);
  EXPECT_THAT(sentence_of(*advice, candidates, "it", "density"),
              HasSubstr("dense comes to 0.900 at 30 ns an operation, which is not worth the time; "
                        "quickest is loose"));
}

TEST(Advice, LeavesOutWhatFailedOrHoldsNothing) {
  const std::vector<Candidate> candidates{
      {"wrong", .99, 1, "lost"}, {"empty", std::nullopt, 1, ""}, {"good", .5, 9, ""}};
  const std::optional<Advice> advice = advise(candidates);
  ASSERT_TRUE(advice.has_value());
  EXPECT_EQ(advice->recommended, 2u);
  EXPECT_EQ(advice->quickest, 2u);
  EXPECT_EQ(advice->runner_up, std::nullopt);
  EXPECT_EQ(sentence_of(*advice, candidates, "it", "density"),
            "good suits it: density 0.500 at 9 ns an operation; none is quicker.");
}

TEST(Advice, SaysThatTheNextIsTheQuickest) {
  const std::vector<Candidate> candidates{{"a", .9, 30, ""}, {"b", .8, 20, ""}};
  EXPECT_THAT(sentence_of(*advise(candidates), candidates, "it", "density"),
              HasSubstr("next is b, 0.800 at 20 ns an operation, the quickest."));
}

TEST(Advice, IsNoneWithoutCandidates) {
  EXPECT_FALSE(advise({}).has_value());
  const std::vector<Candidate> failed{{"wrong", .99, 1, "lost"}};
  EXPECT_FALSE(advise(failed).has_value());
}

TEST(AdviseCommand, RecommendsNoDriverThatDamages) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(std::make_shared<OddDriver>("bad", Oddity::turns_a_bit)));
  ASSERT_TRUE(registry.register_driver(std::make_shared<OddDriver>("good", Oddity::none)));
  const ScratchDirectory directory;
  AdviseOptions options;
  options.inputs = {directory.write("x.u16", std::string("\x64\0\xc8\0\x64\0\x64\0", 8))};
  options.form = ResultForm::json;
  CapturedConsole captured;
  EXPECT_EQ(run_advise(options, captured.console(), registry), ExitCode::verification_failed);
  const nlohmann::json advice = nlohmann::json::parse(captured.result())["advice"][0];
  EXPECT_EQ(advice["recommended"], "good");
  EXPECT_EQ(advice["candidates"][0]["verified"], false);
  EXPECT_TRUE(advice["recommended_chain"].is_null());
  EXPECT_THAT(captured.messages(), HasSubstr("bad: 1 of 4 objects did not come back"));
}

TEST(AdviseCommand, CountsAPageForEachObjectRefused) {
  DriverRegistry registry;
  ASSERT_TRUE(registry.register_driver(std::make_shared<OddDriver>("odd", Oddity::refuses_large)));
  const ScratchDirectory directory;
  AdviseOptions options;
  options.inputs = {directory.write("x.u16", std::string("\x64\0\xb8\x0b", 4))};  // 100, 3000
  options.form = ResultForm::json;
  CapturedConsole captured;
  EXPECT_EQ(run_advise(options, captured.console(), registry), ExitCode::ok);
  const nlohmann::json candidate =
      nlohmann::json::parse(captured.result())["advice"][0]["candidates"][0];
  EXPECT_EQ(candidate["refused"], 1);
  EXPECT_LT(candidate["yield"].get<double>(), 3100.0 / (2 * kPageSize));
  EXPECT_GT(candidate["yield"].get<double>(), 3100.0 / (4 * kPageSize)) << "metadata is less";
}

}  // namespace
}  // namespace mmkit::tool
