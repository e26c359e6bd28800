// SPDX-License-Identifier: MIT
//
// HeapBlocks - blocks of heap pages without a pool, for tests of what lies below it.
//
// Locking:    none: one thread
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mmkit/base/bits.hpp>
#include <mmkit/page/page_size.hpp>
#include <mmkit/zpool/heap_block_table.hpp>
#include <new>

namespace mmkit::testing {

class HeapBlocks {
 public:
  /// A block of so many pages, one hole, known to the table.
  std::uint32_t add(std::size_t pages, std::uint8_t shard = 0) {
    const std::uint32_t number = table_.take_number(/*nowait=*/false).value();
    auto* const run = static_cast<std::byte*>(::operator new(pages* kPageSize, kAlignment));
    memory_[number] = Memory(run);
    HeapBlockInfo& info = table_[number];
    info.first_frame = number;
    info.pages = static_cast<std::uint8_t>(pages);
    info.key_shift =
        static_cast<std::uint8_t>(log2_floor(HeapBlock::kMostPages) - log2_floor(pages));
    info.shard.store(shard, std::memory_order_relaxed);
    table_.set_data(number, run, /*is_whole=*/false);
    table_.block(number).format(info.granules());
    return number;
  }
  void remove(std::uint32_t number) {
    table_.give_number(number);
    memory_.erase(number);
  }
  HeapBlockTable& table() { return table_; }
  HeapBlock block(std::uint32_t number) const { return table_.block(number); }

 private:
  static constexpr std::align_val_t kAlignment{kPageSize};
  struct Free {
    void operator()(std::byte* run) const { ::operator delete(run, kAlignment); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  HeapBlockTable table_;
  std::map<std::uint32_t, Memory> memory_;
};

}  // namespace mmkit::testing
