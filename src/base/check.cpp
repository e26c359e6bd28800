// SPDX-License-Identifier: MIT
#include <mmkit/base/check.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <mmkit/base/result.hpp>

namespace mmkit {
namespace {

// Null means the default handler. The orders pair a handler's publication with its use.
constinit std::atomic<FailureHandler> failure_handler{nullptr};
constinit std::atomic<FailureHandler> leak_handler{nullptr};
static_assert(std::atomic<FailureHandler>::is_always_lock_free, "set in signal handlers too");

// Longest line written: a longer name is cut, the fault and the value are not.
constexpr std::size_t kLineBytes = 512;
constexpr std::size_t kLongestName = 256;

// Appends to a buffer of fixed size and never past it.
class Line {
 public:
  Line(char* out, std::size_t capacity) noexcept : out_(out), capacity_(capacity) {}

  void text(std::string_view part) noexcept {
    const std::size_t length = std::min(part.size(), capacity_ - used_);
    if (length != 0) std::memcpy(out_ + used_, part.data(), length);
    used_ += length;
  }
  void number(std::uint64_t value, int base) noexcept {
    char digits[20];
    const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, value, base);
    text({digits, static_cast<std::size_t>(end.ptr - digits)});
  }
  std::size_t size() const noexcept { return used_; }

 private:
  char* out_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

void describe(Line& line, const FailureReport& report) noexcept {
  line.text("mmkit: ");
  line.text(report.part.substr(0, kLongestName / 2));
  if (!report.object.empty()) {
    line.text(" pool '");
    line.text(report.object.substr(0, kLongestName));
    line.text(report.object.size() > kLongestName ? "...'" : "'");
  }
  line.text(": ");
  line.text(report.fault);
}

// One write, so that lines of several threads do not mix. A short write is not continued: there is
// nobody left to tell. errno stays as it was, because the program goes on after a leak.
void print(const char* text, std::size_t length) noexcept {
  const int before = errno;
  while (::write(STDERR_FILENO, text, length) < 0 && errno == EINTR) {
  }
  errno = before;
}

void print_failure(const FailureReport& report) noexcept {
  char buffer[kLineBytes];
  std::size_t length = format_report(report, buffer, sizeof buffer - 1);
  buffer[length++] = '\n';
  print(buffer, length);
}

void print_leak(const FailureReport& report) noexcept {
  char buffer[kLineBytes];
  Line line(buffer, sizeof buffer);
  describe(line, report);
  line.text(": ");
  line.number(report.value, 10);
  line.text("\n");
  print(buffer, line.size());
}

}  // namespace

FailureHandler set_failure_handler(FailureHandler handler) noexcept {
  return failure_handler.exchange(handler, std::memory_order_acq_rel);
}

FailureHandler set_leak_handler(FailureHandler handler) noexcept {
  return leak_handler.exchange(handler, std::memory_order_acq_rel);
}

std::size_t format_report(const FailureReport& report, char* out, std::size_t capacity) noexcept {
  Line line(out, capacity);
  describe(line, report);
  line.text(" 0x");
  line.number(report.value, 16);
  return line.size();
}

[[noreturn]] void report_failure(const FailureReport& report) noexcept {
  const FailureHandler handler = failure_handler.load(std::memory_order_acquire);
  (handler != nullptr ? handler : print_failure)(report);
  std::abort();
}

void report_leak(const FailureReport& report) noexcept {
  const FailureHandler handler = leak_handler.load(std::memory_order_acquire);
  (handler != nullptr ? handler : print_leak)(report);
}

namespace detail {

void check_failed(const char* condition, const char* file, unsigned line) noexcept {
  char place[kLongestName / 2];
  Line part(place, sizeof place);
  part.text(file);
  part.text(":");
  part.number(line, 10);
  char words[256];
  Line fault(words, sizeof words);
  fault.text("check failed: ");
  fault.text(std::string_view(condition).substr(0, sizeof words - 32));
  fault.text(", line");
  report_failure({{place, part.size()}, {}, {words, fault.size()}, line});
}

void value_of_failed_result(Errc code) noexcept {
  char text[64];
  Line part(text, sizeof text);
  part.text("result ");
  part.text(name(code));
  report_failure({{text, part.size()},
                  {},
                  "value of a failed result",
                  static_cast<std::uint64_t>(static_cast<int>(code))});
}

}  // namespace detail
}  // namespace mmkit
