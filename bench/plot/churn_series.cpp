// SPDX-License-Identifier: MIT
//
// churn_series - the density at each snapshot of churn-node-py, of a driver or of the malloc in place.
//
//   churn_series DRIVER [PARAMS]   prints a line a snapshot: payload by pages and metadata
//   churn_series malloc            the same of this process's malloc, by its resident memory: with
//                                  LD_PRELOAD another than the C library's
//
// For the picture of docs/images (churn.py). Every object is written whole.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mmkit/zpool.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/trace.hpp"

namespace {

using mmkit::bench::ChurnOp;
using mmkit::bench::ChurnRecord;

/// Memory beside every malloc.
template <class T>
std::span<T> pages_of(std::size_t count) {
  void* const memory = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  return {static_cast<T*>(memory), count};
}

// The trace, read by a child: what reading it allocates is not in this process.
std::span<const ChurnRecord> load_apart() {
  constexpr std::size_t kMostRecords = 1U << 20;
  const std::span<ChurnRecord> records = pages_of<ChurnRecord>(kMostRecords);
  const std::span<std::size_t> count = pages_of<std::size_t>(1);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::vector<ChurnRecord> loaded = mmkit::bench::load_churn("churn-node-py");
    if (loaded.size() > kMostRecords) ::_exit(1);
    std::copy(loaded.begin(), loaded.end(), records.begin());
    count[0] = loaded.size();
    ::_exit(0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) std::abort();
  return records.first(count[0]);
}

// Of the process, in bytes. Read without a call that allocates.
std::size_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  std::setvbuf(file, nullptr, _IONBF, 0);
  long size = 0, resident = 0;
  const int read = std::fscanf(file, "%ld %ld", &size, &resident);
  std::fclose(file);
  return read == 2 ? static_cast<std::size_t>(resident) * mmkit::kPageSize : 0;
}

struct PoolStore {
  std::unique_ptr<mmkit::Zpool> pool;
  using Object = mmkit::Handle;

  Object add(std::size_t size_bytes) {
    static const std::vector<std::byte> content(mmkit::kPageSize, std::byte{0x5a});
    const auto made = pool->store(std::span(content).first(size_bytes));
    return made ? *made : mmkit::Handle::none;
  }
  static bool is_there(Object object) { return object != mmkit::Handle::none; }
  void drop(Object object) { pool->free(object); }
  std::size_t held_bytes() const {
    const mmkit::ZpoolStats stats = pool->stats();
    return stats.pages * mmkit::kPageSize + stats.metadata_bytes;
  }
};

struct MallocStore {
  std::size_t before = resident_bytes();
  using Object = void*;

  Object add(std::size_t size_bytes) {
    void* const memory = std::malloc(size_bytes);
    if (memory != nullptr) std::memset(memory, 0x5a, size_bytes);
    return memory;
  }
  static bool is_there(Object object) { return object != nullptr; }
  void drop(Object object) { std::free(object); }
  std::size_t held_bytes() const { return resident_bytes() - before; }
};

template <class Store>
void follow(Store& store, std::span<const ChurnRecord> records,
            std::span<typename Store::Object> objects, std::span<std::uint16_t> sizes) {
  std::size_t payload = 0;
  for (const ChurnRecord& record : records) {
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::drop) {
      if (Store::is_there(objects[record.key])) {
        store.drop(objects[record.key]);
        payload -= sizes[record.key];
      }
      objects[record.key] = {};
    }
    if (record.op == ChurnOp::overwrite || record.op == ChurnOp::store) {
      objects[record.key] = store.add(record.size_bytes);
      sizes[record.key] = record.size_bytes;
      if (Store::is_there(objects[record.key])) payload += record.size_bytes;
    }
    if (record.op == ChurnOp::snapshot_end) {
      std::printf("%.4f\n", static_cast<double>(payload) / static_cast<double>(store.held_bytes()));
    }
  }
}

std::uint32_t keys_of(std::span<const ChurnRecord> records) {
  std::uint32_t keys = 0;
  for (const ChurnRecord& record : records) {
    if (record.op != ChurnOp::snapshot_end && record.key >= keys) keys = record.key + 1;
  }
  return keys;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: churn_series DRIVER [PARAMS] | malloc\n");
    return 2;
  }
  const std::span<const ChurnRecord> records = load_apart();
  const std::uint32_t keys = keys_of(records);
  const std::span<std::uint16_t> sizes = pages_of<std::uint16_t>(keys);
  static char line_buffer[4096];
  std::setvbuf(stdout, line_buffer, _IOFBF, sizeof line_buffer);
  if (std::strcmp(argv[1], "malloc") == 0) {
    const std::span<void*> objects = pages_of<void*>(keys);
    MallocStore store;
    follow(store, records, objects, sizes);
    return 0;
  }
  auto pool = mmkit::Zpool::create(argv[1], {.params = argc == 3 ? argv[2] : ""});
  if (!pool) {
    std::fprintf(stderr, "churn_series: no pool of '%s': %s\n", argv[1],
                 std::string(mmkit::name(pool.error())).c_str());
    return 1;
  }
  const std::span<mmkit::Handle> objects = pages_of<mmkit::Handle>(keys);
  PoolStore store{std::move(*pool)};
  follow(store, records, objects, sizes);
  for (const mmkit::Handle handle : objects) {
    if (handle != mmkit::Handle::none) store.drop(handle);
  }
  return 0;
}
