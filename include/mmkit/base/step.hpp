// SPDX-License-Identifier: MIT
//
// Step - where another thread may come in between, named for tests that choose when it does.
//
// In a build with MMKIT_STEPS the tests give step(), which is called before each access to memory that
// other threads change without a lock, and step_while_waiting(), which is called instead of a wait. They
// switch between fibers of one thread, so every interleaving can be had, and had again. In all other
// builds there is nothing here.
#pragma once

#ifndef MMKIT_STEPS
#define MMKIT_STEPS 0
#endif

namespace mmkit::detail {

#if MMKIT_STEPS
inline constexpr bool kStepped = true;
/// Another may go on here.
void step() noexcept;
/// Another must: this one cannot go on before.
void step_while_waiting() noexcept;
#else
inline constexpr bool kStepped = false;
inline void step() noexcept {}
inline void step_while_waiting() noexcept {}
#endif

}  // namespace mmkit::detail
