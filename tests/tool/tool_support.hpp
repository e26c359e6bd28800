// SPDX-License-Identifier: MIT
//
// ToolSupport - what several tests of the command need: pages of a kind, files in a directory that
// goes away, streams that can be read afterwards.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "console.hpp"
#include "page_bytes.hpp"

namespace mmkit::tool {

using Page = std::array<std::byte, kPageSize>;

/// A page of words from a small vocabulary: compresses to about a third.
inline Page text_page(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Page page{};
  for (std::size_t at = 0; at < kPageSize; ++at) {
    page[at] = at % 8 < 5 ? std::byte('a' + at % 8) : std::byte(random() % 64);
  }
  return page;
}

/// A page that no codec makes smaller.
inline Page random_page(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Page page{};
  for (std::byte& byte : page) byte = std::byte(random() & 0xff);
  return page;
}

/// A directory of this test alone, removed with what is in it.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mmkit-tool-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(const std::string& name = {}) const {
    return name.empty() ? path_.string() : (path_ / name).string();
  }
  std::string write(const std::string& name, const std::string& contents) const {
    std::ofstream(path(name), std::ios::binary) << contents;
    return path(name);
  }
  std::string write(const std::string& name, const Page& page, std::size_t times = 1) const {
    const std::string one(reinterpret_cast<const char*>(page.data()), page.size());
    std::string contents;
    for (std::size_t time = 0; time < times; ++time) contents += one;
    return write(name, contents);
  }

 private:
  std::filesystem::path path_;
};

/// A console whose two streams are files.
class CapturedConsole {
 public:
  CapturedConsole()
      : result_fd_(open_file("result")),
        message_fd_(open_file("messages")),
        console_(result_fd_, message_fd_) {}
  CapturedConsole(const CapturedConsole&) = delete;
  CapturedConsole& operator=(const CapturedConsole&) = delete;
  ~CapturedConsole() {
    ::close(result_fd_);
    ::close(message_fd_);
  }

  Console& console() { return console_; }
  std::string result() const { return contents("result"); }
  std::string messages() const { return contents("messages"); }

 private:
  int open_file(const std::string& name) const {
    return ::open(directory_.path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  }
  std::string contents(const std::string& name) const {
    std::ifstream file(directory_.path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  ScratchDirectory directory_;
  int result_fd_;
  int message_fd_;
  Console console_;
};

}  // namespace mmkit::tool
