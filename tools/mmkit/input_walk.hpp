// SPDX-License-Identifier: MIT
//
// InputWalk - which files the paths on the command line stand for.
//
// A path that is named is followed when it is a symbolic link; links found inside a directory are
// not, so no loop can be entered. Each file counts once, whatever number of names and hard links
// lead to it (device and inode decide). Special files and the kernel's own file systems (proc,
// sysfs, ...) are passed over: what they hold is made up while it is read. The order is fixed:
// paths as given, inside a directory first its files, then its directories, each by bytes of the
// name.
//
// Units: bytes of the files as the directory tells them; a page is 4096 bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "complaints.hpp"

namespace mmkit::tool {

class Console;

struct InputFile {
  std::string path;
  std::uint64_t size_bytes = 0;  // never 0: empty files are only counted
};

struct InputList {
  std::vector<InputFile> files;    // what to read, up to the limit
  std::uint64_t listed_pages = 0;  // of `files`, by their sizes
  std::uint64_t listed_bytes = 0;
  std::uint64_t beyond_files = 0;  // past the limit, not in `files`
  std::uint64_t beyond_bytes = 0;
  std::uint64_t empty_files = 0;
  std::uint64_t duplicates = 0;  // files and directories met a second time
  std::uint64_t links = 0;       // symbolic links inside directories
  std::uint64_t special = 0;  // sockets, pipes, devices and kernel file systems inside directories
  Complaints unreadable;      // paths and directories that could not be looked at
};

/// Lists the files. Once those listed reach `limit_pages`, further ones are only counted, so that
/// the list's memory is bounded by the limit (a listed file has at least one page).
InputList walk_inputs(std::span<const std::string> paths, std::uint64_t limit_pages,
                      Console& console);

/// What a file cannot be used for, in words, with advice: "'x': No such file or directory (check
/// the spelling)".
std::string file_problem(const std::string& path, int error);

}  // namespace mmkit::tool
