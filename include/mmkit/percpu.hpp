// SPDX-License-Identifier: MIT
//
// Door to percpu - per-CPU memory and what is built of it.
#pragma once

#include <mmkit/percpu/counter.hpp>           // IWYU pragma: export
#include <mmkit/percpu/mode.hpp>              // IWYU pragma: export
#include <mmkit/percpu/percpu.hpp>            // IWYU pragma: export
#include <mmkit/percpu/percpu_allocator.hpp>  // IWYU pragma: export
#include <mmkit/percpu/percpu_ptr.hpp>        // IWYU pragma: export
#include <mmkit/percpu/ref.hpp>               // IWYU pragma: export
#include <mmkit/percpu/stack.hpp>             // IWYU pragma: export
#include <mmkit/percpu/static_percpu.hpp>     // IWYU pragma: export
#include <mmkit/percpu/stride.hpp>            // IWYU pragma: export
#include <mmkit/percpu/this_cpu.hpp>          // IWYU pragma: export
