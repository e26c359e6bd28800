// SPDX-License-Identifier: MIT
//
// Object pin - a shared object that contains restartable sequences stays loaded.
//
// A thread's rseq_cs goes on pointing at the descriptor of its last sequence until the kernel has a
// reason to look. If dlclose() unmapped that descriptor, the kernel would read an address that is
// gone and kill the program. Nothing can clear rseq_cs in threads that sleep. So each object that
// includes this header tells the dynamic linker, when it is loaded, never to unmap it: dlclose()
// still succeeds, and loading it again finds it as it was.
#pragma once

#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/mode.hpp>

#if MMKIT_PERCPU_HAS_RSEQ
namespace mmkit::detail {

/// Keeps the object that contains `address` loaded for ever. Nothing to do for the program itself.
void percpu_pin_object(const void* address) noexcept;

// Hidden, so that each object has one of its own and names an address of its own.
[[gnu::visibility("hidden")]] inline bool object_pinned = false;
[[gnu::visibility("hidden"), gnu::used, gnu::constructor]] inline void pin_this_object() noexcept {
  if (object_pinned) return;  // another file of this object was first
  object_pinned = true;
  MMKIT_MUTATE(MMKIT_MUTANT_percpu_object_not_pinned, percpu_pin_object(&object_pinned),
               static_cast<void>(0));
}

}  // namespace mmkit::detail
#endif
