// SPDX-License-Identifier: MIT
//
// File regions - variable-sized regions of one file, handed out by best fit; nothing of the allocator
// is in the file but a table of what is taken.
//
//   block 0       superblock: where the table is, how long, its checksum
//   anywhere      the table: key, offset, bytes of each region; and the regions
//
// Opening rebuilds the pool from the table: allocate_at for each place that it names. A table that
// names a place twice, or one outside the file, is refused there and then.
// A commit writes a new table beside the old one and then the superblock, which is one block: after a
// crash the file is as the last commit left it. So what was erased is freed only after the commit.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace {

constexpr unsigned kBlockOrder = 12;  // blocks of 4096 bytes
constexpr std::size_t kFileBytes = 8 << 20;

struct Superblock {
  char magic[8];
  std::uint64_t table_offset, entries, checksum;
};
struct Entry {
  std::uint64_t key, offset, bytes;
};
constexpr char kMagic[8] = {'r', 'e', 'g', 'i', 'o', 'n', 's', '1'};

std::uint64_t checksum_of(std::span<const Entry> table) {
  std::uint64_t sum = 0xcbf29ce484222325;  // FNV-1a, by words
  for (const Entry& entry : table) {
    for (const std::uint64_t word : {entry.key, entry.offset, entry.bytes}) {
      sum = (sum ^ word) * 0x100000001b3;
    }
  }
  return sum;
}

// A range of the file that is freed when its holder ends.
class Place {
 public:
  Place() = default;
  Place(Place&& other) noexcept { swap(other); }
  Place& operator=(Place&& other) noexcept {
    Place taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~Place() {
    if (pool_ != nullptr) pool_->free(offset_, bytes_);
  }

  // Wherever it fits best.
  static std::optional<Place> any(mmkit::GenPool& pool, std::size_t bytes) {
    const auto offset = pool.allocate(bytes);
    if (!offset) return std::nullopt;
    return Place(pool, *offset, bytes);
  }
  // Where the file says it is, if nobody has that yet.
  static std::optional<Place> at(mmkit::GenPool& pool, std::uint64_t offset, std::size_t bytes) {
    if (!pool.allocate_at(offset, bytes)) return std::nullopt;
    return Place(pool, offset, bytes);
  }
  std::uint64_t offset() const { return offset_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Place(mmkit::GenPool& pool, std::uint64_t offset, std::size_t bytes)
      : pool_(&pool), offset_(offset), bytes_(bytes) {}
  void swap(Place& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(offset_, other.offset_);
    std::swap(bytes_, other.bytes_);
  }

  mmkit::GenPool* pool_ = nullptr;
  std::uint64_t offset_ = 0;
  std::size_t bytes_ = 0;
};

class RegionFile {
 public:
  // An empty file becomes one without regions. Null: the file cannot be used, or is damaged.
  static std::unique_ptr<RegionFile> open(const char* path) {
    std::unique_ptr<RegionFile> file(new RegionFile(::open(path, O_RDWR | O_CLOEXEC)));
    if (file->fd_ < 0 || !file->rebuild()) return nullptr;
    return file;
  }
  RegionFile(const RegionFile&) = delete;
  RegionFile& operator=(const RegionFile&) = delete;
  ~RegionFile() {
    if (fd_ >= 0) ::close(fd_);
  }

  bool put(std::uint64_t key, std::span<const std::byte> data) {
    std::optional<Place> place = Place::any(*pool_, data.size());
    if (!place || !write(place->offset(), data)) return false;
    erase(key);
    regions_[key] = *std::move(place);
    return true;
  }
  std::optional<std::vector<std::byte>> get(std::uint64_t key) const {
    const auto found = regions_.find(key);
    if (found == regions_.end()) return std::nullopt;
    std::vector<std::byte> data(found->second.bytes());
    if (!read(found->second.offset(), data)) return std::nullopt;
    return data;
  }
  void erase(std::uint64_t key) {
    const auto found = regions_.find(key);
    if (found == regions_.end()) return;
    dropped_.push_back(std::move(found->second));  // the table in the file still names it
    regions_.erase(found);
  }
  bool commit() {
    std::vector<Entry> table;
    for (const auto& [key, place] : regions_) {
      table.push_back({key, place.offset(), place.bytes()});
    }
    std::optional<Place> place = Place::any(*pool_, table_bytes(table.size()));
    if (!place || !write(place->offset(), std::as_bytes(std::span(table)))) return false;
    Superblock head{{}, place->offset(), table.size(), checksum_of(table)};
    std::memcpy(head.magic, kMagic, sizeof kMagic);
    if (::fdatasync(fd_) != 0 || !write(0, std::as_bytes(std::span(&head, 1)))) return false;
    if (::fdatasync(fd_) != 0) return false;
    table_ = *std::move(place);
    dropped_.clear();
    return true;
  }

  std::size_t regions() const { return regions_.size(); }
  mmkit::GenPoolStats stats() const { return pool_->stats(); }

 private:
  // An empty table has a place too.
  static std::size_t table_bytes(std::size_t entries) {
    return std::max<std::size_t>(1, entries * sizeof(Entry));
  }
  explicit RegionFile(int fd)
      : fd_(fd),
        pool_(mmkit::GenPool::create(
                  {.min_alloc_order = kBlockOrder, .name = "regions", .fit = mmkit::BestFit{}})
                  .value()) {}

  bool rebuild() {
    if (!pool_->add_chunk({.start = 0, .size_bytes = kFileBytes})) return false;
    if (!hold(head_, 0, sizeof(Superblock))) return false;
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    if (size == 0) return ::ftruncate(fd_, kFileBytes) == 0 && commit();

    Superblock head{};
    if (size != kFileBytes || !read(0, std::as_writable_bytes(std::span(&head, 1)))) return false;
    if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) return false;
    if (head.entries > kFileBytes / sizeof(Entry)) return false;
    std::vector<Entry> table(head.entries);
    if (!hold(table_, head.table_offset, table_bytes(table.size()))) return false;
    if (!read(head.table_offset, std::as_writable_bytes(std::span(table)))) return false;
    if (checksum_of(table) != head.checksum) return false;
    for (const Entry& entry : table) {
      if (!hold(regions_[entry.key], entry.offset, entry.bytes)) return false;
    }
    return regions_.size() == table.size();
  }
  bool hold(Place& place, std::uint64_t offset, std::size_t bytes) {
    std::optional<Place> held = Place::at(*pool_, offset, bytes);
    if (!held) return false;
    place = *std::move(held);
    return true;
  }

  bool write(std::uint64_t offset, std::span<const std::byte> data) const {
    return ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(data.size());
  }
  bool read(std::uint64_t offset, std::span<std::byte> data) const {
    return ::pread(fd_, data.data(), data.size(), static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(data.size());
  }

  int fd_;
  std::unique_ptr<mmkit::GenPool> pool_;
  Place head_, table_;
  std::map<std::uint64_t, Place> regions_;
  std::vector<Place> dropped_;
};

std::vector<std::byte> made_up(std::uint64_t key) {
  std::vector<std::byte> data(100 + key * 7919 % 60'000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(key + i * 31);
  return data;
}
bool holds(const RegionFile& file, std::uint64_t first, std::uint64_t end, std::uint64_t without) {
  for (std::uint64_t key = first; key < end; ++key) {
    const bool gone = key % without == 0;
    if (gone ? file.get(key).has_value() : file.get(key) != made_up(key)) return false;
  }
  return true;
}

// Makes the first entry of the table name the place of the second, checksum and all.
bool damage(const char* path) {
  const int fd = ::open(path, O_RDWR | O_CLOEXEC);
  Superblock head{};
  bool well = ::pread(fd, &head, sizeof head, 0) == sizeof head;
  std::vector<Entry> table(head.entries);
  const auto offset = static_cast<off_t>(head.table_offset);
  const std::size_t bytes = table.size() * sizeof(Entry);
  well = well && ::pread(fd, table.data(), bytes, offset) == static_cast<ssize_t>(bytes);
  if (well) {
    table[0].offset = table[1].offset;
    head.checksum = checksum_of(table);
    well = ::pwrite(fd, table.data(), bytes, offset) == static_cast<ssize_t>(bytes) &&
           ::pwrite(fd, &head, sizeof head, 0) == sizeof head;
  }
  ::close(fd);
  return well;
}

int run(const char* path) {
  std::size_t available = 0;
  {
    const auto file = RegionFile::open(path);
    if (!file) return std::printf("the file cannot be used\n"), 1;
    for (std::uint64_t key = 0; key < 150; ++key) {
      if (!file->put(key, made_up(key)))
        return std::printf("no room for region %u\n", static_cast<unsigned>(key)), 1;
    }
    if (!file->commit()) return 1;
    for (std::uint64_t key = 0; key < 150; key += 3) file->erase(key);
    if (!file->commit()) return 1;
    available = file->stats().available_bytes;
    file->erase(1);  // never committed
  }
  {
    const auto file = RegionFile::open(path);
    if (!file) return std::printf("the file does not open again\n"), 1;
    if (file->stats().available_bytes != available || !holds(*file, 0, 150, 3)) return 1;
    // The holes are used again, the tightest first.
    for (std::uint64_t key = 150; key < 190; ++key) {
      if (!file->put(key, made_up(key)))
        return std::printf("no room for region %u\n", static_cast<unsigned>(key)), 1;
    }
    if (!file->commit() || !holds(*file, 0, 150, 3)) return 1;
    const mmkit::GenPoolStats stats = file->stats();
    std::printf("%zu regions; %zu of %zu KiB free in %zu pieces, the largest %zu KiB\n",
                file->regions(), stats.available_bytes / 1024, stats.size_bytes / 1024,
                stats.free_runs, stats.largest_free_bytes / 1024);
  }
  if (!damage(path)) return 1;
  const bool refused = RegionFile::open(path) == nullptr;
  std::printf("a table that names one place twice is %s\n", refused ? "refused" : "ACCEPTED");
  return refused ? 0 : 1;
}

}  // namespace

int main() {
  char path[] = "/tmp/mmkit-regions-XXXXXX";
  const int fd = ::mkstemp(path);
  if (fd < 0) return std::printf("no temporary file\n"), 1;
  ::close(fd);
  const int code = run(path);
  ::unlink(path);
  return code;
}
