// SPDX-License-Identifier: MIT
#include "trace_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "exit_code.hpp"
#include "input_walk.hpp"
#include "interrupt.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)) {
    if (fd_ >= 0) return;
    const int error = errno;
    stop_if_interrupted();  // a pipe that nobody writes to
    throw Problem(ExitCode::no_input, file_problem(path, error));
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(fd_); }

  /// Reads until the buffer is full or the input ends.
  std::size_t fill(std::span<unsigned char> buffer) {
    std::size_t got = 0;
    while (got < buffer.size()) {
      const ssize_t count = ::read(fd_, buffer.data() + got, buffer.size() - got);
      if (count == 0) break;
      if (count > 0) {
        got += static_cast<std::size_t>(count);
      } else if (errno == EINTR) {
        stop_if_interrupted();
      } else {
        throw Problem(ExitCode::no_input, file_problem(path_, errno));
      }
    }
    stop_if_interrupted();
    return got;
  }

 private:
  const std::string& path_;
  int fd_;
};

}  // namespace

replay::GptTrace read_trace(const std::string& path) {
  OpenFile file(path);
  try {
    return replay::read_gpt([&file](std::span<unsigned char> buffer) { return file.fill(buffer); });
  } catch (const replay::GptError& error) {
    throw Problem(ExitCode::no_input, fmt::format("{}: offset {}: {}", in_quotes(path),
                                                  error.offset_bytes(), error.what()));
  }
}

}  // namespace mmkit::tool
