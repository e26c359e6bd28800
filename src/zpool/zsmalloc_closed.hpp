// SPDX-License-Identifier: MIT
//
// Closed - zspages that became empty under their class's lock, to be given back without it.
#pragma once

#include <mmkit/zpool/zsmalloc.hpp>
#include <utility>

namespace mmkit {

class ZsmallocPool::Closed {
 public:
  Closed() noexcept = default;
  Closed(const Closed&) = delete;
  Closed& operator=(const Closed&) = delete;
  ~Closed() { MMKIT_ASSERT(first_ == nullptr); }

  void push(Zspage& zspage) noexcept { zspage.chain(std::exchange(first_, &zspage)); }
  Zspage* pop() noexcept {
    Zspage* zspage = first_;
    if (zspage != nullptr) first_ = zspage->chained();
    return zspage;
  }

 private:
  Zspage* first_ = nullptr;
};

}  // namespace mmkit
