// SPDX-License-Identifier: MIT
//
// Captured failures - what the library reported, kept for a test to look at.
//
// A failure handler that returns is followed by abort, so a failure can only be seen by a death
// test: print_failure_fields shows its fields there. Leaks end nothing: CapturedLeaks keeps them.
// Locking:    CapturedLeaks has a lock of its own; one of them at a time
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <mmkit/base/check.hpp>
#include <mutex>
#include <string>
#include <vector>

namespace mmkit::testing {

/// A FailureReport that outlives the call of the handler.
struct CapturedReport {
  std::string part;
  std::string object;
  std::string fault;
  std::uint64_t value = 0;

  bool operator==(const CapturedReport&) const = default;
};

/// Takes the leak reports of the process while it lives; the handler before comes back after it.
class CapturedLeaks {
 public:
  CapturedLeaks() {
    const std::lock_guard lock(mutex());
    taken().clear();
    before_ = set_leak_handler(&take);
  }
  CapturedLeaks(const CapturedLeaks&) = delete;
  CapturedLeaks& operator=(const CapturedLeaks&) = delete;
  ~CapturedLeaks() { set_leak_handler(before_); }

  /// What was reported so far, oldest first.
  std::vector<CapturedReport> reports() const {
    const std::lock_guard lock(mutex());
    return taken();
  }

 private:
  static void take(const FailureReport& report) noexcept {
    const std::lock_guard lock(mutex());
    taken().push_back({std::string(report.part), std::string(report.object),
                       std::string(report.fault), report.value});
  }
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  static std::vector<CapturedReport>& taken() {
    static std::vector<CapturedReport> instance;
    return instance;
  }

  FailureHandler before_;
};

/// A failure handler for death tests: prints `[part|object|fault|value]`, then the library aborts.
inline void print_failure_fields(const FailureReport& report) noexcept {
  std::fprintf(stderr, "[%.*s|%.*s|%.*s|%llu]\n", static_cast<int>(report.part.size()),
               report.part.data(), static_cast<int>(report.object.size()), report.object.data(),
               static_cast<int>(report.fault.size()), report.fault.data(),
               static_cast<unsigned long long>(report.value));
}

/// A text stream of the process, such as standard error, read back: what is written to the file
/// descriptor while this lives goes into a pipe. For up to 64 KiB, the room in a pipe.
class CapturedDescriptor {
 public:
  explicit CapturedDescriptor(int descriptor)
      : descriptor_(descriptor), before_(::dup(descriptor)) {
    if (before_ < 0 || ::pipe(pipe_) != 0 || ::dup2(pipe_[1], descriptor) < 0) std::abort();
  }
  CapturedDescriptor(const CapturedDescriptor&) = delete;
  CapturedDescriptor& operator=(const CapturedDescriptor&) = delete;
  ~CapturedDescriptor() {
    if (before_ >= 0) restore();
    ::close(pipe_[0]);
  }

  /// Ends the capture and returns what was written.
  std::string text() {
    restore();
    std::string all;
    char part[4096];
    for (ssize_t length; (length = ::read(pipe_[0], part, sizeof part)) > 0;) {
      all.append(part, static_cast<std::size_t>(length));
    }
    return all;
  }

 private:
  void restore() {
    ::dup2(before_, descriptor_);
    ::close(before_);
    ::close(pipe_[1]);
    before_ = -1;
  }

  int descriptor_;
  int before_;
  int pipe_[2] = {-1, -1};
};

}  // namespace mmkit::testing
