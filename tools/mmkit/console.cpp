// SPDX-License-Identifier: MIT
#include "console.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

constexpr std::chrono::milliseconds kDrawingInterval{100};

// What a terminal that does not know its size is taken to be.
constexpr unsigned kUsualColumns = 80;

std::string_view environment(const char* name) noexcept {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view{} : std::string_view{value};
}

/// Writes all of it; 0 or the errno. A descriptor set to non-blocking by its other users is waited
/// for.
int write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      ::poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

unsigned columns_of(int fd) noexcept {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* told = std::getenv("COLUMNS");
  const int columns = told == nullptr ? 0 : std::atoi(told);
  return columns > 0 ? static_cast<unsigned>(columns) : kUsualColumns;
}

std::string_view escape_of(Tone tone) noexcept {
  switch (tone) {
    case Tone::plain:
      return "";
    case Tone::strong:
      return "\x1b[1m";
    case Tone::good:
      return "\x1b[32m";
    case Tone::bad:
      return "\x1b[1;31m";
    case Tone::faint:
      return "\x1b[2m";
  }
  return "";
}

std::string with_tone(std::string_view text, Tone tone, bool escapes) {
  const std::string_view start = escape_of(tone);
  if (!escapes || start.empty()) return std::string(text);
  return fmt::format("{}{}\x1b[0m", start, text);
}

}  // namespace

Console::Console(int result_fd, int message_fd) noexcept
    : result_fd_(result_fd),
      message_fd_(message_fd),
      result_is_terminal_(::isatty(result_fd) == 1),
      message_is_terminal_(::isatty(message_fd) == 1),
      escapes_allowed_(environment("NO_COLOR").empty() && environment("TERM") != "dumb") {}

void Console::result(std::string_view text) {
  clear_line();
  const int error = write_all(result_fd_, text);
  if (error == 0) return;
  throw Problem(ExitCode::no_output, fmt::format("the result cannot be written to standard "
                                                 "output: {}",
                                                 std::strerror(error)));
}

void Console::say(std::string_view prefix, Tone tone, std::string_view text) noexcept {
  clear_line();
  try {
    write_all(message_fd_,
              fmt::format("mmkit: {}{}\n",
                          with_tone(prefix, tone, message_is_terminal_ && escapes_allowed_), text));
  } catch (...) {
    // No memory for a message about no memory: the plain parts still go out.
    write_all(message_fd_, "mmkit: ");
    write_all(message_fd_, text);
    write_all(message_fd_, "\n");
  }
}

void Console::note(std::string_view text) noexcept {
  if (chatter_ == Chatter::normal) say("note: ", Tone::strong, text);
}

void Console::warn(std::string_view text) noexcept {
  if (chatter_ == Chatter::normal) say("warning: ", Tone::strong, text);
}

void Console::error(std::string_view text) noexcept {
  say("error: ", Tone::bad, text);
}

void Console::announce(std::string_view text) noexcept {
  say("", Tone::plain, text);
}

bool Console::shows_progress() const noexcept {
  if (!message_is_terminal_ || chatter_ == Chatter::quiet || progress_ == ProgressMode::never) {
    return false;
  }
  // A job in the background must not draw over what its user is typing. -1: not our controlling
  // terminal, so no jobs.
  const pid_t foreground = ::tcgetpgrp(message_fd_);
  return foreground < 0 || foreground == ::getpgrp();
}

bool Console::drawing_due() const noexcept {
  return std::chrono::steady_clock::now() >= next_drawing_;
}

unsigned Console::message_columns() const noexcept {
  return columns_of(message_fd_);
}

void Console::draw_line(std::string_view line) noexcept {
  if (!shows_progress()) return;
  write_all(message_fd_, "\r");
  write_all(message_fd_, line);
  if (escapes_allowed_) {
    write_all(message_fd_, "\x1b[K");
  } else {
    for (std::size_t column = line.size(); column < drawn_columns_; ++column) {
      write_all(message_fd_, " ");
    }
  }
  drawn_columns_ = line.size();
  next_drawing_ = std::chrono::steady_clock::now() + kDrawingInterval;
}

void Console::clear_line() noexcept {
  if (drawn_columns_ == 0) return;
  draw_line("");
  write_all(message_fd_, "\r");
  drawn_columns_ = 0;
}

unsigned Console::result_columns() const noexcept {
  return result_is_terminal_ ? columns_of(result_fd_) : std::numeric_limits<unsigned>::max();
}

std::string Console::styled(std::string_view text, Tone tone) const {
  return with_tone(text, tone, result_is_terminal_ && escapes_allowed_);
}

}  // namespace mmkit::tool
