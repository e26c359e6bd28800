// SPDX-License-Identifier: MIT
//
// FailingAtfork - makes the system refuse fork handlers, by the linker's --wrap=pthread_atfork.
//
// Handlers last as long as the process, and the library registers its own once: a test that wants to
// see that first time needs a process of its own.
#pragma once

namespace mmkit::testing {

/// The next `count` registrations fail with ENOMEM.
void fail_registrations(int count) noexcept;
/// Failures that are still to come.
int registration_failures_left() noexcept;
/// Registrations that went well.
int fork_registrations() noexcept;

}  // namespace mmkit::testing
