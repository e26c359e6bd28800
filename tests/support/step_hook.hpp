// SPDX-License-Identifier: MIT
//
// StepHook - what a test does before each access of a thread to memory that others change.
#pragma once

namespace mmkit::testing {

/// What happens before each access. One a thread at a time.
class StepHook {
 public:
  virtual ~StepHook() = default;
  virtual void step() noexcept = 0;
  /// Instead of a wait for another.
  virtual void wait() noexcept { step(); }
};

inline thread_local StepHook* step_hook = nullptr;

inline void one_step() noexcept {
  if (step_hook != nullptr) step_hook->step();
}

/// Sets the hook of this thread for a scope.
class Hooked {
 public:
  explicit Hooked(StepHook* hook) noexcept : before_(step_hook) { step_hook = hook; }
  Hooked(const Hooked&) = delete;
  Hooked& operator=(const Hooked&) = delete;
  ~Hooked() { step_hook = before_; }

 private:
  StepHook* before_;
};

}  // namespace mmkit::testing
