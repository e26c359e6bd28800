// SPDX-License-Identifier: MIT
//
// Door to genalloc - ranges of memory that is never touched.
#pragma once

#include <mmkit/genalloc/fit.hpp>       // IWYU pragma: export
#include <mmkit/genalloc/gen_pool.hpp>  // IWYU pragma: export
