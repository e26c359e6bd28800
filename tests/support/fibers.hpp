// SPDX-License-Identifier: MIT
//
// FiberSchedule - several threads of control on one thread, switched where a schedule says.
//
// A fiber runs until the step at which the schedule preempts it; a fiber that ends hands over to the
// next one that has not, and so does one that waits. So a run is repeated exactly by its schedule, an interleaving costs some
// microseconds, and a million of them is an ordinary test.
// Units:   steps, counted over all fibers from 1
// Locking: none: one thread
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "support/step_hook.hpp"

#if defined(__SANITIZE_THREAD__)
#define MMKIT_FIBERS_TELL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MMKIT_FIBERS_TELL_TSAN 1
#endif
#endif
#ifdef MMKIT_FIBERS_TELL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace mmkit::testing {

/// Before which step whose turn it becomes.
struct Preemption {
  std::uint64_t step;
  unsigned fiber;
};

class FiberSchedule final : private StepHook {
 public:
  explicit FiberSchedule(unsigned fibers) : fibers_(fibers) {
    for (Fiber& fiber : fibers_) fiber.stack.reset(new char[kStackBytes]);
  }

  /// Runs body(fiber) for each; returns the steps it took. `preemptions` ascend.
  std::uint64_t run(const std::vector<Preemption>& preemptions,
                    const std::function<void(unsigned)>& body) {
    preemptions_ = &preemptions;
    next_ = 0;
    steps_ = 0;
    body_ = &body;
    for (unsigned i = 0; i < fibers_.size(); ++i) prepare(i);
#ifdef MMKIT_FIBERS_TELL_TSAN
    home_known_ = __tsan_get_current_fiber();
#endif
    const Hooked hooked(this);
    current_ = 0;
    switch_to(&home_, 0);
#ifdef MMKIT_FIBERS_TELL_TSAN
    for (Fiber& fiber : fibers_) __tsan_destroy_fiber(fiber.known);
#endif
    return steps_;
  }
  std::uint64_t now() const {
    return steps_;
  }

 private:
  static constexpr std::size_t kStackBytes = std::size_t{64} << 10;
  static constexpr unsigned kHome = ~0u;

  struct Fiber {
    std::unique_ptr<char[]> stack;
    ucontext_t context;
    bool done = false;
#ifdef MMKIT_FIBERS_TELL_TSAN
    void* known = nullptr;
#endif
  };

  // Apart from the loop over them: a context comes back as a jump does, which a loop's counter in a
  // register might not outlive.
  void prepare(unsigned index) {
    Fiber& fiber = fibers_[index];
    fiber.done = false;
    ::getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    const auto self = reinterpret_cast<std::uintptr_t>(this);
    ::makecontext(&fiber.context, reinterpret_cast<void (*)()>(&enter), 3,
                  static_cast<unsigned>(self), static_cast<unsigned>(self >> 32), index);
#ifdef MMKIT_FIBERS_TELL_TSAN
    fiber.known = __tsan_create_fiber(0);
#endif
  }
  static void enter(unsigned low, unsigned high, unsigned index) {
    auto* const self =
        reinterpret_cast<FiberSchedule*>(std::uintptr_t{high} << 32 | std::uintptr_t{low});
    (*self->body_)(index);
    self->fibers_[index].done = true;
    self->leave(index);
  }
  void leave(unsigned index) {
    for (unsigned i = 0; i < fibers_.size(); ++i) {
      if (fibers_[i].done) continue;
      current_ = i;
      switch_to(&fibers_[index].context, i);
    }
    switch_to(&fibers_[index].context, kHome);
  }
  void switch_to(ucontext_t* from, unsigned to) {
#ifdef MMKIT_FIBERS_TELL_TSAN
    __tsan_switch_to_fiber(to == kHome ? home_known_ : fibers_[to].known, 0);
#endif
    ::swapcontext(from, to == kHome ? &home_ : &fibers_[to].context);
  }
  void step() noexcept override {
    ++steps_;
    while (next_ < preemptions_->size() && (*preemptions_)[next_].step <= steps_) {
      const unsigned to = (*preemptions_)[next_++].fiber % static_cast<unsigned>(fibers_.size());
      if (to == current_ || fibers_[to].done) continue;
      const unsigned from = current_;
      current_ = to;
      switch_to(&fibers_[from].context, to);
      return;
    }
  }

  // The next one around that has not ended. If there is none, nobody is left to wait for.
  void wait() noexcept override {
    ++steps_;
    const unsigned from = current_;
    do {
      current_ = (current_ + 1) % static_cast<unsigned>(fibers_.size());
    } while (fibers_[current_].done);
    if (current_ == from) std::abort();
    switch_to(&fibers_[from].context, current_);
  }

  std::vector<Fiber> fibers_;
  ucontext_t home_;
  const std::vector<Preemption>* preemptions_ = nullptr;
  const std::function<void(unsigned)>* body_ = nullptr;
  std::size_t next_ = 0;
  std::uint64_t steps_ = 0;
  unsigned current_ = 0;
#ifdef MMKIT_FIBERS_TELL_TSAN
  void* home_known_ = nullptr;
#endif
};

}  // namespace mmkit::testing
