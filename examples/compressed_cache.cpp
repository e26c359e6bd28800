// SPDX-License-Identifier: MIT
//
// A cache of pages with a bound on its memory: what does not fit is dropped, oldest first.
//
// The pages are made up and "compressed" by cutting their zero tail, so that the example needs no
// codec; put LZ4_compress_default in its place.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <mmkit/zpool.hpp>
#include <optional>
#include <unordered_map>

namespace {

using Page = std::array<std::byte, mmkit::kPageSize>;

class PageCache {
 public:
  explicit PageCache(std::size_t limit_bytes)
      : pool_(mmkit::Zpool::create(
                  mmkit::kDefaultDriver,
                  {.name = "page cache",
                   .evict = [this](mmkit::Zpool& pool,
                                   mmkit::Handle handle) { return drop(pool, handle); },
                   .limit_bytes = limit_bytes})
                  .value()) {}
  ~PageCache() {
    for (const auto& [key, entry] : entries_) pool_->free(entry.handle);
  }

  // Replaces what was there. False: too large to be worth it, or there is no memory.
  bool put(int key, const Page& page) {
    if (const auto old = entries_.find(key); old != entries_.end()) {
      static_cast<void>(drop(*pool_, old->second.handle));
    }
    const auto end = std::find_if(page.rbegin(), page.rend(), [](std::byte b) {
                       return b != std::byte{0};
                     }).base();
    const auto length = std::max<std::size_t>(1, static_cast<std::size_t>(end - page.begin()));
    const mmkit::Result<mmkit::Handle> handle = pool_->store(std::span(page.data(), length));
    if (!handle) return false;
    keys_[*handle] = key;
    entries_[key] = {*handle, length};
    return true;
  }

  std::optional<Page> get(int key) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) return std::nullopt;
    pool_->touch(found->second.handle);
    mmkit::Mapping object = pool_->map(found->second.handle, mmkit::MapMode::read_only);
    Page page{};
    std::memcpy(page.data(), object.bytes().data(), found->second.length);
    return page;
  }

  const mmkit::Zpool& pool() const { return *pool_; }

 private:
  struct Entry {
    mmkit::Handle handle;
    std::size_t length;
  };

  mmkit::Status drop(mmkit::Zpool& pool, mmkit::Handle handle) {
    const mmkit::Status freed = pool.try_free(handle);
    if (freed) {
      entries_.erase(keys_.at(handle));
      keys_.erase(handle);
    }
    return freed;
  }

  std::unordered_map<int, Entry> entries_;
  std::unordered_map<mmkit::Handle, int> keys_;
  std::unique_ptr<mmkit::Zpool> pool_;
};

}  // namespace

int main() {
  PageCache cache(std::size_t{64} * mmkit::kPageSize);
  int stored = 0;
  for (int key = 0; key < 1000; ++key) {
    Page page{};
    std::fill_n(page.begin(), 500 + key, static_cast<std::byte>(key | 1));
    if (cache.put(key, page)) ++stored;
  }
  int hits = 0;
  for (int key = 0; key < 1000; ++key) {
    if (const std::optional<Page> page = cache.get(key)) {
      if ((*page)[0] != static_cast<std::byte>(key | 1)) return 1;
      ++hits;
    }
  }
  const mmkit::ZpoolStats stats = cache.pool().stats();
  std::printf("%d pages stored, %d still there, %llu evicted, %zu KiB held of at most 256\n",
              stored, hits, static_cast<unsigned long long>(stats.evicted),
              cache.pool().total_bytes() / 1024);
  return stored == 1000 && hits == static_cast<int>(stats.objects) ? 0 : 1;
}
