// SPDX-License-Identifier: MIT
//
// Which files paths stand for, and the pages read from them, with files that change in between.
#include <algorithm>
#include <vector>

#include "input_walk.hpp"
#include "page_reader.hpp"
#include "tool_support.hpp"

namespace mmkit::tool {
namespace {

namespace fs = std::filesystem;

InputList walk(std::vector<std::string> paths, std::uint64_t limit_pages = 1000) {
  CapturedConsole captured;
  return walk_inputs(paths, limit_pages, captured.console());
}

TEST(InputWalk, ListsFilesInAFixedOrder) {
  const ScratchDirectory directory;
  fs::create_directories(directory.path("m/deep"));
  directory.write("z", "1");
  directory.write("a", "22");
  directory.write("m/b", "333");
  directory.write("m/deep/c", "4444");
  const InputList list = walk({directory.path()});
  std::vector<std::string> paths;
  for (const InputFile& file : list.files) paths.push_back(file.path);
  EXPECT_EQ(paths, (std::vector{directory.path("a"), directory.path("z"), directory.path("m/b"),
                                directory.path("m/deep/c")}));
  EXPECT_EQ(list.listed_bytes, 10U);
  EXPECT_EQ(list.listed_pages, 4U);
}

TEST(InputWalk, CountsAFileOnceWhateverItsNames) {
  const ScratchDirectory directory;
  const std::string file = directory.write("a", "x");
  fs::create_hard_link(file, directory.path("b"));
  fs::create_symlink(file, directory.path("c"));
  const InputList list = walk({directory.path(), file, directory.path("c"), directory.path()});
  EXPECT_EQ(list.files.size(), 1U);
  EXPECT_EQ(list.duplicates, 4U);  // the hard link, the file, the named link, the directory
  EXPECT_EQ(list.links, 1U);
}

TEST(InputWalk, FollowsNoLinkInsideADirectory) {
  const ScratchDirectory directory;
  fs::create_directory(directory.path("in"));
  fs::create_directory_symlink("..", directory.path("in/loop"));
  fs::create_symlink("/etc/passwd", directory.path("in/out"));
  directory.write("in/a", "x");
  const InputList list = walk({directory.path()});
  EXPECT_EQ(list.files.size(), 1U);
  EXPECT_EQ(list.links, 2U);
  EXPECT_TRUE(list.unreadable.empty());
}

TEST(InputWalk, FollowsALinkThatIsNamed) {
  const ScratchDirectory directory;
  fs::create_directory(directory.path("in"));
  directory.write("in/a", "x");
  fs::create_directory_symlink("in", directory.path("link"));
  EXPECT_EQ(walk({directory.path("link")}).files.size(), 1U);
}

TEST(InputWalk, PassesOverSpecialAndEmptyFiles) {
  const ScratchDirectory directory;
  ASSERT_EQ(::mkfifo(directory.path("pipe").c_str(), 0600), 0);
  directory.write("empty", "");
  const InputList list = walk({directory.path(), "/proc/self/task"});
  EXPECT_TRUE(list.files.empty());
  EXPECT_EQ(list.special, 2U);
  EXPECT_EQ(list.empty_files, 1U);
  EXPECT_TRUE(list.unreadable.empty());
}

TEST(InputWalk, SaysWhatIsWrongWithAPath) {
  const ScratchDirectory directory;
  fs::create_symlink("nowhere", directory.path("dangling"));
  fs::create_symlink("circle", directory.path("circle"));
  ASSERT_EQ(::mkfifo(directory.path("pipe").c_str(), 0600), 0);
  const InputList list = walk({directory.path("missing"), directory.path("dangling"),
                               directory.path("circle"), directory.path("pipe"), ""});
  ASSERT_EQ(list.unreadable.count(), 5U);
  const std::vector<std::string>& first = list.unreadable.first();
  EXPECT_NE(first[0].find("missing': No such file or directory (check the spelling)"),
            std::string::npos);
  EXPECT_NE(first[1].find("symbolic link to a file that does not exist"), std::string::npos);
  EXPECT_NE(first[2].find("symbolic links that lead in a circle"), std::string::npos);
  EXPECT_NE(first[3].find("is a pipe; only regular files and directories"), std::string::npos);
  EXPECT_NE(first[4].find("'': No such file"), std::string::npos);
}

TEST(InputWalk, OnlyCountsWhatLiesBeyondTheLimit) {
  const ScratchDirectory directory;
  for (char name = 'a'; name <= 'j'; ++name) directory.write(std::string(1, name), text_page(1), 2);
  const InputList list = walk({directory.path()}, 5);
  EXPECT_EQ(list.files.size(), 3U);
  EXPECT_EQ(list.beyond_files, 7U);
  EXPECT_EQ(list.beyond_bytes, 7 * 2 * kPageSize);
}

TEST(Complaints, KeepTheFirstFewAndTheCount) {
  Complaints complaints;
  for (int number = 0; number < 100; ++number) complaints.add(std::to_string(number));
  EXPECT_EQ(complaints.count(), 100U);
  EXPECT_EQ(complaints.first(), (std::vector<std::string>{"0", "1", "2", "3", "4"}));
}

struct PagesRead {
  std::vector<Page> pages;
  ReadSummary summary;
};

PagesRead read(const std::vector<InputFile>& files, std::uint64_t limit_pages = 100000) {
  PagesRead result;
  result.summary = read_pages(files, limit_pages, [&](PageBytes page, std::size_t) {
    std::copy(page.begin(), page.end(), result.pages.emplace_back().begin());
  });
  return result;
}

TEST(PageReader, FillsUpTheTailWithZeros) {
  const ScratchDirectory directory;
  const std::string path = directory.write("one", "x");
  const PagesRead got = read({{path, 1}});
  ASSERT_EQ(got.pages.size(), 1U);
  Page expected{};
  expected[0] = std::byte{'x'};
  EXPECT_EQ(got.pages[0], expected);
  EXPECT_EQ(got.summary.padding_bytes, kPageSize - 1);
  EXPECT_EQ(got.summary.bytes, 1U);
}

TEST(PageReader, GivesEveryByteOfFilesAroundTheBuffersSize) {
  const ScratchDirectory directory;
  constexpr std::size_t kBufferPages = 256;
  for (const std::size_t size :
       {kPageSize - 1, kPageSize, kPageSize + 1, kBufferPages * kPageSize - 1,
        kBufferPages * kPageSize, kBufferPages * kPageSize + 1, 3 * kBufferPages * kPageSize + 5}) {
    std::string contents;
    std::mt19937_64 random(size);
    while (contents.size() < size) contents += static_cast<char>(random());
    const std::string path = directory.write("file", contents);
    const PagesRead got = read({{path, size}});
    ASSERT_EQ(got.pages.size(), pages_of(size));
    std::string again;
    for (const Page& page : got.pages) {
      again.append(reinterpret_cast<const char*>(page.data()), page.size());
    }
    EXPECT_EQ(again.substr(0, size), contents) << size;
    EXPECT_EQ(again.find_first_not_of('\0', size), std::string::npos) << size;
  }
}

TEST(PageReader, ReadsAShrunkFileToItsNewEndAndSaysSo) {
  const ScratchDirectory directory;
  const std::string path = directory.write("file", text_page(1), 3);
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  const PagesRead got = read({{path, 3 * kPageSize}});
  EXPECT_EQ(got.pages.size(), 2U);
  EXPECT_EQ(got.summary.bytes, 5000U);
  ASSERT_EQ(got.summary.shrunk.count(), 1U);
  EXPECT_NE(got.summary.shrunk.first()[0].find("became shorter while it was read: 5000 of 12288"),
            std::string::npos);
}

TEST(PageReader, LeavesWhatAFileHasGained) {
  const ScratchDirectory directory;
  const std::string path = directory.write("file", text_page(1), 3);
  const PagesRead got = read({{path, kPageSize}});
  EXPECT_EQ(got.pages.size(), 1U);
  EXPECT_FALSE(got.summary.cut);
  EXPECT_TRUE(got.summary.shrunk.empty());
}

TEST(PageReader, GoesOnAfterAFileThatIsGone) {
  const ScratchDirectory directory;
  const std::string path = directory.write("there", text_page(1));
  const PagesRead got = read({{directory.path("gone"), kPageSize}, {path, kPageSize}});
  EXPECT_EQ(got.pages.size(), 1U);
  EXPECT_EQ(got.summary.files, 1U);
  EXPECT_EQ(got.summary.unreadable.count(), 1U);
}

TEST(PageReader, DoesNotWaitForAFileThatHasBecomeAPipe) {
  const ScratchDirectory directory;
  ASSERT_EQ(::mkfifo(directory.path("pipe").c_str(), 0600), 0);
  const PagesRead got = read({{directory.path("pipe"), kPageSize}});
  EXPECT_TRUE(got.pages.empty());
  ASSERT_EQ(got.summary.unreadable.count(), 1U);
  EXPECT_NE(got.summary.unreadable.first()[0].find("no longer a regular file"), std::string::npos);
}

TEST(PageReader, StopsAtTheLimitInTheMiddleOfAFile) {
  const ScratchDirectory directory;
  const std::string path = directory.write("file", text_page(1), 10);
  EXPECT_TRUE(read({{path, 10 * kPageSize}}, 4).summary.cut);
  EXPECT_EQ(read({{path, 10 * kPageSize}}, 4).pages.size(), 4U);
  EXPECT_FALSE(read({{path, 10 * kPageSize}}, 10).summary.cut);
}

}  // namespace
}  // namespace mmkit::tool
