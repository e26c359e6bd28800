// SPDX-License-Identifier: MIT
//
// Door to genalloc - ranges of memory that is never touched.
#pragma once

#include <mmkit/genalloc/allocation.hpp>  // IWYU pragma: export
#include <mmkit/genalloc/device.hpp>      // IWYU pragma: export
#include <mmkit/genalloc/fit.hpp>         // IWYU pragma: export
#include <mmkit/genalloc/gen_pool.hpp>    // IWYU pragma: export
#include <mmkit/genalloc/json.hpp>        // IWYU pragma: export
