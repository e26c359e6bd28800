// SPDX-License-Identifier: MIT
//
// z3fold against the naive rule - ten million random operations, each with its exact outcome (support/duel.hpp).
//
// The model knows pages as three places and two stamps (when it was listed, when it was used), knows
// which pages wait for compaction, and finds every answer by looking at all of them. It shares no
// code with the library. The pool must agree with it before and after compaction moved objects. The
// thread keeps to one CPU, since an allocation looks at the pages of its own first.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/zpool.hpp>
#include <tuple>
#include <vector>

#include "support/duel.hpp"
#include "support/percpu_memory.hpp"

namespace mmkit {
namespace {

using testing::chunks_of;
using testing::kChunk;
using testing::kNone;

// The rule over plain arrays: pages by the number that the pool gives them, lists as stamps.
class Z3foldRule : public testing::LiveObjects {
 public:
  static constexpr const char* kType = "z3fold";
  static constexpr std::size_t kMaxObject = kPageSize;
  static constexpr bool kCompacts = true;
  using Place = int;  // the page's number; kNone: a new one

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

  Z3foldRule(unsigned retries, std::size_t limit_pages) : retries_(retries), limit_(limit_pages) {
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
    const int id = add_object(handle, size_bytes, key);
    Page& in = page_[page];
    const Buddy buddy =
        is_whole_size(size_bytes) ? kFirst : choose_buddy(in, chunks_of(size_bytes));
    put(page, buddy, id);
    in.listed = ++clock_;
    in.used = clock_;
    return id;
  }

  void remove(int id) {
    const int at = page_of(id);
    Page& page = page_[at];
    page.object[buddy_of_object(id)] = kNone;
    page.listed = ++clock_;
    remove_object(id);
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
  bool holds_page(const std::byte* data) const {
    for (const Page& page : page_) {
      if (page.data == data) return true;
    }
    return false;
  }
  std::byte* data_of(int page) const { return page == kNone ? nullptr : page_[page].data; }
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
  std::size_t pages() const { return pages_; }

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
      if (!is_any_pinned(page.object)) {
        ++tries;
        evict_objects({page.object[kMiddle], page.object[kFirst], page.object[kLast]}, replay);
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

  unsigned retries_;
  std::size_t limit_, pages_ = 0;
  std::uint64_t clock_ = 0;
  bool compacting_ = false;
  Page page_[kMostPages];
  std::vector<int> closed_, queue_;
};

TEST(Z3foldModel, AgreesWithTheNaiveRuleInEveryOperation) {
  const testing::PinnedThread pinned;
  constexpr unsigned kMost = Z3foldRule::kMaxObject;
  testing::run_duels<Z3foldRule>({{1, kMost},
                                  {1, 600},
                                  {1500, 2500},
                                  {1900, kMost},
                                  {3800, kMost},
                                  {1, 130},
                                  {1000, 1500},
                                  {600, 2200}});
}

}  // namespace
}  // namespace mmkit
