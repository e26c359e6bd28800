// SPDX-License-Identifier: MIT
//
// Machine - the lines that every run begins with: what ran, on what, built how, beside whom.
//
// A figure without them cannot be compared with anything.
#pragma once

#include <sched.h>
#include <sys/utsname.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/peers.hpp"

namespace mmkit::bench {

/// The CPUs this process may run on.
inline std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

namespace detail {

inline std::string first_line_after(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const std::size_t colon = key.empty() ? std::string::npos : line.find(": ");
    return colon == std::string::npos ? line : line.substr(colon + 2);
  }
  return "unknown";
}

// The choice in force of a list such as "always [madvise] never".
inline std::string bracketed(const std::string& line) {
  const std::size_t open = line.find('['), close = line.find(']');
  return open < close && close != std::string::npos ? line.substr(open + 1, close - open - 1)
                                                    : line;
}

inline std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown compiler";
#endif
}

}  // namespace detail

inline std::string machine_statement() {
  ::utsname system{};
  ::uname(&system);
  double load[1] = {0};
  if (::getloadavg(load, 1) != 1) load[0] = 0;
  char load_text[32];
  std::snprintf(load_text, sizeof load_text, "%.1f", load[0]);
  const std::string huge = detail::bracketed(
      detail::first_line_after("/sys/kernel/mm/transparent_hugepage/enabled", ""));

  std::string text = "machine  " + detail::first_line_after("/proc/cpuinfo", "model name") + ", " +
                     std::to_string(std::thread::hardware_concurrency()) + " CPUs (" +
                     std::to_string(usable_cpus().size()) + " usable), " + system.sysname + " " +
                     system.release + " " + system.machine + ", huge pages " + huge + ", load " +
                     load_text + "\n";
  text += "build    " + detail::compiler() + ", ";
#if !defined(__OPTIMIZE__)
  text += "NOT OPTIMISED: the times mean nothing, ";
#endif
  text += "check level " + std::to_string(MMKIT_CHECK_LEVEL) + "\n";
  text += "peers    ";
  for (const Malloc& peer : peers().present) {
    text += (&peer == &peers().present.front() ? "" : ", ") + peer.name + " " + peer.version;
  }
  text += "\n";
  for (const AbsentMalloc& peer : peers().absent) {
    text += "absent   " + peer.name + ": " + peer.reason + "\n";
  }
  return text;
}

}  // namespace mmkit::bench
