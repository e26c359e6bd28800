// SPDX-License-Identifier: MIT
//
// Reservation - the memory of a page allocator: addresses for its frames, and for what describes
// them.
//
//   |<- slack ->|<------ frames ------>|<- slack ->|      a mapping: private, or of a file
//               ^ a multiple of kLargestAlignBytes
//   |<---- descriptors ---->|                             a private mapping
//
// Owns its mappings and its file; all or nothing.
// Locking: none needed; nothing changes between creation and end
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/result.hpp>
#include <utility>

#include "page/os_memory.hpp"

namespace mmkit::page_detail {

class Reservation {
 public:
  /// Where the frames begin, for a range at least as large: the largest block of the kernel's own
  /// page allocator. Cutting the slack off would cost two calls that can fail; it is only
  /// addresses.
  static constexpr std::size_t kLargestAlignBytes = std::size_t{4} << 20;

  /// Reserves. Both sizes are multiples of a page. Errors: out_of_memory, not_supported; then
  /// nothing is left behind.
  static Result<Reservation> create(std::size_t frame_bytes, std::size_t descriptor_bytes,
                                    bool shareable) noexcept;

  Reservation(Reservation&& other) noexcept
      : frames_(std::exchange(other.frames_, {})),
        descriptors_(std::exchange(other.descriptors_, {})),
        first_frame_(std::exchange(other.first_frame_, nullptr)),
        fd_(std::exchange(other.fd_, -1)) {}
  Reservation& operator=(Reservation&&) = delete;
  ~Reservation();

  /// The first byte of frame 0.
  std::byte* frames() const noexcept { return first_frame_; }
  std::byte* descriptors() const noexcept { return descriptors_.data; }
  bool shareable() const noexcept { return fd_ >= 0; }
  int fd() const noexcept { return fd_; }
  /// Where in the file a byte of a frame lies.
  std::uint64_t file_offset_bytes(const std::byte* data) const noexcept {
    return static_cast<std::uint64_t>(data - frames_.data);
  }
  /// Gives memory of frames back to the system. Errors: as os::discard.
  Status discard(std::byte* data, std::size_t size_bytes) const noexcept {
    return os::discard({data, size_bytes},
                       shareable() ? os::Backing::shared_file : os::Backing::private_memory);
  }
  /// In the child of a fork that did not inherit the frames: does not unmap them, since anything
  /// may lie at their addresses.
  void forget_frames() noexcept { frames_ = {}; }

 private:
  Reservation() noexcept = default;
  Status map_frames(std::size_t frame_bytes, bool shareable) noexcept;
  Status map_descriptors(std::size_t size_bytes) noexcept;

  os::Range frames_;
  os::Range descriptors_;
  std::byte* first_frame_ = nullptr;
  int fd_ = -1;
};

}  // namespace mmkit::page_detail
