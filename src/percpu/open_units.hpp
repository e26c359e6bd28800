// SPDX-License-Identifier: MIT
//
// Open units - the marks behind percpu_ptr.hpp, as the allocators see them.
#pragma once

namespace mmkit::detail {

/// Says that an allocator with so many units exists (or existed). Thread safety: safe.
void percpu_announce_units(unsigned units) noexcept;

}  // namespace mmkit::detail
