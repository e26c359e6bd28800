// SPDX-License-Identifier: MIT
#include <mmkit/genalloc/gen_pool.hpp>

#include <cstring>
#include <mmkit/base/bits.hpp>
#include <mmkit/base/check.hpp>
#include <mmkit/base/cpu.hpp>
#include <new>
#include <utility>

#include "base/probe.hpp"
#include "genalloc/gen_pool_parts.hpp"
#include "genalloc/pool_core_chunks.hpp"
#include "genalloc/pool_core_frees.hpp"
#include "genalloc/pool_core_runs.hpp"

namespace mmkit {
namespace {

using genalloc::ChunkGeometry;
using genalloc::Fault;
using genalloc::FitKind;
using Access = detail::FitAccess;

constexpr std::string_view kPart = "genalloc";
constexpr unsigned kHighestOrder = 47;

// Whether a policy's number makes sense for a pool of that granule.
bool sound(const Fit& fit, unsigned order) noexcept {
  switch (Access::kind(fit)) {
    case FitKind::align:
      return is_power_of_two(Access::param(fit));
    case FitKind::fixed:
      return is_aligned(Access::param(fit), std::uint64_t{1} << order);
    default:
      return true;
  }
}

std::string_view name_of(Fault fault) noexcept {
  switch (fault) {
    case Fault::none:
      break;
    case Fault::no_chunk:
      return "address in no chunk";
    case Fault::misaligned:
      return "misaligned address";
    case Fault::past_end:
      return "free past the end of the chunk";
    case Fault::not_taken:
      return "free of memory not allocated";
    case Fault::wrong_size:
      return "size differs from the allocation";
  }
  return "no fault";
}

}  // namespace

// ---------------------------------------------------------------- life

GenPool::GenPool(std::unique_ptr<Parts> parts) noexcept : parts_(std::move(parts)) {}

Result<std::unique_ptr<GenPool>> GenPool::create(const GenPoolOptions& options) noexcept {
  if (options.min_alloc_order > kHighestOrder) return fail(Errc::invalid_argument);
  if (!sound(options.fit, options.min_alloc_order)) return fail(Errc::invalid_argument);
  const std::size_t bytes = options.name.size();
  std::unique_ptr<char[]> name(new (std::nothrow) char[bytes + 1]);
  if (name == nullptr) return fail(Errc::out_of_memory);
  std::memcpy(name.get(), options.name.data(), bytes);

  Parts::Core::Options core;
  core.order = options.min_alloc_order;
  const bool best = Access::kind(options.fit) == FitKind::best;
  core.indexes = best ? genalloc::kLengthsLive : genalloc::kBoundsLive;
  core.starts = options.track_boundaries;
  core.host = options.kind == AddressKind::host;
  core.cpus = possible_cpus();
  std::unique_ptr<Parts> parts(new (std::nothrow) Parts(core, options.fit, std::move(name), bytes));
  if (parts == nullptr) return fail(Errc::out_of_memory);
  std::unique_ptr<GenPool> pool(new (std::nothrow) GenPool(std::move(parts)));
  if (pool == nullptr) return fail(Errc::out_of_memory);
  return pool;
}

GenPool::~GenPool() {
  Parts::Core& core = parts_->core;
  const genalloc::PoolState state = core.state();
  if (core.options().host) {
    for (auto* chunk = core.newest(state); chunk != nullptr; chunk = core.older(*chunk)) {
      detail::unpoison(chunk->start(), chunk->geometry().size_bytes);
    }
  }
  if (state.used_granules == 0) return;
  report_leak({kPart, parts_->name, "bytes left at destruction",
               state.used_granules << core.options().order});
}

std::string_view GenPool::name() const noexcept {
  return parts_->name;
}
std::size_t GenPool::granule_bytes() const noexcept {
  return std::size_t{1} << parts_->core.options().order;
}

// ---------------------------------------------------------------- chunks

Status GenPool::add_chunk(const ChunkSpec& spec) noexcept {
  if (spec.size_bytes == 0 || !range_fits(spec.start, spec.size_bytes)) {
    return fail(Errc::invalid_argument);
  }
  ChunkGeometry geometry;
  geometry.start = spec.start;
  geometry.size_bytes = spec.size_bytes;
  geometry.phys = spec.phys;
  geometry.owner = spec.owner;
  geometry.node = spec.node;
  Status added = parts_->core.add_chunk(geometry);
  MMKIT_PROBE(gen_pool_chunk_add, this, spec.start, spec.size_bytes, added.has_value());
  return added;
}

Status GenPool::remove_chunk(std::uintptr_t start) noexcept {
  Status removed = parts_->core.remove_chunk(start);
  MMKIT_PROBE(gen_pool_chunk_remove, this, start, removed.has_value());
  return removed;
}

// ---------------------------------------------------------------- allocation

Result<std::uintptr_t> GenPool::allocate(std::size_t size_bytes) noexcept {
  return allocate(size_bytes, parts_->policy.load());
}

Result<std::uintptr_t> GenPool::allocate(std::size_t size_bytes, const Fit& fit,
                                         void** owner) noexcept {
  if (owner != nullptr) *owner = nullptr;
  Parts::Core& core = parts_->core;
  if (size_bytes == 0 || !sound(fit, core.options().order)) return fail(Errc::invalid_argument);
  const Result<Parts::Core::Taken> taken = core.take(size_bytes, fit, /*needs_phys=*/false);
  if (!taken) return fail(taken.error());
  if (owner != nullptr) *owner = taken->chunk->owner;
  return taken->start;
}

Status GenPool::allocate_at(std::uintptr_t start, std::size_t size_bytes) noexcept {
  if (size_bytes == 0) return fail(Errc::invalid_argument);
  return parts_->core.take_at(start, size_bytes);
}

Status GenPool::try_free(std::uintptr_t start, std::size_t size_bytes, void** owner) noexcept {
  const ChunkGeometry* chunk = nullptr;
  const Fault fault = parts_->core.give(start, size_bytes, &chunk);
  if (owner != nullptr) *owner = fault == Fault::none ? chunk->owner : nullptr;
  return fault == Fault::none ? Status{} : fail(Errc::invalid_argument);
}

void GenPool::free(std::uintptr_t start, std::size_t size_bytes, void** owner) noexcept {
  const ChunkGeometry* chunk = nullptr;
  const Fault fault = parts_->core.give(start, size_bytes, &chunk);
  if (fault != Fault::none) {
    report_failure({kPart, parts_->name, name_of(fault), start});
  }
  if (owner != nullptr) *owner = chunk->owner;
}

Result<DmaBlock> GenPool::allocate_dma(std::size_t size_bytes, const Fit& fit, bool zero) noexcept {
  Parts::Core& core = parts_->core;
  if (size_bytes == 0 || !sound(fit, core.options().order)) return fail(Errc::invalid_argument);
  if (zero && !core.options().host) return fail(Errc::not_supported);
  const Result<Parts::Core::Taken> taken = core.take(size_bytes, fit, /*needs_phys=*/true);
  if (!taken) return fail(taken.error());
  void* const address = reinterpret_cast<void*>(taken->start);
  if (zero) std::memset(address, 0, size_bytes);
  return DmaBlock{address, *taken->chunk->phys + taken->offset_bytes};
}
Result<DmaBlock> GenPool::allocate_dma(std::size_t size_bytes) noexcept {
  return allocate_dma(size_bytes, parts_->policy.load(), /*zero=*/false);
}
Result<DmaBlock> GenPool::allocate_dma(std::size_t size_bytes, const Fit& fit) noexcept {
  return allocate_dma(size_bytes, fit, /*zero=*/false);
}
Result<DmaBlock> GenPool::allocate_zeroed_dma(std::size_t size_bytes) noexcept {
  return allocate_dma(size_bytes, parts_->policy.load(), /*zero=*/true);
}
Result<DmaBlock> GenPool::allocate_zeroed_dma(std::size_t size_bytes, const Fit& fit) noexcept {
  return allocate_dma(size_bytes, fit, /*zero=*/true);
}

void GenPool::set_fit(const Fit& fit) noexcept {
  parts_->policy.store(fit);
}

}  // namespace mmkit
