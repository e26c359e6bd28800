// SPDX-License-Identifier: MIT
//
// Complaints - what went wrong many times: the first few in words, the rest as a count.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mmkit::tool {

class Complaints {
 public:
  /// Enough to see what is wrong; a tree of a million unreadable files must not fill the screen.
  static constexpr std::size_t kShown = 5;

  void add(std::string text) {
    ++count_;
    if (first_.size() < kShown) first_.push_back(std::move(text));
  }
  bool empty() const noexcept { return count_ == 0; }
  std::uint64_t count() const noexcept { return count_; }
  /// At most kShown of them, oldest first.
  const std::vector<std::string>& first() const noexcept { return first_; }

 private:
  std::vector<std::string> first_;
  std::uint64_t count_ = 0;
};

}  // namespace mmkit::tool
