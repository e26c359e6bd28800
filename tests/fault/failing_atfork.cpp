// SPDX-License-Identifier: MIT
#include "fault/failing_atfork.hpp"

#include <atomic>
#include <cerrno>

extern "C" {
int __real_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)());  // NOLINT
int __wrap_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)());  // NOLINT
}

namespace {
// Sequentially consistent: this is no place to save.
std::atomic<int> failures_left{0};
std::atomic<int> registrations{0};
}  // namespace

namespace mmkit::testing {

void fail_registrations(int count) noexcept {
  failures_left = count;
}
int registration_failures_left() noexcept {
  return failures_left;
}
int fork_registrations() noexcept {
  return registrations;
}

}  // namespace mmkit::testing

int __wrap_pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) {
  if (failures_left > 0) {
    --failures_left;
    return ENOMEM;
  }
  ++registrations;
  return __real_pthread_atfork(prepare, parent, child);
}
