// SPDX-License-Identifier: MIT
//
// Thread annotations - clang's -Wthread-safety attributes under our names; nothing elsewhere.
#pragma once

#if defined(__clang__)
#define MMKIT_ANNOTATION(x) __attribute__((x))
#else
#define MMKIT_ANNOTATION(x)
#endif

#define MMKIT_CAPABILITY(name) MMKIT_ANNOTATION(capability(name))
#define MMKIT_SCOPED_CAPABILITY MMKIT_ANNOTATION(scoped_lockable)
#define MMKIT_GUARDED_BY(lock) MMKIT_ANNOTATION(guarded_by(lock))
#define MMKIT_PT_GUARDED_BY(lock) MMKIT_ANNOTATION(pt_guarded_by(lock))
#define MMKIT_REQUIRES(...) MMKIT_ANNOTATION(requires_capability(__VA_ARGS__))
#define MMKIT_EXCLUDES(...) MMKIT_ANNOTATION(locks_excluded(__VA_ARGS__))
#define MMKIT_ACQUIRE(...) MMKIT_ANNOTATION(acquire_capability(__VA_ARGS__))
#define MMKIT_RELEASE(...) MMKIT_ANNOTATION(release_capability(__VA_ARGS__))
#define MMKIT_TRY_ACQUIRE(...) MMKIT_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define MMKIT_ASSERT_CAPABILITY(lock) MMKIT_ANNOTATION(assert_capability(lock))
#define MMKIT_RETURN_CAPABILITY(lock) MMKIT_ANNOTATION(lock_returned(lock))
// Each use says why the analysis cannot follow.
#define MMKIT_NO_THREAD_SAFETY_ANALYSIS MMKIT_ANNOTATION(no_thread_safety_analysis)
