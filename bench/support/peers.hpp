// SPDX-License-Identifier: MIT
//
// Peers - the well-known mallocs, all in this process, so that one run compares them.
//
// Each library is loaded with its symbols kept to itself (RTLD_LOCAL) and its own symbols preferred
// inside it (RTLD_DEEPBIND): the process and its C++ library go on using glibc. A peer counts as
// present only when it knows what it hands out and does not know what glibc hands out; otherwise it
// is reported as absent, by name, with the reason.
// jemalloc keeps more thread-local state than glibc sets aside for libraries loaded late, so
// make_room_for_peers() starts the program again with more set aside.
#pragma once

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#if defined(__has_feature)
#define MMKIT_BENCH_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MMKIT_BENCH_SANITIZED 1
#else
#define MMKIT_BENCH_SANITIZED 0
#endif

namespace mmkit::bench {

struct Malloc {
  std::string name, version;
  void* (*allocate)(std::size_t size_bytes) = nullptr;
  void* (*allocate_aligned)(std::size_t align_bytes, std::size_t size_bytes) = nullptr;
  void (*free)(void*) = nullptr;
};
struct AbsentMalloc {
  std::string name, reason;
};
struct Peers {
  std::vector<Malloc> present;  // glibc first
  std::vector<AbsentMalloc> absent;
};

inline constexpr const char* kStaticTlsTunable = "glibc.rtld.optional_static_tls";

/// Starts the program again with room for the peers' thread-local state, unless it has been. Call
/// it first in main. Returns when nothing is left to do, or when starting again is not possible.
inline void make_room_for_peers(char** argv) {
  const char* const set = std::getenv("GLIBC_TUNABLES");
  const std::string tunables = set != nullptr ? set : "";
  if (tunables.find(kStaticTlsTunable) != std::string::npos) return;
  const std::string more = std::string(kStaticTlsTunable) + "=16384";
  ::setenv("GLIBC_TUNABLES", (tunables.empty() ? more : tunables + ":" + more).c_str(), 1);
  ::execv("/proc/self/exe", argv);
}

namespace detail {

template <class Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(::dlsym(library, name));
}

// The library that holds `address`, as the dynamic linker names it.
inline std::string file_of(void* address) {
  Dl_info info{};
  return ::dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "";
}

using MallocFn = void* (*)(std::size_t);
using AlignedFn = void* (*)(std::size_t, std::size_t);
using FreeFn = void (*)(void*);
using MallctlFn = int (*)(const char*, void*, std::size_t*, void*, std::size_t);
// Whether `peer` serves from a heap of its own, by what the library says of it.
using ServesItself = bool (*)(void* library, const Malloc& peer);

// jemalloc counts what a thread was given. (Its look-up of a pointer's arena is no test: it may
// fault on memory of others.)
inline bool jemalloc_serves_itself(void* library, const Malloc& peer) {
  constexpr std::size_t kBytes = 1000;
  const auto mallctl = symbol<MallctlFn>(library, "mallctl");
  if (mallctl == nullptr) return false;
  const auto allocated_bytes = [mallctl]() -> std::uint64_t {
    std::uint64_t bytes = 0;
    std::size_t length = sizeof bytes;
    return mallctl("thread.allocated", &bytes, &length, nullptr, 0) == 0 ? bytes : 0;
  };
  const std::uint64_t before = allocated_bytes();
  void* const foreign = std::malloc(kBytes);
  const std::uint64_t between = allocated_bytes();
  void* const own = peer.allocate(kBytes);
  void* const own_page = peer.allocate_aligned(4096, 4096);
  const std::uint64_t after = allocated_bytes();
  peer.free(own_page);
  peer.free(own);
  std::free(foreign);
  return between == before && after >= between + kBytes + 4096;
}

// The others say whether a pointer is theirs.
template <class Owns>
bool owns_its_own_only(const Malloc& peer, Owns owns) {
  void* const own = peer.allocate(1000);
  void* const own_page = peer.allocate_aligned(4096, 4096);
  void* const foreign = std::malloc(1000);
  const bool right = owns(own) && owns(own_page) && !owns(foreign);
  std::free(foreign);
  peer.free(own_page);
  peer.free(own);
  return right;
}
inline bool mimalloc_serves_itself(void* library, const Malloc& peer) {
  const auto in_heap = symbol<bool (*)(const void*)>(library, "mi_is_in_heap_region");
  return in_heap != nullptr && owns_its_own_only(peer, in_heap);
}
inline bool tcmalloc_serves_itself(void* library, const Malloc& peer) {
  constexpr int kOwned = 1;  // MallocExtension::kOwned
  const auto owner = symbol<int (*)(const void*)>(library, "MallocExtension_GetOwnership");
  return owner != nullptr &&
         owns_its_own_only(peer, [owner](const void* p) { return owner(p) == kOwned; });
}

inline std::string jemalloc_version(void* library) {
  const char* text = nullptr;
  std::size_t length = sizeof text;
  const auto mallctl = symbol<MallctlFn>(library, "mallctl");
  const bool known = mallctl != nullptr && mallctl("version", &text, &length, nullptr, 0) == 0;
  const std::string version = known ? text : "";
  return version.substr(0, version.find('-'));
}
inline std::string mimalloc_version(void* library) {
  const auto version = symbol<int (*)()>(library, "mi_version");
  if (version == nullptr) return "";
  const int number = version();  // 209 is 2.0.9
  return std::to_string(number / 100) + "." + std::to_string(number / 10 % 10) + "." +
         std::to_string(number % 10);
}
inline std::string tcmalloc_version(void* library) {
  const auto version = symbol<const char* (*)(int*, int*, const char**)>(library, "tc_version");
  return version != nullptr ? version(nullptr, nullptr, nullptr) : "";
}

struct PeerSpec {
  const char *name, *file, *malloc, *aligned, *free;
  ServesItself serves_itself;
  std::string (*version)(void*);
};
inline constexpr PeerSpec kPeerSpecs[] = {
    {"jemalloc", "libjemalloc.so.2", "malloc", "aligned_alloc", "free", jemalloc_serves_itself,
     jemalloc_version},
    {"mimalloc", "libmimalloc.so.2", "mi_malloc", "mi_aligned_alloc", "mi_free",
     mimalloc_serves_itself, mimalloc_version},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "tc_malloc", "tc_memalign", "tc_free",
     tcmalloc_serves_itself, tcmalloc_version},
};

// Loads one peer. Returns the empty string, or why it is absent.
inline std::string load_peer(const PeerSpec& spec, Malloc& peer) {
#if MMKIT_BENCH_SANITIZED
  return "sanitizers do not let a second malloc in";
#else
  void* const library = ::dlopen(spec.file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == nullptr) return ::dlerror();
  peer.name = spec.name;
  peer.allocate = symbol<MallocFn>(library, spec.malloc);
  peer.allocate_aligned = symbol<AlignedFn>(library, spec.aligned);
  peer.free = symbol<FreeFn>(library, spec.free);
  if (peer.allocate == nullptr || peer.allocate_aligned == nullptr || peer.free == nullptr) {
    return std::string(spec.file) + " lacks " + spec.malloc + ", " + spec.aligned + " or " +
           spec.free;
  }
  // dlsym on a library also looks into what it depends on, and finds glibc's there.
  if (file_of(reinterpret_cast<void*>(peer.allocate)).find(spec.file) == std::string::npos) {
    return std::string(spec.malloc) + " resolves outside " + spec.file;
  }
  if (!spec.serves_itself(library, peer)) return "it does not serve from a heap of its own";
  peer.version = spec.version(library);
  return "";
#endif
}

inline Peers load_peers() {
  // tcmalloc would take memory by sbrk, in the way of glibc's growing heap.
  ::setenv("TCMALLOC_SKIP_SBRK", "1", /*overwrite=*/0);
  Peers peers;
  // Through the linker's table, not through the compiler's knowledge of malloc, so that all
  // contenders are called the same way.
  Malloc system{"glibc", ::gnu_get_libc_version(), symbol<MallocFn>(RTLD_DEFAULT, "malloc"),
                symbol<AlignedFn>(RTLD_DEFAULT, "aligned_alloc"),
                symbol<FreeFn>(RTLD_DEFAULT, "free")};
  const std::string file = file_of(reinterpret_cast<void*>(system.allocate));
  if (file.find("libc.so") != std::string::npos) {
    peers.present.push_back(system);
  } else {
    peers.absent.push_back({"glibc", "malloc of this process is " + file});
  }
  for (const PeerSpec& spec : kPeerSpecs) {
    Malloc peer;
    const std::string reason = load_peer(spec, peer);
    if (reason.empty()) {
      peers.present.push_back(peer);
    } else {
      peers.absent.push_back({spec.name, reason});
    }
  }
  return peers;
}

}  // namespace detail

/// The mallocs of this process, loaded at the first call and never unloaded.
inline const Peers& peers() {
  static const Peers* const loaded = new Peers(detail::load_peers());
  return *loaded;
}

}  // namespace mmkit::bench
