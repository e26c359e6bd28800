// SPDX-License-Identifier: MIT
//
// Corpus - the objects to store: the input's pages, compressed once, with what is needed to prove
// each original later.
//
//   page of a file --same-filled?--> counted
//        | no
//      codec  --round trip checked--> object bytes (in slabs, once) + hash of the original page
//
// Kept for each object: its bytes, the hash of its page (page_hash.hpp), the number of its page in
// the input. The page itself is not kept: it can be made again from the object, and that it can is
// checked when the object is made, byte for byte against the bytes of the file.
//
// Invariants:
// 1. Every object has 1 to 4096 bytes and lies in one slab; 4096: the page is kept raw (codec.hpp).
// 2. pages == zero + repeated_byte + repeated_word + objects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codec.hpp"
#include "input_walk.hpp"
#include "page_bytes.hpp"

namespace mmkit::tool {

struct StoredObject {
  const std::byte* data = nullptr;
  std::uint64_t page_hash = 0;
  std::uint32_t page = 0;  // its place among the input's pages
  std::uint16_t size_bytes = 0;

  std::span<const std::byte> bytes() const noexcept { return {data, size_bytes}; }
};

struct CorpusFigures {
  std::uint64_t pages = 0;
  std::uint64_t zero_pages = 0;
  std::uint64_t repeated_byte_pages = 0;
  std::uint64_t repeated_word_pages = 0;
  std::uint64_t raw_objects = 0;  // incompressible
  std::uint64_t object_bytes = 0;
  double compress_ns = 0;  // per object, while the corpus was made
  double decompress_ns = 0;

  std::uint64_t same_filled_pages() const noexcept {
    return zero_pages + repeated_byte_pages + repeated_word_pages;
  }
};

/// The most pages that a corpus can number.
inline constexpr std::uint64_t kMaxCorpusPages = UINT32_MAX;

class Corpus {
 public:
  /// The codec outlives it.
  explicit Corpus(Codec& codec);

  /// Takes the next page of the input. Throws a Problem when the codec does not give the page back.
  void add(PageBytes page);

  std::span<const StoredObject> objects() const noexcept { return objects_; }
  const CorpusFigures& figures() const noexcept { return figures_; }
  Codec& codec() const noexcept { return codec_; }

 private:
  const std::byte* keep(std::span<const std::byte> object);

  Codec& codec_;
  std::vector<StoredObject> objects_;
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
  std::size_t slab_used_bytes_ = 0;
  CorpusFigures figures_;
};

}  // namespace mmkit::tool
