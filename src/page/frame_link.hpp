// SPDX-License-Identifier: MIT
//
// FrameLink - what the page layer writes down about a run of frames that nobody holds.
//
// There is one for each frame, in memory that is committed as frames are first handed out; only
// that of a run's first frame means anything, and only while the run is retained or on its way
// back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmkit::page_detail {

/// The number of a frame. 32 bits reach 16 TiB and halve the links.
using FrameIndex = std::uint32_t;
inline constexpr FrameIndex kNoFrame = 0xffffffff;

struct FrameLink {
  FrameIndex next;   ///< in the list of runs of this length, or of runs on their way back
  FrameIndex prev;   ///< in the list of runs of this length
  FrameIndex newer;  ///< in the order in which runs were freed
  FrameIndex older;
  FrameIndex pages;  ///< length of the run
};
static_assert(sizeof(FrameLink) == 20);

}  // namespace mmkit::page_detail
