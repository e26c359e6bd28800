// SPDX-License-Identifier: MIT
//
// zbud against the naive rule - ten million random operations, each with its exact outcome (support/duel.hpp).
//
// The model knows pages as two places and two stamps (when it was listed, when it was used) and
// finds every answer by looking at all of them. It shares no code with the library.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <mmkit/zpool.hpp>
#include <vector>

#include "support/duel.hpp"

namespace mmkit {
namespace {

using testing::chunks_of;
using testing::kChunk;
using testing::kNone;

constexpr unsigned kUsableChunks = 63;

// The kernel's rule over plain vectors.
class ZbudRule : public testing::LiveObjects {
 public:
  static constexpr const char* kType = "zbud";
  static constexpr std::size_t kMaxObject = 62 * kChunk;
  static constexpr bool kCompacts = false;

  struct Page {
    std::byte* data = nullptr;
    int object[2] = {kNone, kNone};  // FIRST, LAST
    std::uint64_t listed = 0;        // stamp of its last listing by free chunks
    std::uint64_t used = 0;          // stamp of the last allocation or touch
    bool in_flight = false;          // being evicted
  };
  // Where an object must go. A null page: into a new one.
  struct Place {
    std::byte* page = nullptr;
    std::size_t offset = 0;
  };

  ZbudRule(unsigned retries, std::size_t limit_pages) : retries_(retries), limit_(limit_pages) {}

  // The page with one object and the fewest free chunks that are enough; of several the one that
  // was listed last.
  Place choose(std::size_t size_bytes) const {
    const unsigned needed = chunks_of(size_bytes);
    const Page* best = nullptr;
    unsigned best_free = 0;
    for (const Page& page : pages_) {
      if (page.in_flight || (page.object[0] != kNone) == (page.object[1] != kNone)) continue;
      const unsigned free = free_chunks(page);
      if (free < needed) continue;
      if (best == nullptr || free < best_free ||
          (free == best_free && page.listed > best->listed)) {
        best = &page;
        best_free = free;
      }
    }
    if (best == nullptr) return {nullptr, kChunk};
    if (best->object[0] == kNone) return {best->data, kChunk};
    return {best->data, kPageSize - needed * kChunk};
  }
  bool full() const { return limit_ != 0 && pages_.size() == limit_; }

  int add(Handle handle, std::byte* address, std::size_t size_bytes, std::uint64_t key,
          Place chosen) {
    std::byte* data = address - chosen.offset;
    if (chosen.page == nullptr) {
      pages_.push_back({});
      pages_.back().data = data;
    }
    const int id = add_object(handle, size_bytes, key);
    Page& page = *page_at(data);
    page.object[chosen.offset == kChunk ? 0 : 1] = id;
    page.listed = ++clock_;
    page.used = clock_;
    return id;
  }

  void remove(int id) {
    Page& page = page_of(id);
    page.object[page.object[0] == id ? 0 : 1] = kNone;
    page.listed = ++clock_;
    if (page.object[0] == kNone && page.object[1] == kNone && !page.in_flight) drop(page);
    remove_object(id);
  }

  void touch(int id) {
    Page& page = page_of(id);
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

  int buddy_of(int id) const {
    const Page& page = page_of(id);
    return page.object[page.object[0] == id ? 1 : 0];
  }
  bool holds_page(const std::byte* data) const { return page_at(data) != nullptr; }
  static std::byte* data_of(Place place) { return place.page; }
  static std::size_t offset_in(Place place, std::size_t) { return place.offset; }
  // Where an object lies.
  std::byte* address_of(int id) const {
    const Page& page = page_of(id);
    if (page.object[0] == id) return page.data + kChunk;
    return page.data + kPageSize - chunks_of(object(id).size_bytes) * kChunk;
  }
  std::size_t pages() const { return pages_.size(); }

 private:
  unsigned free_chunks(const Page& page) const {
    unsigned free = kUsableChunks;
    for (const int id : page.object) {
      if (id != kNone) free -= chunks_of(object(id).size_bytes);
    }
    return free;
  }
  const Page* page_at(const std::byte* data) const {
    for (const Page& page : pages_) {
      if (page.data == data) return &page;
    }
    return nullptr;
  }
  Page* page_at(const std::byte* data) {
    return const_cast<Page*>(static_cast<const ZbudRule*>(this)->page_at(data));
  }
  const Page& page_of(int id) const {
    return *std::find_if(pages_.begin(), pages_.end(), [id](const Page& page) {
      return page.object[0] == id || page.object[1] == id;
    });
  }
  Page& page_of(int id) {
    return const_cast<Page&>(static_cast<const ZbudRule*>(this)->page_of(id));
  }
  void drop(Page& page) {
    page = pages_.back();
    pages_.pop_back();
  }

  template <class Replay>
  Status reclaim(Replay& replay) {
    std::size_t looks = pages_.size();
    for (unsigned tries = 0; tries < retries_; --looks) {
      Page* oldest = nullptr;
      bool others_in_flight = false;
      for (Page& page : pages_) {
        others_in_flight |= page.in_flight;
        if (!page.in_flight && (oldest == nullptr || page.used < oldest->used)) oldest = &page;
      }
      if (oldest == nullptr) {
        return fail(others_in_flight ? Errc::try_again : Errc::invalid_argument);
      }
      if (looks == 0) break;
      std::byte* const data = oldest->data;
      oldest->in_flight = true;
      if (!is_any_pinned(oldest->object)) {
        ++tries;
        evict_objects({oldest->object[0], oldest->object[1]}, replay);
      }
      Page& page = *page_at(data);  // the callback may have made pages: they move
      page.in_flight = false;
      if (page.object[0] == kNone && page.object[1] == kNone) {
        drop(page);
        return {};
      }
      page.listed = ++clock_;
      page.used = clock_;
    }
    return fail(Errc::try_again);
  }

  unsigned retries_;
  std::size_t limit_;
  std::uint64_t clock_ = 0;
  std::vector<Page> pages_;
};

TEST(ZbudModel, AgreesWithTheNaiveRuleInEveryOperation) {
  constexpr unsigned kMost = ZbudRule::kMaxObject;
  testing::run_duels<ZbudRule>({{1, kMost}, {1, 600}, {1500, 2500}, {1900, kMost}, {1, 130}});
}

}  // namespace
}  // namespace mmkit
