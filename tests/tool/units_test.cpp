// SPDX-License-Identifier: MIT
//
// Numbers as people write and read them; the table; the progress line at every width.
#include "units.hpp"

#include <algorithm>

#include "progress.hpp"
#include "table.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

TEST(ParseByteCount, ReadsWhatGnuToolsRead) {
  EXPECT_EQ(parse_byte_count("0"), 0U);
  EXPECT_EQ(parse_byte_count("4096"), 4096U);
  EXPECT_EQ(parse_byte_count("64K"), 65536U);
  EXPECT_EQ(parse_byte_count("64KiB"), 65536U);
  EXPECT_EQ(parse_byte_count("64kB"), 64000U);
  EXPECT_EQ(parse_byte_count("1.5G"), 1610612736U);
  EXPECT_EQ(parse_byte_count("2 MiB"), 2097152U);
  EXPECT_EQ(parse_byte_count("1T"), std::uint64_t{1} << 40);
  EXPECT_EQ(parse_byte_count("10b"), 10U);
}

TEST(ParseByteCount, RefusesWhatIsNoCount) {
  for (const char* text : {"", "K", "-1", "+5", " 5", "inf", "nan", "0x10", "1e3", "5 parrots",
                           "9223372036854775808", "9000P", "1 G B"}) {
    EXPECT_EQ(parse_byte_count(text), std::nullopt) << text;
  }
}

TEST(FormatBytes, KeepsOneDecimalAndTheUnitBelowItsEnd) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes((std::uint64_t{1} << 20) - 1), "1.0 MiB");
  EXPECT_EQ(format_bytes(std::uint64_t{1} << 30), "1.0 GiB");
  EXPECT_EQ(format_bytes(~std::uint64_t{0}), "16.0 EiB");
}

TEST(FormatCount, GroupsByThousands) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1000), "1,000");
  EXPECT_EQ(format_count(123456), "123,456");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_counted(1, "file"), "1 file");
  EXPECT_EQ(format_counted(0, "file"), "0 files");
  EXPECT_EQ(format_counted(1200, "path or file", "paths and files"), "1,200 paths and files");
}

TEST(FormatClock, ShowsHoursOnlyWhenThereAreSome) {
  EXPECT_EQ(format_clock(0), "0:00");
  EXPECT_EQ(format_clock(65), "1:05");
  EXPECT_EQ(format_clock(3600), "1:00:00");
  EXPECT_EQ(format_clock(10921), "3:02:01");
}

TEST(FormatShare, OfNothingIsNothing) {
  EXPECT_EQ(format_share(1, 0), "0 %");
  EXPECT_EQ(format_share(1, 3), "33.3 %");
  EXPECT_EQ(format_share(3, 3), "100.0 %");
}

TEST(InQuotes, LetsNoControlCharacterThrough) {
  EXPECT_EQ(in_quotes("/a b"), "'/a b'");
  EXPECT_EQ(in_quotes("a\x1b[2Jb\n"), "'a\\x1b[2Jb\\x0a'");
  EXPECT_EQ(in_quotes("it's"), "'it\\x27s'");
  EXPECT_EQ(in_quotes("\xc3\xa9"), "'\xc3\xa9'");
}

std::string plain(std::string_view line, Table::Line) {
  return std::string(line);
}

Table three_columns() {
  Table table;
  table.add_column("", "name", Table::Align::left);
  table.add_column("both", "x", Table::Align::right);
  table.add_column("both", "yy", Table::Align::right);
  table.add_row({"zbud", "1", "22"});
  table.add_row({"long name", "333", "4"});
  return table;
}

TEST(Table, AlignsUnderHeadingsAndGroups) {
  EXPECT_EQ(three_columns().render(100, plain),
            "              both\n"
            "name         x  yy\n"
            "zbud         1  22\n"
            "long name  333   4\n");
}

TEST(Table, FoldsIntoBlocksThatRepeatTheFirstColumnAndPartNoGroup) {
  Table table;
  table.add_column("", "name", Table::Align::left);
  table.add_column("both", "x", Table::Align::right);
  table.add_column("both", "yy", Table::Align::right);
  table.add_column("alone", "z", Table::Align::right);
  table.add_row({"zbud", "1", "22", "333"});
  EXPECT_EQ(table.render(18, plain),
            "       both  alone\n"
            "name  x  yy      z\n"
            "zbud  1  22    333\n");
  EXPECT_EQ(table.render(17, plain),
            "       both\n"
            "name  x  yy\n"
            "zbud  1  22\n"
            "\n"
            "      alone\n"
            "name      z\n"
            "zbud    333\n");
}

TEST(Table, KeepsToTheWidthAndLosesNoCellAtAnyWidth) {
  for (std::size_t width = 1; width < 60; ++width) {
    const std::string text = three_columns().render(width, plain);
    for (const char* cell : {"zbud", "22", "333", "long name"}) {
      EXPECT_NE(text.find(cell), std::string::npos) << width << ": " << cell;
    }
    std::size_t begin = 0;
    for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      EXPECT_LE(end - begin, std::max<std::size_t>(width, 18));
    }
  }
}

TEST(Table, StylesWholeLines) {
  const std::string text = three_columns().render(100, [](std::string_view line, Table::Line kind) {
    return (kind == Table::Line::heading ? "H:" : "R:") + std::string(line);
  });
  EXPECT_EQ(text.substr(0, 2), "H:");
  EXPECT_NE(text.find("\nH:name"), std::string::npos);
  EXPECT_NE(text.find("\nR:zbud"), std::string::npos);
}

constexpr ProgressState kHalfWay{"reading", 50 << 20, 100 << 20, 10.0, ProgressUnit::bytes};

TEST(ProgressLine, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(progress_line(kHalfWay, 200),
            "reading  [####################--------------------]   50 %  5.0 MiB/s  0:10 left");
}

TEST(ProgressLine, NeverReachesTheLastColumn) {
  for (unsigned columns = 0; columns < 200; ++columns) {
    EXPECT_LE(progress_line(kHalfWay, columns).size(), columns == 0 ? 0 : columns - 1) << columns;
  }
}

TEST(ProgressLine, DropsBarThenRateThenRemainingTime) {
  const auto has = [](unsigned columns, const char* part) {
    return progress_line(kHalfWay, columns).find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(56, "[##"));
  EXPECT_FALSE(has(48, "["));
  EXPECT_TRUE(has(48, "5.0 MiB/s"));
  EXPECT_FALSE(has(30, "5.0 MiB/s"));
  EXPECT_TRUE(has(30, "0:10 left"));
  EXPECT_FALSE(has(20, "0:10 left"));
  EXPECT_TRUE(has(20, "reading"));
  EXPECT_TRUE(has(20, "50 %"));
  EXPECT_EQ(progress_line(kHalfWay, 8), " 50 %");
}

TEST(ProgressLine, SaysNothingOfARateBeforeThereIsOne) {
  ProgressState state = kHalfWay;
  state.elapsed_seconds = 0.001;
  const std::string line = progress_line(state, 100);
  EXPECT_EQ(line.find("/s"), std::string::npos);
  EXPECT_EQ(line.find("left"), std::string::npos);
  EXPECT_NE(line.find("50 %"), std::string::npos);
}

TEST(ProgressLine, BearsMoreDoneThanExpected) {
  ProgressState state = kHalfWay;
  state.done = state.total * 3;
  EXPECT_NE(progress_line(state, 100).find("100 %"), std::string::npos);
  state.total = 0;
  EXPECT_EQ(progress_line(state, 100).find('['), std::string::npos);
}

TEST(Console, DrawsNoProgressWhenNobodyWatches) {
  CapturedConsole captured;
  EXPECT_FALSE(captured.console().shows_progress());
  captured.console().draw_line("reading");
  captured.console().note("a note");
  EXPECT_EQ(captured.messages(), "mmkit: note: a note\n");
  EXPECT_EQ(captured.console().styled("x", Tone::bad), "x");
}

TEST(Console, QuietKeepsErrors) {
  CapturedConsole captured;
  captured.console().set_chatter(Chatter::quiet);
  captured.console().note("a note");
  captured.console().warn("a warning");
  captured.console().error("an error");
  EXPECT_EQ(captured.messages(), "mmkit: error: an error\n");
}

}  // namespace
}  // namespace mmkit::tool
