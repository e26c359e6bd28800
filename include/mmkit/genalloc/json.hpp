// SPDX-License-Identifier: MIT
//
// JSON of a pool - its statistics, chunks and free runs, for tools and pictures.
#pragma once

#include <functional>
#include <mmkit/genalloc/gen_pool.hpp>
#include <string_view>

namespace mmkit {

/// Writes the pool as one JSON object, piece by piece. Its members: `name`, `granule_bytes`,
/// `stats`, an object; `chunks`, a list of objects of `start`, `size_bytes`, `available_bytes` and
/// `phys`; `free_runs`, a list of pairs `[start, size_bytes]`.
/// Addresses are decimal numbers; a byte of the name that is not ASCII becomes a question mark.
/// `sink` must not throw. Thread safety: safe; exact when the pool rests.
void write_json(const GenPool& pool, const std::function<void(std::string_view)>& sink) noexcept;

}  // namespace mmkit
