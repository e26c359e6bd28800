// SPDX-License-Identifier: MIT
#include "page/reservation.hpp"

#include <algorithm>
#include <bit>
#include <mmkit/base/bits.hpp>
#include <mmkit/page/page_size.hpp>

namespace mmkit::page_detail {

Result<Reservation> Reservation::create(std::size_t frame_bytes, std::size_t descriptor_bytes,
                                        bool shareable) noexcept {
  if (os::page_bytes() != kPageSize) return fail(Errc::not_supported);
  Reservation memory;  // its end undoes what was done
  if (const Status status = memory.map_frames(frame_bytes, shareable); !status) {
    return fail(status.error());
  }
  if (const Status status = memory.map_descriptors(descriptor_bytes); !status) {
    return fail(status.error());
  }
  return memory;
}

Status Reservation::map_frames(std::size_t frame_bytes, bool shareable) noexcept {
  const std::size_t align_bytes = std::min(std::bit_ceil(frame_bytes), kLargestAlignBytes);
  const std::size_t size_bytes = frame_bytes + align_bytes - kPageSize;
  if (shareable) {
    const Result<int> fd = os::create_file(size_bytes);
    if (!fd) return fail(fd.error());
    fd_ = *fd;
  }
  const Result<os::Range> range =
      shareable ? os::map_shared(fd_, size_bytes) : os::reserve_private(size_bytes);
  if (!range) return fail(range.error());
  frames_ = *range;
  const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(range->data);
  first_frame_ = range->data + (align_up<std::uintptr_t>(start, align_bytes) - start);
  if (const Status status = os::forbid_huge_pages(frames_); !status) return status;
  return shareable ? os::leave_out_of_fork(frames_) : Status();
}

Status Reservation::map_descriptors(std::size_t size_bytes) noexcept {
  const Result<os::Range> range = os::reserve_private(size_bytes);
  if (!range) return fail(range.error());
  descriptors_ = *range;
  return os::forbid_huge_pages(descriptors_);
}

Reservation::~Reservation() {
  if (frames_.data != nullptr) os::unmap(frames_);
  if (descriptors_.data != nullptr) os::unmap(descriptors_);
  if (fd_ >= 0) os::close_file(fd_);
}

}  // namespace mmkit::page_detail
