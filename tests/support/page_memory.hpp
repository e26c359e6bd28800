// SPDX-License-Identifier: MIT
//
// Page memory - what a test asks the operating system about pages: which are present, what a file
// in memory takes up, how many faults a thread has had, how many mappings and files a process has.
#pragma once

#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mmkit/page.hpp>
#include <vector>

namespace mmkit::testing {

/// How many pages of a run are in memory.
inline std::size_t present_pages(const PageRun& run) {
  std::vector<unsigned char> present(run.pages);
  if (::mincore(run.data, run.pages * kPageSize, present.data()) != 0) return ~std::size_t{0};
  std::size_t count = 0;
  for (const unsigned char page : present) count += page & 1u;
  return count;
}

/// How many pages a file in memory takes up.
inline std::size_t file_pages(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return ~std::size_t{0};
  return static_cast<std::size_t>(status.st_blocks) * 512 / kPageSize;
}

/// Minor page faults of this thread so far.
inline std::uint64_t thread_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_minflt);
}

/// Bytes of address space that this process has mapped.
inline std::size_t mapped_bytes() {
  unsigned long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%lu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * kPageSize;
}

/// Open files of this process.
inline std::size_t open_files() {
  std::size_t count = 0;
  if (DIR* directory = ::opendir("/proc/self/fd")) {
    while (::readdir(directory) != nullptr) ++count;
    ::closedir(directory);
  }
  return count;
}

/// Fills a run with a value of its own, and tells whether all of it still has that.
inline void fill_run(const PageRun& run, unsigned char value) {
  std::memset(run.data, value, run.pages * kPageSize);
}
inline bool run_is(const PageRun& run, unsigned char value) {
  const unsigned char* const bytes = reinterpret_cast<const unsigned char*>(run.data);
  const std::size_t size_bytes = run.pages * kPageSize;
  return bytes[0] == value && std::memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

}  // namespace mmkit::testing
