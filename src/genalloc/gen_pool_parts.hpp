// SPDX-License-Identifier: MIT
//
// GenPool::Parts - what a pool is made of: its core, its policy, its name.
#pragma once

#include <cstddef>
#include <memory>
#include <mmkit/genalloc/gen_pool.hpp>
#include <string_view>

#include "genalloc/fit_cell.hpp"
#include "genalloc/pool_core.hpp"
#include "genalloc/sync.hpp"

namespace mmkit {

struct GenPool::Parts {
  using Core = genalloc::PoolCore<genalloc::DirectSync>;

  Parts(const Core::Options& options, const Fit& fit, std::unique_ptr<char[]> name_text,
        std::size_t name_bytes) noexcept
      : core(options), policy(fit), text(std::move(name_text)), name(text.get(), name_bytes) {}

  Core core;
  genalloc::FitCell<genalloc::DirectSync> policy;
  const std::unique_ptr<char[]> text;
  const std::string_view name;
};

}  // namespace mmkit
