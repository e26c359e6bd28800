// SPDX-License-Identifier: MIT
//
// Tag - one byte for every 8 bytes of offset space: what the fast paths know of an object.
//
// Only objects of a size class have one, at the byte of their start; 0 stands for everything else
// (free, inside of an object, or an object that the heap alone knows). It spares a free the lock and
// the bitmaps, finds a double free, and remembers what an allocation must do before it hands the
// memory out again:
//
//   live       the user has it; its memory may be absent on some CPUs
//   live_present   the same, but every open unit's copy was written once: zeroing cannot fault
//   clean      kept by a CPU; never used, so it reads as zero
//   dirty      kept by a CPU; must be zeroed
//   dirty_present  the same, and zeroing cannot fault
//
// A tag is a plain byte, stored without read-modify-write: an object has one owner at a time.
#pragma once

#include <atomic>
#include <cstdint>

namespace mmkit::percpu {

enum class TagState : std::uint8_t { live, live_present, clean, dirty, dirty_present };

inline constexpr std::size_t kTagBytes = 8;  // of offset space a tag
inline constexpr std::size_t kChunkTags = 64 * 1024 / kTagBytes;

class Tag {
 public:
  constexpr Tag() noexcept = default;
  constexpr Tag(TagState state, unsigned size_class) noexcept
      : bits_(static_cast<std::uint8_t>(static_cast<unsigned>(state) << 5 | size_class)) {}

  constexpr bool is_none() const noexcept { return bits_ == 0; }
  constexpr TagState state() const noexcept { return static_cast<TagState>(bits_ >> 5); }
  /// 1 to 31.
  constexpr unsigned size_class() const noexcept { return bits_ & 31; }
  constexpr bool is_live() const noexcept {
    return bits_ != 0 && state() <= TagState::live_present;
  }
  constexpr bool is_kept() const noexcept { return state() >= TagState::clean; }

  /// The tag of a live object that is freed.
  constexpr Tag freed() const noexcept {
    Tag tag = *this;
    tag.bits_ = static_cast<std::uint8_t>(bits_ + kFreed);
    return tag;
  }

 private:
  // From live to dirty, and from live_present to dirty_present.
  static constexpr unsigned kFreed = 3u << 5;
  friend class TagSlot;
  std::uint8_t bits_ = 0;
};

/// Where a tag lies. Relaxed: its owner alone reads and writes it, but for misuse.
class TagSlot {
 public:
  Tag load() const noexcept {
    Tag tag;
    tag.bits_ = bits_.load(std::memory_order_relaxed);
    return tag;
  }
  void store(Tag tag) noexcept { bits_.store(tag.bits_, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint8_t> bits_{0};
};
static_assert(sizeof(TagSlot) == 1);

}  // namespace mmkit::percpu
