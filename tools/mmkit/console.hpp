// SPDX-License-Identifier: MIT
//
// Console - the command's two streams: results on one, everything said to a person on the other.
//
// Results go to standard output in one piece, so that a pipe that is closed or a disk that is full
// is noticed and has an exit code. Standard error carries notes, warnings, the error and the
// progress line; that line is drawn only on a terminal whose foreground we are. Escape sequences
// are used only on a terminal, and not when NO_COLOR is set or TERM is "dumb".
//
// Locking: none: the command has one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace mmkit::tool {

enum class Chatter { normal, quiet };  // quiet: errors only
enum class ProgressMode { automatic, never };
enum class Tone { plain, strong, good, bad, faint };

class Console {
 public:
  /// The descriptors stay the caller's.
  Console(int result_fd, int message_fd) noexcept;
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;
  ~Console() { clear_line(); }

  void set_chatter(Chatter chatter) noexcept { chatter_ = chatter; }
  void set_progress(ProgressMode mode) noexcept { progress_ = mode; }

  /// Writes the whole text to the result stream. Throws a Problem (no_output) when that fails.
  void result(std::string_view text);

  /// One line each for a person; note() and warn() are silent when quiet. A stream that cannot be
  /// written is ignored: there is nobody left to tell.
  void note(std::string_view text) noexcept;
  void warn(std::string_view text) noexcept;
  void error(std::string_view text) noexcept;
  /// One line without a word of judgement in front, quiet or not.
  void announce(std::string_view text) noexcept;

  /// Whether a progress line would be seen.
  bool shows_progress() const noexcept;
  /// Whether the line on the screen is old enough to be replaced: lines are drawn at most ten times
  /// a second, whoever draws them.
  bool drawing_due() const noexcept;
  /// Columns of the message terminal now: asked each time, which makes a resized window right at
  /// the next drawing.
  unsigned message_columns() const noexcept;
  /// Puts one line of at most message_columns() - 1 plain characters in place of the one before.
  void draw_line(std::string_view line) noexcept;
  /// Removes the progress line and leaves the cursor at the start of an empty line.
  void clear_line() noexcept;

  /// Columns of the result stream when it is a terminal, else a number no table reaches.
  unsigned result_columns() const noexcept;
  /// The text, in the tone, when the result stream shows colours.
  std::string styled(std::string_view text, Tone tone) const;

 private:
  void say(std::string_view prefix, Tone tone, std::string_view text) noexcept;

  int result_fd_;
  int message_fd_;
  bool result_is_terminal_;
  bool message_is_terminal_;
  bool escapes_allowed_;
  Chatter chatter_ = Chatter::normal;
  ProgressMode progress_ = ProgressMode::automatic;
  std::size_t drawn_columns_ = 0;  // 0: no progress line is on the screen
  std::chrono::steady_clock::time_point next_drawing_{};
};

}  // namespace mmkit::tool
