// SPDX-License-Identifier: MIT
//
// SharedObjectLoader - fetches kinds of pool from shared objects, as the kernel loads modules.
//
//   registry.set_loader(SharedObjectLoader("/usr/lib/app/pools"));
//   Zpool::create("runs") --> /usr/lib/app/pools/mmkit-zpool-runs.so --> its driver is registered
//
// A shared object is code, and whoever may write it may do what the program may. So nothing is
// loaded but from a directory and a file that only the user and root can change, and what was
// looked at is what is loaded: the file is opened once, beneath the directory's own descriptor,
// examined through its descriptor and loaded through it.
//
// The object stays as long as somebody holds its driver: the registry until the type is
// unregistered, a pool until it ends. Then it is unloaded.
//
// What is not looked at: the directories above this one. Who may rename those may show another
// directory, which then has to stand the same examination.
// Locking:    none; loads of several threads go on side by side
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/result.hpp>
#include <mmkit/zpool/driver.hpp>
#include <mmkit/zpool/registry.hpp>
#include <string>
#include <string_view>

namespace mmkit {

/// Why a plug-in was not loaded; in the order in which it is looked for.
enum class PluginFault : std::uint8_t {
  bad_type_name,                 ///< not `[a-z][a-z0-9_]{0,31}`
  bad_directory,                 ///< not an absolute path, or one that ends in `.` or `..`
  no_directory,                  ///< it does not exist
  directory_not_readable,        ///< it cannot be opened
  directory_is_symlink,          ///< its last component is one
  not_a_directory,               ///< it is something else
  directory_of_another_user,     ///< owned by neither root nor the effective user
  directory_writable_by_others,  ///< by its group or by everybody
  no_file,                       ///< no `mmkit-zpool-<type>.so` in it
  file_is_symlink,               ///< it is one
  file_not_readable,             ///< it cannot be opened
  not_a_file,                    ///< it is no regular file
  file_of_another_user,          ///< owned by neither root nor the effective user
  file_writable_by_others,       ///< by its group or by everybody
  not_loadable,                  ///< dlopen refuses it; the text says why
  no_entry_point,                ///< it has no `mmkit_zpool_plugin`
  no_interface,                  ///< the entry point returned null
  other_version,                 ///< the interface is of another version
  other_size,                    ///< the interface is of another size
  other_abi,                     ///< compiled for another mmkit, standard library or page size
  incomplete_interface,          ///< a member of the interface is null
  other_type,                    ///< it has a driver of another type than its name says
  no_driver,                     ///< it could not make its driver
  out_of_memory,                 ///< the program has none to keep it
  not_registered                 ///< the registry refused the driver
};

/// The enumerator's own word: "file_is_symlink"; "unknown" for a value that is none of them.
/// Thread safety: safe.
std::string_view name(PluginFault fault) noexcept;

/// A plug-in that was not loaded. The views live for the call of the function that is told.
struct PluginRefusal {
  PluginFault fault{};
  Errc code{};               ///< what load() returns
  std::string_view type;     ///< that was asked for
  std::string_view message;  ///< one line: file, reason and numbers
};

/// Finds drivers in one directory. A DriverRegistry::Loader. Thread safety: safe.
class SharedObjectLoader {
 public:
  /// Is told of each plug-in that is not loaded, by the thread that wanted it, with no lock held.
  /// Must not throw.
  using RefusalFn = std::function<void(const PluginRefusal&)>;

  /// `directory`: absolute, looked at with each load. `on_refusal` empty: nobody is told.
  explicit SharedObjectLoader(std::string directory, RefusalFn on_refusal = {}) noexcept;

  /// Loads a type's driver without registering it. It and its pools are code of the shared object,
  /// which is unloaded when the last share of the driver ends. Errors: invalid_argument (type,
  /// directory), not_found (no directory, no file), not_permitted (links, owners, rights), io_error
  /// (cannot be opened), bad_format (not a plug-in for this program), out_of_memory, busy (another
  /// copy of mmkit in this process uses it).
  Result<std::shared_ptr<const ZpoolDriver>> load(std::string_view type) const noexcept;

  /// Loads and registers. Errors: as load() and DriverRegistry::register_driver().
  Status operator()(DriverRegistry& registry, std::string_view type) const noexcept;

 private:
  Failure refuse(std::string_view type, PluginFault fault, Errc code,
                 const char* about) const noexcept;

  std::string directory_;
  RefusalFn on_refusal_;
};

}  // namespace mmkit
