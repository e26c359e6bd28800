// SPDX-License-Identifier: MIT
#include "verify.hpp"

#include <array>
#include <cstring>

#include "page_hash.hpp"

namespace mmkit::tool {

std::string_view words_for(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::same:
      return "is the original";
    case Verdict::does_not_decode:
      return "cannot be decompressed";
    case Verdict::page_differs:
      return "decompresses to another page";
    case Verdict::object_differs:
      return "is not the object that was stored";
  }
  return "";
}

Verdict verify_object(const Codec& codec, const StoredObject& object,
                      std::span<const std::byte> from_store) {
  std::array<std::byte, kPageSize> page;
  if (from_store.size() != object.size_bytes || !codec.decode(from_store, page)) {
    return Verdict::does_not_decode;
  }
  if (page_hash(page) != object.page_hash) return Verdict::page_differs;
  if (std::memcmp(from_store.data(), object.data, object.size_bytes) != 0) {
    return Verdict::object_differs;
  }
  return Verdict::same;
}

}  // namespace mmkit::tool
