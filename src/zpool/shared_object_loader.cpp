// SPDX-License-Identifier: MIT
#include <mmkit/zpool/shared_object_loader.hpp>

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <mmkit/base/mutex.hpp>
#include <mmkit/zpool/plugin.hpp>
#include <new>
#include <utility>

#include "zpool/driver_entry.hpp"
#include "zpool/plugin_file.hpp"

namespace mmkit {
namespace {

using detail::OwnDescriptor;
using detail::PluginFinding;

struct FaultWords {
  PluginFault fault;
  Errc code;  // for no_driver and not_registered somebody else says it
  std::string_view name;
  const char* reason;
};
constexpr FaultWords kWords[] = {
    {PluginFault::bad_type_name, Errc::invalid_argument, "bad_type_name", "no type name"},
    {PluginFault::bad_directory, Errc::invalid_argument, "bad_directory",
     "no absolute path that ends in a name"},
    {PluginFault::no_directory, Errc::not_found, "no_directory", "no such directory"},
    {PluginFault::directory_not_readable, Errc::io_error, "directory_not_readable",
     "directory cannot be opened"},
    {PluginFault::directory_is_symlink, Errc::not_permitted, "directory_is_symlink",
     "directory is a symbolic link"},
    {PluginFault::not_a_directory, Errc::not_permitted, "not_a_directory", "not a directory"},
    {PluginFault::directory_of_another_user, Errc::not_permitted, "directory_of_another_user",
     "directory is owned by neither root nor this user"},
    {PluginFault::directory_writable_by_others, Errc::not_permitted, "directory_writable_by_others",
     "directory is writable by others"},
    {PluginFault::no_file, Errc::not_found, "no_file", "no such file"},
    {PluginFault::file_is_symlink, Errc::not_permitted, "file_is_symlink",
     "file is a symbolic link"},
    {PluginFault::file_not_readable, Errc::io_error, "file_not_readable", "file cannot be opened"},
    {PluginFault::not_a_file, Errc::not_permitted, "not_a_file", "not a regular file"},
    {PluginFault::file_of_another_user, Errc::not_permitted, "file_of_another_user",
     "file is owned by neither root nor this user"},
    {PluginFault::file_writable_by_others, Errc::not_permitted, "file_writable_by_others",
     "file is writable by others"},
    {PluginFault::not_loadable, Errc::bad_format, "not_loadable", "cannot be loaded"},
    {PluginFault::no_entry_point, Errc::bad_format, "no_entry_point", "has no entry point"},
    {PluginFault::no_interface, Errc::bad_format, "no_interface", "gives no interface"},
    {PluginFault::other_version, Errc::bad_format, "other_version",
     "interface is of another version"},
    {PluginFault::other_size, Errc::bad_format, "other_size", "interface is of another size"},
    {PluginFault::other_abi, Errc::bad_format, "other_abi", "was compiled for another program"},
    {PluginFault::incomplete_interface, Errc::bad_format, "incomplete_interface",
     "interface has a null member"},
    {PluginFault::other_type, Errc::bad_format, "other_type", "is a driver of another type"},
    {PluginFault::no_driver, Errc::out_of_memory, "no_driver", "could not make its driver"},
    {PluginFault::out_of_memory, Errc::out_of_memory, "out_of_memory", "no memory to keep it"},
    {PluginFault::not_registered, Errc::already_exists, "not_registered",
     "the registry refused it"}};

constexpr const FaultWords* words_of(PluginFault fault) noexcept {
  const auto index = static_cast<std::size_t>(fault);
  return index < std::size(kWords) ? &kWords[index] : nullptr;
}
constexpr bool stand_in_order() noexcept {
  for (std::size_t i = 0; i < std::size(kWords); ++i) {
    if (static_cast<std::size_t>(kWords[i].fault) != i) return false;
  }
  return true;
}
static_assert(stand_in_order() &&
              std::size(kWords) == static_cast<std::size_t>(PluginFault::not_registered) + 1);

constexpr ZpoolPluginHost kHost = {
    [](const FailureReport& report) noexcept { report_failure(report); },
    [](const FailureReport& report) noexcept { report_leak(report); },
    [](const char* condition, const char* file, unsigned line) noexcept {
      detail::check_failed(condition, file, line);
    },
    [](Errc code) noexcept { detail::value_of_failed_result(code); },
    [](Errc code) noexcept { return name(code); },
    [](LockRank rank, bool ordered) noexcept { detail::rank_acquired(rank, ordered); },
    [](LockRank rank) noexcept { detail::rank_released(rank); },
    [](ForkParticipant& one, LockRank rank) noexcept { return one.join_fork(rank); },
    [](ForkParticipant& one) noexcept { one.leave_fork(); }};

// Ends the driver, then the code that it was made of. Runs here, in code that stays.
struct Unload {
  void operator()(const ZpoolDriver* driver) const noexcept {
    destroy(driver);
    ::dlclose(object);
  }
  void* object;
  void (*destroy)(const ZpoolDriver*) noexcept;
};

// Gives a shared_ptr the memory that was got for it before, so that making it cannot fail.
constexpr std::size_t kShareBytes = 64;
template <class T>
struct MemoryGot {
  using value_type = T;
  explicit MemoryGot(void* got) noexcept : memory(got) {}
  template <class U>
  MemoryGot(const MemoryGot<U>& other) noexcept : memory(other.memory) {}  // NOLINT: they convert
  T* allocate([[maybe_unused]] std::size_t count) noexcept {
    static_assert(sizeof(T) <= kShareBytes && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    MMKIT_ASSERT(count == 1);
    return static_cast<T*>(memory);
  }
  void deallocate(T* of, std::size_t) noexcept { ::operator delete(of); }
  bool operator==(const MemoryGot&) const noexcept { return true; }
  void* memory;
};

// Closes what is refused.
class LoadedObject {
 public:
  explicit LoadedObject(void* object) noexcept : object_(object) {}
  LoadedObject(const LoadedObject&) = delete;
  LoadedObject& operator=(const LoadedObject&) = delete;
  ~LoadedObject() {
    if (object_ != nullptr) ::dlclose(object_);
  }
  void* get() const noexcept { return object_; }
  void* release() noexcept { return std::exchange(object_, nullptr); }

 private:
  void* object_;
};

void say(PluginFinding* why, const char* text) noexcept {
  std::snprintf(why->detail, sizeof why->detail, "%s", text);
}

// Whether the interface is one that this program can use, member by member: none is read before
// those that say that it is there.
bool is_acceptable(const ZpoolPluginInterface* plugin, std::string_view type,
                   PluginFinding* why) noexcept {
  why->detail[0] = 0;
  const auto refuse = [why](PluginFault fault) {
    why->fault = fault;
    return false;
  };
  if (plugin == nullptr) return refuse(PluginFault::no_interface);
  if (plugin->version != kZpoolPluginVersion) {
    std::snprintf(why->detail, sizeof why->detail, "%u, wanted %u", plugin->version,
                  kZpoolPluginVersion);
    return refuse(PluginFault::other_version);
  }
  if (plugin->size_bytes != sizeof *plugin) {
    std::snprintf(why->detail, sizeof why->detail, "%u bytes, wanted %zu", plugin->size_bytes,
                  sizeof *plugin);
    return refuse(PluginFault::other_size);
  }
  if (plugin->abi == nullptr || plugin->type == nullptr || plugin->create == nullptr ||
      plugin->destroy == nullptr) {
    return refuse(PluginFault::incomplete_interface);
  }
  constexpr ZpoolPluginAbi kAbi = zpool_plugin_abi();
  if (std::strcmp(plugin->abi, kAbi.text) != 0) {
    say(why, plugin->abi);
    return refuse(PluginFault::other_abi);
  }
  if (plugin->type != type) {
    say(why, plugin->type);
    return refuse(PluginFault::other_type);
  }
  return true;
}

}  // namespace

std::string_view name(PluginFault fault) noexcept {
  const FaultWords* const words = words_of(fault);
  return words != nullptr ? words->name : "unknown";
}

SharedObjectLoader::SharedObjectLoader(std::string directory, RefusalFn on_refusal) noexcept
    : directory_(std::move(directory)), on_refusal_(std::move(on_refusal)) {}

Failure SharedObjectLoader::refuse(std::string_view type, PluginFault fault, Errc code,
                                   const char* about) const noexcept {
  if (!on_refusal_) return fail(code);
  // A type that is none may hold anything, and is not for a log.
  if (fault == PluginFault::bad_type_name) type = {};
  const bool is_of_file = fault >= PluginFault::no_file;
  constexpr std::size_t kMostOfPath = 512;
  char line[1024];
  const int length = std::snprintf(
      line, sizeof line, "zpool plug-in '%.*s': %.*s%s%s: %s%s%s", static_cast<int>(type.size()),
      type.data(), static_cast<int>(std::min(directory_.size(), kMostOfPath)), directory_.data(),
      is_of_file ? "/" : "", is_of_file ? detail::plugin_file_name(type).text : "",
      words_of(fault)->reason, *about != 0 ? ": " : "", about);
  const std::size_t used = length < 0 ? 0 : static_cast<std::size_t>(length);
  on_refusal_({fault, code, type, {line, std::min(used, sizeof line - 1)}});
  return fail(code);
}

Result<std::shared_ptr<const ZpoolDriver>> SharedObjectLoader::load(
    std::string_view type) const noexcept {
  const auto refused = [this, type](const PluginFinding& why) {
    return refuse(type, why.fault, words_of(why.fault)->code, why.detail);
  };
  PluginFinding why;
  if (!detail::is_type_name(type)) return refused({PluginFault::bad_type_name});
  const detail::PluginFileName file = detail::plugin_file_name(type);
  const OwnDescriptor descriptor = detail::open_plugin_file(directory_, file, &why);
  if (!descriptor) return refused(why);

  // The memory first: what was loaded could not be given back without running its code.
  std::unique_ptr<void, void (*)(void*)> share(::operator new(kShareBytes, std::nothrow),
                                               [](void* memory) { ::operator delete(memory); });
  if (share == nullptr) return refused({PluginFault::out_of_memory});

  const detail::DescriptorPath path = detail::fresh_descriptor_path(descriptor.get());
  LoadedObject object(::dlopen(path.text, RTLD_NOW | RTLD_LOCAL));
  if (object.get() == nullptr) {
    const char* const reason = ::dlerror();
    why.fault = PluginFault::not_loadable;
    say(&why, reason != nullptr ? reason : "");
    return refused(why);
  }
  void* const symbol = ::dlsym(object.get(), kZpoolPluginEntryPoint);
  if (symbol == nullptr) return refused({PluginFault::no_entry_point});
  const auto entry = reinterpret_cast<const ZpoolPluginInterface* (*)()>(symbol);
  const ZpoolPluginInterface* const plugin = entry();
  if (!is_acceptable(plugin, type, &why)) return refused(why);

  Errc code = Errc::out_of_memory;
  const ZpoolDriver* const driver = plugin->create(kHost, &code);
  if (driver == nullptr) return refuse(type, PluginFault::no_driver, code, name(code).data());
  if (driver->type() != type) {
    plugin->destroy(driver);
    return refused({PluginFault::other_type});
  }
  return std::shared_ptr<const ZpoolDriver>(driver, Unload{object.release(), plugin->destroy},
                                            MemoryGot<ZpoolDriver>(share.release()));
}

Status SharedObjectLoader::operator()(DriverRegistry& registry,
                                      std::string_view type) const noexcept {
  Result<std::shared_ptr<const ZpoolDriver>> driver = load(type);
  if (!driver) return fail(driver.error());
  if (Status known = registry.register_driver(*std::move(driver)); !known) {
    return refuse(type, PluginFault::not_registered, known.error(), name(known.error()).data());
  }
  return {};
}

}  // namespace mmkit
