// SPDX-License-Identifier: MIT
//
// PluginDirectory - a directory of a test's own with plug-ins in it, and a loader that keeps what it
// is told.
//
// Whatever the umask: directory and files are writable by nobody else until a test says so.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mmkit/zpool/shared_object_loader.hpp>
#include <string>
#include <vector>

namespace mmkit::testing {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class PluginDirectory {
 public:
  PluginDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "mmkit-plugins-XXXXXX").string();
    path_ = ::mkdtemp(path.data());  // mode 0700
  }
  PluginDirectory(const PluginDirectory&) = delete;
  PluginDirectory& operator=(const PluginDirectory&) = delete;
  ~PluginDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string file(const std::string& type) const { return path_ + "/mmkit-zpool-" + type + ".so"; }

  /// A file of these bytes for a type.
  void write(const std::string& type, const std::string& bytes, mode_t mode = 0644) const {
    write_at(file(type), bytes, mode);
  }
  void write_at(const std::string& at, const std::string& bytes, mode_t mode = 0644) const {
    std::ofstream(at, std::ios::binary) << bytes;
    ASSERT_EQ(::chmod(at.c_str(), mode), 0);
  }
  void add_runs() const { write("runs", read_file(MMKIT_RUNS_PLUGIN)); }
  void add_faulty() const { write("faulty", read_file(MMKIT_FAULTY_PLUGIN)); }

 private:
  std::string path_;
};

/// Whether the dynamic linker has this file loaded. It compares files, not names.
inline bool is_loaded(const std::string& path) {
  void* const object = ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (object != nullptr) ::dlclose(object);
  return object != nullptr;
}

inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

struct Refusal {
  PluginFault fault;
  Errc code;
  std::string type, message;
};

/// A loader and what it was told.
class HeardLoader {
 public:
  explicit HeardLoader(std::string directory)
      : loader(std::move(directory), [this](const PluginRefusal& refusal) {
          refusals.push_back({refusal.fault, refusal.code, std::string(refusal.type),
                              std::string(refusal.message)});
        }) {}

  std::vector<Refusal> refusals;
  SharedObjectLoader loader;
};

/// Holds a variable of the environment for a scope.
class EnvironmentVariable {
 public:
  EnvironmentVariable(const char* name, const char* value) : name_(name) {
    ::setenv(name, value, /*overwrite=*/1);
  }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;
  ~EnvironmentVariable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

}  // namespace mmkit::testing
