// SPDX-License-Identifier: MIT
#include "output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "exit_code.hpp"
#include "interrupt.hpp"
#include "units.hpp"

namespace mmkit::tool {

void write_file(const std::string& path, std::string_view what, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  int error = fd < 0 ? errno : 0;
  while (error == 0 && !text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EINTR) {
      stop_if_interrupted();
    } else {
      error = errno;
    }
  }
  // Network file systems report a full disk only here.
  if (fd >= 0 && ::close(fd) != 0 && error == 0) error = errno;
  if (error == 0) return;
  throw Problem(ExitCode::no_output, fmt::format("{} cannot be written to {}: {}", what,
                                                 in_quotes(path), std::strerror(error)));
}

}  // namespace mmkit::tool
