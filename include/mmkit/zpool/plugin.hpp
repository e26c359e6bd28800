// SPDX-License-Identifier: MIT
//
// Plugin - what a driver in a shared object of its own and the program that loads it agree on.
//
//   program                                 mmkit-zpool-<type>.so
//     SharedObjectLoader -- dlsym ---------> mmkit_zpool_plugin()  -> ZpoolPluginInterface
//                        -- create(host) --> a ZpoolDriver; keeps `host`
//     mmkit <----------- through ZpoolPluginHost: misuse, leaks, ranks of locks, forks
//
// A plug-in links to nothing of mmkit and needs no symbol of the program, so it works in one that is
// linked with a static mmkit, with a shared one, and with a copy that is hidden in another shared
// object. What it may use: driver.hpp, page_source.hpp and page_size.hpp, and of base/: bits, bitmap,
// check, errc (but no std::error_code), fork, gfp, growing_array, growing_table, intrusive_list,
// mutex, result. These need a handful of functions that are compiled into the library;
// MMKIT_ZPOOL_PLUGIN defines them anew, inside of the plug-in, by way of the host.
//
// Invariants: 1 a member is added to either structure together with a new kZpoolPluginVersion
//             2 nothing behind create() outlives destroy(), and no pool outlives its driver
#pragma once

#include <atomic>
#include <cstdint>
#include <mmkit/base/check.hpp>
#include <mmkit/base/errc.hpp>
#include <mmkit/base/fork.hpp>
#include <mmkit/base/lock_rank.hpp>
#include <mmkit/base/version.hpp>
#include <mmkit/zpool/driver.hpp>
#include <new>
#include <string_view>
#include <type_traits>

namespace mmkit {

/// Of the two structures below. Another one is refused, newer or older.
inline constexpr std::uint32_t kZpoolPluginVersion = 1;
/// The C function that a plug-in exports: `const ZpoolPluginInterface* mmkit_zpool_plugin()`.
inline constexpr const char* kZpoolPluginEntryPoint = "mmkit_zpool_plugin";

/// What the program does for a plug-in. Lives as long as the program.
struct ZpoolPluginHost {
  void (*report_failure)(const FailureReport&) noexcept;  ///< does not return
  void (*report_leak)(const FailureReport&) noexcept;
  void (*check_failed)(const char* condition, const char* file, unsigned line) noexcept;
  void (*value_of_failed_result)(Errc) noexcept;
  std::string_view (*name)(Errc) noexcept;
  void (*rank_acquired)(LockRank, bool ordered) noexcept;
  void (*rank_released)(LockRank) noexcept;
  Status (*join_fork)(ForkParticipant&, LockRank) noexcept;
  void (*leave_fork)(ForkParticipant&) noexcept;
};

/// What a plug-in is. The first three members keep their places in every version.
struct ZpoolPluginInterface {
  std::uint32_t version = 0;     ///< kZpoolPluginVersion
  std::uint32_t size_bytes = 0;  ///< of this structure
  const char* abi = nullptr;     ///< zpool_plugin_abi(), ended by a zero
  const char* type = nullptr;    ///< the type of the driver, which is that in the file's name
  /// A driver, or null and why: out_of_memory; busy when another copy of mmkit in this process uses
  /// this plug-in.
  const ZpoolDriver* (*create)(const ZpoolPluginHost& host, Errc* why) noexcept = nullptr;
  /// Ends what create() gave.
  void (*destroy)(const ZpoolDriver* driver) noexcept = nullptr;
};

/// A text of what must agree between two things compiled apart, for people to read too.
struct ZpoolPluginAbi {
  char text[192] = {};
  unsigned used = 0;

  constexpr ZpoolPluginAbi& add(const char* words) noexcept {
    while (*words != 0) text[used++] = *words++;
    return *this;
  }
  constexpr ZpoolPluginAbi& add(std::uint64_t number) noexcept {
    if (number >= 10) add(number / 10);
    text[used++] = static_cast<char>('0' + number % 10);
    return *this;
  }
};

namespace detail {
// Sizes of what crosses the boundary, in one number.
template <class... T>
constexpr std::uint64_t layout_of() noexcept {
  std::uint64_t sum = 0;
  ((sum = sum * 131 + sizeof(T) * 16 + alignof(T)), ...);
  return sum;
}
}  // namespace detail

/// For example: `mmkit 0.1, C++ ABI itanium, libstdc++ 0 cxx11 1, page 4096, layout 123`.
///
/// The compiler's version is not in it: g++ and clang with the same standard library agree.
constexpr ZpoolPluginAbi zpool_plugin_abi() noexcept {
  ZpoolPluginAbi abi;
  abi.add("mmkit ").add(std::uint64_t{MMKIT_VERSION_MAJOR}).add(".");
  abi.add(std::uint64_t{MMKIT_VERSION_MINOR});
#if defined(__GXX_ABI_VERSION)
  abi.add(", C++ ABI itanium");
#else
  abi.add(", C++ ABI unknown");
#endif
#if defined(_LIBCPP_ABI_VERSION)
  abi.add(", libc++ ").add(std::uint64_t{_LIBCPP_ABI_VERSION});
#elif defined(__GLIBCXX__)
  abi.add(", libstdc++ ").add(std::uint64_t{_GLIBCXX_INLINE_VERSION});
  abi.add(" cxx11 ").add(std::uint64_t{_GLIBCXX_USE_CXX11_ABI});
#endif
  abi.add(", page ").add(kPageSize);
  abi.add(", layout ")
      .add(detail::layout_of<BackendEnv, DriverTraits, ZpoolStats, ShrinkOutcome, Status,
                             Result<Handle>, Result<std::span<std::byte>>,
                             Result<std::unique_ptr<ZpoolBackend>>, PageRequest, PageRun,
                             PageSourceStats, Result<PageRun>, Result<SharedRange>, FailureReport,
                             ForkParticipant, ZpoolDriver, ZpoolBackend, PageSource>());
  return abi;
}

namespace detail {
template <class Driver>
const ZpoolDriver* make_plugin_driver(Errc* why) noexcept {
  static_assert(
      std::is_base_of_v<ZpoolDriver, Driver> && std::is_nothrow_default_constructible_v<Driver>,
      "a driver of a plug-in derives from ZpoolDriver and is made from nothing");
  const ZpoolDriver* const driver = new (std::nothrow) Driver;
  if (driver == nullptr) *why = Errc::out_of_memory;
  return driver;
}
}  // namespace detail

}  // namespace mmkit

/// Makes a shared object a plug-in: stands once, at the end of one file, outside of any namespace.
/// `Driver` is a class, `type` its type as a literal, the same as Driver::type() gives.
///
/// Such a file is for shared objects alone: in a program that links mmkit, these functions would be
/// defined twice.
#define MMKIT_ZPOOL_PLUGIN(Driver, type)                                               \
  namespace mmkit {                                                                    \
  namespace {                                                                          \
  constinit std::atomic<const ZpoolPluginHost*> zpool_plugin_host_cell{nullptr};       \
  /* Acquire: pairs with the exchange in create(). */                                  \
  const ZpoolPluginHost& zpool_plugin_host() noexcept {                                \
    return *zpool_plugin_host_cell.load(std::memory_order_acquire);                    \
  }                                                                                    \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void report_failure(const FailureReport& report) noexcept {       \
    zpool_plugin_host().report_failure(report);                                        \
    __builtin_trap();                                                                  \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void report_leak(const FailureReport& report) noexcept {          \
    zpool_plugin_host().report_leak(report);                                           \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL std::string_view name(Errc code) noexcept {                       \
    return zpool_plugin_host().name(code);                                             \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL Status ForkParticipant::join_fork(LockRank rank) noexcept {       \
    return zpool_plugin_host().join_fork(*this, rank);                                 \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void ForkParticipant::leave_fork() noexcept {                     \
    zpool_plugin_host().leave_fork(*this);                                             \
  }                                                                                    \
  namespace detail {                                                                   \
  MMKIT_PLUGIN_LOCAL void check_failed(const char* condition, const char* file,        \
                                       unsigned line) noexcept {                       \
    zpool_plugin_host().check_failed(condition, file, line);                           \
    __builtin_trap();                                                                  \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void value_of_failed_result(Errc code) noexcept {                 \
    zpool_plugin_host().value_of_failed_result(code);                                  \
    __builtin_trap();                                                                  \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void rank_acquired(LockRank rank, bool ordered) noexcept {        \
    zpool_plugin_host().rank_acquired(rank, ordered);                                  \
  }                                                                                    \
  MMKIT_PLUGIN_LOCAL void rank_released(LockRank rank) noexcept {                      \
    zpool_plugin_host().rank_released(rank);                                           \
  }                                                                                    \
  }                                                                                    \
  }                                                                                    \
  extern "C" __attribute__((visibility("default"))) const mmkit::ZpoolPluginInterface* \
  mmkit_zpool_plugin() noexcept {                                                      \
    static constexpr mmkit::ZpoolPluginAbi abi = mmkit::zpool_plugin_abi();            \
    static constexpr mmkit::ZpoolPluginInterface plugin = {                            \
        mmkit::kZpoolPluginVersion,                                                    \
        sizeof(mmkit::ZpoolPluginInterface),                                           \
        abi.text,                                                                      \
        type,                                                                          \
        [](const mmkit::ZpoolPluginHost& host,                                         \
           mmkit::Errc* why) noexcept -> const mmkit::ZpoolDriver* {                   \
          const mmkit::ZpoolPluginHost* before = nullptr;                              \
          if (!mmkit::zpool_plugin_host_cell.compare_exchange_strong(before, &host) && \
              before != &host) {                                                       \
            *why = mmkit::Errc::busy;                                                  \
            return nullptr;                                                            \
          }                                                                            \
          return mmkit::detail::make_plugin_driver<Driver>(why);                       \
        },                                                                             \
        [](const mmkit::ZpoolDriver* driver) noexcept { delete driver; }};             \
    return &plugin;                                                                    \
  }                                                                                    \
  static_assert(true, "takes the semicolon")

#define MMKIT_PLUGIN_LOCAL __attribute__((visibility("hidden")))
