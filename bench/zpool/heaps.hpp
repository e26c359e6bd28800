// SPDX-License-Identifier: MIT
//
// Heaps - pools and mallocs behind the two calls that the workloads make: make(size), drop(object).
//
// How much of a new object is written is part of the heap (Touch): a pool's object is written
// through a mapping or by store(), which costs something, and memory that nobody writes stays cold,
// which hides something. A benchmark that says "allocate" has to say which. make_written(size)
// writes all of it whatever the heap's Touch.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <mmkit/zpool.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/opaque.hpp"
#include "support/peers.hpp"
#include "support/trace.hpp"
#include "zpool/pools.hpp"

namespace mmkit::bench {

/// What is written to a new object: nothing, its first byte, all of it.
enum class Touch { none, first_byte, whole };

inline std::string title_of(Touch touch) {
  return touch == Touch::none         ? "new objects are not written"
         : touch == Touch::first_byte ? "the first byte of a new object is written"
                                      : "new objects are written whole";
}

/// The content of every object: what it is does not matter, only that it is read and written.
inline std::span<const std::byte> content(std::size_t size_bytes) {
  static const std::vector<std::byte> bytes(kLargestSizeBytes, std::byte{0x5a});
  return std::span<const std::byte>(bytes).first(size_bytes);
}

[[noreturn]] inline void out_of_objects(std::string_view heap, std::size_t size_bytes,
                                        std::string_view error) {
  throw std::runtime_error(std::string(heap) + ": no object of " + std::to_string(size_bytes) +
                           " bytes: " + std::string(error));
}

/// A pool by its front end.
template <Touch kTouch>
struct ZpoolHeap {
  using Object = Handle;
  std::shared_ptr<Zpool> pool;

  Object make(std::size_t size_bytes) {
    Result<Handle> made =
        kTouch == Touch::whole ? pool->store(content(size_bytes)) : pool->allocate(size_bytes);
    if (!made) out_of_objects(pool->type(), size_bytes, name(made.error()));
    if constexpr (kTouch == Touch::first_byte) {
      Mapping mapping = pool->map(*made, MapMode::write_only);
      mapping.bytes()[0] = std::byte{1};
    }
    return *made;
  }
  Object make_written(std::size_t size_bytes) {
    return ZpoolHeap<Touch::whole>{pool}.make(size_bytes);
  }
  void drop(Object object) { pool->free(object); }
};

/// A driver's pool by its own class, without the front end.
template <class Backend, Touch kTouch>
struct BackendHeap {
  using Object = Handle;
  std::shared_ptr<Backend> pool;

  Object make(std::size_t size_bytes) {
    Result<Handle> made = kTouch == Touch::whole ? pool->store(content(size_bytes), Gfp::kernel)
                                                 : pool->allocate(size_bytes, Gfp::kernel);
    if (!made) out_of_objects("backend", size_bytes, name(made.error()));
    if constexpr (kTouch == Touch::first_byte) {
      Result<std::span<std::byte>> bytes = pool->map(*made, MapMode::write_only);
      if (!bytes) out_of_objects("backend", size_bytes, name(bytes.error()));
      (*bytes)[0] = std::byte{1};
      pool->unmap(*made);
    }
    return *made;
  }
  Object make_written(std::size_t size_bytes) {
    return BackendHeap<Backend, Touch::whole>{pool}.make(size_bytes);
  }
  void drop(Object object) {
    if (!pool->free(object)) throw std::runtime_error("backend: free refused");
  }
};

template <Touch kTouch>
struct MallocHeap {
  using Object = void*;
  const Malloc* heap;

  Object make(std::size_t size_bytes) {
    void* const block = heap->allocate(size_bytes);
    use(block);
    if (block == nullptr) out_of_objects(heap->name, size_bytes, "out of memory");
    if constexpr (kTouch == Touch::first_byte) *static_cast<volatile std::byte*>(block) = {};
    if constexpr (kTouch == Touch::whole) {
      std::memcpy(block, content(size_bytes).data(), size_bytes);
      use(block);
    }
    return block;
  }
  Object make_written(std::size_t size_bytes) {
    return MallocHeap<Touch::whole>{heap}.make(size_bytes);
  }
  void drop(Object block) { heap->free(block); }
};

}  // namespace mmkit::bench
