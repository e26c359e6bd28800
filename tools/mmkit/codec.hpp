// SPDX-License-Identifier: MIT
//
// Codec - turns a page into an object of 1 to 4096 bytes and back.
//
// An object of 4096 bytes is the page itself: where compression does not gain at least one byte the
// page is kept raw, so the size alone says which it is and nothing need be added.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "page_bytes.hpp"

namespace mmkit::tool {

enum class CodecKind { lz4, zstd };

struct CodecChoice {
  CodecKind kind = CodecKind::lz4;
  int level = 1;
};

struct LevelRange {
  int lowest;
  int highest;
  int usual;
};
/// The levels that a kind has: lz4 1..12 (from 3 on its high-compression search), zstd by its
/// library.
LevelRange levels_of(CodecKind kind) noexcept;
std::string_view name_of(CodecKind kind) noexcept;

/// What a codec may write while it works; above 4096 because compressors run faster when they need
/// not watch the end.
inline constexpr std::size_t kCodecBufferBytes = kPageSize + 256;
using CodecBuffer = std::array<std::byte, kCodecBufferBytes>;

class Codec {
 public:
  virtual ~Codec() = default;
  std::string_view name() const noexcept { return name_of(choice_.kind); }
  int level() const noexcept { return choice_.level; }
  /// The library's own version: "1.9.4".
  virtual std::string library_version() const = 0;

  /// The object, at the start of the buffer. Throws a Problem when the codec itself fails.
  std::span<const std::byte> encode(PageBytes page, CodecBuffer& buffer);
  /// Whether the object was a page; its bytes are in `page` then.
  [[nodiscard]] bool decode(std::span<const std::byte> object, WritablePageBytes page) const;

 protected:
  explicit Codec(CodecChoice choice) noexcept : choice_(choice) {}

 private:
  /// The compressed size, or 0 when it does not fit the buffer.
  virtual std::size_t compress(PageBytes page, CodecBuffer& buffer) = 0;
  virtual bool decompress(std::span<const std::byte> object, WritablePageBytes page) const = 0;

  CodecChoice choice_;
};

/// Throws a Problem for a level out of range or when there is no memory for the codec's state.
std::unique_ptr<Codec> make_codec(CodecChoice choice);

}  // namespace mmkit::tool
