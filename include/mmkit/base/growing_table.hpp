// SPDX-License-Identifier: MIT
//
// GrowingTable - an array that grows by whole chunks; chunks never move, readers take no lock.
//
//   directory_ --> { capacity, chunk 0, chunk 1, ... }      doubled when full; the old directories
//                       |         |                         stay until the end, so that a reader
//                     Chunk     Chunk                       that holds one may go on reading it
//
// All directories together are at most twice the last: sixteen bytes a chunk.
// Units:      chunks; what lies in a chunk is the caller's
// Invariants: 1 entries below count() are set, those above are null  2 count() <= capacity
// Locking:    find() none; append(), count() and bytes(): caller serialises
// Complexity: find() two loads; append() amortised O(1)
#pragma once

#include <atomic>
#include <cstddef>
#include <mmkit/base/result.hpp>
#include <new>

namespace mmkit {

/// An array of Chunk, which is default-constructible without throwing.
template <class Chunk>
class GrowingTable {
 public:
  constexpr GrowingTable() noexcept = default;
  GrowingTable(const GrowingTable&) = delete;
  GrowingTable& operator=(const GrowingTable&) = delete;
  ~GrowingTable() {
    for (std::size_t i = 0; i < count_; ++i) destroy(find(i));
    Directory* directory = directory_.load(std::memory_order_relaxed);
    while (directory != nullptr) {
      Directory* older = directory->older;
      ::operator delete(directory);
      directory = older;
    }
  }

  /// The chunk of that number; nullptr when there is none (yet). Thread safety: safe.
  Chunk* find(std::size_t index) const noexcept {
    // Acquire: with the releases in append(), so that the chunk is seen constructed.
    const Directory* directory = directory_.load(std::memory_order_acquire);
    if (directory == nullptr || index >= directory->capacity) return nullptr;
    return entries(directory)[index].load(std::memory_order_acquire);
  }

  /// Adds a chunk at number count(). Errors: out_of_memory, nothing changed.
  /// Thread safety: caller serialises appends.
  Result<Chunk*> append() noexcept {
    Directory* directory = directory_.load(std::memory_order_relaxed);
    if (directory == nullptr || count_ == directory->capacity) {
      directory = enlarge(directory);
      if (directory == nullptr) return fail(Errc::out_of_memory);
    }
    void* memory = ::operator new (sizeof(Chunk), std::align_val_t{alignof(Chunk)}, std::nothrow);
    if (memory == nullptr) return fail(Errc::out_of_memory);
    Chunk* chunk = ::new (memory) Chunk;
    // Release: pairs with find().
    entries(directory)[count_++].store(chunk, std::memory_order_release);
    return chunk;
  }

  /// How many chunks there are. Thread safety: caller serialises.
  std::size_t count() const noexcept { return count_; }
  /// What the table holds, directories included. Thread safety: caller serialises.
  std::size_t bytes() const noexcept { return count_ * sizeof(Chunk) + directory_bytes_; }

 private:
  using Entry = std::atomic<Chunk*>;

  // Followed in memory by `capacity` entries.
  struct alignas(Entry) Directory {
    std::size_t capacity;
    Directory* older;
  };
  static constexpr std::size_t kFirstCapacity = 6;  // a first directory of one cache line

  static Entry* entries(Directory* directory) noexcept {
    return std::launder(reinterpret_cast<Entry*>(directory + 1));
  }
  static const Entry* entries(const Directory* directory) noexcept {
    return std::launder(reinterpret_cast<const Entry*>(directory + 1));
  }

  Directory* enlarge(Directory* old) noexcept {
    const std::size_t capacity = old == nullptr ? kFirstCapacity : 2 * old->capacity + 2;
    const std::size_t bytes = sizeof(Directory) + capacity * sizeof(Entry);
    void* memory = ::operator new(bytes, std::nothrow);
    if (memory == nullptr) return nullptr;
    auto* fresh = ::new (memory) Directory{capacity, old};
    auto* slot = reinterpret_cast<Entry*>(fresh + 1);
    for (std::size_t i = 0; i < capacity; ++i) {
      ::new (static_cast<void*>(slot + i)) Entry(i < count_ ? find(i) : nullptr);
    }
    directory_bytes_ += bytes;
    // Release: pairs with find(), which must see the entries.
    directory_.store(fresh, std::memory_order_release);
    return fresh;
  }

  static void destroy(Chunk* chunk) noexcept {
    chunk->~Chunk();
    ::operator delete (chunk, std::align_val_t{alignof(Chunk)});
  }

  std::atomic<Directory*> directory_{nullptr};
  std::size_t count_ = 0;
  std::size_t directory_bytes_ = 0;
};

}  // namespace mmkit
