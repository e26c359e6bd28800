// SPDX-License-Identifier: MIT
//
// Fork token - what percpu_lock_token() counts.
#pragma once

#include <mmkit/base/result.hpp>

namespace mmkit::detail {

/// From now on the child of a fork has a token of its own. Called before the first per-CPU memory is
/// given out: nobody has a lock to leave behind before. Errors: out_of_memory. Thread safety: safe.
Status percpu_watch_forks() noexcept;

}  // namespace mmkit::detail
