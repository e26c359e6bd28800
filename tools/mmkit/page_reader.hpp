// SPDX-License-Identifier: MIT
//
// PageReader - the listed files as a stream of 4 KiB pages; the tail of each file is filled up with
// zeros.
//
// Files are read to the size that the walk saw. One that has become shorter is read to its new end
// and complained about; what it has gained is left. A file that cannot be opened, or fails in the
// middle, is complained about; the pages before stay. No file is mapped: a mapped file that shrinks
// would end the command with SIGBUS.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "complaints.hpp"
#include "input_walk.hpp"
#include "page_bytes.hpp"

namespace mmkit::tool {

struct ReadSummary {
  std::uint64_t files = 0;  // of which at least one byte was read
  std::uint64_t bytes = 0;
  std::uint64_t pages = 0;
  std::uint64_t padding_bytes = 0;  // zeros that fill up tails
  bool cut = false;                 // the limit ended the reading before the last listed byte
  Complaints unreadable;            // could not be opened or read
  Complaints shrunk;                // became shorter
};

/// Takes a page and the place of its file in the list; the bytes live for the call.
using PageSink = std::function<void(PageBytes page, std::size_t file_index)>;

/// Reads at most `limit_pages` pages.
ReadSummary read_pages(std::span<const InputFile> files, std::uint64_t limit_pages,
                       const PageSink& sink);

}  // namespace mmkit::tool
