// SPDX-License-Identifier: MIT
#include "page/os_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace mmkit::os {
namespace {

// What the system says when it cannot at all, as against not now.
Failure failure_of(int error) noexcept {
  const bool unsupported = error == ENOSYS || error == EINVAL || error == EPERM;
  return fail(unsupported ? Errc::not_supported : Errc::out_of_memory);
}

Result<Range> map(std::size_t size_bytes, int flags, int fd) noexcept {
  // NORESERVE: addresses are reserved by the gigabyte and used by the page.
  void* const data =
      ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) return fail(Errc::out_of_memory);
  return Range{static_cast<std::byte*>(data), size_bytes};
}

}  // namespace

std::size_t page_bytes() noexcept {
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

Result<Range> reserve_private(std::size_t size_bytes) noexcept {
  return map(size_bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

Result<int> create_file(std::size_t size_bytes) noexcept {
  const int fd = ::memfd_create("mmkit-pages", MFD_CLOEXEC);
  if (fd < 0) return failure_of(errno);
  if (::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) {
    close_file(fd);
    return fail(Errc::out_of_memory);
  }
  return fd;
}

Result<Range> map_shared(int fd, std::size_t size_bytes) noexcept {
  return map(size_bytes, MAP_SHARED, fd);
}

Status forbid_huge_pages(Range range) noexcept {
  // EINVAL: a kernel without huge pages does not know the advice, and needs none.
  if (::madvise(range.data, range.size_bytes, MADV_NOHUGEPAGE) == 0 || errno == EINVAL) return {};
  return fail(Errc::out_of_memory);
}

Status leave_out_of_fork(Range range) noexcept {
  if (::madvise(range.data, range.size_bytes, MADV_DONTFORK) == 0) return {};
  return fail(Errc::out_of_memory);
}

Status discard(Range range, Backing backing) noexcept {
  const int saved_errno = errno;
  // MADV_DONTNEED only unmaps the pages of a file; MADV_REMOVE takes them out of it.
  const int advice = backing == Backing::private_memory ? MADV_DONTNEED : MADV_REMOVE;
  Status status;
  if (::madvise(range.data, range.size_bytes, advice) != 0) status = failure_of(errno);
  errno = saved_errno;
  return status;
}

void unmap(Range range) noexcept {
  const int saved_errno = errno;
  if (::munmap(range.data, range.size_bytes) != 0) {
    static_cast<void>(::madvise(range.data, range.size_bytes, MADV_DONTNEED));
  }
  errno = saved_errno;
}

void close_file(int fd) noexcept {
  ::close(fd);
}

}  // namespace mmkit::os
