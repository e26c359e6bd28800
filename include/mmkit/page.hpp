// SPDX-License-Identifier: MIT
//
// Page - the door to the page layer: runs of real memory from a simulated kernel page allocator.
#pragma once

#include <mmkit/page/default_page_source.hpp>  // IWYU pragma: export
#include <mmkit/page/page_size.hpp>            // IWYU pragma: export
#include <mmkit/page/page_source.hpp>          // IWYU pragma: export
#include <mmkit/page/sim_page_allocator.hpp>   // IWYU pragma: export
