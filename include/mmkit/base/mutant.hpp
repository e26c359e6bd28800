// SPDX-License-Identifier: MIT
//
// Mutants - known bugs that a build compiles in on purpose, to prove that a test notices them.
//
// MMKIT_MUTATE(MMKIT_MUTANT_<name>, good, bad) is `good`. In a build configured with
// -DMMKIT_MUTANT=<name>, and in no other, it is `bad`. Each stands where a guard is easily lost: on a
// path that only threads, forks or misuse take. tests/mutants.txt names the test that must then
// fail, and scripts/mutants.sh sees to it.
//
// `good` and `bad` are tokens of any kind, without a comma outside of parentheses. A race whose
// window is a few nanoseconds is held open by `bad`, so that no test has to be lucky.
#pragma once

#include <time.h>

#include <mmkit/base/step.hpp>

namespace mmkit::detail {
/// For mutants alone: lets others run between two steps that belong together. Now and then, so that
/// a test which goes there often takes no minutes.
inline void hold_window_open() noexcept {
  if constexpr (kStepped) return step();
  static thread_local unsigned visits = 0;
  constexpr timespec kLongEnough{0, 20'000};
  if (++visits % 8 == 0) ::nanosleep(&kLongEnough, nullptr);
}
}  // namespace mmkit::detail

// The build defines MMKIT_MUTANT_<name> as 1, and 1 makes the probe two arguments instead of one: so
// `bad` moves to the second place, which is the one that is taken.
#define MMKIT_MUTATE(mutant, good, bad) MMKIT_MUTATE_PROBED(mutant, good, bad)
#define MMKIT_MUTATE_PROBED(mutant, good, bad) \
  MMKIT_MUTATE_SECOND(MMKIT_MUTATE_PROBE_##mutant bad, good, )
#define MMKIT_MUTATE_PROBE_1 0,
#define MMKIT_MUTATE_SECOND(...) MMKIT_MUTATE_PICK(__VA_ARGS__)
#define MMKIT_MUTATE_PICK(first, second, ...) second
