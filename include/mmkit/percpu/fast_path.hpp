// SPDX-License-Identifier: MIT
//
// Fast path - an allocation and a free without lock, atomic or call, as far as they go.
//
// Each CPU has a record with a few free objects of each size class (tag.hpp, size_classes.hpp):
//
//   record  | lock | allocations | frees | peak |  count, slots of class 1 | class 2 | ... | 31
//           0      8             16      24     64
//
// A free tags the object and pushes it, an allocation pops one, zeroes what must be and tags it; each
// by one sequence, and one more to count. Whatever is not like this (an empty or full stack, a
// thread that is not registered, a second region, Gfp::nowait, fallback mode, misuse, a new peak)
// is src/percpu's: the functions here then say false, and nothing has happened.
// Locking:    a record belongs to its CPU; see src/percpu/caches.hpp for those who look at others'
// Complexity: O(1); an allocation and a free are four sequences and the zeroing
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mmkit/base/mutant.hpp>
#include <mmkit/percpu/percpu_ptr.hpp>
#include <mmkit/percpu/rseq_x86_64.hpp>
#include <mmkit/percpu/size_classes.hpp>
#include <mmkit/percpu/tag.hpp>
#include <mmkit/percpu/tsan.hpp>

namespace mmkit::detail {
struct PercpuState;
}

namespace mmkit::percpu {

/// Where things lie in a record.
namespace record {
// The first three side by side and in this order: rseq::count_within.
inline constexpr std::size_t kAllocations = 8, kFrees = 16, kPeak = 24, kFirstStack = 64;

inline constexpr std::array<std::size_t, kSizeClasses + 1> kHeads = [] {
  std::array<std::size_t, kSizeClasses + 1> heads{};
  std::size_t at = kFirstStack;
  for (unsigned c = 1; c < kSizeClasses; ++c) {
    heads[c] = at;
    at += 8 + 8 * size_class::capacity(c);
  }
  heads[kSizeClasses] = at;
  return heads;
}();
inline constexpr std::array<std::uint16_t, kSizeClasses> kCapacities = [] {
  std::array<std::uint16_t, kSizeClasses> capacities{};
  for (unsigned c = 1; c < kSizeClasses; ++c) {
    capacities[c] = static_cast<std::uint16_t>(size_class::capacity(c));
  }
  return capacities;
}();

// Whole pairs of cache lines, so that no two CPUs share any; and no multiple of a page, so that
// their records fall into different sets.
inline constexpr std::size_t kStride = (kHeads[kSizeClasses] + 127) / 128 * 128;
static_assert(kStride % 4096 != 0);
}  // namespace record

/// The largest class that is zeroed in line: 128 bytes.
inline constexpr unsigned kLargestSmallClass = 16;

// Stores that overlap, as a memset does inside; a call costs more than they do.
template <std::size_t kPairs>
[[gnu::always_inline]] inline void zero_overlapping(unsigned units, std::byte* unit0,
                                                    std::size_t size_bytes) noexcept {
  do {
    std::byte* const last = unit0 + size_bytes - 16 * kPairs;
    for (std::size_t i = 0; i < kPairs; ++i) {
      std::memset(unit0 + 16 * i, 0, 16);
      std::memset(last + 16 * i, 0, 16);
    }
    unit0 += kPercpuUnitStride;
  } while (--units != 0);
}

/// Zeroes 8 to 128 bytes, a multiple of 8, in every open unit.
[[gnu::always_inline]] inline void zero_units_small(unsigned units, std::byte* unit0,
                                                    std::size_t size_bytes) noexcept {
  const unsigned open = detail::open_units();
  if (open < units) units = open;
  if (size_bytes > 64) {
    zero_overlapping<4>(units, unit0, size_bytes);
  } else if (size_bytes > 32) {
    zero_overlapping<2>(units, unit0, size_bytes);
  } else if (size_bytes > 8) {
    zero_overlapping<1>(units, unit0, size_bytes);
  } else {
    do {
      std::memset(unit0, 0, 8);
      unit0 += kPercpuUnitStride;
    } while (--units != 0);
  }
}

/// What the fast path reads of an allocator: a cache line.
class alignas(64) FastPath {
 public:
  /// With a region of no bytes and records that are locked all goes the slow way.
  FastPath(detail::PercpuState& state, std::byte* records, std::uintptr_t region,
           std::size_t region_bytes, TagSlot* tags, unsigned span_shift, unsigned units) noexcept
      : state_(&state),
        records_(records),
        region_(region),
        region_bytes_(region_bytes),
        offset_mask_((std::size_t{1} << span_shift) - 1),
        tags_(tags),
        span_shift_(span_shift),
        units_(units) {}

#if MMKIT_PERCPU_HAS_RSEQ
  /// An object of the class, zero in every unit, live; nullptr when that takes more.
  [[gnu::always_inline]] std::byte* allocate(unsigned size_class) const noexcept {
    using detail::rseq::Outcome;
    constexpr std::size_t kStride = record::kStride;
    void* object = nullptr;
    if (size_class > kLargestSmallClass ||
        detail::rseq::pop<kStride>(records_, record::kHeads[size_class], object) != Outcome::done)
        [[unlikely]] {
      return nullptr;
    }
    auto* const unit0 = static_cast<std::byte*>(object);
    TagSlot* const slot = tag_of(unit0);
    auto* const counts = reinterpret_cast<std::uint64_t*>(records_ + record::kAllocations);
    if (slot == nullptr || detail::rseq::count_within<kStride>(counts) != Outcome::done)
        [[unlikely]] {
      return finish(unit0);
    }
    detail::tsan_acquire(unit0);
    if (slot->load().state() == TagState::clean) {
      slot->store({TagState::live, size_class});
      return unit0;
    }
    if (MMKIT_MUTATE(MMKIT_MUTANT_percpu_not_zeroed_again, true, false)) {
      zero_units_small(units_, unit0, 8 * size_class);
    }
    slot->store({TagState::live_present, size_class});
    return unit0;
  }

  /// Frees a live object of a class; false when that takes more.
  [[gnu::always_inline]] bool free(std::byte* unit0) const noexcept {
    using detail::rseq::Outcome;
    constexpr std::size_t kStride = record::kStride;
    TagSlot* const slot = tag_of(unit0);
    if (slot == nullptr) [[unlikely]]
      return false;
    const Tag tag = slot->load();
    const bool freeable =
        MMKIT_MUTATE(MMKIT_MUTANT_percpu_double_free_kept, tag.is_live(), !tag.is_none());
    auto* const frees = reinterpret_cast<std::uint64_t*>(records_ + record::kFrees);
    if (!freeable || reinterpret_cast<std::uintptr_t>(unit0) % kTagBytes != 0 ||
        !detail::rseq::add<kStride>(frees, 1)) [[unlikely]] {
      return false;
    }
    const unsigned size_class = tag.size_class();
    slot->store(tag.freed());
    detail::tsan_release(unit0);
    if (detail::rseq::push<kStride>(records_, record::kHeads[size_class], unit0,
                                    record::kCapacities[size_class]) != Outcome::done)
        [[unlikely]] {
      overflow(size_class, unit0);
    }
    return true;
  }
#else
  std::byte* allocate(unsigned) const noexcept {
    return nullptr;
  }
  bool free(std::byte*) const noexcept {
    return false;
  }
#endif

 private:
  /// The tag of an address in unit 0 of the first region; nullptr for any other.
  [[gnu::always_inline]] TagSlot* tag_of(const void* address) const noexcept {
    const std::uintptr_t distance = reinterpret_cast<std::uintptr_t>(address) - region_;
    const std::size_t offset = distance & offset_mask_;
    if (distance >= region_bytes_ || offset >= kPercpuUnitBytes) return nullptr;
    return tags_ + (distance >> span_shift_) * kChunkTags + offset / kTagBytes;
  }

  // The rest of what began here, out of line (percpu_allocator.cpp): an object that the stack gave,
  // to be counted, zeroed and tagged; a freed one that the stack did not take.
  std::byte* finish(std::byte* unit0) const noexcept;
  void overflow(unsigned size_class, std::byte* unit0) const noexcept;

  detail::PercpuState* state_ = nullptr;
  std::byte* records_ = nullptr;
  std::uintptr_t region_ = 0;
  std::size_t region_bytes_ = 0;
  std::size_t offset_mask_ = 0;
  TagSlot* tags_ = nullptr;
  unsigned span_shift_ = 0;
  unsigned units_ = 0;
};

static_assert(sizeof(FastPath) == 64);

}  // namespace mmkit::percpu
