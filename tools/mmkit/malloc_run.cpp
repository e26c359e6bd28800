// SPDX-License-Identifier: MIT
#include "malloc_run.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <memory>

#include "console.hpp"
#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

// glibc's: the size word in front of each chunk.
constexpr std::size_t kHeaderBytes = 8;

/// Anonymous resident memory of this process; nothing where the kernel does not tell. Allocates
/// nothing.
std::optional<std::uint64_t> anonymous_bytes() noexcept {
  const int fd = ::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::array<char, 4096> text;  // the file has some 1500 bytes and comes in one read
  const ssize_t size = ::read(fd, text.data(), text.size());
  ::close(fd);
  if (size <= 0) return std::nullopt;
  const std::string_view all(text.data(), static_cast<std::size_t>(size));
  constexpr std::string_view kLine = "\nAnonymous:";
  const std::size_t at = all.find(kLine);
  if (at == std::string_view::npos) return std::nullopt;
  const std::size_t digits = all.find_first_not_of(' ', at + kLine.size());
  if (digits == std::string_view::npos) return std::nullopt;
  std::uint64_t kib = 0;
  const auto [end, error] = std::from_chars(all.data() + digits, all.data() + all.size(), kib);
  if (error != std::errc{}) return std::nullopt;
  return kib * 1024;
}

/// A Store (trial.hpp) over malloc.
class MallocStore {
 public:
  explicit MallocStore(std::size_t objects) : blocks_(objects, nullptr) {
    // Free memory of earlier rounds goes back to the system, so that each round starts as cold as a
    // fresh pool.
    ::malloc_trim(0);
    before_ = anonymous_bytes();
  }
  MallocStore(const MallocStore&) = delete;
  MallocStore& operator=(const MallocStore&) = delete;
  ~MallocStore() {
    for (void* block : blocks_) std::free(block);
  }

  std::size_t max_object_bytes() const noexcept { return kPageSize; }

  bool put(std::size_t index, std::span<const std::byte> object) {
    void* block = std::malloc(object.size());
    if (block == nullptr) throw std::bad_alloc();
    std::memcpy(block, object.data(), object.size());
    blocks_[index] = block;
    return true;
  }

  template <class Reader>
  void read(std::size_t index, std::size_t size_bytes, Reader&& reader) {
    reader(std::span(static_cast<const std::byte*>(blocks_[index]), size_bytes));
  }

  void drop(std::size_t index) {
    std::free(blocks_[index]);
    blocks_[index] = nullptr;
  }

  /// Growth since before the first object.
  std::optional<std::uint64_t> resident_growth() const noexcept {
    const std::optional<std::uint64_t> now = anonymous_bytes();
    if (!before_ || !now) return std::nullopt;
    return *now > *before_ ? *now - *before_ : 0;
  }

  std::uint64_t chunk_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (void* block : blocks_) {
      if (block != nullptr) sum += ::malloc_usable_size(block) + kHeaderBytes;
    }
    return sum;
  }

 private:
  std::vector<void*> blocks_;
  std::optional<std::uint64_t> before_;
};

}  // namespace

StoreRow run_malloc(const Corpus& corpus, const TrialPlan& plan, Console& console) {
  StoreRow row;
  row.name = row.type = "malloc";
  Trial<MallocStore> trial(corpus, plan, console, row.name);
  row.trial = trial.run(
      [&] { return std::make_unique<MallocStore>(corpus.objects().size()); },
      [&](const MallocStore& store, std::uint64_t) {
        const std::uint64_t chunk_bytes = store.chunk_bytes();
        // With nothing stored, what grew is not the store's.
        const std::uint64_t growth = chunk_bytes == 0 ? 0 : store.resident_growth().value_or(0);
        row.held_bytes = std::max(growth, chunk_bytes);
        row.measure = growth >= chunk_bytes
                          ? "growth of anonymous resident memory"
                          : "sum of malloc_usable_size and 8 bytes of header each";
        row.measure += fmt::format(" (glibc {})", ::gnu_get_libc_version());
        row.pages = pages_of(row.held_bytes);
      });
  return row;
}

}  // namespace mmkit::tool
