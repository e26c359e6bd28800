// SPDX-License-Identifier: MIT
//
// Interrupt - lets a signal end the command between two steps, with its line cleared and its exit
// code set.
//
// The handler only stores the signal's number. Loops call stop_if_interrupted() between steps; the
// second signal of a kind has its default effect at once, should a step hang. A signal that was
// ignored at the start (nohup, a job in the background of a plain shell) stays ignored.
#pragma once

namespace mmkit::tool {

/// From now on SIGINT, SIGTERM and SIGHUP are noted. Call once, before any thread is started.
void watch_for_interrupts() noexcept;

/// Throws a Problem (130, 143 or 129) when one of them has come.
void stop_if_interrupted();

}  // namespace mmkit::tool
