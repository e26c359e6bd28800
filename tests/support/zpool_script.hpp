// SPDX-License-Identifier: MIT
//
// ZpoolScript - runs a list of small operations on a pool of any type, beside a tiny model.
//
// What generators of tests need: any list of operations means something, however it was cut or
// changed, so a property-based test can shrink it and a fuzzer can mutate it. Operations name
// objects by number, dead ones too, since a dead handle must be refused. The model knows which
// objects live, their sizes and patterns, and how often each is mapped; it knows no placement.
//
//   std::vector<ScriptOp> --> ZpoolScript --> Zpool
//                                  |            | evict: what to do is taken from the operation
//                                  +<-----------+
//
// The first thing that is wrong stops the script and is told by fault().
// Locking:    none: one thread
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mmkit/zpool.hpp>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/pattern.hpp"

namespace mmkit::testing {

/// One operation; every value of every field is valid.
struct ScriptOp {
  std::uint8_t kind = 0;      // modulo kScriptKinds
  std::uint16_t which = 0;    // a size, or the number of an object, as the kind takes it
  std::uint16_t choices = 0;  // bits for whatever else there is to choose

  bool operator==(const ScriptOp&) const = default;
};

enum class ScriptKind : std::uint8_t {
  allocate,
  store,
  free,
  verify,
  hold,
  let_go,
  touch,
  shrink,
  compact,
  forge,
  refuse,
  kCount
};
inline constexpr unsigned kScriptKinds = static_cast<unsigned>(ScriptKind::kCount);

inline std::ostream& operator<<(std::ostream& out, const ScriptOp& op) {
  constexpr std::string_view kNames[] = {"allocate", "store",  "free",  "verify",
                                         "hold",     "let_go", "touch", "shrink",
                                         "compact",  "forge",  "refuse"};
  return out << kNames[op.kind % kScriptKinds] << '(' << op.which << ", " << op.choices << ')';
}

/// How the pool of a script is made.
struct ScriptPool {
  std::string_view type;
  std::string_view params{};
  PageSource* pages = nullptr;
  std::size_t limit_pages = 0;  // 0: none
  bool evictable = true;
};

class ZpoolScript {
 public:
  explicit ZpoolScript(const ScriptPool& made) : pages_(*made.pages) {
    held_before_ = pages_.stats().held_pages;
    ZpoolOptions options;
    options.name = "script";
    options.params = made.params;
    options.pages = made.pages;
    options.limit_bytes = made.limit_pages * kPageSize;
    if (made.evictable) {
      options.evict = [this](Zpool&, Handle handle) { return evict(handle); };
    }
    auto pool = Zpool::create(made.type, std::move(options));
    if (!require(pool.has_value(), "the pool can be made")) return;
    pool_ = *std::move(pool);
    most_bytes_ = pool_->max_object_bytes();
    most_run_pages_ = default_registry().traits(made.type).value().most_run_pages;
    limit_bytes_ = pool_->limit_bytes();
  }

  /// Runs one operation; whether all is well so far.
  bool run(const ScriptOp& op) {
    if (!fault_.empty()) return false;
    choices_ = op.choices;
    switch (static_cast<ScriptKind>(op.kind % kScriptKinds)) {
      case ScriptKind::allocate:
        add(op.which, /*stored=*/false);
        break;
      case ScriptKind::store:
        add(op.which, /*stored=*/true);
        break;
      case ScriptKind::free:
        free(op.which);
        break;
      case ScriptKind::verify:
        verify(op.which);
        break;
      case ScriptKind::hold:
        hold(op.which);
        break;
      case ScriptKind::let_go:
        let_go(op.which);
        break;
      case ScriptKind::touch:
        touch(op.which);
        break;
      case ScriptKind::shrink:
        shrink(1 + op.which % 4);
        break;
      case ScriptKind::compact:
        compact();
        break;
      case ScriptKind::forge:
        forge(op.which);
        break;
      default:
        refuse(op.which);
        break;
    }
    if (pool_ != nullptr && limit_bytes_ != 0) {
      require(pool_->total_bytes() <= limit_bytes_, "the limit holds");
    }
    return fault_.empty();
  }

  /// Compares everything with the model, at any time; whether all is well.
  bool check() {
    if (!fault_.empty()) return false;
    require(pool_->validate().has_value(), "the pool is valid");
    std::size_t objects = 0, payload_bytes = 0;
    for (const Object& object : objects_) {
      if (!object.live) continue;
      ++objects;
      payload_bytes += object.size_bytes;
      look_at(object);
    }
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == objects, "stats: objects");
    require(stats.payload_bytes == payload_bytes, "stats: payload");
    require(stats.allocations - stats.frees == objects, "stats: allocations and frees");
    require(stats.evicted == evicted_, "stats: evicted");
    require(stats.pages * kPageSize == pool_->total_bytes(), "stats: pages");
    require(stats.pages == pages_.stats().held_pages - held_before_, "every page is the source's");
    return fault_.empty();
  }

  /// Frees everything: no page may be left.
  bool finish() {
    if (!fault_.empty()) return false;
    held_.clear();
    for (Object& object : objects_) object.pins = 0;
    for (std::size_t i = 0; i < objects_.size(); ++i) {
      if (objects_[i].live) free(i);
    }
    // What a driver frees late, it frees now.
    static_cast<void>(pool_->compact());
    require(pool_->total_bytes() == 0, "an empty pool has no page");
    require(check(), "the empty pool is as the model");
    pool_.reset();
    require(pages_.stats().held_pages == held_before_, "the pool leaves no page");
    return fault_.empty();
  }

  /// What was wrong; empty: nothing.
  const std::string& fault() const { return fault_; }

 private:
  struct Object {
    Handle handle = Handle::none;
    std::size_t size_bytes = 0;
    std::uint64_t key = 0;
    unsigned pins = 0;
    bool live = false;
    bool being_evicted = false;
  };
  struct Held {
    std::size_t object;
    Mapping mapping;
  };
  static constexpr std::size_t kMostHeld = 8;

  bool require(bool holds, std::string_view what) {
    if (!holds && fault_.empty()) fault_ = what;
    return holds;
  }
  unsigned choose(unsigned among) {
    const unsigned chosen = choices_ % among;
    choices_ /= among;
    return chosen;
  }
  // Null when no object was ever made.
  Object* object_at(std::size_t which) {
    return objects_.empty() ? nullptr : &objects_[which % objects_.size()];
  }

  // ------------------------------------------------------------------ operations

  void add(std::size_t which, bool stored) {
    const std::size_t size_bytes = 1 + which % most_bytes_;
    const std::uint64_t key = ++keys_;
    Gfp gfp = choose(4) == 0 ? Gfp::nowait : Gfp::kernel;
    const bool nowait = has(gfp, Gfp::nowait);
    const bool zeroed = !stored && choose(2) == 0;
    if (zeroed) gfp = gfp | Gfp::zero;
    const Result<Handle> handle = stored ? pool_->store(make_pattern(size_bytes, key), gfp)
                                         : pool_->allocate(size_bytes, gfp);
    if (!handle) {
      require(handle.error() == Errc::out_of_memory, "what cannot be placed is out_of_memory");
      require(nowait || limit_bytes_ != 0, "without a limit there is room");
      return;
    }
    for (const Object& object : objects_) {
      if (!require(object.handle != *handle, "a handle is given once")) return;
    }
    require(*handle != Handle::none, "a handle is not zero");
    objects_.push_back({*handle, size_bytes, key, 0, true, false});
    if (stored) return look_at(objects_.back());
    Mapping mapping = pool_->map(*handle, zeroed ? MapMode::read_write : MapMode::write_only);
    if (!require(mapping.bytes().size() >= size_bytes, "a mapping is long enough")) return;
    const std::span<std::byte> bytes = mapping.bytes().first(size_bytes);
    if (zeroed) {
      for (const std::byte b : bytes) require(b == std::byte{}, "Gfp::zero clears");
    }
    write_pattern(bytes, key);
  }

  void free(std::size_t which) {
    Object* object = object_at(which);
    if (object == nullptr) return;
    const Status freed = pool_->try_free(object->handle);
    if (!object->live) {
      require(!freed && freed.error() == Errc::invalid_argument, "a dead handle is not freed");
    } else if (object->pins != 0) {
      require(!freed && freed.error() == Errc::busy, "a mapped object is not freed");
    } else {
      require(freed.has_value(), "a live object is freed");
      object->live = false;
    }
  }

  void look_at(const Object& object) {
    const Result<Mapping> mapping = pool_->try_map(object.handle, MapMode::read_only);
    if (!object.live) {
      require(!mapping && mapping.error() == Errc::not_found, "a dead handle is not mapped");
      return;
    }
    if (!require(mapping.has_value(), "a live object is mapped")) return;
    if (!require(mapping->const_bytes().size() >= object.size_bytes, "a mapping is long enough")) {
      return;
    }
    require(has_pattern(mapping->const_bytes().first(object.size_bytes), object.key),
            "an object keeps its bytes");
  }
  void verify(std::size_t which) {
    if (const Object* object = object_at(which)) look_at(*object);
  }

  void hold(std::size_t which) {
    Object* object = object_at(which);
    if (object == nullptr || !object->live || held_.size() == kMostHeld) return;
    held_.push_back({which % objects_.size(), pool_->map(object->handle)});
    ++object->pins;
  }
  void let_go(std::size_t which) {
    if (held_.empty()) return;
    const auto at = held_.begin() + static_cast<std::ptrdiff_t>(which % held_.size());
    Object& object = objects_[at->object];
    require(has_pattern(at->mapping.const_bytes().first(object.size_bytes), object.key),
            "a mapped object keeps its place and its bytes");
    --object.pins;
    held_.erase(at);
  }

  void touch(std::size_t which) {
    if (const Object* object = object_at(which)) pool_->touch(object->handle);
  }

  void shrink(std::size_t pages) {
    const std::size_t before = pool_->total_bytes();
    plain_evictions_ = true;
    const ShrinkOutcome done = pool_->shrink(pages);
    require(done.reclaimed_pages < pages + most_run_pages_,
            "a shrink frees no more than it was asked for, but for pages that go as one");
    require(done.status.has_value() == (done.reclaimed_pages >= pages),
            "a shrink succeeds if and only if it freed what it was asked for");
    if (!pool_->evictable() || before == 0) {
      require(!done.status && done.status.error() == Errc::invalid_argument &&
                  done.reclaimed_pages == 0,
              "what cannot shrink is invalid_argument");
    }
    if (plain_evictions_) {
      require(before - pool_->total_bytes() == done.reclaimed_pages * kPageSize,
              "pages freed by a shrink are those that it reports");
    }
  }

  void compact() {
    const std::size_t before = pool_->total_bytes();
    const Result<std::size_t> pages = pool_->compact();
    if (!pages) {
      require(pages.error() == Errc::not_supported, "compact() fails only as not_supported");
      require(pool_->total_bytes() == before, "a failed compact() changes nothing");
      return;
    }
    require(before - pool_->total_bytes() == *pages * kPageSize,
            "pages freed by compact() are those that it reports");
  }

  // A number near a handle that was given, but none that was: refused by every function.
  void forge(std::size_t which) {
    const Object* object = object_at(which);
    if (object == nullptr) return;
    const std::uint64_t forged = static_cast<std::uint64_t>(object->handle) ^ std::uint64_t{1}
                                                                                  << choose(64);
    for (const Object& each : objects_) {
      if (each.live && static_cast<std::uint64_t>(each.handle) == forged) return;
    }
    const Status freed = pool_->try_free(Handle{forged});
    require(!freed && freed.error() == Errc::invalid_argument, "a forged handle is not freed");
    const Result<Mapping> mapped = pool_->try_map(Handle{forged});
    require(!mapped && mapped.error() == Errc::not_found, "a forged handle is not mapped");
  }

  void refuse(std::size_t which) {
    const Result<Handle> none = pool_->allocate(0);
    require(!none && none.error() == Errc::invalid_argument, "size 0 is invalid_argument");
    const Result<Handle> large = pool_->allocate(most_bytes_ + 1 + which);
    require(!large && large.error() == Errc::no_space, "a large object is no_space");
    const ShrinkOutcome nothing = pool_->shrink(0);
    require(!nothing.status && nothing.status.error() == Errc::invalid_argument,
            "a shrink by nothing is invalid_argument");
  }

  // ------------------------------------------------------------------ eviction

  Status evict(Handle handle) {
    std::size_t which = 0;
    while (which < objects_.size() && objects_[which].handle != handle) ++which;
    if (!require(which < objects_.size(), "what is evicted was made")) return fail(Errc::busy);
    Object* object = &objects_[which];
    require(object->live, "what is evicted lives");
    require(object->pins == 0, "what is evicted is not mapped");
    require(!object->being_evicted, "nothing is evicted twice at once");
    look_at(*object);
    switch (choose(8)) {
      case 0:
        return fail(Errc::busy);
      case 1:
        return {};  // a lie
      case 2: {     // frees another one, too
        plain_evictions_ = false;
        const std::size_t other = choose(static_cast<unsigned>(objects_.size()));
        if (other != which) free(other);
        break;
      }
      case 3: {  // stores another one first
        plain_evictions_ = false;
        object->being_evicted = true;
        add(choose(64) * std::size_t{61}, /*stored=*/true);
        object = &objects_[which];  // it may have moved
        object->being_evicted = false;
        break;
      }
      case 4:
        pool_->touch(handle);
        break;
      default:
        break;
    }
    if (!object->live || !fault_.empty()) return fail(Errc::busy);
    free(which);
    if (!object->live) ++evicted_;
    return {};
  }

  PageSource& pages_;
  std::size_t held_before_ = 0;
  std::unique_ptr<Zpool> pool_;
  std::size_t most_bytes_ = 1, most_run_pages_ = 1, limit_bytes_ = 0;
  std::vector<Object> objects_;
  std::vector<Held> held_;  // ends before the pool
  std::string fault_;
  std::uint64_t keys_ = 0, evicted_ = 0;
  std::uint32_t choices_ = 0;
  bool plain_evictions_ = true;
};

}  // namespace mmkit::testing
