// SPDX-License-Identifier: MIT
//
// Door to everything - all parts by one include.
#pragma once

#include <mmkit/base.hpp>      // IWYU pragma: export
#include <mmkit/genalloc.hpp>  // IWYU pragma: export
#include <mmkit/page.hpp>      // IWYU pragma: export
#include <mmkit/percpu.hpp>    // IWYU pragma: export
#include <mmkit/zpool.hpp>     // IWYU pragma: export
