// SPDX-License-Identifier: MIT
#include "spill_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "exit_code.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

std::string usual_directory() {
  const char* named = std::getenv("TMPDIR");
  return named != nullptr && *named != '\0' ? named : "/tmp";
}

/// O_TMPFILE where the file system has it, else a file whose name goes at once.
int open_nameless(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  std::string pattern = directory + "/mmkit-spill-XXXXXX";
  const int named = ::mkostemp(pattern.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(pattern.c_str());
  return named;
}

}  // namespace

SpillFile::SpillFile(const std::string& directory) {
  const std::string place = directory.empty() ? usual_directory() : directory;
  fd_ = open_nameless(place);
  if (fd_ >= 0) return;
  throw Problem(ExitCode::no_output, fmt::format("there can be no spill file in {}: {}",
                                                 in_quotes(place), std::strerror(errno)));
}

SpillFile::~SpillFile() {
  ::close(fd_);
}

std::optional<std::uint64_t> SpillFile::append(std::span<const std::byte> object) noexcept {
  const std::uint64_t begin_bytes = size_bytes_;
  std::uint64_t end_bytes = begin_bytes;
  while (error_ == 0 && !object.empty()) {
    const ssize_t written =
        ::pwrite(fd_, object.data(), object.size(), static_cast<off_t>(end_bytes));
    if (written > 0) {
      object = object.subspan(static_cast<std::size_t>(written));
      end_bytes += static_cast<std::uint64_t>(written);
    } else if (written == 0) {
      error_ = ENOSPC;
    } else if (errno != EINTR) {
      error_ = errno;
    }
  }
  if (error_ != 0) return std::nullopt;
  size_bytes_ = end_bytes;
  return begin_bytes;
}

void SpillFile::read(std::uint64_t offset_bytes, std::span<std::byte> object) const {
  while (!object.empty()) {
    const ssize_t got =
        ::pread(fd_, object.data(), object.size(), static_cast<off_t>(offset_bytes));
    if (got > 0) {
      object = object.subspan(static_cast<std::size_t>(got));
      offset_bytes += static_cast<std::uint64_t>(got);
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    throw Problem(ExitCode::verification_failed,
                  fmt::format("the spill file cannot be read at offset {}: {}", offset_bytes,
                              got == 0 ? "it ends there" : std::strerror(errno)));
  }
}

void SpillFile::report_error() const {
  throw Problem(ExitCode::no_output,
                fmt::format("the spill file cannot be written: {} (after {}; --spill names another "
                            "directory, a larger --limit needs less)",
                            std::strerror(error_), format_bytes(size_bytes_)));
}

}  // namespace mmkit::tool
