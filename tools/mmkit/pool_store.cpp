// SPDX-License-Identifier: MIT
#include "pool_store.hpp"

#include <fmt/format.h>

#include <utility>

namespace mmkit::tool {

PoolStore::PoolStore(const DriverChoice& choice, DriverRegistry& registry, std::size_t objects,
                     const SpillPlan& plan, bool records_runs)
    : PoolStore(choice, registry, objects, plan.limit_bytes,
                plan.limit_bytes == 0 ? nullptr : std::make_unique<SpillFile>(plan.directory),
                records_runs) {}

PoolStore::PoolStore(const DriverChoice& choice, DriverRegistry& registry, std::size_t objects,
                     std::uint64_t limit_bytes, std::unique_ptr<SpillFile> spill, bool records_runs)
    : driver_(choice.name),
      limit_bytes_(limit_bytes),
      handles_(objects, Handle::none),
      spill_(std::move(spill)),
      spilled_(spill_ == nullptr ? 0 : objects),
      pool_(choice, registry,
            {.objects = objects,
             .limit_bytes = limit_bytes,
             .evict = spill_ == nullptr
                          ? EvictFn{}
                          : [this](Zpool& pool, Handle handle) { return evict(pool, handle); },
             .records_runs = records_runs}) {
  index_of_.reserve(spilled_.size());
}

PoolStore::~PoolStore() {
  for (const Handle handle : handles_) {
    if (handle != Handle::none) pool_->free(handle);
  }
}

bool PoolStore::put(std::size_t index, std::span<const std::byte> object) {
  const Result<Handle> handle = pool_->store(object);
  if (handle) {
    handles_[index] = *handle;
    if (spill_ != nullptr) {
      spilled_[index].size_bytes = static_cast<std::uint16_t>(object.size());
      index_of_.emplace(static_cast<std::uint64_t>(*handle), static_cast<std::uint32_t>(index));
    }
    return true;
  }
  if (handle.error() == Errc::no_space) return false;
  const bool at_limit = spill_ != nullptr && handle.error() == Errc::out_of_memory;
  if (!at_limit) driver_failed(driver_, "store", handle.error());
  if (!spill_over(index, object)) spill_->report_error();
  ++figures_.passed;
  return true;
}

bool PoolStore::spill_over(std::size_t index, std::span<const std::byte> object) noexcept {
  const std::optional<std::uint64_t> offset_bytes = spill_->append(object);
  if (!offset_bytes) return false;
  spilled_[index] = {*offset_bytes, static_cast<std::uint16_t>(object.size())};
  figures_.spilled_bytes += object.size();
  return true;
}

Status PoolStore::evict(Zpool& pool, Handle handle) noexcept {
  const auto known = index_of_.find(static_cast<std::uint64_t>(handle));
  if (known == index_of_.end()) return fail(Errc::not_found);
  const std::size_t index = known->second;
  {
    const Result<Mapping> object = pool.try_map(handle, MapMode::read_only);
    if (!object) return fail(object.error());
    const auto bytes = object->const_bytes().first(spilled_[index].size_bytes);
    // Refused for good after the first failure: what is not written must not go.
    if (!spill_over(index, bytes)) return fail(Errc::io_error);
  }
  // One thread only, and no mapping is left: it can be freed.
  if (const Status freed = pool.try_free(handle); !freed) return freed;
  handles_[index] = Handle::none;
  index_of_.erase(known);
  ++figures_.evicted;
  return {};
}

void PoolStore::drop(std::size_t index) {
  if (handles_[index] == Handle::none) return;  // spilled
  if (spill_ != nullptr) index_of_.erase(static_cast<std::uint64_t>(handles_[index]));
  pool_->free(handles_[index]);
  handles_[index] = Handle::none;
}

std::string PoolStore::fault(std::uint64_t stored) const {
  const std::string wrong = fault_in(*pool_, stored - figures_.objects());
  if (!wrong.empty() || spill_ == nullptr) return wrong;
  if (pool_->stats().evicted != figures_.evicted) {
    return fmt::format("{} objects were evicted, stats() counts {}", figures_.evicted,
                       pool_->stats().evicted);
  }
  if (pool_->total_bytes() > limit_bytes_) {
    return fmt::format("total_bytes() is {}, the limit {}", pool_->total_bytes(), limit_bytes_);
  }
  if (spill_->size_bytes() != figures_.spilled_bytes) {
    return fmt::format("the spill file has {} bytes, {} were spilled", spill_->size_bytes(),
                       figures_.spilled_bytes);
  }
  return {};
}

}  // namespace mmkit::tool
