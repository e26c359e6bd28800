// SPDX-License-Identifier: MIT
#include "corpus.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <limits>

#include "exit_code.hpp"
#include "page_hash.hpp"
#include "same_filled.hpp"

namespace mmkit::tool {
namespace {

// Far above malloc's threshold for a mapping of its own: slabs stay out of the heap that the malloc
// row measures, and what the last one leaves unused is never touched.
constexpr std::size_t kSlabBytes = std::size_t{64} << 20;

}  // namespace

Corpus::Corpus(Codec& codec) : codec_(codec) {}

void Corpus::add(PageBytes page) {
  const std::uint64_t page_number = figures_.pages++;
  switch (fill_of(page)) {
    case Fill::zero:
      ++figures_.zero_pages;
      return;
    case Fill::repeated_byte:
      ++figures_.repeated_byte_pages;
      return;
    case Fill::repeated_word:
      ++figures_.repeated_word_pages;
      return;
    case Fill::mixed:
      break;
  }
  CodecBuffer buffer;
  std::array<std::byte, kPageSize> again;
  const std::span<const std::byte> object = codec_.encode(page, buffer);
  const bool decoded = codec_.decode(object, again);
  if (!decoded || std::memcmp(again.data(), page.data(), kPageSize) != 0) {
    throw Problem(ExitCode::verification_failed,
                  fmt::format("{} level {} does not give page {} back as it was", codec_.name(),
                              codec_.level(), page_number));
  }
  if (object.size() == kPageSize) ++figures_.raw_objects;
  figures_.object_bytes += object.size();
  objects_.push_back({keep(object), page_hash(page), static_cast<std::uint32_t>(page_number),
                      static_cast<std::uint16_t>(object.size())});
}

const std::byte* Corpus::keep(std::span<const std::byte> object) {
  if (slabs_.empty() || slab_used_bytes_ + object.size() > kSlabBytes) {
    slabs_.push_back(std::make_unique_for_overwrite<std::byte[]>(kSlabBytes));
    slab_used_bytes_ = 0;
  }
  std::byte* place = slabs_.back().get() + slab_used_bytes_;
  std::memcpy(place, object.data(), object.size());
  slab_used_bytes_ += object.size();
  return place;
}

}  // namespace mmkit::tool
