// SPDX-License-Identifier: MIT
#include <mmkit/base/cpu.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>

namespace mmkit {
namespace {

// The last number of a list such as "0-3,8-11", plus one; 0 when there is none.
unsigned end_of_cpu_list(const char* text, std::size_t length) noexcept {
  unsigned last = 0;
  bool digits = false;
  for (std::size_t i = 0; i < length; ++i) {
    const char c = text[i];
    if (c >= '0' && c <= '9') {
      last = (digits ? last * 10 : 0) + static_cast<unsigned>(c - '0');
      digits = true;
    } else if (c == '-' || c == ',') {
      digits = false;
    } else {
      break;
    }
  }
  return length != 0 && text[0] >= '0' && text[0] <= '9' ? last + 1 : 0;
}

// How many CPU numbers the kernel's own masks have room for: it tells by the bytes it writes. More
// than there are, but never fewer; 0 when it does not say.
unsigned bits_of_affinity() noexcept {
#ifdef SYS_sched_getaffinity
  unsigned long mask[16384 / (8 * sizeof(unsigned long))];
  const long bytes = ::syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
  return bytes > 0 ? static_cast<unsigned>(bytes) * 8 : 0;
#else
  return 0;
#endif
}

// The kernel's own list, and not sysconf's count: CPU numbers may have gaps, and where /sys and /proc
// are not mounted sysconf counts the CPUs this process may use. A number too low would let a thread
// write beyond the last unit, hence the mask's size then.
unsigned read_possible_cpus() noexcept {
  char text[256];
  ssize_t length = 0;
  const int file = ::open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
  if (file >= 0) {
    length = ::read(file, text, sizeof text);
    ::close(file);
  }
  const unsigned listed = length > 0 ? end_of_cpu_list(text, static_cast<std::size_t>(length)) : 0;
  if (listed != 0) return listed;
  if (const unsigned bits = bits_of_affinity(); bits != 0) return bits;
  const long configured = ::sysconf(_SC_NPROCESSORS_CONF);
  return configured > 0 ? static_cast<unsigned>(configured) : 1;
}

}  // namespace

unsigned possible_cpus() noexcept {
  // Relaxed: every thread that reads the system finds the same number.
  static constinit std::atomic<unsigned> known{0};
  unsigned count = known.load(std::memory_order_relaxed);
  if (count == 0) {
    count = read_possible_cpus();
    known.store(count, std::memory_order_relaxed);
  }
  return count;
}

unsigned current_cpu() noexcept {
  const int cpu = ::sched_getcpu();
  const unsigned number = cpu < 0 ? 0 : static_cast<unsigned>(cpu);
  return number < possible_cpus() ? number : 0;
}

}  // namespace mmkit
