// SPDX-License-Identifier: MIT
//
// CPU numbers - how many there may be, and on which one this thread was a moment ago.
#pragma once

namespace mmkit {

/// The CPU this thread ran on when asked: a hint, stale as soon as it is returned. Below
/// possible_cpus(). Thread safety: safe, also in signal handlers. Complexity: some nanoseconds.
unsigned current_cpu() noexcept;

/// How many CPU numbers there can be while this process lives: the kernel's possible CPUs, at least
/// one. Thread safety: safe. Complexity: reads the system once, then O(1).
unsigned possible_cpus() noexcept;

}  // namespace mmkit
