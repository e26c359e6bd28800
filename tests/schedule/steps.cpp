// SPDX-License-Identifier: MIT
//
// The steps of the library, told to the hook of the running thread.
#include <mmkit/base/step.hpp>

#include "support/step_hook.hpp"

namespace mmkit::detail {

void step() noexcept {
  testing::one_step();
}
void step_while_waiting() noexcept {
  if (testing::step_hook != nullptr) testing::step_hook->wait();
}

}  // namespace mmkit::detail
