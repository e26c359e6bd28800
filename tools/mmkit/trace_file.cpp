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

template <class Read>
auto read_from(const std::string& path, Read read) {
  OpenFile file(path);
  try {
    return read([&file](std::span<unsigned char> buffer) { return file.fill(buffer); });
  } catch (const replay::TraceError& error) {
    throw Problem(ExitCode::no_input, fmt::format("{}: offset {}: {}", in_quotes(path),
                                                  error.offset_bytes(), error.what()));
  }
}

}  // namespace

replay::GptTrace read_gpt_trace(const std::string& path) {
  return read_from(path, [](auto fill) { return replay::read_gpt(fill); });
}

AnyTrace read_trace(const std::string& path, TraceFormat format) {
  switch (format == TraceFormat::automatic ? format_of(path) : format) {
    case TraceFormat::u16:
      return read_from(path, [](auto fill) { return replay::read_u16(fill); });
    case TraceFormat::ops:
      return read_from(path, [](auto fill) { return replay::read_ops(fill); });
    case TraceFormat::gpt:
      return read_gpt_trace(path);
    case TraceFormat::automatic:
      break;
  }
  throw Problem(ExitCode::no_input,
                fmt::format("{} does not end in .u16, .ops or .gpt; --format says what it is",
                            in_quotes(path)));
}

std::optional<TraceFormat> format_named(std::string_view name) noexcept {
  if (name == "u16") return TraceFormat::u16;
  if (name == "ops") return TraceFormat::ops;
  if (name == "gpt") return TraceFormat::gpt;
  return std::nullopt;
}

TraceFormat format_of(const std::string& path) noexcept {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos) return TraceFormat::automatic;
  return format_named(std::string_view(path).substr(dot + 1)).value_or(TraceFormat::automatic);
}

void read_each(const std::vector<std::string>& paths, InputRule rule, Complaints& unreadable,
               Console& console, const std::function<void(const std::string&)>& read) {
  for (const std::string& path : paths) {
    try {
      read(path);
    } catch (const Problem& problem) {
      if (problem.code() != ExitCode::no_input) throw;
      unreadable.add(problem.what());
    }
  }
  if (unreadable.empty()) return;
  // One trace and no other: the error says it, a warning before it would say it twice.
  if (paths.size() == 1) throw Problem(ExitCode::no_input, unreadable.first().front());
  for (const std::string& text : unreadable.first()) console.warn(text);
  const bool none = unreadable.count() == paths.size();
  if (!none && rule == InputRule::lenient) return;
  throw Problem(
      ExitCode::no_input,
      fmt::format("{} of {} cannot be read{}", format_count(unreadable.count()),
                  format_counted(paths.size(), "trace"), none ? "" : ", and --strict is set"));
}

}  // namespace mmkit::tool
