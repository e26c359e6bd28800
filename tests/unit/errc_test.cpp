// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <mmkit/base/errc.hpp>
#include <set>
#include <string>
#include <system_error>

namespace mmkit {
namespace {

struct Row {
  Errc code;
  int number;
  std::string_view word;
  std::errc standard;
};

constexpr std::array<Row, 12> kRows{{
    {Errc::invalid_argument, EINVAL, "invalid_argument", std::errc::invalid_argument},
    {Errc::out_of_memory, ENOMEM, "out_of_memory", std::errc::not_enough_memory},
    {Errc::no_space, ENOSPC, "no_space", std::errc::no_space_on_device},
    {Errc::busy, EBUSY, "busy", std::errc::device_or_resource_busy},
    {Errc::try_again, EAGAIN, "try_again", std::errc::resource_unavailable_try_again},
    {Errc::not_found, ENOENT, "not_found", std::errc::no_such_file_or_directory},
    {Errc::already_exists, EEXIST, "already_exists", std::errc::file_exists},
    {Errc::not_supported, EOPNOTSUPP, "not_supported", std::errc::operation_not_supported},
    {Errc::out_of_range, ERANGE, "out_of_range", std::errc::result_out_of_range},
    {Errc::not_permitted, EPERM, "not_permitted", std::errc::operation_not_permitted},
    {Errc::bad_format, ENOEXEC, "bad_format", std::errc::executable_format_error},
    {Errc::io_error, EIO, "io_error", std::errc::io_error},
}};

TEST(Errc, HasTheNumbersOfErrno) {
  std::set<int> seen;
  for (const Row& row : kRows) {
    EXPECT_EQ(static_cast<int>(row.code), row.number) << row.word;
    EXPECT_TRUE(seen.insert(row.number).second) << row.word << " shares its number";
  }
}

TEST(Errc, IsNamedByItsOwnWord) {
  for (const Row& row : kRows) EXPECT_EQ(name(row.code), row.word);
}

TEST(Errc, IsUnknownWhenItIsNoEnumerator) {
  EXPECT_EQ(name(Errc{}), "unknown");
  EXPECT_EQ(name(static_cast<Errc>(-1)), "unknown");
  EXPECT_EQ(name(static_cast<Errc>(ETXTBSY)), "unknown");
}

TEST(Errc, MakesAnErrorCodeOfCategoryMmkit) {
  for (const Row& row : kRows) {
    const std::error_code code = row.code;  // by is_error_code_enum
    EXPECT_TRUE(code);
    EXPECT_EQ(code.value(), row.number);
    EXPECT_STREQ(code.category().name(), "mmkit");
    EXPECT_EQ(code.message(), row.word);
    EXPECT_EQ(code, make_error_code(row.code));
    EXPECT_EQ(code, row.code);
  }
}

TEST(Errc, EqualsTheStandardErrcOfItsNumberAndNoOther) {
  for (const Row& row : kRows) {
    for (const Row& other : kRows) {
      EXPECT_EQ(make_error_code(row.code) == other.standard, &row == &other)
          << row.word << " and " << other.word;
      EXPECT_EQ(make_error_code(row.code) == make_error_code(other.code), &row == &other);
    }
    EXPECT_EQ(make_error_code(row.code).default_error_condition(),
              std::make_error_condition(row.standard));
  }
}

TEST(Errc, DiffersFromAnErrorCodeOfAnotherCategory) {
  const std::error_code generic(ENOMEM, std::generic_category());
  EXPECT_NE(make_error_code(Errc::out_of_memory), generic);
  // Yet a caller who compares with the portable condition sees both alike.
  EXPECT_EQ(make_error_code(Errc::out_of_memory), std::errc::not_enough_memory);
  EXPECT_EQ(generic, std::errc::not_enough_memory);
}

TEST(Errc, HasOneCategoryObject) {
  EXPECT_EQ(&make_error_code(Errc::busy).category(), &make_error_code(Errc::io_error).category());
}

TEST(Errc, TravelsInASystemError) {
  const std::system_error thrown(Errc::no_space, "pack");
  EXPECT_EQ(thrown.code(), std::errc::no_space_on_device);
  EXPECT_STREQ(thrown.what(), "pack: no_space");
}

}  // namespace
}  // namespace mmkit
