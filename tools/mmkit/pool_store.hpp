// SPDX-License-Identifier: MIT
//
// PoolStore - a Store (trial.hpp) over one pool; with a limit, over a pool and a spill file.
//
//   put --> pool --has room--> there
//             | limit: evicts the oldest, each written to the spill file and freed
//             | finds nothing to evict: the object goes past the pool, to the spill file
//   read: from the pool, or else from the spill file
//
// Invariants: an object that was put is in exactly one of the two
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "driver_pool.hpp"
#include "spill_file.hpp"

namespace mmkit::tool {

struct SpillFigures {
  std::uint64_t evicted = 0;        // objects that the pool had to give up
  std::uint64_t passed = 0;         // objects that never were in it
  std::uint64_t spilled_bytes = 0;  // of both
  std::uint64_t objects() const noexcept { return evicted + passed; }
};

class PoolStore {
 public:
  /// Throws a Problem, as DriverPool and SpillFile do.
  PoolStore(const DriverChoice& choice, DriverRegistry& registry, std::size_t objects,
            const SpillPlan& plan = {}, bool records_runs = false);
  /// With a spill file of the caller's.
  PoolStore(const DriverChoice& choice, DriverRegistry& registry, std::size_t objects,
            std::uint64_t limit_bytes, std::unique_ptr<SpillFile> spill, bool records_runs = false);
  PoolStore(const PoolStore&) = delete;
  PoolStore& operator=(const PoolStore&) = delete;
  ~PoolStore();

  std::size_t max_object_bytes() const noexcept { return pool_->max_object_bytes(); }

  /// False: too large for the driver. Throws a Problem when the driver fails as it must not, and when
  /// the spill file cannot be written.
  bool put(std::size_t index, std::span<const std::byte> object);

  template <class Reader>
  void read(std::size_t index, std::size_t size_bytes, Reader&& reader) {
    if (handles_[index] == Handle::none) {
      std::array<std::byte, kPageSize> bytes;
      const std::span<std::byte> object = std::span(bytes).first(size_bytes);
      spill_->read(spilled_[index].offset_bytes, object);
      reader(std::span<const std::byte>(object));
      return;
    }
    const Mapping mapping = pool_->map(handles_[index], MapMode::read_only);
    reader(mapping.const_bytes().first(size_bytes));
  }

  void drop(std::size_t index);

  Zpool& pool() const noexcept { return *pool_; }
  std::vector<PageRun> runs() const { return pool_.runs(); }
  Handle handle_of(std::size_t index) const noexcept { return handles_[index]; }
  const SpillFigures& spill() const noexcept { return figures_; }
  /// What does not add up when so many objects were put and none dropped; empty when all does.
  std::string fault(std::uint64_t stored) const;

 private:
  struct Spilled {
    std::uint64_t offset_bytes = 0;
    std::uint16_t size_bytes = 0;  // of the object, wherever it is
  };

  Status evict(Zpool& pool, Handle handle) noexcept;
  bool spill_over(std::size_t index, std::span<const std::byte> object) noexcept;

  std::string driver_;
  std::uint64_t limit_bytes_;
  std::vector<Handle> handles_;  // none: not put, or spilled
  // Empty without a limit.
  std::unique_ptr<SpillFile> spill_;
  std::vector<Spilled> spilled_;
  std::unordered_map<std::uint64_t, std::uint32_t> index_of_;  // by handle
  SpillFigures figures_;
  DriverPool pool_;
};

}  // namespace mmkit::tool
