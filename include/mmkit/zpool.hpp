// SPDX-License-Identifier: MIT
//
// Door to zpool - pools of compressed objects behind handles.
#pragma once

#include <mmkit/page.hpp>                        // IWYU pragma: export
#include <mmkit/zpool/driver.hpp>                // IWYU pragma: export
#include <mmkit/zpool/handle.hpp>                // IWYU pragma: export
#include <mmkit/zpool/registry.hpp>              // IWYU pragma: export
#include <mmkit/zpool/shared_object_loader.hpp>  // IWYU pragma: export
#include <mmkit/zpool/zpool.hpp>                 // IWYU pragma: export
