// SPDX-License-Identifier: MIT
//
// Door to base - errors, results, checks, flags.
#pragma once

#include <mmkit/base/bits.hpp>     // IWYU pragma: export
#include <mmkit/base/check.hpp>    // IWYU pragma: export
#include <mmkit/base/cpu.hpp>      // IWYU pragma: export
#include <mmkit/base/errc.hpp>     // IWYU pragma: export
#include <mmkit/base/gfp.hpp>      // IWYU pragma: export
#include <mmkit/base/result.hpp>   // IWYU pragma: export
#include <mmkit/base/version.hpp>  // IWYU pragma: export
