// SPDX-License-Identifier: MIT
//
// Pinned - keeps the calling thread on the CPU it is on, while this lives.
//
// A pool may keep things by CPU. A figure that has to be the same in every run is taken by a thread
// that does not move; where the system does not allow that, the thread goes on as it was.
#pragma once

#include <sched.h>

#include <cstddef>

namespace mmkit::bench {

class Pinned {
 public:
  Pinned() noexcept {
    const int cpu = ::sched_getcpu();
    if (cpu < 0 || ::sched_getaffinity(0, sizeof before_, &before_) != 0) return;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(static_cast<std::size_t>(cpu), &here);
    pinned_ = ::sched_setaffinity(0, sizeof here, &here) == 0;
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() {
    if (pinned_) ::sched_setaffinity(0, sizeof before_, &before_);
  }

 private:
  cpu_set_t before_{};
  bool pinned_ = false;
};

}  // namespace mmkit::bench
