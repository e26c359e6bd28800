// SPDX-License-Identifier: MIT
#include "zpool/plugin_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mmkit/base/mutant.hpp>

namespace mmkit::detail {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

OwnDescriptor refuse(PluginFinding* why, PluginFault fault) noexcept {
  why->fault = fault;
  return OwnDescriptor(-1);
}

// The numbers behind a judgement.
void describe(PluginFinding* why, const struct stat& found) noexcept {
  std::snprintf(why->detail, sizeof why->detail, "owner %ld, mode %04lo",
                static_cast<long>(found.st_uid), static_cast<unsigned long>(found.st_mode & 07777));
}

void describe_errno(PluginFinding* why) noexcept {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  // Not strerror(), which may allocate.
  std::snprintf(why->detail, sizeof why->detail, "%s", ::strerrordesc_np(errno));
#else
  std::snprintf(why->detail, sizeof why->detail, "errno %d", errno);
#endif
}

// The last component decides what "no symlink" is said of, so it has to be a name.
bool is_good_directory_path(std::string_view path) noexcept {
  if (path.empty() || path.front() != '/' || path.find('\0') != std::string_view::npos) {
    return false;
  }
  const std::string_view last = path.substr(path.rfind('/') + 1);
  return last != "." && last != "..";
}

// Retried, since a signal is no reason.
template <class Open>
int open_again(Open&& open) noexcept {
  int fd;
  do {
    fd = open();
  } while (fd < 0 && errno == EINTR);
  return fd;
}

}  // namespace

OwnDescriptor::~OwnDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<PluginFault> judge_plugin_directory(const struct stat& found, uid_t user) noexcept {
  if (S_ISLNK(found.st_mode)) return PluginFault::directory_is_symlink;
  if (!S_ISDIR(found.st_mode)) return PluginFault::not_a_directory;
  if (found.st_uid != 0 && found.st_uid != user) return PluginFault::directory_of_another_user;
  if ((found.st_mode & kWritableByOthers) != 0) return PluginFault::directory_writable_by_others;
  return std::nullopt;
}

std::optional<PluginFault> judge_plugin_file(const struct stat& found, uid_t user) noexcept {
  if (!S_ISREG(found.st_mode)) return PluginFault::not_a_file;
  if (found.st_uid != 0 && found.st_uid != user) return PluginFault::file_of_another_user;
  if ((found.st_mode & kWritableByOthers) != 0) return PluginFault::file_writable_by_others;
  return std::nullopt;
}

PluginFileName plugin_file_name(std::string_view type) noexcept {
  PluginFileName name;
  std::snprintf(name.text, sizeof name.text, "mmkit-zpool-%.*s.so", static_cast<int>(type.size()),
                type.data());
  return name;
}

OwnDescriptor open_plugin_file(const std::string& directory, const PluginFileName& file,
                               PluginFinding* why) noexcept {
  // A slash at the end would make the system follow a link there.
  std::string_view path = directory;
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  char terminated[4096];
  if (!is_good_directory_path(path) || path.size() >= sizeof terminated) {
    return refuse(why, PluginFault::bad_directory);
  }
  terminated[path.copy(terminated, sizeof terminated - 1)] = 0;

  // O_PATH opens a link itself, so that it can be told from a directory and by its name.
  const OwnDescriptor beneath(
      open_again([&] { return ::open(terminated, O_PATH | O_NOFOLLOW | O_CLOEXEC); }));
  struct stat found {};
  if (!beneath || ::fstat(beneath.get(), &found) != 0) {
    if (errno == ENOENT) return refuse(why, PluginFault::no_directory);
    describe_errno(why);
    return refuse(why, PluginFault::directory_not_readable);
  }
  describe(why, found);
  if (const auto fault = judge_plugin_directory(found, ::geteuid())) return refuse(why, *fault);

  // O_NONBLOCK: a pipe in its place must not stop the program before it is seen for what it is.
  OwnDescriptor opened(open_again([&] {
    return ::openat(beneath.get(), file.text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  }));
  if (!opened || ::fstat(opened.get(), &found) != 0) {
    why->detail[0] = 0;
    if (errno == ENOENT) return refuse(why, PluginFault::no_file);
    if (errno == ELOOP) return refuse(why, PluginFault::file_is_symlink);
    describe_errno(why);
    return refuse(why, PluginFault::file_not_readable);
  }
  describe(why, found);
  if (const auto fault = judge_plugin_file(found, ::geteuid())) return refuse(why, *fault);
  MMKIT_MUTATE(MMKIT_MUTANT_loader_opens_twice, , detail::hold_window_open();
               return OwnDescriptor(::openat(beneath.get(), file.text, O_RDONLY | O_CLOEXEC));)
  return opened;
}

DescriptorPath fresh_descriptor_path(int fd) noexcept {
  static constinit std::atomic<std::uint64_t> paths{0};
  DescriptorPath path;
  char* at = path.text;
  // Of this thread, which may have a table of descriptors of its own.
  constexpr std::string_view kTable = "/proc/thread-self/fd/";
  std::memcpy(at, kTable.data(), kTable.size());
  at += kTable.size();
  // The number of this path, a bit a step: `./` for 1, another slash for 0; each stays where it is.
  // Relaxed: it only has to be a new one.
  std::uint64_t number = paths.fetch_add(1, std::memory_order_relaxed);
  for (number = MMKIT_MUTATE(MMKIT_MUTANT_loader_repeats_paths, number, 0); number != 0;
       number >>= 1) {
    if ((number & 1) != 0) *at++ = '.';
    *at++ = '/';
  }
  std::snprintf(at, static_cast<std::size_t>(path.text + sizeof path.text - at), "%d", fd);
  return path;
}

}  // namespace mmkit::detail
