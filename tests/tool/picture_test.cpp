// SPDX-License-Identifier: MIT
//
// The renderers of pictures: what is drawn of each kind of section, and that no text of a user can be
// mark-up.
#include "picture.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "svg_canvas.hpp"

namespace mmkit::tool {
namespace {

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

Picture one(std::string title, std::variant<Bands, Chart, Grid, RunMap> body) {
  return {"a<b", {{std::move(title), "", std::move(body)}}};
}

TEST(Svg, EscapesTextsAndJoinsEqualNeighbours) {
  const std::string text =
      svg_document(one("x&y\x01", Bands{{{"label", "caption", {0, 0, 1, 1, .5}}}}));
  EXPECT_EQ(text.find("<svg xmlns=\"http://www.w3.org/2000/svg\""), 0u);
  EXPECT_NE(text.find(">a&lt;b</text>"), std::string::npos);
  EXPECT_NE(text.find(">x&amp;y?</text>"), std::string::npos);
  EXPECT_NE(text.find(">label: caption</text>"), std::string::npos);
  EXPECT_EQ(count_of(text, "<rect"), 1u + 3) << "the ground, and three shades";
  EXPECT_TRUE(text.ends_with("</svg>\n"));
}

TEST(Svg, NothingAndFullHaveShadesOfTheirOwn) {
  const auto picture = [](double share) {
    return svg_document(one("", Bands{{{"", "", {share}}}}));
  };
  EXPECT_NE(picture(0), picture(1e-9));
  EXPECT_NE(picture(1), picture(1 - 1e-9));
  EXPECT_EQ(picture(1e-9), picture(1e-8));
}

TEST(Svg, DrawsALineASeriesAndNamesIt) {
  const Chart chart{"operations", "density", {{"zbud", {0, 10}, {.5, 1}}, {"zheap", {0}, {1}}}};
  const std::string text = svg_document(one("", chart));
  EXPECT_EQ(count_of(text, "<polyline"), 2u);
  EXPECT_NE(text.find(">zbud</text>"), std::string::npos);
  EXPECT_NE(text.find(">zheap</text>"), std::string::npos);
  EXPECT_NE(text.find(">0.5</text>"), std::string::npos) << "the lowest mark";
}

TEST(Svg, DrawsNothingOfNothing) {
  const std::string chart = svg_document(one("", Chart{"x", "y", {{"zbud", {}, {}}}}));
  EXPECT_NE(chart.find(">nothing to draw</text>"), std::string::npos);
  EXPECT_EQ(count_of(svg_document(one("", Grid{})), "<rect"), 1u);
  EXPECT_EQ(count_of(svg_document(one("", RunMap{})), "<rect"), 1u);
  EXPECT_EQ(count_of(svg_document(one("", Bands{{{"", "", {}}}})), "<rect"), 1u);
}

TEST(Svg, DrawsTheObjectsOfTheFirstRuns) {
  RunMap map{"zspage", "page", {{2, 2}, {1, 1}}, {{7, 0, 100}, {8, 100, 50}, {9, 0, 4096}}};
  EXPECT_EQ(count_of(svg_document(one("", map)), "<rect"), 1u + 2 + 3);
  map.runs.assign(1000, {1, 1});
  map.objects.assign(1000, {1, 0, 64});
  const std::string text = svg_document(one("", map));
  EXPECT_EQ(count_of(text, "<rect"), 1u + 2 * 120);
  EXPECT_NE(text.find("the first 120 zspages of 1,000"), std::string::npos);
}

nlohmann::json data_of(const std::string& page) {
  const std::string_view begin = "id=\"mmkit-data\">";
  const std::size_t at = page.find(begin) + begin.size();
  return nlohmann::json::parse(page.substr(at, page.find("</script>", at) - at));
}

TEST(Html, HoldsEverySectionAsData) {
  Picture picture{"t", {}};
  picture.sections.push_back({"b", "c", Bands{{{"x", "y", {0, 1e-9, .5, 1}}}}});
  picture.sections.push_back({"l", "", Chart{"x", "y", {{"s", {1}, {2}}}}});
  picture.sections.push_back({"g", "", Grid{"r", "c", "v", {"1"}, {"2"}, {3}}});
  picture.sections.push_back({"m", "", RunMap{"run", "page", {{1, 1}}, {{7, 258, 100}}}});
  const nlohmann::json data = data_of(html_document(picture));
  EXPECT_EQ(data["title"], "t");
  ASSERT_EQ(data["sections"].size(), 4u);
  EXPECT_EQ(data["sections"][0]["caption"], "c");
  // 0 and 255 are nothing and full alone.
  EXPECT_EQ(data["sections"][0]["bands"][0]["shares"]["data"], "AAGA/w==");
  EXPECT_EQ(data["sections"][1]["series"][0]["x"]["data"], "AAAAAAAA8D8=");
  EXPECT_EQ(data["sections"][2]["values"]["type"], "f64");
  EXPECT_EQ(data["sections"][3]["begin"]["type"], "u16");
  EXPECT_EQ(data["sections"][3]["begin"]["data"], "AgE=");
  EXPECT_EQ(data["sections"][3]["number"]["data"], "BwAAAA==");
}

TEST(Html, LongRunsHavePlacesOf32Bits) {
  const RunMap map{"run", "page", {{17, 1}}, {{7, 65'536, 100}}};
  EXPECT_EQ(data_of(html_document(one("", map)))["sections"][0]["begin"]["type"], "u32");
}

TEST(Html, NoTextEndsTheDataOrTheTitle) {
  const std::string text =
      html_document({"</title><script>x</script>", {{"</script><b>\xff", "<!--", Grid{}}}});
  EXPECT_EQ(count_of(text, "</script>"), 2u) << "the data's and the script's own";
  EXPECT_EQ(count_of(text, "</title>"), 1u);
  EXPECT_EQ(count_of(text, "<!--"), 0u);
  EXPECT_EQ(data_of(text)["sections"][0]["title"], "</script><b>\xEF\xBF\xBD");
}

TEST(Html, AMillionObjectsAreElevenMegabytes) {
  RunMap map{"run", "page", {}, {}};
  map.runs.assign(31'250, {16, 32});
  map.objects.assign(1'000'000, {7, 64'000, 1300});
  const std::size_t size = html_document(one("", map)).size();
  EXPECT_LT(size, 11'200'000u);
  EXPECT_GT(size, 10'600'000u) << "eight bytes each, in base64";
}

TEST(Ticks, AreRoundAndCoverTheRange) {
  EXPECT_EQ(ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks(3, 3, 5), (std::vector<double>{3}));
  for (const double high : {0.013, 0.7, 1.0, 17.0, 170'926.0}) {
    const std::vector<double> marks = ticks(high / 3, high, 6);
    EXPECT_LE(marks.front(), high / 3 * (1 + 1e-9));
    EXPECT_GE(marks.back(), high * (1 - 1e-9));
    EXPECT_LE(marks.size(), 9u);
    EXPECT_GE(marks.size(), 2u);
  }
}

}  // namespace
}  // namespace mmkit::tool
