// SPDX-License-Identifier: MIT
//
// A program that finds a kind of pool which it was not built with: in a directory, as a shared
// object, fetched when the type is first asked for and unloaded after the last pool of it.
//
//   load_plugin [directory]    where mmkit-zpool-runs.so lies; examples/plugin/runs.cpp is its source
#include <cstdio>
#include <cstring>
#include <mmkit/zpool.hpp>
#include <vector>

int main(int count, char** arguments) {
  const char* const directory = count > 1 ? arguments[1] : MMKIT_EXAMPLE_PLUGINS;

  mmkit::DriverRegistry registry;
  registry.set_loader(mmkit::SharedObjectLoader(directory, [](const mmkit::PluginRefusal& refusal) {
    std::printf("%.*s\n", static_cast<int>(refusal.message.size()), refusal.message.data());
  }));

  // No such file: the program is told, and goes on.
  if (registry.has_pool("no_such_kind")) return 1;

  mmkit::ZpoolOptions options{.name = "pictures",
                              .registry = &registry,
                              .params = "max_object=1048576",
                              .limit_bytes = std::size_t{4} << 20};
  std::size_t evicted = 0;
  options.evict = [&evicted](mmkit::Zpool& pool, mmkit::Handle handle) {
    ++evicted;
    return pool.try_free(handle);
  };
  mmkit::Result<std::unique_ptr<mmkit::Zpool>> made =
      mmkit::Zpool::create("runs", std::move(options));
  if (!made) {
    std::printf("no pool: %s\n", mmkit::name(made.error()).data());
    return 1;
  }
  mmkit::Zpool& pool = **made;

  // Objects of up to a megabyte, which the built-in drivers do not take. The oldest make room.
  std::vector<mmkit::Handle> stored;
  for (std::size_t i = 0; i < 10; ++i) {
    const std::vector<std::byte> picture(600'000 + i * 40'000, static_cast<std::byte>(i));
    const mmkit::Result<mmkit::Handle> handle = pool.store(picture);
    if (!handle) return 1;
    stored.push_back(*handle);
  }
  std::size_t found = 0;
  for (std::size_t i = 0; i < stored.size(); ++i) {
    mmkit::Result<mmkit::Mapping> picture = pool.try_map(stored[i], mmkit::MapMode::read_only);
    if (!picture) continue;
    if (picture->const_bytes()[599'999] != static_cast<std::byte>(i)) return 1;
    ++found;
  }
  std::printf("%zu pictures in %zu KiB, %zu evicted\n", found, pool.total_bytes() / 1024, evicted);
  for (const mmkit::Handle handle : stored) static_cast<void>(pool.try_free(handle));
  return found + evicted == stored.size() && found != 0 ? 0 : 1;
}
