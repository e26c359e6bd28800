// SPDX-License-Identifier: MIT
//
// SpillFile - where objects go that a pool with a limit has no room for: a file without a name, gone
// with the process however that ends.
//
// Objects lie one after the other; the room of one that is dropped is not used again.
// Locking: none: the caller serialises
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace mmkit::tool {

/// What a pool may hold, and where the rest goes.
struct SpillPlan {
  std::uint64_t limit_bytes = 0;  // 0: no limit, and no file
  std::string directory;          // empty: as SpillFile says
};

class SpillFile {
 public:
  /// A new file in the directory; an empty name means TMPDIR, or else /tmp. Throws a Problem
  /// (no_output).
  explicit SpillFile(const std::string& directory);
  /// Takes over an open file.
  explicit SpillFile(int fd) noexcept : fd_(fd) {}
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;
  ~SpillFile();

  /// Writes an object behind the others; its offset. Nothing: it cannot be written, now and from now
  /// on, and error() says why.
  std::optional<std::uint64_t> append(std::span<const std::byte> object) noexcept;
  /// Reads an object that was written. Throws a Problem (verification_failed) when it is not there.
  void read(std::uint64_t offset_bytes, std::span<std::byte> object) const;

  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  /// The errno of the first failure; 0: none.
  int error() const noexcept { return error_; }
  /// Ends the command with that error (no_output).
  [[noreturn]] void report_error() const;

 private:
  int fd_;
  std::uint64_t size_bytes_ = 0;
  int error_ = 0;
};

}  // namespace mmkit::tool
