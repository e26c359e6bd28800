// SPDX-License-Identifier: MIT
//
// z3fold against the naive rule - ten million random operations, each with its exact outcome.
//
// The model knows pages as three places and two stamps (when it was listed, when it was used), knows
// which pages wait for compaction, and finds every answer by looking at all of them. It shares no
// code with the library. The pool must agree with it in everything that can be seen: the place of
// each object to the byte, before and after compaction moved it, the page count, the order of
// eviction, errors, statistics; each object holds a pattern of its own. The thread keeps to one CPU,
// since an allocation looks at the pages of its own first.
//
// A shrink is compared by replay: the evict callback does something at random and writes down what;
// the model then runs the same shrink, and wherever it would call back it takes the next note,
// which must be about the very object that the model has chosen.
//
// Load: kOperations times MMKIT_SCALE. Structures are validated after each of the first 10^4
// operations, and after each 10^4-th from there on.
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <random>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "support/pattern.hpp"
#include "support/percpu_memory.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

constexpr std::uint64_t kOperations = 10'000'000;
constexpr std::uint64_t kOperationsPerPool = 50'000;
constexpr std::size_t kChunk = 64;
constexpr std::size_t kMaxObject = kPageSize;
constexpr unsigned kLimitTries = 16;  // evictions that one allocation at the limit may ask for
constexpr int kNone = -1;

unsigned chunks_of(std::size_t size_bytes) {
  return static_cast<unsigned>((size_bytes + kChunk - 1) / kChunk);
}

// What the evict callback may do with the object that it is asked for.
enum class Deed : unsigned {
  evict,          // frees it and says so
  refuse,         // says no
  lie,            // says yes, and keeps it
  free_and_fail,  // frees it, and says no
  free_both,      // frees its buddy, too
  allocate,       // allocates another object, then frees this one
  exchange,       // frees its buddy, allocates another object in its stead, frees this one
  hold,           // maps it, keeps the mapping, says no
  touch,          // touches it, which means nothing while its page is being evicted, and says no
  shrink,         // shrinks by a page, then frees it
  kCount
};

// What the callback did, as the model needs it to do the same.
struct Note {
  Handle handle = Handle::none;
  Deed deed = Deed::evict;
  Handle buddy = Handle::none;  // that was freed, or not: then buddy_error says why
  Errc buddy_error{};
  Handle made = Handle::none;  // that was allocated, or not: then made_error says why
  Errc made_error{};
  std::byte* address = nullptr;
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  ShrinkOutcome inner{};
};

struct Object {
  Handle handle = Handle::none;  // none: dead
  std::size_t size_bytes = 0;
  std::uint64_t key = 0;
  unsigned pins = 0;
  std::size_t place_in_live = 0;
};

// The rule over plain arrays: pages by the number that the pool gives them, lists as stamps.
class Model {
 public:
  enum Buddy : unsigned { kFirst, kMiddle, kLast };

  struct Page {
    std::byte* data = nullptr;  // null: closed
    int object[3] = {kNone, kNone, kNone};
    unsigned start = 0;        // of MIDDLE, in chunks
    std::uint64_t listed = 0;  // stamp of its last listing by room
    std::uint64_t used = 0;    // stamp of the last allocation or touch
    bool in_flight = false;    // being evicted
    bool deferred = false;     // outlives the page
  };

  Model(unsigned retries, std::size_t limit_pages) : retries_(retries), limit_(limit_pages) {
    for (int page = kMostPages; page-- != 0;) closed_.push_back(page);
  }

  // The page that an object of this size joins, after whatever compaction gives it the room; kNone:
  // a new one.
  int choose(std::size_t size_bytes) {
    const unsigned needed = chunks_of(size_bytes);
    const int page = is_whole_size(size_bytes) ? kNone : best(needed, kNone);
    return page != kNone ? page : compact_for(size_bytes);
  }
  // Where in that page, as an offset.
  std::size_t offset_in(int page, std::size_t size_bytes) const {
    if (is_whole_size(size_bytes)) return 0;
    const Page fresh;
    const Page& in = page == kNone ? fresh : page_[page];
    switch (choose_buddy(in, chunks_of(size_bytes))) {
      case kFirst:
        return 2 * kChunk;
      case kMiddle:
        return (2 + chunks(in, kFirst)) * kChunk;
      default:
        return kPageSize - chunks_of(size_bytes) * kChunk;
    }
  }
  bool full() const { return limit_ != 0 && pages_ == limit_; }

  int add(Handle handle, std::byte* address, std::size_t size_bytes, std::uint64_t key, int page) {
    if (page == kNone) {
      page = closed_.back();
      closed_.pop_back();
      const bool deferred = page_[page].deferred;
      page_[page] = {};
      page_[page].deferred = deferred;
      page_[page].data = address - offset_in(kNone, size_bytes);
      ++pages_;
    }
    int id = static_cast<int>(objects_.size());
    if (dead_.empty()) {
      objects_.push_back({});
    } else {
      id = dead_.back();
      dead_.pop_back();
    }
    object(id) = {handle, size_bytes, key, 0, live_.size()};
    live_.push_back(id);
    by_handle_.emplace(static_cast<std::uint64_t>(handle), id);
    payload_bytes += size_bytes;
    Page& in = page_[page];
    const Buddy buddy =
        is_whole_size(size_bytes) ? kFirst : choose_buddy(in, chunks_of(size_bytes));
    put(page, buddy, id);
    in.listed = ++clock_;
    in.used = clock_;
    return id;
  }

  void remove(int id) {
    const Object gone = object(id);
    const int at = page_of(id);
    Page& page = page_[at];
    page.object[buddy_of_object(id)] = kNone;
    page.listed = ++clock_;
    by_handle_.erase(static_cast<std::uint64_t>(gone.handle));
    payload_bytes -= gone.size_bytes;
    object(live_.back()).place_in_live = gone.place_in_live;
    live_[gone.place_in_live] = live_.back();
    live_.pop_back();
    object(id).handle = Handle::none;
    dead_.push_back(id);
    if (page.in_flight) return;
    if (count(page) == 0) {
      close(at);
    } else {
      defer(at);
    }
  }

  void touch(int id) {
    Page& page = page_[page_of(id)];
    if (!page.in_flight) page.used = ++clock_;
  }

  // Replay is called where the pool would call back, with the object's id; whether it reported
  // success.
  template <class Replay>
  ShrinkOutcome shrink(std::size_t pages, Replay&& replay) {
    std::size_t reclaimed = 0;
    while (reclaimed < pages) {
      if (Status freed = reclaim(replay); !freed) return {reclaimed, freed};
      ++reclaimed;
    }
    return {reclaimed, {}};
  }

  // How many pages it frees.
  std::size_t compact() {
    const std::size_t before = pages_;
    for (int at = 0; at < kMostPages; ++at) slide(at);
    for (unsigned room = 1; room < 62;) {
      // Of the lone objects that leave this room the one listed last that is not mapped.
      int source = kNone;
      for (int at = 0; at < kMostPages; ++at) {
        if (!is_listed(page_[at]) || count(page_[at]) != 1 || free_chunks(page_[at]) != room)
          continue;
        if (object(lone_object(page_[at])).pins != 0) continue;
        if (source == kNone || page_[at].listed > page_[source].listed) source = at;
      }
      if (source != kNone && move_lone(source)) {
        close(source);
      } else {
        ++room;
      }
    }
    while (!queue_.empty()) pop(0);
    return before - pages_;
  }

  // Another object of the same page.
  int buddy_of(int id) const {
    for (const int other : page_[page_of(id)].object) {
      if (other != kNone && other != id) return other;
    }
    return kNone;
  }
  int find(Handle handle) const {
    const auto found = by_handle_.find(static_cast<std::uint64_t>(handle));
    return found == by_handle_.end() ? kNone : found->second;
  }
  bool holds_page(const std::byte* data) const {
    for (const Page& page : page_) {
      if (page.data == data) return true;
    }
    return false;
  }
  std::byte* data_of(int page) const { return page_[page].data; }
  // Where an object lies.
  std::byte* address_of(int id) const {
    const Page& page = page_[page_of(id)];
    const std::size_t size_bytes = object(id).size_bytes;
    if (is_whole_size(size_bytes)) return page.data;
    switch (buddy_of_object(id)) {
      case kFirst:
        return page.data + 2 * kChunk;
      case kMiddle:
        return page.data + page.start * kChunk;
      default:
        return page.data + kPageSize - chunks_of(size_bytes) * kChunk;
    }
  }
  Object& object(int id) { return objects_[static_cast<std::size_t>(id)]; }
  const Object& object(int id) const { return objects_[static_cast<std::size_t>(id)]; }
  const std::vector<int>& live() const { return live_; }
  std::size_t pages() const { return pages_; }

  std::size_t payload_bytes = 0;
  std::uint64_t evicted = 0, moved = 0;

 private:
  static constexpr int kMostPages = 128;
  static constexpr std::size_t kMostQueued = 8;

  static bool is_whole_size(std::size_t size_bytes) { return size_bytes > 3904; }
  static int count(const Page& page) {
    int objects = 0;
    for (const int id : page.object) objects += id != kNone ? 1 : 0;
    return objects;
  }
  unsigned chunks(const Page& page, Buddy buddy) const {
    return page.object[buddy] == kNone ? 0 : chunks_of(object(page.object[buddy]).size_bytes);
  }
  bool is_whole(const Page& page) const {
    return page.object[kFirst] != kNone && is_whole_size(object(page.object[kFirst]).size_bytes);
  }
  static int lone_object(const Page& page) {
    for (const int id : page.object) {
      if (id != kNone) return id;
    }
    return kNone;
  }
  int page_of(int id) const {
    for (int at = 0; at < kMostPages; ++at) {
      if (page_[at].data == nullptr) continue;
      for (const int other : page_[at].object) {
        if (other == id) return at;
      }
    }
    return kNone;
  }
  Buddy buddy_of_object(int id) const {
    const Page& page = page_[page_of(id)];
    return page.object[0] == id ? kFirst : page.object[1] == id ? kMiddle : kLast;
  }
  unsigned free_chunks(const Page& page) const {
    const unsigned first = chunks(page, kFirst), last = chunks(page, kLast);
    if (page.object[kMiddle] == kNone) return 62 - first - last;
    const unsigned before = first != 0 ? 0 : page.start - 2;
    const unsigned after = last != 0 ? 0 : 64 - page.start - chunks(page, kMiddle);
    return std::max(before, after);
  }
  Buddy choose_buddy(const Page& page, unsigned needed) const {
    if (page.object[kMiddle] == kNone) {
      if (page.object[kFirst] == kNone) return kFirst;
      return page.object[kLast] == kNone ? kLast : kMiddle;
    }
    return page.object[kFirst] == kNone && needed <= page.start - 2 ? kFirst : kLast;
  }
  void put(int at, Buddy buddy, int id) {
    Page& page = page_[at];
    if (buddy == kMiddle) page.start = 2 + chunks(page, kFirst);
    page.object[buddy] = id;
  }
  void close(int at) {
    page_[at].data = nullptr;
    closed_.push_back(at);
    --pages_;
  }
  bool is_listed(const Page& page) const {
    return page.data != nullptr && !page.in_flight && count(page) != 0 && !is_whole(page) &&
           free_chunks(page) != 0;
  }
  // The least room that is enough; of several pages first those with more objects than one, then the
  // one listed last.
  int best(unsigned needed, int not_this) const {
    int best = kNone;
    const auto rank = [this](int at) {
      return std::tuple(free_chunks(page_[at]), count(page_[at]) == 1, ~page_[at].listed);
    };
    for (int at = 0; at < kMostPages; ++at) {
      if (at == not_this || !is_listed(page_[at]) || free_chunks(page_[at]) < needed) continue;
      if (best == kNone || rank(at) < rank(best)) best = at;
    }
    return best;
  }

  // ------------------------------------------------------------------ compaction

  bool can_slide(const Page& page) const {
    if (page.object[kMiddle] == kNone || count(page) == 3) return false;
    return count(page) == 1 || slid_start(page) != page.start;
  }
  unsigned slid_start(const Page& page) const {
    const unsigned start = page.object[kFirst] != kNone
                               ? 2 + chunks(page, kFirst)
                               : 64 - chunks(page, kLast) - chunks(page, kMiddle);
    const unsigned gap = start > page.start ? start - page.start : page.start - start;
    return gap >= 3 ? start : page.start;
  }
  bool has_work(const Page& page) const {
    return page.data != nullptr && !page.in_flight && count(page) != 0 && !is_whole(page) &&
           (count(page) == 1 || can_slide(page));
  }
  bool slide(int at) {
    Page& page = page_[at];
    if (!has_work(page) || !can_slide(page)) return false;
    if (object(page.object[kMiddle]).pins != 0) return false;
    if (count(page) == 1) {
      page.object[kFirst] = page.object[kMiddle];
      page.object[kMiddle] = kNone;
    } else {
      page.start = slid_start(page);
    }
    page.listed = ++clock_;
    ++moved;
    return true;
  }
  bool move_lone(int at) {
    const int target = best(chunks_of(object(lone_object(page_[at])).size_bytes), at);
    return target != kNone && move_lone(at, target);
  }
  bool move_lone(int source, int target) {
    const int id = lone_object(page_[source]);
    if (object(id).pins != 0) return false;
    const Buddy buddy = choose_buddy(page_[target], chunks_of(object(id).size_bytes));
    for (int& other : page_[source].object) other = kNone;
    put(target, buddy, id);
    page_[target].listed = ++clock_;
    ++moved;
    return true;
  }
  int pop(std::size_t place) {
    const int at = queue_[place];
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(place));
    page_[at].deferred = false;
    return at;
  }
  bool lone_objects_abound() {
    std::size_t lone = 0;
    for (const Page& page : page_) lone += is_listed(page) && count(page) == 1 ? 1u : 0u;
    compacting_ = lone * (compacting_ ? 192 : 64) > pages_;
    return compacting_;
  }
  void defer(int at) {
    if (page_[at].deferred || !has_work(page_[at])) return;
    if (queue_.size() == kMostQueued) {
      const int oldest = pop(0);
      if (lone_objects_abound()) compact_around(oldest);
    }
    if (!has_work(page_[at])) return;
    page_[at].deferred = true;
    queue_.push_back(at);
  }
  void compact_around(int at) {
    if (!has_work(page_[at])) return;
    if (count(page_[at]) == 1 && move_lone(at)) return close(at);
    slide(at);
    const unsigned room = free_chunks(page_[at]);
    // The lone object of another page that leaves least of it, yet so much that it must fit.
    int source = kNone;
    for (int other = 0; other < kMostPages; ++other) {
      const Page& page = page_[other];
      if (other == at || !is_listed(page) || count(page) != 1 || free_chunks(page) < 62 - room) {
        continue;
      }
      if (source == kNone || free_chunks(page) < free_chunks(page_[source]) ||
          (free_chunks(page) == free_chunks(page_[source]) && page.listed > page_[source].listed)) {
        source = other;
      }
    }
    if (source != kNone && move_lone(source, at)) close(source);
  }
  int compact_for(std::size_t size_bytes) {
    for (std::size_t place = 0; place < queue_.size(); ++place) {
      const int at = queue_[place];
      const Page& page = page_[at];
      if (!has_work(page)) continue;
      if (count(page) == 1 && move_lone(at)) return pop(place);
      if (!can_slide(page) || is_whole_size(size_bytes)) continue;
      const unsigned room = 62 - chunks(page, kFirst) - chunks(page, kMiddle) - chunks(page, kLast);
      if (room >= chunks_of(size_bytes) && slide(at)) return pop(place);
    }
    return kNone;
  }

  // ------------------------------------------------------------------ eviction

  bool is_mapped(const Page& page) const {
    for (const int id : page.object) {
      if (id != kNone && object(id).pins != 0) return true;
    }
    return false;
  }

  template <class Replay>
  Status reclaim(Replay& replay) {
    std::size_t looks = pages_;
    for (unsigned tries = 0; tries < retries_; --looks) {
      int oldest = kNone;
      bool others_in_flight = false;
      for (int at = 0; at < kMostPages; ++at) {
        if (page_[at].data == nullptr) continue;
        others_in_flight |= page_[at].in_flight;
        if (page_[at].in_flight) continue;
        if (oldest == kNone || page_[at].used < page_[oldest].used) oldest = at;
      }
      if (oldest == kNone) return fail(others_in_flight ? Errc::try_again : Errc::invalid_argument);
      if (looks == 0) break;
      Page& page = page_[oldest];
      page.in_flight = true;
      if (!is_mapped(page)) {
        ++tries;
        const Handle asked[3] = {handle_of(page.object[kMiddle]), handle_of(page.object[kFirst]),
                                 handle_of(page.object[kLast])};
        for (const Handle handle : asked) {
          const int id = handle == Handle::none ? kNone : find(handle);
          if (id == kNone) continue;  // none there, or freed meanwhile
          const bool success = replay(id);
          if (!success || find(handle) != kNone) break;
          ++evicted;
        }
      }
      page.in_flight = false;
      if (count(page) == 0) {
        close(oldest);
        return {};
      }
      page.listed = ++clock_;
      page.used = clock_;
      if (queue_.size() < kMostQueued) defer(oldest);
    }
    return fail(Errc::try_again);
  }
  Handle handle_of(int id) const { return id == kNone ? Handle::none : object(id).handle; }

  unsigned retries_;
  std::size_t limit_, pages_ = 0;
  std::uint64_t clock_ = 0;
  bool compacting_ = false;
  Page page_[kMostPages];
  std::vector<int> closed_, queue_;
  std::vector<Object> objects_;
  std::vector<int> live_, dead_;
  std::unordered_map<std::uint64_t, int> by_handle_;
};

// How the objects of one pool are sized and how many there are.
struct Regime {
  unsigned least_bytes, most_bytes;
  std::size_t live;         // about so many
  std::size_t limit_pages;  // 0: none
  unsigned retries;
};

// A pool and its model, driven side by side.
class Duel {
 public:
  Duel(const Regime& regime, std::uint64_t seed)
      : regime_(regime), random_(seed), model_(regime.retries, regime.limit_pages) {
    auto pages = SimPageAllocator::create({.capacity_bytes = std::size_t{8} << 20});
    if (!pages) return;
    pages_ = *std::move(pages);
    ZpoolOptions options;
    options.name = "duel";
    options.evict = [this](Zpool&, Handle handle) { return on_evict(handle); };
    options.pages = pages_.get();
    options.params = "reclaim_retries=" + std::to_string(regime.retries);
    options.limit_bytes = regime.limit_pages * kPageSize;
    auto pool = Zpool::create("z3fold", std::move(options));
    if (pool) pool_ = *std::move(pool);
    require(pool_ != nullptr, "the pool was made");
  }

  bool broken() const { return broken_; }

  void step(std::uint64_t operation, bool validate) {
    operation_ = operation;
    // Steers toward the regime's number of objects.
    const unsigned grow = model_.live().size() < regime_.live ? 44 : 26;
    const unsigned kind = below(100);
    if (kind < grow) {
      allocate();
    } else if (kind < 70) {
      free_any();
    } else if (kind < 82) {
      verify_any();
    } else if (kind < 90) {
      touch_any();
    } else if (kind < 94) {
      hold_any();
    } else if (kind < 96) {
      let_go();
    } else if (kind < 98) {
      shrink(1 + below(3));
    } else if (kind < 99 && one_in(4)) {
      compact();
    } else {
      refuse_misuse();
    }
    require(pool_->total_bytes() == model_.pages() * kPageSize, "the page counts agree");
    if (operation % 16 == 0) compare_stats();
    if (validate) require(pool_->validate().has_value(), "the pool is valid");
  }

  // Frees everything; nothing may be left.
  void finish() {
    while (!held_.empty() && !broken_) let_go();
    while (!model_.live().empty() && !broken_) free_object(model_.live().back());
    if (broken_) return;
    require(pool_->validate().has_value(), "the empty pool is valid");
    require(pool_->total_bytes() == 0, "the empty pool has no page");
    require(pages_->stats().held_pages == 0, "no page is left behind");
    compare_stats();
  }

 private:
  void require(bool holds, const char* what) {
    if (holds || broken_) return;
    broken_ = true;
    ADD_FAILURE() << "operation " << operation_ << ": not so: " << what;
  }
  unsigned below(std::uint64_t limit) { return static_cast<unsigned>(random_() % limit); }
  bool one_in(unsigned n) { return below(n) == 0; }

  std::size_t any_size() {
    const std::size_t size =
        regime_.least_bytes + below(regime_.most_bytes - regime_.least_bytes + 1);
    // Often at the edge of a chunk, where a rounding is wrong if it ever is.
    if (!one_in(4)) return size;
    const std::size_t edge = (size + kChunk - 1) / kChunk * kChunk + below(3);
    return std::clamp<std::size_t>(edge - 1, 1, kMaxObject);
  }
  int any_object() { return model_.live()[below(model_.live().size())]; }

  // ------------------------------------------------------------------ one operation each

  // What the pool did, before the model has its say.
  struct Made {
    Handle handle = Handle::none;
    Errc error{};
    std::byte* address = nullptr;
    std::size_t size_bytes = 0;
    std::uint64_t key = 0;
  };

  Made make(Gfp gfp) {
    Made made;
    made.size_bytes = any_size();
    made.key = ++keys_;
    Result<Handle> handle = fail(Errc::io_error);
    const bool stored = one_in(2);
    if (stored) {
      std::byte buffer[kMaxObject];  // its own: an eviction may store another one meanwhile
      const std::span<std::byte> object(buffer, made.size_bytes);
      testing::write_pattern(object, made.key);
      handle = pool_->store(object, gfp);
    } else {
      if (one_in(8)) gfp = gfp | Gfp::zero;
      handle = pool_->allocate(made.size_bytes, gfp);
    }
    if (!handle) {
      made.error = handle.error();
      return made;
    }
    made.handle = *handle;
    Mapping mapping = pool_->map(*handle, stored ? MapMode::read_only : MapMode::read_write);
    made.address = mapping.bytes().data();
    require(mapping.bytes().size() >= made.size_bytes &&
                mapping.bytes().size() <= chunks_of(made.size_bytes) * kChunk,
            "a mapping is as long as the object, and not longer than its chunks");
    const std::span<std::byte> object = mapping.bytes().first(made.size_bytes);
    if (stored) {
      require(testing::has_pattern(object, made.key), "store() stores");
    } else {
      if (has(gfp, Gfp::zero)) {
        require(
            std::all_of(object.begin(), object.end(), [](std::byte b) { return b == std::byte{}; }),
            "Gfp::zero clears the object");
      }
      testing::write_pattern(object, made.key);
    }
    return made;
  }

  // The model's say: it must have gone there, or there must have been no room.
  void account(const Made& made, bool room, int page) {
    if (made.handle == Handle::none) {
      require(made.error == Errc::out_of_memory, "no room is out_of_memory");
      require(!room, "there was no room");
      ++failures_;
      return;
    }
    require(room, "there was room");
    require(model_.find(made.handle) == kNone, "a new handle is no live one");
    const std::size_t offset = model_.offset_in(page, made.size_bytes);
    require(reinterpret_cast<std::uintptr_t>(made.address) % kPageSize == offset,
            "the object lies where the rule puts it");
    if (page != kNone) {
      require(made.address == model_.data_of(page) + offset, "the object is in the rule's page");
    } else {
      require(!model_.holds_page(made.address - offset), "a new page is new");
    }
    if (!broken_) {
      model_.add(made.handle, made.address, made.size_bytes, made.key, page);
      ++allocations_;
    }
  }

  void allocate() {
    const Gfp gfp = one_in(16) ? Gfp::nowait : Gfp::kernel;
    notes_.clear();
    const Made made = make(gfp);
    int chosen = model_.choose(made.size_bytes);
    bool room = chosen != kNone || !model_.full();
    if (has(gfp, Gfp::nowait)) {
      // The page source may have no warm page: the one thing that the model does not know.
      if (made.handle == Handle::none && chosen == kNone) room = false;
    } else {
      for (unsigned tries = 0; !room && !broken_ && tries < kLimitTries; ++tries) {
        if (shrink_model(1).reclaimed_pages == 0) tries = kLimitTries - 1;
        chosen = model_.choose(made.size_bytes);
        room = chosen != kNone || !model_.full();
      }
    }
    require(notes_.empty(), "the pool evicts no more than the rule");
    account(made, room, chosen);
  }

  void free_object(int id) {
    const Object object = model_.object(id);
    const Status freed = pool_->try_free(object.handle);
    if (object.pins != 0) {
      require(!freed && freed.error() == Errc::busy, "a mapped object is busy");
      return;
    }
    require(freed.has_value(), "a live object can be freed");
    model_.remove(id);
    ++frees_;
    last_dead_ = object.handle;
  }
  void free_any() {
    if (!model_.live().empty()) free_object(any_object());
  }

  void verify(int id) {
    const Object object = model_.object(id);
    Result<Mapping> mapping = pool_->try_map(object.handle, MapMode::read_only);
    require(mapping.has_value(), "a live object can be mapped");
    if (!mapping) return;
    require(mapping->bytes().size() == object.size_bytes, "an object is as long as was asked for");
    require(mapping->bytes().data() == model_.address_of(id),
            "an object lies where the rule moved it");
    require(testing::has_pattern(mapping->bytes(), object.key), "an object keeps its bytes");
  }
  void verify_any() {
    if (!model_.live().empty()) verify(any_object());
  }

  void compact() {
    const std::size_t promised = pool_->stats().compactable_pages;
    const Result<std::size_t> freed = pool_->compact();
    require(freed && *freed == model_.compact(), "compact() frees as many pages");
    if (!held_.empty() || broken_) return;
    require(*freed >= promised, "compact() frees what was promised");
    require(pool_->stats().compactable_pages == 0, "nothing is left to compact");
  }

  void touch_any() {
    if (model_.live().empty()) return;
    const int id = any_object();
    pool_->touch(model_.object(id).handle);
    model_.touch(id);
  }

  void hold_any() {
    if (model_.live().empty() || held_.size() >= kMostHeld) return;
    const int id = any_object();
    Result<Mapping> mapping = pool_->try_map(model_.object(id).handle);
    require(mapping.has_value(), "a live object can be mapped");
    if (!mapping) return;
    ++model_.object(id).pins;
    held_.push_back({model_.object(id).handle, *std::move(mapping)});
  }
  void let_go() {
    if (held_.empty()) return;
    Held& held = held_[below(held_.size())];
    const int id = model_.find(held.handle);
    require(id != kNone, "a mapped object lives");
    if (id == kNone) return;
    Object& object = model_.object(id);
    require(testing::has_pattern(held.mapping.bytes().first(object.size_bytes), object.key),
            "a mapped object keeps its bytes");
    --object.pins;
    held = std::move(held_.back());
    held_.pop_back();
  }

  void shrink(std::size_t pages) {
    notes_.clear();
    const ShrinkOutcome done = pool_->shrink(pages);
    compare(done, shrink_model(pages));
    require(notes_.empty(), "the pool evicts no more than the rule");
  }

  void refuse_misuse() {
    const Result<Handle> nothing = pool_->allocate(0);
    require(!nothing && nothing.error() == Errc::invalid_argument, "size 0 is invalid_argument");
    const Result<Handle> large = pool_->allocate(kMaxObject + 1 + below(1000));
    require(!large && large.error() == Errc::no_space, "a large object is no_space");
    const Result<Handle> high = pool_->allocate(1, Gfp::highmem);
    require(!high && high.error() == Errc::invalid_argument, "highmem is invalid_argument");
    failures_ += 3;
    if (last_dead_ == Handle::none) return;
    const Status freed = pool_->try_free(last_dead_);
    require(!freed && freed.error() == Errc::invalid_argument, "a dead handle is not freed");
    const Result<Mapping> mapped = pool_->try_map(last_dead_);
    require(!mapped && mapped.error() == Errc::not_found, "a dead handle is not mapped");
    pool_->touch(last_dead_);
  }

  // ------------------------------------------------------------------ eviction

  Status on_evict(Handle handle) {
    const std::size_t mine = notes_.size();
    notes_.push_back({});
    Note note;
    note.handle = handle;
    note.deed =
        one_in(3) ? static_cast<Deed>(below(static_cast<unsigned>(Deed::kCount))) : Deed::evict;
    if (note.deed == Deed::hold && held_.size() >= kMostHeld) note.deed = Deed::refuse;
    if (note.deed == Deed::shrink && depth_ != 0) note.deed = Deed::evict;
    ++depth_;
    const Status answer = act(note);
    --depth_;
    notes_[mine] = note;
    return answer;
  }

  Status act(Note& note) {
    switch (note.deed) {
      case Deed::refuse:
        return fail(Errc::busy);
      case Deed::lie:
        return {};
      case Deed::touch:
        pool_->touch(note.handle);
        return fail(Errc::busy);
      case Deed::hold: {
        Result<Mapping> mapping = pool_->try_map(note.handle);
        require(mapping.has_value(), "an object being evicted can be mapped");
        if (mapping) held_.push_back({note.handle, *std::move(mapping)});
        return fail(Errc::busy);
      }
      case Deed::free_both:
        free_buddy(note);
        break;
      case Deed::exchange:
        free_buddy(note);
        allocate_inside(note);
        break;
      case Deed::allocate:
        allocate_inside(note);
        break;
      case Deed::shrink:
        note.inner = pool_->shrink(1);
        break;
      default:
        break;
    }
    require(pool_->try_free(note.handle).has_value(), "an object being evicted can be freed");
    if (note.deed == Deed::free_and_fail) return fail(Errc::io_error);
    return {};
  }

  // Out of date by what was done in this shrink: then it frees less, or nothing.
  void free_buddy(Note& note) {
    const int id = model_.find(note.handle);
    const int buddy = id == kNone ? kNone : model_.buddy_of(id);
    if (buddy == kNone) return;
    note.buddy = model_.object(buddy).handle;
    if (Status freed = pool_->try_free(note.buddy); !freed) note.buddy_error = freed.error();
  }
  void allocate_inside(Note& note) {
    const Made made = make(Gfp::kernel);
    note.made = made.handle;
    note.made_error = made.error;
    note.address = made.address;
    note.size_bytes = made.size_bytes;
    note.key = made.key;
  }

  ShrinkOutcome shrink_model(std::size_t pages) {
    return model_.shrink(pages, [this](int id) { return replay(id); });
  }

  // The model would call back for this object: the pool must have done so, and the same happens.
  bool replay(int id) {
    if (notes_.empty()) {
      require(false, "the pool evicts no less than the rule");
      return false;
    }
    const Note note = notes_.front();
    notes_.pop_front();
    require(note.handle == model_.object(id).handle, "the pool evicts in the rule's order");
    if (broken_) return false;
    switch (note.deed) {
      case Deed::refuse:
        return false;
      case Deed::lie:
        return true;
      case Deed::touch:
        model_.touch(id);
        return false;
      case Deed::hold:
        ++model_.object(id).pins;
        return false;
      case Deed::free_both:
        replay_buddy(note);
        break;
      case Deed::exchange:
        replay_buddy(note);
        replay_allocation(note);
        break;
      case Deed::allocate:
        replay_allocation(note);
        break;
      case Deed::shrink:
        compare(note.inner, shrink_model(1));
        break;
      default:
        break;
    }
    if (broken_) return false;
    // What happened above may have evicted nothing of this page: it is in flight.
    require(model_.find(note.handle) == id, "an object being evicted stays");
    if (broken_) return false;
    model_.remove(id);
    ++frees_;
    last_dead_ = note.handle;
    return note.deed != Deed::free_and_fail;
  }

  // Inside a callback no second eviction begins.
  void replay_allocation(const Note& note) {
    const int chosen = model_.choose(note.size_bytes);
    account({note.made, note.made_error, note.address, note.size_bytes, note.key},
            chosen != kNone || !model_.full(), chosen);
  }

  void replay_buddy(const Note& note) {
    if (note.buddy == Handle::none) return;
    const int id = model_.find(note.buddy);
    if (id == kNone) {
      require(note.buddy_error == Errc::invalid_argument, "a dead buddy is not freed");
    } else if (model_.object(id).pins != 0) {
      require(note.buddy_error == Errc::busy, "a mapped buddy is busy");
    } else {
      require(note.buddy_error == Errc{}, "a live buddy can be freed");
      model_.remove(id);
      ++frees_;
    }
  }

  void compare(const ShrinkOutcome& done, const ShrinkOutcome& expected) {
    require(done.reclaimed_pages == expected.reclaimed_pages, "as many pages are reclaimed");
    require(done.status.has_value() == expected.status.has_value(), "a shrink ends alike");
    if (!done.status && !expected.status) {
      require(done.status.error() == expected.status.error(), "a shrink fails alike");
    }
  }

  void compare_stats() {
    const ZpoolStats stats = pool_->stats();
    require(stats.objects == model_.live().size(), "stats: objects");
    require(stats.payload_bytes == model_.payload_bytes, "stats: payload");
    require(stats.pages == model_.pages(), "stats: pages");
    require(stats.allocations == allocations_, "stats: allocations");
    require(stats.frees == frees_, "stats: frees");
    require(stats.evicted == model_.evicted, "stats: evicted");
    require(stats.failures == failures_, "stats: failures");
    require(stats.moved == model_.moved, "stats: moved");
  }

  static constexpr std::size_t kMostHeld = 6;
  struct Held {
    Handle handle;
    Mapping mapping;
  };

  const Regime regime_;
  std::mt19937_64 random_;
  Model model_;
  std::unique_ptr<SimPageAllocator> pages_;
  std::unique_ptr<Zpool> pool_;
  std::vector<Held> held_;  // ends before the pool
  std::deque<Note> notes_;
  Handle last_dead_ = Handle::none;
  std::uint64_t operation_ = 0, keys_ = 0, allocations_ = 0, frees_ = 0, failures_ = 0;
  unsigned depth_ = 0;
  bool broken_ = false;
};

Regime any_regime(std::mt19937_64& random) {
  constexpr unsigned kMost = static_cast<unsigned>(kMaxObject);
  constexpr unsigned kSizes[][2] = {{1, kMost},    {1, 600}, {1500, 2500}, {1900, kMost},
                                    {3800, kMost}, {1, 130}, {1000, 1500}, {600, 2200}};
  constexpr std::size_t kLive[] = {4, 24, 60};
  constexpr unsigned kRetries[] = {1, 2, 8};
  const auto& sizes = kSizes[random() % std::size(kSizes)];
  Regime regime{sizes[0], sizes[1], kLive[random() % std::size(kLive)], 0,
                kRetries[random() % std::size(kRetries)]};
  if (random() % 2 == 0) regime.limit_pages = 1 + random() % (regime.live / 2 + 4);
  return regime;
}

TEST(Z3foldModel, AgreesWithTheNaiveRuleInEveryOperation) {
  const testing::PinnedThread pinned;
  const std::uint64_t operations = testing::scaled(kOperations, kOperationsPerPool);
  std::mt19937_64 random(testing::test_seed(0));
  std::unique_ptr<Duel> duel;
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (i % kOperationsPerPool == 0) {
      if (duel != nullptr) duel->finish();
      duel = std::make_unique<Duel>(any_regime(random), random());
    }
    duel->step(i, i < 10'000 || i % 10'000 == 0);
    ASSERT_FALSE(duel->broken());
  }
  duel->finish();
  ASSERT_FALSE(duel->broken());
}

}  // namespace
}  // namespace mmkit
