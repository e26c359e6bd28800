// SPDX-License-Identifier: MIT
//
// Lists of chunked pages - by age, and by room on each CPU.
//
//   PageLru    oldest <-> ... <-> youngest
//   RoomLists  CPU 0: pages with two objects: mask, list of those with room for no chunk before
//                     their MIDDLE is slid, for 1, 2, ... 62;            an allocation looks at
//                     pages with a lone object: the same                 its own CPU's first
//              CPU 1: the same
//
// Pages with a lone object have lists of their own, since compaction looks for them: one object away
// from being free. An allocation leaves them alone where another page has as little room.
// A list by room is a head on its CPU and links in the pages. The link of the first page back is the
// number of the list, so that a page may leave without knowing where it was listed.
// Invariants: 1 neighbours name each other  2 bit n of a mask is set if and only if list n has a page
//             3 a page in no list by room has no link back  4 the census agrees with the lists
// Locking:    none: caller serialises. A CPU is where an allocation looks first, and no exclusion.
// Complexity: O(1), but best() O(CPUs) where the own one has no room
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <mmkit/base/bits.hpp>
#include <mmkit/percpu/percpu.hpp>
#include <mmkit/zpool/chunked_page.hpp>
#include <utility>

namespace mmkit {

/// Pages by last use.
class PageLru {
 public:
  PageIndex oldest() const noexcept { return ends_.prev; }

  void add_youngest(ChunkedPageTable& pages, PageIndex index) noexcept {
    pages[index].lru = {kNoPage, ends_.next};
    (ends_.next == kNoPage ? ends_.prev : pages[ends_.next].lru.prev) = index;
    ends_.next = index;
  }
  void add_oldest(ChunkedPageTable& pages, PageIndex index) noexcept {
    pages[index].lru = {ends_.prev, kNoPage};
    (ends_.prev == kNoPage ? ends_.next : pages[ends_.prev].lru.next) = index;
    ends_.prev = index;
  }
  void remove(ChunkedPageTable& pages, PageIndex index) noexcept {
    const PageLinks links = pages[index].lru;
    (links.prev == kNoPage ? ends_.next : pages[links.prev].lru.next) = links.next;
    (links.next == kNoPage ? ends_.prev : pages[links.next].lru.prev) = links.prev;
  }
  void make_youngest(ChunkedPageTable& pages, PageIndex index) noexcept {
    if (ends_.next == index) return;
    remove(pages, index);
    add_youngest(pages, index);
  }
  /// Fetches what remove() of this page will write.
  void prefetch_neighbours(const ChunkedPageTable& pages, PageIndex index) const noexcept {
    const PageLinks links = pages[index].lru;
    if (links.prev != kNoPage) __builtin_prefetch(&pages[links.prev], /*for writing=*/1);
    if (links.next != kNoPage) __builtin_prefetch(&pages[links.next], /*for writing=*/1);
  }

  /// Whether the list is whole and has so many pages. Complexity: O(pages).
  bool validate(const ChunkedPageTable& pages, std::size_t expected) const noexcept {
    std::size_t count = 0;
    PageIndex before = kNoPage;
    for (PageIndex at = ends_.next; at != kNoPage; at = pages[at].lru.next) {
      if (count++ == expected || at >= pages.size() || pages[at].lru.prev != before) return false;
      before = at;
    }
    return count == expected && ends_.prev == before;
  }

 private:
  PageLinks ends_;  // next: the youngest, prev: the oldest
};

/// Pages that may take another object, by how large it may be and by CPU.
class RoomLists {
 public:
  /// Makes empty lists, and gets those of all CPUs that this process runs on ready, so that no later
  /// call meets a page fault there. Errors: out_of_memory. Called with no lock held.
  static Result<RoomLists> create() noexcept {
    Result<Percpu<Cpu>> cpus = Percpu<Cpu>::create();
    if (!cpus) return fail(cpus.error());
    unsigned open = 1;
    cpus->for_each_open([&open](unsigned cpu, const Cpu&) { open = cpu + 1; });
    for (unsigned cpu = 0; cpu < open; ++cpu) cpus->on(cpu) = {};
    return RoomLists(*std::move(cpus), open);
  }

  static bool is_listed(const ChunkedPage& page) noexcept { return page.fit.prev != kNoPage; }

  /// Whether to list it: it has room, or would have when slid. Not of a whole page.
  static bool has_room(const ChunkedPage& page) noexcept {
    return page.objects() < ChunkedPage::kBuddies && page.free_chunks_when_slid() != 0;
  }
  /// Lists a page by its room, on this CPU; not when there is none.
  void add(ChunkedPageTable& pages, PageIndex index) noexcept {
    ChunkedPage& page = pages[index];
    const Rooms rooms = rooms_of(page);
    if (rooms.when_slid == 0) return;
    const unsigned cpu = this_cpu_index();
    if (cpu >= cpu_end_) cpu_end_ = cpu + 1;
    List& lists = cpus_.on(cpu).lists[rooms.kind];
    const PageIndex next = lists.first[rooms.now] - 1;
    page.fit = {kListBit | cpu << kListBits | rooms.kind << kRoomBits | rooms.now, next};
    if (next != kNoPage) pages[next].fit.prev = index;
    lists.first[rooms.now] = index + 1;
    lists.mask |= std::uint64_t{1} << rooms.now;
    ++counted(rooms);
    lone_pages_ += rooms.kind;
  }
  /// Takes a page out of its list, if it is in one: before its objects change.
  void remove(ChunkedPageTable& pages, PageIndex index) noexcept {
    ChunkedPage& page = pages[index];
    if (!is_listed(page)) return;
    const PageLinks links = std::exchange(page.fit, {});
    if (links.next != kNoPage) pages[links.next].fit.prev = links.prev;
    const Rooms rooms = rooms_of(page);
    --counted(rooms);
    lone_pages_ -= rooms.kind;
    if ((links.prev & kListBit) == 0) {
      pages[links.prev].fit.next = links.next;
      return;
    }
    List& lists = cpus_.on((links.prev & ~kListBit) >> kListBits).lists[rooms.kind];
    lists.first[rooms.now] = links.next + 1;
    if (links.next == kNoPage) lists.mask &= ~(std::uint64_t{1} << rooms.now);
  }

  /// The page with the least room that is enough, listed last: on this CPU, else on any; kNoPage when
  /// none has so much.
  PageIndex best(const ChunkedPageTable& pages, unsigned chunks) noexcept {
    const Cpu& own = cpus_.local();
    const std::uint64_t mask = own.lists[kShared].mask | own.lists[kLone].mask;
    if (const std::uint64_t fitting = mask & ~low_bits(chunks); fitting != 0) [[likely]] {
      return own.youngest(static_cast<unsigned>(std::countr_zero(fitting)));
    }
    return best_besides(pages, chunks, kNoPage);
  }
  /// The same, whichever CPU lists it, but not this page, which has a lone object (or kNoPage); of two
  /// with as little room, one with two objects.
  PageIndex best_besides(const ChunkedPageTable& pages, unsigned chunks,
                         PageIndex not_this) noexcept;
  /// A page whose lone object has at most so many chunks, and about as many; not this one.
  PageIndex lone_of_at_most(const ChunkedPageTable& pages, unsigned chunks,
                            PageIndex not_this) noexcept;
  /// The first of the pages with a lone object that this CPU lists with this room; the others follow
  /// by their links. CPUs are those below cpu_end().
  PageIndex first_lone(unsigned cpu, unsigned room) noexcept {
    return cpus_.on(cpu).lists[kLone].first[room] - 1;
  }
  unsigned cpu_end() const noexcept { return cpu_end_; }
  /// How many pages with a lone object are listed.
  std::size_t lone_pages() const noexcept { return lone_pages_; }

  /// Listed pages by number: those with a lone object by its chunks, the others by their room when
  /// MIDDLE was slid.
  struct Census {
    std::uint32_t lone[ChunkedPage::kUsableChunks + 1] = {};
    std::uint32_t shared[ChunkedPage::kUsableChunks + 1] = {};

    /// How many pages compaction would empty, if nothing were mapped: its moves, told from the counts
    /// alone. Complexity: some thousand steps.
    std::size_t movable_pages() const noexcept;
    bool operator==(const Census&) const noexcept = default;
  };
  const Census& census() const noexcept { return census_; }

  std::size_t bytes() const noexcept { return cpu_end_ * sizeof(Cpu); }
  /// Checks all lists, given how many pages should be in them. Complexity: O(pages).
  bool validate(const ChunkedPageTable& pages, std::size_t expected) const noexcept;

 private:
  enum Kind : unsigned { kShared, kLone };
  static constexpr unsigned kRoomBits = 6, kListBits = kRoomBits + 1;
  static constexpr PageIndex kListBit = 0x80000000;
  static constexpr unsigned kRooms = ChunkedPage::kUsableChunks + 1;

  // Zero bytes are empty lists, so that the CPUs that never list a page take no memory.
  struct List {
    std::uint64_t mask;           // bit n: first[n] is one
    std::uint32_t first[kRooms];  // by room: index + 1
  };
  struct Cpu {
    List lists[2];

    PageIndex youngest(unsigned room) const noexcept {
      const PageIndex shared = lists[kShared].first[room];
      return (shared != 0 ? shared : lists[kLone].first[room]) - 1;
    }
  };

  struct Rooms {
    unsigned now, when_slid;
    Kind kind;
  };
  static Rooms rooms_of(const ChunkedPage& page) noexcept {
    const unsigned objects = page.objects();
    if (objects == ChunkedPage::kBuddies) return {0, 0, kShared};
    const unsigned now = page.free_chunks();
    // Without MIDDLE nothing is slid.
    const unsigned when_slid =
        page.holds(ChunkedPage::kMiddle) ? page.free_chunks_when_slid() : now;
    return {now, when_slid, objects == 1 ? kLone : kShared};
  }
  std::uint32_t& counted(const Rooms& rooms) noexcept {
    // A lone object has the chunks that its page, once slid, does not have free.
    return rooms.kind == kLone ? census_.lone[ChunkedPage::kUsableChunks - rooms.when_slid]
                               : census_.shared[rooms.when_slid];
  }
  RoomLists(Percpu<Cpu>&& cpus, unsigned cpu_end) noexcept
      : cpus_(std::move(cpus)), cpu_end_(cpu_end) {}

  Percpu<Cpu> cpus_;
  unsigned cpu_end_;  // CPUs from here on have no lists
  Census census_;
  std::size_t lone_pages_ = 0;
};

}  // namespace mmkit
