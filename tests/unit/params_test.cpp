// SPDX-License-Identifier: MIT
#include "zpool/params.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// All parameters of a text; nothing when it is malformed.
Result<Pairs> parse(std::string_view text) {
  Pairs pairs;
  while (true) {
    const Result<Param> param = next_param(text);
    if (!param) return fail(param.error());
    if (param->key.empty()) return pairs;
    pairs.emplace_back(param->key, param->value);
  }
}

TEST(Params, OfNothingAreNone) {
  for (const char* text : {"", " ", ",", " , ,, "}) {
    EXPECT_EQ(parse(text).value(), Pairs{}) << '"' << text << '"';
  }
}

TEST(Params, AreSeparatedByCommasOrSpacesInAnyNumber) {
  const Pairs expected = {{"a", "1"}, {"b", "two"}, {"c", "3"}};
  for (const char* text :
       {"a=1,b=two,c=3", "a=1 b=two c=3", " a=1, b=two ,c=3 ", ",,a=1  ,,b=two,c=3,"}) {
    EXPECT_EQ(parse(text).value(), expected) << text;
  }
}

TEST(Params, KeepTheirOrderAndTheirRepetitions) {
  EXPECT_EQ(parse("b=2,a=1,b=3").value(), (Pairs{{"b", "2"}, {"a", "1"}, {"b", "3"}}));
}

TEST(Params, BeginTheirValueBehindTheFirstEqualsSign) {
  EXPECT_EQ(parse("a=b=c").value(), (Pairs{{"a", "b=c"}}));
  EXPECT_EQ(parse("a==").value(), (Pairs{{"a", "="}}));
  EXPECT_EQ(parse("a=").value(), (Pairs{{"a", ""}}));
}

TEST(Params, NeedAKeyAndAnEqualsSign) {
  for (const char* text : {"a", "=", "=1", "a=1,b", "a=1,=2", "a =1"}) {
    EXPECT_EQ(parse(text).error(), Errc::invalid_argument) << text;
  }
}

TEST(Params, LeaveTheTextWhereItWasWhenOneIsMalformed) {
  std::string_view rest = "good=1,bad,next=2";
  ASSERT_TRUE(next_param(rest));
  const std::string_view before = rest;
  EXPECT_FALSE(next_param(rest));
  EXPECT_FALSE(next_param(rest)) << "asked again it is as bad";
  EXPECT_EQ(rest.substr(rest.find('b')), before.substr(before.find('b')));
}

TEST(Params, ReadNumbersBetweenTheirBounds) {
  constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(parse_number("0", 0, 10).value(), 0u);
  EXPECT_EQ(parse_number("10", 0, 10).value(), 10u);
  EXPECT_EQ(parse_number("007", 7, 7).value(), 7u);
  EXPECT_EQ(parse_number("18446744073709551615", 0, kTop).value(), kTop);
}

TEST(Params, SayWhenANumberIsOutsideItsBounds) {
  constexpr std::uint64_t kTop = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(parse_number("11", 0, 10).error(), Errc::out_of_range);
  EXPECT_EQ(parse_number("0", 1, 10).error(), Errc::out_of_range);
  EXPECT_EQ(parse_number("18446744073709551616", 0, kTop).error(), Errc::out_of_range);
  EXPECT_EQ(parse_number("99999999999999999999999999", 0, kTop).error(), Errc::out_of_range);
}

TEST(Params, SayWhenANumberIsNone) {
  for (const char* text : {"", " ", "-1", "+1", "x", "1x", "1 ", " 1", "0x10", "1.0", "1e3"}) {
    EXPECT_EQ(parse_number(text, 0, 100).error(), Errc::invalid_argument) << '"' << text << '"';
  }
}

}  // namespace
}  // namespace mmkit
