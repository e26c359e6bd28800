// SPDX-License-Identifier: MIT
//
// Fmt - mmkit's enums and statistics in the hands of the library fmt.
//
// Opt-in: the only header that includes fmt, and not behind the door <mmkit/mmkit.hpp>. The program
// brings fmt, 8 or newer, and links it (or defines FMT_HEADER_ONLY).
//
//   enums       by the enumerator's own word: `out_of_memory`, `read_only`; flags joined: `nowait|zero`;
//               a number that is none of them as `unknown`
//   structures  each member, in the order of declaration, by its own name:
//               `{objects: 3, payload_bytes: 4096, ...}`; addresses in hexadecimal, what is not there
//               as `none`
//   Handle      as failure messages print it: `0x1000100000000`
//   Status, Result<T>    `ok`, the value where fmt can print it, or the failure's word
//
// The forms are stable: a new member is added at the end or where it is declared, none is renamed
// without its field. All take the width, fill and alignment of a string: `{:>16}`.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <mmkit/base.hpp>
#include <mmkit/base/lock_rank.hpp>
#include <mmkit/genalloc.hpp>
#include <mmkit/page.hpp>
#include <mmkit/percpu.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace mmkit::detail {

// A word for each enumerator, at its number.
template <std::size_t kWords>
constexpr std::string_view word_of(const std::array<std::string_view, kWords>& words,
                                   std::size_t number) noexcept {
  return number < kWords ? words[number] : "unknown";
}

constexpr std::string_view fmt_word(MapMode mode) noexcept {
  return word_of<3>({"read_write", "read_only", "write_only"}, static_cast<std::size_t>(mode));
}
constexpr std::string_view fmt_word(AddressKind kind) noexcept {
  return word_of<2>({"opaque", "host"}, static_cast<std::size_t>(kind));
}
constexpr std::string_view fmt_word(PercpuBacking backing) noexcept {
  return word_of<2>({"lazy", "mapped"}, static_cast<std::size_t>(backing));
}
constexpr std::string_view fmt_word(PercpuMode mode) noexcept {
  return word_of<2>({"rseq", "fallback"}, static_cast<std::size_t>(mode));
}
constexpr std::string_view fmt_word(LockRank rank) noexcept {
  return word_of<kLockRanks>(
      {"fork", "registry", "live_pools", "pool", "zpool_class", "zpool_slots", "percpu_pages",
       "percpu_chunks", "page_release", "page_source", "pin_overflow", "leaf"},
      static_cast<std::size_t>(rank));
}
inline std::string_view fmt_word(Errc code) noexcept {
  return name(code);
}
inline std::string_view fmt_word(PluginFault fault) noexcept {
  return name(fault);
}

// Pads what was written to a buffer as fmt pads a string.
class PaddedFormatter : public fmt::formatter<std::string_view> {
 protected:
  template <class Context>
  auto pad(const fmt::memory_buffer& text, Context& context) const {
    return fmt::formatter<std::string_view>::format(std::string_view(text.data(), text.size()),
                                                    context);
  }
};

template <class Enum>
struct WordFormatter : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(Enum value, Context& context) const {
    return fmt::formatter<std::string_view>::format(fmt_word(value), context);
  }
};

struct HexFormatter : PaddedFormatter {
  template <class Value, class Context>
  auto format(Value value, Context& context) const {
    fmt::memory_buffer text;
    fmt::format_to(std::back_inserter(text), "{:#x}", static_cast<std::uint64_t>(value));
    return pad(text, context);
  }
};

// The members of a structure, whose names come as one text: "objects, payload_bytes".
class FieldsFormatter : public PaddedFormatter {
 protected:
  template <class Context, class... Fields>
  auto write(Context& context, std::string_view names, const Fields&... fields) const {
    fmt::memory_buffer text;
    text.push_back('{');
    (write_field(text, names, fields), ...);
    text.push_back('}');
    return pad(text, context);
  }

 private:
  template <class Field>
  static void write_field(fmt::memory_buffer& text, std::string_view& names, const Field& field) {
    const std::string_view name = names.substr(0, names.find(','));
    names.remove_prefix(name.size() < names.size() ? name.size() + 2 : name.size());
    if (text.size() != 1) text.append(std::string_view(", "));
    text.append(name);
    text.append(std::string_view(": "));
    write_value(text, name == "start" || name == "phys" || name == "value", field);
  }

  template <class Value>
  static void write_value(fmt::memory_buffer& text, bool is_address, const Value& value) {
    const auto out = std::back_inserter(text);
    if constexpr (std::is_pointer_v<Value>) {
      fmt::format_to(out, "{}", static_cast<const void*>(value));
    } else if constexpr (std::is_unsigned_v<Value> && !std::is_same_v<Value, bool>) {
      if (is_address) {
        fmt::format_to(out, "{:#x}", value);
      } else {
        fmt::format_to(out, "{}", value);
      }
    } else {
      fmt::format_to(out, "{}", value);
    }
  }
  template <class Value>
  static void write_value(fmt::memory_buffer& text, bool is_address,
                          const std::optional<Value>& value) {
    if (value) return write_value(text, is_address, *value);
    text.append(std::string_view("none"));
  }
  template <class Value, std::size_t kCount>
  static void write_value(fmt::memory_buffer& text, bool is_address,
                          const Value (&values)[kCount]) {
    text.push_back('[');
    for (std::size_t i = 0; i < kCount; ++i) {
      if (i != 0) text.append(std::string_view(", "));
      write_value(text, is_address, values[i]);
    }
    text.push_back(']');
  }
};

}  // namespace mmkit::detail

/// @cond  Doxygen cannot place what specialises another library's template.
// ---------------------------------------------------------------- enums
template <>
struct fmt::formatter<mmkit::Errc> : mmkit::detail::WordFormatter<mmkit::Errc> {};
template <>
struct fmt::formatter<mmkit::LockRank> : mmkit::detail::WordFormatter<mmkit::LockRank> {};
template <>
struct fmt::formatter<mmkit::MapMode> : mmkit::detail::WordFormatter<mmkit::MapMode> {};
template <>
struct fmt::formatter<mmkit::PluginFault> : mmkit::detail::WordFormatter<mmkit::PluginFault> {};
template <>
struct fmt::formatter<mmkit::AddressKind> : mmkit::detail::WordFormatter<mmkit::AddressKind> {};
template <>
struct fmt::formatter<mmkit::PercpuBacking> : mmkit::detail::WordFormatter<mmkit::PercpuBacking> {};
template <>
struct fmt::formatter<mmkit::PercpuMode> : mmkit::detail::WordFormatter<mmkit::PercpuMode> {};
template <>
struct fmt::formatter<mmkit::Handle> : mmkit::detail::HexFormatter {};
template <>
struct fmt::formatter<mmkit::Pfn> : mmkit::detail::HexFormatter {};

template <>
struct fmt::formatter<mmkit::Gfp> : mmkit::detail::PaddedFormatter {
  template <class Context>
  auto format(mmkit::Gfp flags, Context& context) const {
    fmt::memory_buffer text;
    const auto add = [&text](std::string_view word) {
      if (text.size() != 0) text.push_back('|');
      text.append(word);
    };
    constexpr std::pair<mmkit::Gfp, std::string_view> kFlags[] = {{mmkit::Gfp::nowait, "nowait"},
                                                                  {mmkit::Gfp::zero, "zero"},
                                                                  {mmkit::Gfp::highmem, "highmem"},
                                                                  {mmkit::Gfp::movable, "movable"},
                                                                  {mmkit::Gfp::no_warn, "no_warn"}};
    for (const auto& [flag, word] : kFlags) {
      if (mmkit::has(flags, flag)) add(word);
      flags = mmkit::without(flags, flag);
    }
    if (flags != mmkit::Gfp::kernel) {
      add("");
      fmt::format_to(std::back_inserter(text), "{:#x}", static_cast<std::uint32_t>(flags));
    }
    if (text.size() == 0) add("kernel");
    return pad(text, context);
  }
};

// ---------------------------------------------------------------- structures
// The binding names every member, or it does not compile: a new one cannot be forgotten here.
#define MMKIT_FORMAT_FIELDS(Type, ...)                                  \
  template <>                                                           \
  struct fmt::formatter<mmkit::Type> : mmkit::detail::FieldsFormatter { \
    template <class Context>                                            \
    auto format(const mmkit::Type& of, Context& context) const {        \
      const auto& [__VA_ARGS__] = of;                                   \
      return write(context, #__VA_ARGS__, __VA_ARGS__);                 \
    }                                                                   \
  }

template <>
struct fmt::formatter<mmkit::Status> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const mmkit::Status& status, Context& context) const {
    return fmt::formatter<std::string_view>::format(
        status ? std::string_view("ok") : mmkit::name(status.error()), context);
  }
};
template <class T>
struct fmt::formatter<mmkit::Result<T>> : mmkit::detail::PaddedFormatter {
  template <class Context>
  auto format(const mmkit::Result<T>& result, Context& context) const {
    fmt::memory_buffer text;
    if (!result) {
      text.append(mmkit::name(result.error()));
    } else if constexpr (fmt::is_formattable<T>::value) {
      fmt::format_to(std::back_inserter(text), "{}", *result);
    } else {
      text.append(std::string_view("ok"));
    }
    return pad(text, context);
  }
};

MMKIT_FORMAT_FIELDS(FailureReport, part, object, fault, value);

MMKIT_FORMAT_FIELDS(PageRun, data, pages, first);
MMKIT_FORMAT_FIELDS(SharedRange, fd, offset_bytes);
MMKIT_FORMAT_FIELDS(PageSourceStats, held_pages, peak_pages, resident_pages, retained_pages,
                    descriptor_bytes, allocations, frees, failures, release_calls,
                    release_failures);

MMKIT_FORMAT_FIELDS(ShrinkOutcome, reclaimed_pages, status);
MMKIT_FORMAT_FIELDS(DriverTraits, max_object_bytes, can_shrink, can_compact, highmem,
                    most_run_pages);
MMKIT_FORMAT_FIELDS(ZpoolStats, objects, payload_bytes, pages, metadata_bytes, compactable_pages,
                    allocations, frees, failures, evicted, moved);
MMKIT_FORMAT_FIELDS(ZpoolInfo, type, name, tag, limit_bytes, stats);
MMKIT_FORMAT_FIELDS(PluginRefusal, fault, code, type, message);
MMKIT_FORMAT_FIELDS(SizeClass, size_bytes, objects, pages);
MMKIT_FORMAT_FIELDS(ZsmallocClassStats, number, shape, zspages, objects, kept, cells, pages,
                    freeable_pages);
MMKIT_FORMAT_FIELDS(ZheapDensity, floor, density, blocks, shards, passed, emptied);

MMKIT_FORMAT_FIELDS(GenPoolChunk, start, size_bytes, available_bytes, phys, owner);
MMKIT_FORMAT_FIELDS(FreeRun, start, size_bytes);
MMKIT_FORMAT_FIELDS(DmaBlock, address, phys);
MMKIT_FORMAT_FIELDS(GenPoolStats, size_bytes, available_bytes, peak_used_bytes, largest_free_bytes,
                    metadata_bytes, chunks, free_runs, allocations, frees, failed_no_space,
                    failed_fragmented, retries, words_touched, most_words_touched);

MMKIT_FORMAT_FIELDS(PercpuStats, unit_bytes, units, chunks, max_chunks, populated_pages,
                    empty_populated_pages, metadata_bytes, live_bytes, min_alloc_bytes,
                    max_alloc_bytes, allocations, frees, live, peak_live, failures,
                    nowait_failures);

#undef MMKIT_FORMAT_FIELDS
/// @endcond
