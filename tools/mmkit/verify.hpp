// SPDX-License-Identifier: MIT
//
// Verify - whether what a store gives back is the page that was read from the file.
//
// The bytes that came from the store are decompressed, and the page is compared with the original
// by its hash. They are also compared with the corpus' copy, which was decompressed and compared
// with the file byte by byte when it was made: so a page that passes is the original, not only by a
// chance of 2^-64.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "codec.hpp"
#include "corpus.hpp"

namespace mmkit::tool {

enum class Verdict {
  same,
  does_not_decode,  // the codec refuses the bytes
  page_differs,     // they decode to another page
  object_differs    // they decode to the page although they are not the bytes that were stored
};

std::string_view words_for(Verdict verdict) noexcept;

/// `from_store` is what the store gave back for the object, as many bytes as were stored.
Verdict verify_object(const Codec& codec, const StoredObject& object,
                      std::span<const std::byte> from_store);

}  // namespace mmkit::tool
