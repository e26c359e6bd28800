// SPDX-License-Identifier: MIT
//
// PercpuScript - operations on a PercpuAllocator, run beside a naive list of what is live.
//
// Each operation is checked by itself: what is handed out is aligned, apart from everything live, in
// bounds in every unit and zero in every unit; what is freed still has what was written to it, in
// each of the units that are written. check() compares the whole: every chunk's map with the list,
// page by page, and the statistics with sums over it.
//
// The model knows nothing of size classes: what an object was rounded to is read once from the
// chunk's map, must be little more than was asked for, and never changes.
// Locking: none; one thread
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "percpu/chunk.hpp"
#include "support/pattern.hpp"

namespace mmkit::testing {

/// One operation, in five bytes: the numbers choose among what there is.
struct PercpuOp {
  std::uint8_t kind;
  std::uint16_t which, choice;
};

class PercpuScript {
 public:
  struct Setup {
    PercpuOptions options{};
    std::vector<unsigned> written_units{};     ///< a copy of each object is written there
    std::size_t most_live_bytes = 512 * 1024;  ///< more is not allocated
    bool may_run_out = false;                  ///< whether out_of_memory is an answer
  };

  explicit PercpuScript(Setup setup)
      : setup_(std::move(setup)),
        allocator_(std::move(PercpuAllocator::create(setup_.options)).value()) {}

  PercpuAllocator& allocator() { return *allocator_; }
  std::size_t live() const { return live_.size(); }
  const std::string& fault() const { return fault_; }

  /// False when something is not as it must be; fault() says what.
  bool run(PercpuOp op) {
    const unsigned kind = op.kind % 64;
    if (kind < 28) return allocate(op, Gfp::kernel);
    if (kind < 31) return allocate(op, Gfp::nowait);
    if (kind < 57) return free_one(op);
    if (kind < 58) return allocate_reserved(op);
    if (kind < 61) return misuse(op);
    if (op.choice % 16 != 0) return true;  // what follows is slow, and changes much
    if (kind == 61) return populate(op);
    if (kind == 62) return depopulate(op);
    return balance();
  }

  /// Compares everything.
  bool check() {
    if (!allocator_->validate()) return wrong("validate");
    Sums sums;
    bool good = true;
    std::uintptr_t before = 0;
    allocator_->for_each_chunk([&](PercpuChunk& shown) {
      const auto& chunk = static_cast<const percpu::Chunk&>(shown);
      const auto base = reinterpret_cast<std::uintptr_t>(chunk.place.base);
      good = good && check_chunk(shown, sums);
      if (base < before && !has_regions_) good = wrong("order of chunks");
      before = base;
    });
    return good && check_stats(sums);
  }

  /// Frees all, and finds nothing left.
  bool finish() {
    while (!live_.empty()) {
      if (!free_at(live_.begin())) return false;
    }
    if (!balance() || !check()) return false;
    const PercpuStats stats = allocator_->stats();
    // The first chunk and the reserved one.
    const std::size_t chunks = setup_.options.reserved_bytes != 0 ? 2 : 1;
    if (stats.chunks != chunks) return wrong("chunks at the end", stats.chunks);
    return stats.live == 0 && stats.live_bytes == 0 ? true : wrong("live at the end");
  }

 private:
  struct Object {
    std::size_t size_bytes = 0;
    std::size_t rounded_bytes = 0;  // 0: not seen yet
    std::uint64_t key = 0;
    bool reserved = false;
  };
  using Live = std::map<std::byte*, Object>;
  struct Sums {
    std::size_t chunks = 0, objects = 0, rounded_bytes = 0, populated = 0, empty = 0;
  };

  bool wrong(const char* what, std::uint64_t value = 0) {
    if (fault_.empty()) fault_ = std::string(what) + " " + std::to_string(value);
    return false;
  }

  // Many small ones, some of any size, the largest now and then.
  static std::size_t size_of(std::uint16_t choice) {
    const std::size_t number = choice >> 6;  // below 1024
    const unsigned kind = choice & 63;
    if (kind < 28) return 1 + number % 64;
    if (kind < 48) return 1 + number % 256;
    if (kind < 62) return 1 + number;
    if (kind == 62) return 1 + number * 4;
    return std::min(kPercpuMaxBytes, 1 + number * 33);
  }

  bool allocate(PercpuOp op, Gfp gfp) {
    const std::size_t size_bytes = size_of(op.choice);
    const std::size_t align = std::size_t{1} << (op.which % 7);
    if (live_bytes_ + size_bytes > setup_.most_live_bytes) return free_one(op);
    const Result<PercpuPtr<std::byte>> p = allocator_->allocate(size_bytes, align, gfp);
    if (p) return admit(p->unit0, size_bytes, align, /*reserved=*/false);
    ++failures_;
    if (has(gfp, Gfp::nowait)) {
      ++nowait_failures_;
      return p.error() == Errc::out_of_memory ? true : wrong("nowait without a rival");
    }
    return setup_.may_run_out && p.error() == Errc::out_of_memory ? true : wrong("no memory");
  }

  bool allocate_reserved(PercpuOp op) {
    const std::size_t size_bytes = size_of(op.choice);
    const std::size_t align = std::size_t{1} << (op.which % 7);
    const auto p = allocator_->allocate_reserved(size_bytes, align);
    if (p) return admit(p->unit0, size_bytes, align, /*reserved=*/true);
    ++failures_;
    if (p.error() != Errc::no_space) return wrong("refusal of the reserved part");
    return has_reserved_room(size_bytes, align) ? wrong("no space where there is some", size_bytes)
                                                : true;
  }

  // By a look at every byte.
  bool has_reserved_room(std::size_t size_bytes, std::size_t align) {
    bool found = false;
    allocator_->for_each_chunk([&](PercpuChunk& shown) {
      if (!shown.reserved()) return;
      std::byte* const base = static_cast<percpu::Chunk&>(shown).place.base;
      const std::size_t end = (setup_.options.reserved_bytes + kPageSize - 1) & ~(kPageSize - 1);
      // It rounds as the allocator does outside of the classes.
      const std::size_t unit = size_bytes <= 4 ? 4 : 8;
      const std::size_t needed = (size_bytes + unit - 1) / unit * unit;
      const std::size_t step = std::max(align, unit);
      for (std::size_t at = 0; !found && at + needed <= end; at += step) {
        found = is_apart(base + at, needed);
      }
    });
    return found;
  }

  bool is_apart(std::byte* address, std::size_t size_bytes) const {
    auto after = live_.lower_bound(address);
    if (after != live_.end() && after->first < address + size_bytes) return false;
    if (after == live_.begin()) return true;
    --after;
    const std::size_t taken = std::max(after->second.size_bytes, after->second.rounded_bytes);
    return after->first + taken <= address;
  }

  // What has just been handed out.
  bool admit(std::byte* p, std::size_t size_bytes, std::size_t align, bool reserved) {
    const unsigned units = allocator_->units();
    if (reinterpret_cast<std::uintptr_t>(p) % align != 0) return wrong("alignment", align);
    if (!is_apart(p, size_bytes)) return wrong("overlap");
    for (const unsigned unit : {0u, units / 2, units - 1}) {
      for (const std::size_t at : {std::size_t{0}, size_bytes - 1}) {
        const std::byte* const place = p + unit * kPercpuUnitStride + at;
        if (!allocator_->contains(place)) return wrong("contains");
        const Result<unsigned> cpu = allocator_->cpu_of(place);
        if (!cpu || *cpu != unit) return wrong("cpu_of", unit);
        const auto canonical = allocator_->canonical(place);
        if (!canonical || canonical->unit0 != p + at) return wrong("canonical", unit);
      }
    }
    for (unsigned unit = 0; unit < units; ++unit) {
      for (const std::size_t at : {std::size_t{0}, size_bytes / 2, size_bytes - 1}) {
        if (per_cpu_read(PercpuPtr<std::byte>{p + at}, unit) != std::byte{0}) {
          return wrong("memory that is not zero in unit", unit);
        }
      }
    }
    const Object object{size_bytes, 0, ++keys_, reserved};
    for (const unsigned unit : setup_.written_units) {
      const std::span<std::byte> copy = copy_of(p, object, unit);
      if (std::any_of(copy.begin(), copy.end(), [](std::byte b) { return b != std::byte{0}; })) {
        return wrong("memory that is not zero in written unit", unit);
      }
      write_pattern(copy, object.key * 1024 + unit);
    }
    live_.emplace(p, object);
    live_bytes_ += size_bytes;
    most_live_ = std::max<std::uint64_t>(most_live_, live_.size());
    ++allocations_;
    return true;
  }

  static std::span<std::byte> copy_of(std::byte* p, const Object& object, unsigned unit) {
    return {per_cpu_ptr(PercpuPtr<std::byte>{p}, unit), object.size_bytes};
  }

  Live::iterator any(std::uint16_t which) {
    // Somewhere in the order of addresses, without a walk over all of it.
    if (live_.empty()) return live_.end();
    const auto first = reinterpret_cast<std::uintptr_t>(live_.begin()->first);
    const auto last = reinterpret_cast<std::uintptr_t>(live_.rbegin()->first);
    // A place in some chunk, not somewhere in the gigabytes between.
    const std::uintptr_t span = std::uintptr_t{1} << 32;
    const std::uintptr_t at = first + (last - first) % span * which / 65536;
    auto found = live_.lower_bound(reinterpret_cast<std::byte*>(at));
    for (unsigned skip = which % 32; skip != 0 && found != live_.end(); --skip) ++found;
    return found == live_.end() ? live_.begin() : found;
  }

  bool free_one(PercpuOp op) { return live_.empty() ? true : free_at(any(op.which)); }

  bool free_at(Live::iterator one) {
    const auto [p, object] = *one;
    for (const unsigned unit : setup_.written_units) {
      if (!has_pattern(copy_of(p, object, unit), object.key * 1024 + unit)) {
        return wrong("an object that changed in unit", unit);
      }
    }
    live_bytes_ -= object.size_bytes;
    live_.erase(one);
    ++frees_;
    if (object.key % 2 != 0) {
      allocator_->free({p});
    } else if (!allocator_->try_free({p})) {
      return wrong("try_free of a live object");
    }
    // Dead at once, wherever it went.
    return object.key % 16 == 0 && allocator_->try_free({p}) ? wrong("two frees") : true;
  }

  bool misuse(PercpuOp op) {
    if (live_.empty()) return true;
    const auto one = any(op.which);
    const std::size_t inside = 1 + op.choice % 64;
    std::byte* address = one->first + inside;
    if (op.choice % 3 == 0) address = one->first + kPercpuUnitStride;  // the copy of another CPU
    if (live_.count(address) != 0) return true;
    return allocator_->try_free({address}) ? wrong("free of an address inside", inside) : true;
  }

  bool balance() {
    allocator_->balance();
    std::size_t free_chunks = 0, idle = 0;
    allocator_->for_each_chunk([&](PercpuChunk& chunk) {
      if (chunk.reserved()) return;
      free_chunks += chunk.free_bytes() == kPercpuUnitBytes ? 1u : 0u;
      for (unsigned page = 0; page < chunk.pages(); ++page) {
        idle += chunk.populated(page) && chunk.free_bytes(page) == kPageSize ? 1u : 0u;
      }
    });
    if (free_chunks > 1) return wrong("free chunks after balance", free_chunks);
    if (idle > 4) return wrong("empty pages after balance", idle);
    return live_.empty() && free_chunks != 1 ? wrong("no free chunk") : true;
  }

  template <class F>
  bool with_chunk(std::uint16_t which, F&& f) {
    std::size_t index = 0;
    bool good = true;
    const std::size_t wanted = which % allocator_->stats().chunks;
    allocator_->for_each_chunk([&](PercpuChunk& chunk) {
      if (index++ == wanted) good = f(chunk);
    });
    return good;
  }

  bool populate(PercpuOp op) {
    return with_chunk(op.which, [&](PercpuChunk& chunk) {
      const unsigned begin = op.choice / 16 % 16, end = begin + op.choice / 256 % (17 - begin);
      const Status status = chunk.populate(begin, end);
      if (!status) {
        const bool beyond = chunk.reserved() && end * kPageSize > setup_.options.reserved_bytes;
        const bool ran_out = setup_.may_run_out && status.error() == Errc::out_of_memory;
        return (beyond && status.error() == Errc::invalid_argument) || ran_out ? true
                                                                               : wrong("populate");
      }
      for (unsigned page = begin; page < end; ++page) {
        if (!chunk.populated(page)) return wrong("populated page", page);
      }
      return true;
    });
  }

  bool depopulate(PercpuOp op) {
    return with_chunk(op.which, [&](PercpuChunk& chunk) {
      const unsigned begin = op.choice / 16 % 16, end = begin + op.choice / 256 % (17 - begin);
      unsigned expected = 0;
      for (unsigned page = begin; page < end && !chunk.reserved(); ++page) {
        expected += chunk.populated(page) && chunk.free_bytes(page) == kPageSize ? 1u : 0u;
      }
      if (chunk.depopulate(begin, end) != expected) return wrong("pages given back", expected);
      for (unsigned page = begin; page < end && !chunk.reserved(); ++page) {
        if (chunk.populated(page) && chunk.free_bytes(page) == kPageSize) {
          return wrong("empty page that stayed", page);
        }
      }
      return true;
    });
  }

  // The map against the list: each object starts where it should, and nothing else does.
  bool check_chunk(const PercpuChunk& shown, Sums& sums) {
    const auto& chunk = static_cast<const percpu::Chunk&>(shown);
    has_regions_ = has_regions_ || chunk.place.region != 0;
    // The reserved part ends with the page of its last byte.
    const std::size_t end_bytes =
        chunk.is_reserved ? (setup_.options.reserved_bytes + kPageSize - 1) / kPageSize * kPageSize
                          : kPercpuUnitBytes;
    std::size_t starts = 0, taken_bytes = 0, longest = 0, run_from = 0;
    std::size_t free_of_page[16] = {};
    const auto note_free = [&](std::size_t end) {
      longest = std::max(longest, end - run_from);
      for (std::size_t at = run_from; at < end;) {
        const std::size_t stop = std::min(end, (at / kPageSize + 1) * kPageSize);
        free_of_page[at / kPageSize] += stop - at;
        at = stop;
      }
    };
    for (auto at = live_.lower_bound(chunk.place.base);
         at != live_.end() && at->first < chunk.place.base + kPercpuUnitBytes; ++at) {
      Object& object = at->second;
      const auto offset = static_cast<std::size_t>(at->first - chunk.place.base);
      const auto granule = static_cast<unsigned>(offset / 4);
      if (!chunk.map.is_start(granule)) return wrong("start of a live object");
      const std::size_t rounded = chunk.map.size_at(granule) * std::size_t{4};
      if (rounded < object.size_bytes || rounded > object.size_bytes + object.size_bytes / 8 + 8) {
        return wrong("rounding of", object.size_bytes);
      }
      if (object.rounded_bytes != 0 && object.rounded_bytes != rounded) return wrong("size");
      object.rounded_bytes = rounded;
      if (offset + rounded > end_bytes || object.reserved != chunk.is_reserved) {
        return wrong("bounds");
      }
      if (offset < run_from) return wrong("overlap of rounded objects");
      note_free(offset);
      run_from = offset + rounded;
      for (std::size_t page = offset / kPageSize; page * kPageSize < run_from; ++page) {
        if (!shown.populated(static_cast<unsigned>(page))) return wrong("live in no memory", page);
      }
      taken_bytes += rounded;
      ++starts;
    }
    note_free(end_bytes);
    for (unsigned at = chunk.map.next_start(0); at < percpu::kGranules;
         at = chunk.map.next_start(at + 1)) {
      if (starts-- == 0) return wrong("object that nobody has");
      ++sums.objects;
    }
    if (starts != 0) return wrong("objects that the map lacks", starts);
    if (chunk.free_bytes() != end_bytes - taken_bytes) return wrong("free bytes");
    if (chunk.largest_free_bytes() != longest) return wrong("largest free run", longest);
    for (unsigned page = 0; page < 16; ++page) {
      if (chunk.free_bytes(page) != free_of_page[page]) return wrong("free bytes of page", page);
      sums.populated += shown.populated(page) ? 1u : 0u;
      sums.empty += shown.populated(page) && free_of_page[page] == kPageSize ? 1u : 0u;
    }
    sums.rounded_bytes += taken_bytes;
    ++sums.chunks;
    return true;
  }

  bool check_stats(const Sums& sums) {
    const PercpuStats stats = allocator_->stats();
    if (sums.objects != live_.size()) return wrong("objects", sums.objects);
    if (stats.chunks != sums.chunks) return wrong("chunks", stats.chunks);
    if (stats.max_chunks < most_chunks_ || stats.max_chunks < stats.chunks)
      return wrong("max_chunks");
    most_chunks_ = stats.max_chunks;
    if (stats.populated_pages != sums.populated) return wrong("populated pages");
    if (stats.empty_populated_pages != sums.empty) return wrong("empty pages");
    if (stats.live_bytes != sums.rounded_bytes) return wrong("live_bytes", stats.live_bytes);
    if (stats.allocations != allocations_) return wrong("allocations", stats.allocations);
    if (stats.frees != frees_) return wrong("frees", stats.frees);
    if (stats.live != live_.size()) return wrong("live", stats.live);
    if (stats.peak_live < most_live_ || stats.peak_live < peak_) return wrong("peak_live");
    peak_ = stats.peak_live;
    if (stats.failures != failures_) return wrong("failures", stats.failures);
    if (stats.nowait_failures != nowait_failures_) return wrong("nowait_failures");
    return true;
  }

  const Setup setup_;
  std::unique_ptr<PercpuAllocator> allocator_;
  Live live_;
  std::string fault_;
  std::size_t live_bytes_ = 0, most_chunks_ = 0;
  std::uint64_t keys_ = 0, allocations_ = 0, frees_ = 0, failures_ = 0, nowait_failures_ = 0;
  std::uint64_t most_live_ = 0, peak_ = 0;
  bool has_regions_ = false;
};

}  // namespace mmkit::testing
