// SPDX-License-Identifier: MIT
//
// PluginFile - a shared object that may be loaded: found, opened and examined.
//
// The descriptor that was examined is the one that is loaded, so that whatever happens to the names
// meanwhile, nothing else gets in.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <mmkit/base/result.hpp>
#include <mmkit/zpool/shared_object_loader.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace mmkit::detail {

/// A reason and what there is to say about it.
struct PluginFinding {
  PluginFault fault{};
  char detail[128] = {};
};

/// What is wrong with a directory or a file for this user, from what the system says of it.
std::optional<PluginFault> judge_plugin_directory(const struct stat& found, uid_t user) noexcept;
std::optional<PluginFault> judge_plugin_file(const struct stat& found, uid_t user) noexcept;

/// A descriptor that closes itself.
class OwnDescriptor {
 public:
  explicit OwnDescriptor(int fd) noexcept : fd_(fd) {}
  OwnDescriptor(OwnDescriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  OwnDescriptor& operator=(OwnDescriptor&&) = delete;
  ~OwnDescriptor();
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_;
};

/// `mmkit-zpool-<type>.so` with its zero; room for the longest type.
struct PluginFileName {
  char text[64];
};
PluginFileName plugin_file_name(std::string_view type) noexcept;

/// Opens the file of a type beneath a directory; no descriptor, and why, when it may not be loaded.
OwnDescriptor open_plugin_file(const std::string& directory, const PluginFileName& file,
                               PluginFinding* why) noexcept;

/// A path that names an open descriptor of this thread, spelled as no path before it.
///
/// The dynamic linker knows what it has loaded by the name it was given, and would give the object
/// loaded through a descriptor of the same number before, instead of opening this one.
struct DescriptorPath {
  char text[256];
};
DescriptorPath fresh_descriptor_path(int fd) noexcept;

}  // namespace mmkit::detail
