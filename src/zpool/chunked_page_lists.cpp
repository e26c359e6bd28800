// SPDX-License-Identifier: MIT
#include <mmkit/zpool/chunked_page_lists.hpp>

#include <algorithm>

namespace mmkit {

PageIndex RoomLists::best_besides(const ChunkedPageTable& pages, unsigned chunks,
                                  PageIndex not_this) noexcept {
  unsigned best_room = kRooms;
  PageIndex best = kNoPage;
  for (unsigned cpu = 0; cpu < cpu_end_; ++cpu) {
    const Cpu& own = cpus_.on(cpu);
    const std::uint64_t mask = own.lists[kShared].mask | own.lists[kLone].mask;
    for (std::uint64_t rooms = mask & ~low_bits(chunks); rooms != 0; rooms &= rooms - 1) {
      const auto room = static_cast<unsigned>(std::countr_zero(rooms));
      if (room > best_room) break;
      PageIndex found = own.youngest(room);
      if (found == not_this) found = pages[not_this].fit.next;  // no other kind has this room
      if (found == kNoPage) continue;
      const bool is_better = room < best_room || !pages[found].is_lone();
      if (is_better && (room < best_room || pages[best].is_lone())) best = found;
      best_room = room;
      break;
    }
  }
  return best;
}

// By room: an object leaves no more of its page than the chunks that it does not have.
PageIndex RoomLists::lone_of_at_most(const ChunkedPageTable& pages, unsigned chunks,
                                     PageIndex not_this) noexcept {
  const unsigned least_room = ChunkedPage::kUsableChunks - chunks;
  for (unsigned cpu = 0; cpu < cpu_end_; ++cpu) {
    const List& lone = cpus_.on(cpu).lists[kLone];
    for (std::uint64_t rooms = lone.mask & ~low_bits(least_room); rooms != 0; rooms &= rooms - 1) {
      PageIndex found = lone.first[std::countr_zero(rooms)] - 1;
      if (found == not_this) found = pages[not_this].fit.next;
      if (found != kNoPage) return found;
    }
  }
  return kNoPage;
}

// Largest objects first, each into the page with the least room that is enough: of those one with two
// objects, which then has three and no room, else one with another lone object, which may have room for
// a second of this size and then is the next to take it.
std::size_t RoomLists::Census::movable_pages() const noexcept {
  Census left = *this;
  std::size_t movable = 0;
  for (unsigned chunks = ChunkedPage::kMaxChunks; chunks != 0; --chunks) {
    std::uint32_t& objects = left.lone[chunks];
    for (unsigned room = chunks; room < kRooms && objects != 0; ++room) {
      const std::uint32_t into_shared = std::min(objects, left.shared[room]);
      left.shared[room] -= into_shared;
      objects -= into_shared;
      movable += into_shared;
      // Pages with a lone object that leaves this room. It may be of this size, and stays.
      const unsigned host_chunks = ChunkedPage::kUsableChunks - room;
      std::uint32_t& hosts = left.lone[host_chunks];
      const unsigned rest = room - chunks;
      const std::uint32_t places = rest >= chunks ? 2 : 1;
      const bool is_among_them = host_chunks == chunks;
      const std::uint32_t filled =
          is_among_them ? objects / (places + 1) : std::min(objects / places, hosts);
      objects -= filled * places;
      hosts -= filled;
      movable += std::size_t{filled} * places;
      if (places == 1) {
        left.shared[rest] += filled;
      } else if (objects == (is_among_them ? 2u : 1u) && hosts != 0) {
        objects = is_among_them ? 0 : objects - 1;
        if (!is_among_them) --hosts;
        ++left.shared[rest];
        ++movable;
      }
    }
  }
  return movable;
}

bool RoomLists::validate(const ChunkedPageTable& pages, std::size_t expected) const noexcept {
  std::size_t listed = 0, lone_pages = 0;
  Census found;
  const auto check_list = [&](unsigned cpu, Kind kind, unsigned room, PageIndex first) {
    PageIndex before = kListBit | cpu << kListBits | kind << kRoomBits | room;
    for (PageIndex at = first; at != kNoPage; at = pages[at].fit.next) {
      if (listed++ == expected || at >= pages.size()) return false;
      const ChunkedPage& page = pages[at];
      if (!page.is_open() || page.is_whole() || page.is_evicted != 0) return false;
      if (page.fit.prev != before || page.free_chunks() != room) return false;
      if (page.is_lone() != (kind == kLone)) return false;
      ++(kind == kLone ? found.lone[page.chunks(page.lone_buddy())]
                       : found.shared[page.free_chunks_when_slid()]);
      lone_pages += kind;
      before = at;
    }
    return true;
  };
  bool sound = true;
  cpus_.for_each_open([&](unsigned cpu, const Cpu& own) {
    for (const Kind kind : {kShared, kLone}) {
      const List& lists = own.lists[kind];
      for (unsigned room = 0; room < kRooms && sound; ++room) {
        const bool any = lists.first[room] != 0;
        sound = any == ((lists.mask >> room & 1) != 0);
        if (!any || !sound) continue;
        sound = cpu < cpu_end_ && check_list(cpu, kind, room, lists.first[room] - 1);
      }
    }
  });
  return sound && listed == expected && found == census_ && lone_pages == lone_pages_;
}

}  // namespace mmkit
