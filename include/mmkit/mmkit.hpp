// SPDX-License-Identifier: MIT
//
// The door to everything.
#pragma once

#include <mmkit/base.hpp>   // IWYU pragma: export
#include <mmkit/page.hpp>   // IWYU pragma: export
#include <mmkit/zpool.hpp>  // IWYU pragma: export
