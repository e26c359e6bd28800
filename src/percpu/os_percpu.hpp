// SPDX-License-Identifier: MIT
//
// OS percpu - the operating system's part of per-CPU memory, as a page of contract.
//
// Plain libc names behind it, so that a test can wrap and fail each of them.
// Units:   bytes; every address and length is a multiple of the machine's page
// Locking: none needed; the calls are safe from any thread and leave errno alone
#pragma once

#include <cstddef>
#include <cstdint>
#include <mmkit/base/result.hpp>
#include <mmkit/page/page_source.hpp>
#include <span>

namespace mmkit::percpu::os {

struct Range {
  std::byte* data = nullptr;
  std::size_t size_bytes = 0;
};

/// Bytes of the machine's page.
std::size_t page_bytes() noexcept;
/// Reserves addresses that fault when touched and take up nothing. Errors: out_of_memory.
Result<Range> reserve(std::size_t size_bytes) noexcept;
/// Memory that reads as zero and takes up nothing until it is touched. Errors: out_of_memory.
Result<Range> map_private(std::size_t size_bytes) noexcept;
/// Makes a reserved range such memory, without huge pages. Errors: out_of_memory; nothing changed.
Status open(Range range) noexcept;
/// Takes memory or a mapping away again: the range is reserved as before. Errors: out_of_memory (the
/// system may need a mapping more than before); then nothing has changed.
Status close(Range range) noexcept;
/// Maps a piece of a shareable file there, for this process and not for the child of a fork (unless
/// the system can neither do that nor undo the mapping). Errors: out_of_memory; nothing changed.
Status map_shared(Range at, SharedRange file) noexcept;
/// Makes the memory of an opened range present, zero where it was absent. Errors: out_of_memory.
Status make_present(Range range) noexcept;
/// Gives memory back; it reads as zero afterwards. As few calls as the system allows. Errors:
/// out_of_memory, not_supported (locked memory): some of it may have gone back.
Status discard(std::span<const Range> ranges) noexcept;
/// Leaves a range out of the children of a fork. Errors: out_of_memory.
Status leave_out_of_fork(Range range) noexcept;
/// Gives up the addresses; false when the system refuses.
bool unmap(Range range) noexcept;

/// The highest CPU this thread may run on now, plus one; at least 1.
unsigned allowed_cpus_end() noexcept;

}  // namespace mmkit::percpu::os
