// SPDX-License-Identifier: MIT
//
// Asan fork - keeps AddressSanitizer's heap whole in the children of busy parents.
//
// Up to clang 16 its runtime does not hold the locks of its heap across a fork: a child then waits for
// ever for a lock that another thread of its parent held. Later runtimes do what is done here. Linked
// into every test executable; empty without that sanitizer. g++'s runtime has the same fault and
// offers no way to its locks.
#if defined(__clang__) && __clang_major__ < 17
#if __has_feature(address_sanitizer)

// What pthread_atfork() calls, which tests replace to see the library's registrations fail.
extern "C" int __register_atfork(void (*before)(), void (*in_parent)(), void (*in_child)(),
                                 void* shared_object);
// Of the runtime, which is linked into the executable: both of its leak checker's interface.
namespace __lsan {
void LockAllocator();
void UnlockAllocator();
}  // namespace __lsan

namespace {

// Registered before all others, and so the last to run before the fork and the first after it: nobody
// waits for a lock of ours while the heap is held.
[[gnu::constructor(101)]] void hold_heap_across_forks() {
  ::__register_atfork(__lsan::LockAllocator, __lsan::UnlockAllocator, __lsan::UnlockAllocator,
                      nullptr);
}

}  // namespace

#endif
#endif
