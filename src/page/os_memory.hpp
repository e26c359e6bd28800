// SPDX-License-Identifier: MIT
//
// OS memory - the operating system's part of the page layer, as a page of contract.
//
// Nothing else in the page layer calls the system. Plain libc names behind it, so that a test can
// wrap and fail each of them.
// Units:   bytes; every address and length is a multiple of the machine's page
// Locking: none needed; the calls are safe from any thread
#pragma once

#include <cstddef>
#include <mmkit/base/result.hpp>

namespace mmkit::os {

/// Addresses that were reserved.
struct Range {
  std::byte* data = nullptr;
  std::size_t size_bytes = 0;
};

/// What memory it is, which decides how it is given back.
enum class Backing { private_memory, shared_file };

/// Bytes of the machine's page.
std::size_t page_bytes() noexcept;

/// Reserves readable, writable addresses of private memory that reads as zero and takes up none
/// until it is touched. Errors: out_of_memory.
Result<Range> reserve_private(std::size_t size_bytes) noexcept;

/// Makes a nameless file in memory, sparse and zero, closed on exec. Errors: out_of_memory; with
/// neither file nor descriptor left behind. not_supported when the system has no such files.
Result<int> create_file(std::size_t size_bytes) noexcept;

/// Maps all of a file, shared, readable and writable. Errors: out_of_memory.
Result<Range> map_shared(int fd, std::size_t size_bytes) noexcept;

/// Keeps huge pages away, under which memory could not be given back page by page. A system without
/// huge pages is content. Errors: out_of_memory.
Status forbid_huge_pages(Range range) noexcept;

/// Leaves the range out of the children of a fork. Errors: out_of_memory.
Status leave_out_of_fork(Range range) noexcept;

/// Gives memory back at once; the range then reads as zero and takes up none until it is touched.
/// Errors: out_of_memory, or not_supported for memory that is locked; then nothing has changed that
/// matters: the bytes are whatever they were, or zero. Leaves errno alone.
Status discard(Range range, Backing backing) noexcept;

/// Gives up the addresses. When the system cannot (it may need memory to split a mapping), the
/// memory goes back at least, if it is private.
void unmap(Range range) noexcept;

/// Closes a file of create_file. Its memory lives on while it is mapped.
void close_file(int fd) noexcept;

}  // namespace mmkit::os
