// SPDX-License-Identifier: MIT
#include "codec.hpp"

#include <fmt/format.h>
#include <lz4.h>
#include <lz4hc.h>
#include <zstd.h>

#include <cstring>
#include <vector>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

constexpr int kPageInt = static_cast<int>(kPageSize);
static_assert(kCodecBufferBytes >= LZ4_COMPRESSBOUND(kPageSize));
static_assert(kCodecBufferBytes >= ZSTD_COMPRESSBOUND(kPageSize));

constexpr int kLowestHighCompression = LZ4HC_CLEVEL_MIN;  // below it lz4 searches fast

class Lz4Codec final : public Codec {
 public:
  explicit Lz4Codec(CodecChoice choice)
      : Codec(choice),
        state_(static_cast<std::size_t>(
            choice.level < kLowestHighCompression ? LZ4_sizeofState() : LZ4_sizeofStateHC())) {}

  std::string library_version() const override { return LZ4_versionString(); }

 private:
  std::size_t compress(PageBytes page, CodecBuffer& buffer) override {
    const char* from = reinterpret_cast<const char*>(page.data());
    char* to = reinterpret_cast<char*>(buffer.data());
    const int room = static_cast<int>(buffer.size());
    const int size =
        level() < kLowestHighCompression
            ? LZ4_compress_fast_extState(state_.data(), from, to, kPageInt, room, 1)
            : LZ4_compress_HC_extStateHC(state_.data(), from, to, kPageInt, room, level());
    return size > 0 ? static_cast<std::size_t>(size) : 0;
  }

  bool decompress(std::span<const std::byte> object, WritablePageBytes page) const override {
    return LZ4_decompress_safe(reinterpret_cast<const char*>(object.data()),
                               reinterpret_cast<char*>(page.data()),
                               static_cast<int>(object.size()), kPageInt) == kPageInt;
  }

  std::vector<std::byte> state_;  // from operator new, hence aligned for any type, as lz4 asks
};

class ZstdCodec final : public Codec {
 public:
  explicit ZstdCodec(CodecChoice choice)
      : Codec(choice), compressor_(ZSTD_createCCtx()), decompressor_(ZSTD_createDCtx()) {
    if (!compressor_ || !decompressor_) {
      throw Problem(ExitCode::out_of_memory, "no memory for zstd's working state");
    }
  }

  std::string library_version() const override { return ZSTD_versionString(); }

 private:
  std::size_t compress(PageBytes page, CodecBuffer& buffer) override {
    const std::size_t size = ZSTD_compressCCtx(compressor_.get(), buffer.data(), buffer.size(),
                                               page.data(), page.size(), level());
    if (ZSTD_isError(size) != 0) {
      throw Problem(ExitCode::internal, fmt::format("zstd failed: {}", ZSTD_getErrorName(size)));
    }
    return size;
  }

  bool decompress(std::span<const std::byte> object, WritablePageBytes page) const override {
    return ZSTD_decompressDCtx(decompressor_.get(), page.data(), page.size(), object.data(),
                               object.size()) == kPageSize;
  }

  struct Free {
    void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ZSTD_CCtx, Free> compressor_;
  std::unique_ptr<ZSTD_DCtx, Free> decompressor_;
};

}  // namespace

LevelRange levels_of(CodecKind kind) noexcept {
  if (kind == CodecKind::lz4) return {1, LZ4HC_CLEVEL_MAX, 1};
  return {ZSTD_minCLevel(), ZSTD_maxCLevel(), ZSTD_CLEVEL_DEFAULT};
}

std::string_view name_of(CodecKind kind) noexcept {
  return kind == CodecKind::lz4 ? "lz4" : "zstd";
}

std::span<const std::byte> Codec::encode(PageBytes page, CodecBuffer& buffer) {
  std::size_t size = compress(page, buffer);
  if (size == 0 || size >= kPageSize) {
    std::memcpy(buffer.data(), page.data(), kPageSize);
    size = kPageSize;
  }
  return {buffer.data(), size};
}

bool Codec::decode(std::span<const std::byte> object, WritablePageBytes page) const {
  if (object.size() != kPageSize) return decompress(object, page);
  std::memcpy(page.data(), object.data(), kPageSize);
  return true;
}

std::unique_ptr<Codec> make_codec(CodecChoice choice) {
  const LevelRange levels = levels_of(choice.kind);
  if (choice.level < levels.lowest || choice.level > levels.highest) {
    throw Problem(ExitCode::usage,
                  fmt::format("{} has no level {}; its levels are {} to {}", name_of(choice.kind),
                              choice.level, levels.lowest, levels.highest));
  }
  if (choice.kind == CodecKind::lz4) return std::make_unique<Lz4Codec>(choice);
  return std::make_unique<ZstdCodec>(choice);
}

}  // namespace mmkit::tool
