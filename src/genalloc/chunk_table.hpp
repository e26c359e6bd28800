// SPDX-License-Identifier: MIT
//
// ChunkTable - chunks by number, for descriptors, which hold no pointers.
//
// Segments of 8, 8, 16, 32 ... pointers; none moves, so that a reader needs no lock. A number is
// free again when its chunk was removed, beside which there is no other call.
// Locking:    none
// Complexity: O(1); claim() O(chunks)
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <new>

namespace mmkit::genalloc {

template <class Sync, class Chunk>
class ChunkTable {
  using Cell = typename Sync::template Atomic<Chunk*>;

 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  ChunkTable() noexcept = default;
  ChunkTable(const ChunkTable&) = delete;
  ChunkTable& operator=(const ChunkTable&) = delete;
  ~ChunkTable() {
    for (std::uint32_t number = 0; number < kCapacity; ++number) {
      if (segment(number) == nullptr) break;
      delete find(number);
    }
    for (auto& more : more_) ::operator delete(more.load(std::memory_order_relaxed));
  }

  /// nullptr when there is none.
  Chunk* find(std::uint32_t number) const noexcept {
    // Acquire: pairs with the exchanges in claim().
    if (number < kFirst) return first_[number].load(std::memory_order_acquire);
    const Cell* const cells = segment(number);
    return cells == nullptr ? nullptr : cells[offset(number)].load(std::memory_order_acquire);
  }
  /// Gives the chunk the lowest free number; kNone when there is no memory.
  std::uint32_t claim(Chunk* chunk) noexcept {
    for (std::uint32_t number = 0; number < kCapacity; ++number) {
      Cell* cells = segment(number);
      if (cells == nullptr) cells = enlarge(number);
      if (cells == nullptr) return kNone;
      Chunk* nobody = nullptr;
      if (cells[offset(number)].compare_exchange_strong(nobody, chunk, std::memory_order_acq_rel,
                                                        std::memory_order_relaxed)) {
        return number;
      }
    }
    return kNone;
  }
  void release(std::uint32_t number) noexcept {
    segment(number)[offset(number)].store(nullptr, std::memory_order_release);
  }

 private:
  static constexpr std::uint32_t kFirst = 8;
  static constexpr unsigned kSegments = 20;
  static constexpr std::uint32_t kCapacity = kFirst << kSegments;

  // Segment s > 0 begins at kFirst << (s - 1) and has as many.
  static unsigned level(std::uint32_t number) noexcept {
    return number < kFirst ? 0 : log2_floor(number) - log2_floor(kFirst) + 1;
  }
  static std::uint32_t offset(std::uint32_t number) noexcept {
    return number < kFirst ? number : number - (kFirst << (level(number) - 1));
  }
  Cell* segment(std::uint32_t number) const noexcept {
    if (number < kFirst) return first_;
    return number < kCapacity ? more_[level(number) - 1].load(std::memory_order_acquire) : nullptr;
  }
  Cell* enlarge(std::uint32_t number) noexcept {
    const std::size_t count = std::size_t{kFirst} << (level(number) - 1);
    void* const memory = ::operator new(count * sizeof(Cell), std::nothrow);
    if (memory == nullptr) return nullptr;
    Cell* const cells = static_cast<Cell*>(memory);
    for (std::size_t i = 0; i < count; ++i) ::new (static_cast<void*>(cells + i)) Cell(nullptr);
    Cell* expected = nullptr;
    if (more_[level(number) - 1].compare_exchange_strong(expected, cells, std::memory_order_acq_rel,
                                                         std::memory_order_acquire)) {
      return cells;
    }
    ::operator delete(memory);
    return expected;
  }

  mutable Cell first_[kFirst] = {};
  mutable typename Sync::template Atomic<Cell*> more_[kSegments] = {};
};

}  // namespace mmkit::genalloc
