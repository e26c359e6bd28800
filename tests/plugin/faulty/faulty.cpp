// SPDX-License-Identifier: MIT
//
// A plug-in that is wrong in the way that the environment names, so that one file serves all tests.
//
//   MMKIT_TEST_PLUGIN_FAULT=version|size|abi|...    see mmkit_zpool_plugin() below
//
// A copy whose marker says "evil" leaves a trace in the environment as soon as it is loaded.
#include <cstdlib>
#include <cstring>
#include <mmkit/zpool/plugin.hpp>

namespace {

using namespace mmkit;

bool fault_is(const char* name) noexcept {
  const char* const fault = std::getenv("MMKIT_TEST_PLUGIN_FAULT");
  return fault != nullptr && std::strcmp(fault, name) == 0;
}

class FaultyDriver final : public ZpoolDriver {
 public:
  std::string_view type() const noexcept override {
    return fault_is("driver_type") ? "other" : "faulty";
  }
  DriverTraits traits() const noexcept override { return {}; }
  Result<std::unique_ptr<ZpoolBackend>> create_pool(BackendEnv&&) const noexcept override {
    // What a plug-in asks of the library, each once.
    if (fault_is("leak"))
      report_leak({"faulty", "plug-in", "left behind", name(Errc::busy).size()});
    if (fault_is("misuse")) report_failure({"faulty", "plug-in", "misuse", 7});
    if (fault_is("check")) MMKIT_CHECK(!fault_is("check"));
    if (fault_is("value")) return Result<std::unique_ptr<ZpoolBackend>>(fail(Errc::busy)).value();
    return fail(Errc::not_supported);
  }
};

// Patched by a test.
volatile char marker[] = "marker=good";

struct Trace {
  Trace() noexcept {
    if (marker[7] == 'e') ::setenv("MMKIT_TEST_PLUGIN_EVIL", "1", 1);
  }
} trace;

}  // namespace

#define mmkit_zpool_plugin sound_plugin
MMKIT_ZPOOL_PLUGIN(FaultyDriver, "faulty");
#undef mmkit_zpool_plugin

extern "C" __attribute__((visibility("default"))) const ZpoolPluginInterface*
mmkit_zpool_plugin() noexcept {
  // As it is for tests with threads: they ask for no fault.
  if (std::getenv("MMKIT_TEST_PLUGIN_FAULT") == nullptr) return sound_plugin();
  static ZpoolPluginInterface plugin;
  plugin = *sound_plugin();
  if (fault_is("interface")) return nullptr;
  if (fault_is("version")) plugin.version += 1;
  if (fault_is("size")) plugin.size_bytes -= 8;
  if (fault_is("abi")) plugin.abi = "mmkit 0.0, made up";
  if (fault_is("null_abi")) plugin.abi = nullptr;
  if (fault_is("null_type")) plugin.type = nullptr;
  if (fault_is("null_create")) plugin.create = nullptr;
  if (fault_is("null_destroy")) plugin.destroy = nullptr;
  if (fault_is("type")) plugin.type = "other";
  if (fault_is("create")) {
    plugin.create = [](const ZpoolPluginHost&, Errc* why) noexcept -> const ZpoolDriver* {
      *why = Errc::busy;
      return nullptr;
    };
  }
  return &plugin;
}
