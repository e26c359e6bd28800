// SPDX-License-Identifier: MIT
#include "page_reader.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>

#include "interrupt.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

// One read(2) per 256 pages: the call's cost vanishes, the buffer stays in the second-level cache.
constexpr std::size_t kBufferBytes = 256 * kPageSize;

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

class Reader {
 public:
  Reader(std::uint64_t limit_pages, const PageSink& sink)
      : limit_pages_(limit_pages),
        sink_(sink),
        buffer_(std::make_unique<std::byte[]>(kBufferBytes)) {}

  bool full() const noexcept { return summary_.pages >= limit_pages_; }

  void file(const InputFile& file, std::size_t file_index) {
    // O_NONBLOCK: should the name have become a pipe since the walk, the open does not wait for a
    // writer.
    const FileDescriptor fd(
        ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (fd.get() < 0) {
      summary_.unreadable.add(file_problem(file.path, errno));
      return;
    }
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
      complain(file, "is no longer a regular file");
      return;
    }
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    contents(fd.get(), file, file_index);
  }

  void note_cut() noexcept { summary_.cut = true; }
  ReadSummary take() { return std::move(summary_); }

 private:
  void complain(const InputFile& file, std::string_view what) {
    summary_.unreadable.add(fmt::format("{}: {}", in_quotes(file.path), what));
  }

  void contents(int fd, const InputFile& file, std::size_t file_index) {
    std::uint64_t done_bytes = 0;
    while (done_bytes < file.size_bytes) {
      if (full()) {
        summary_.cut = true;
        break;
      }
      const std::uint64_t room_bytes =
          std::min<std::uint64_t>({kBufferBytes, file.size_bytes - done_bytes,
                                   (limit_pages_ - summary_.pages) * kPageSize});
      int error = 0;
      const std::size_t got_bytes = fill(fd, static_cast<std::size_t>(room_bytes), error);
      deliver(got_bytes, file_index);
      done_bytes += got_bytes;
      if (error != 0) {
        complain(file, fmt::format("{} at byte {}", std::strerror(error), done_bytes));
        break;
      }
      if (got_bytes < room_bytes) {
        summary_.shrunk.add(fmt::format("{} became shorter while it was read: {} of {} bytes",
                                        in_quotes(file.path), done_bytes, file.size_bytes));
        break;
      }
    }
    summary_.bytes += done_bytes;
    if (done_bytes > 0) ++summary_.files;
  }

  /// Reads until the buffer holds `wanted` bytes, the file ends, or an error.
  std::size_t fill(int fd, std::size_t wanted, int& error) {
    std::size_t got = 0;
    while (got < wanted) {
      const ssize_t count = ::read(fd, buffer_.get() + got, wanted - got);
      if (count > 0) {
        got += static_cast<std::size_t>(count);
      } else if (count == 0) {
        break;
      } else if (errno == EINTR) {
        stop_if_interrupted();
      } else {
        error = errno;
        break;
      }
    }
    return got;
  }

  void deliver(std::size_t got_bytes, std::size_t file_index) {
    const std::size_t tail_bytes = got_bytes % kPageSize;
    const std::size_t padding_bytes = tail_bytes == 0 ? 0 : kPageSize - tail_bytes;
    std::memset(buffer_.get() + got_bytes, 0, padding_bytes);
    summary_.padding_bytes += padding_bytes;
    for (std::size_t at = 0; at < got_bytes; at += kPageSize) {
      ++summary_.pages;
      sink_(PageBytes(buffer_.get() + at, kPageSize), file_index);
    }
  }

  std::uint64_t limit_pages_;
  const PageSink& sink_;
  std::unique_ptr<std::byte[]> buffer_;
  ReadSummary summary_;
};

}  // namespace

ReadSummary read_pages(std::span<const InputFile> files, std::uint64_t limit_pages,
                       const PageSink& sink) {
  Reader reader(limit_pages, sink);
  for (std::size_t index = 0; index < files.size(); ++index) {
    if (reader.full()) {
      reader.note_cut();
      break;
    }
    reader.file(files[index], index);
  }
  return reader.take();
}

}  // namespace mmkit::tool
