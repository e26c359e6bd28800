// SPDX-License-Identifier: MIT
//
// SameFilled - pages that one word describes: they are counted and never stored, as compressed swap
// does.
#pragma once

#include <cstdint>
#include <cstring>

#include "page_bytes.hpp"

namespace mmkit::tool {

enum class Fill {
  mixed,          // an ordinary page
  zero,           // every byte 0
  repeated_byte,  // one other byte, 4096 times
  repeated_word   // one 8-byte word, 512 times
};

/// How the page is filled. Complexity: most pages differ in their first words; a same-filled one is
/// compared once.
inline Fill fill_of(PageBytes page) noexcept {
  // A page equals itself moved by eight bytes exactly when all its words are the first one.
  constexpr std::size_t kWordBytes = 8;
  if (std::memcmp(page.data(), page.data() + kWordBytes, kPageSize - kWordBytes) != 0) {
    return Fill::mixed;
  }
  if (std::memcmp(page.data(), page.data() + 1, kWordBytes - 1) != 0) return Fill::repeated_word;
  return page[0] == std::byte{0} ? Fill::zero : Fill::repeated_byte;
}

}  // namespace mmkit::tool
