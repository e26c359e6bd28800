// SPDX-License-Identifier: MIT
#include "percpu/os_percpu.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

namespace mmkit::percpu::os {
namespace {

// Errors are told by result; a caller in the middle of its own work keeps its errno.
class KeptErrno {
 public:
  KeptErrno() noexcept : kept_(errno) {}
  KeptErrno(const KeptErrno&) = delete;
  KeptErrno& operator=(const KeptErrno&) = delete;
  ~KeptErrno() { errno = kept_; }

 private:
  int kept_;
};

Status outcome(bool good) noexcept {
  return good ? Status() : Status(fail(Errc::out_of_memory));
}

// NORESERVE: addresses are reserved by the gigabyte and used by the page.
Result<Range> map_new(std::size_t size_bytes, int protection) noexcept {
  const KeptErrno kept;
  void* const data =
      ::mmap(nullptr, size_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return fail(Errc::out_of_memory);
  return Range{static_cast<std::byte*>(data), size_bytes};
}

bool map_over(Range at, int protection, int flags, int fd, std::uint64_t offset) noexcept {
  return ::mmap(at.data, at.size_bytes, protection, flags | MAP_FIXED | MAP_NORESERVE, fd,
                static_cast<off_t>(offset)) != MAP_FAILED;
}

// process_madvise(2) on ourselves takes a vector of ranges: half the cost of a call for each. 0 when
// the system does not have it for this advice.
std::size_t discard_as_vector(std::span<const Range> ranges) noexcept {
#if defined(SYS_process_madvise) && defined(MADV_DONTNEED)
  constexpr int kSelf = -10001;  // PIDFD_SELF_THREAD_GROUP, since Linux 6.14
  static constinit std::atomic<bool> refused{false};
  if (ranges.size() < 2 || refused.load(std::memory_order_relaxed)) return 0;
  std::array<iovec, 64> vector;
  const std::size_t count = std::min(ranges.size(), vector.size());
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    vector[i] = {ranges[i].data, ranges[i].size_bytes};
    bytes += ranges[i].size_bytes;
  }
  const long done = ::syscall(SYS_process_madvise, kSelf, vector.data(), count, MADV_DONTNEED, 0);
  if (done == static_cast<long>(bytes)) return count;
  // Relaxed: whoever still tries is refused as well.
  if (done < 0) refused.store(true, std::memory_order_relaxed);
#else
  static_cast<void>(ranges);
#endif
  return 0;
}

}  // namespace

std::size_t page_bytes() noexcept {
  return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

Result<Range> reserve(std::size_t size_bytes) noexcept {
  return map_new(size_bytes, PROT_NONE);
}

Result<Range> map_private(std::size_t size_bytes) noexcept {
  return map_new(size_bytes, PROT_READ | PROT_WRITE);
}

Status open(Range range) noexcept {
  const KeptErrno kept;
  if (!map_over(range, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    return fail(Errc::out_of_memory);
  }
  // Under a huge page memory would come and go by 2 MiB. EINVAL: a kernel that has none.
  if (::madvise(range.data, range.size_bytes, MADV_NOHUGEPAGE) == 0 || errno == EINVAL) return {};
  static_cast<void>(close(range));
  return fail(Errc::out_of_memory);
}

Status close(Range range) noexcept {
  const KeptErrno kept;
  return outcome(map_over(range, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

Status map_shared(Range at, SharedRange file) noexcept {
  const KeptErrno kept;
  if (!map_over(at, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, file.offset_bytes)) {
    return fail(Errc::out_of_memory);
  }
  // To say "no" while the mapping stays would let its pages be given to somebody else.
  return outcome(::madvise(at.data, at.size_bytes, MADV_DONTFORK) == 0 || !close(at));
}

Status make_present(Range range) noexcept {
  const KeptErrno kept;
#ifdef MADV_POPULATE_WRITE
  if (::madvise(range.data, range.size_bytes, MADV_POPULATE_WRITE) == 0) return {};
  if (errno != EINVAL && errno != ENOSYS) return fail(Errc::out_of_memory);
#endif
  // An atomic addition of nothing: present afterwards, whoever else is writing.
  for (std::size_t at = 0; at < range.size_bytes; at += kPageSize) {
    __atomic_fetch_add(reinterpret_cast<unsigned char*>(range.data + at), 0, __ATOMIC_RELAXED);
  }
  return {};
}

Status discard(std::span<const Range> ranges) noexcept {
  const KeptErrno kept;
  while (!ranges.empty()) {
    std::size_t done = discard_as_vector(ranges);
    if (done == 0) {
      if (::madvise(ranges[0].data, ranges[0].size_bytes, MADV_DONTNEED) != 0) {
        return fail(errno == EINVAL ? Errc::not_supported : Errc::out_of_memory);
      }
      done = 1;
    }
    ranges = ranges.subspan(done);
  }
  return {};
}

Status leave_out_of_fork(Range range) noexcept {
  const KeptErrno kept;
  return outcome(::madvise(range.data, range.size_bytes, MADV_DONTFORK) == 0);
}

bool unmap(Range range) noexcept {
  const KeptErrno kept;
  return ::munmap(range.data, range.size_bytes) == 0;
}

unsigned allowed_cpus_end() noexcept {
  const KeptErrno kept;
  std::array<unsigned long, 16384 / (8 * sizeof(unsigned long))> mask{};
  const long bytes = ::syscall(SYS_sched_getaffinity, 0, sizeof mask, mask.data());
  for (std::size_t i = bytes > 0 ? static_cast<std::size_t>(bytes) / sizeof mask[0] : 0; i != 0;
       --i) {
    if (mask[i - 1] != 0) {
      const unsigned top = 63 - static_cast<unsigned>(__builtin_clzl(mask[i - 1]));
      return static_cast<unsigned>(i - 1) * 64 + top + 1;
    }
  }
  return 1;
}

}  // namespace mmkit::percpu::os
