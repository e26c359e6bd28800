// SPDX-License-Identifier: MIT
#include <mmkit/zpool/chunked_page_lists.hpp>

#include <algorithm>

namespace mmkit {

PageIndex RoomLists::best_elsewhere(unsigned chunks) noexcept {
  unsigned best_room = kRooms;
  PageIndex best = kNoPage;
  for (unsigned cpu = 0; cpu < cpu_end_; ++cpu) {
    const Cpu& lists = cpus_.on(cpu);
    const std::uint64_t fitting = lists.mask & ~low_bits(chunks);
    if (fitting == 0) continue;
    const auto room = static_cast<unsigned>(std::countr_zero(fitting));
    if (room >= best_room) continue;
    best_room = room;
    best = lists.first[room] - 1;
  }
  return best;
}

// The largest object first, into the page with the least room that is enough, which may be that of
// another lone object. A page that took one counts no further.
std::size_t RoomLists::Census::movable_pages() const noexcept {
  Census left = *this;
  std::size_t movable = 0;
  for (unsigned chunks = ChunkedPage::kMaxChunks; chunks != 0; --chunks) {
    for (unsigned room = chunks; room < kRooms && left.lone[chunks] != 0; ++room) {
      const std::uint32_t into_shared = std::min(left.lone[chunks], left.shared[room]);
      left.shared[room] -= into_shared;
      left.lone[chunks] -= into_shared;
      movable += into_shared;
      // A page with a lone object of so many chunks has this room, once its MIDDLE is FIRST.
      const unsigned other = ChunkedPage::kUsableChunks - room;
      const std::uint32_t pairs =
          other == chunks ? left.lone[chunks] / 2 : std::min(left.lone[chunks], left.lone[other]);
      left.lone[other] -= pairs;
      left.lone[chunks] -= pairs;
      movable += pairs;
    }
  }
  return movable;
}

bool RoomLists::validate(const ChunkedPageTable& pages, std::size_t expected) const noexcept {
  std::size_t listed = 0;
  Census found;
  bool sound = true;
  const auto check_list = [&](unsigned cpu, unsigned room, PageIndex first) {
    PageIndex before = kListBit | cpu << kRoomBits | room;
    for (PageIndex at = first; at != kNoPage; at = pages[at].fit.next) {
      if (listed++ == expected || at >= pages.size()) return false;
      const ChunkedPage& page = pages[at];
      if (!page.is_open() || page.is_whole() || page.is_evicted != 0) return false;
      if (page.fit.prev != before || page.free_chunks() != room) return false;
      ++(page.is_lone() ? found.lone[page.chunks(page.lone_buddy())] : found.shared[room]);
      before = at;
    }
    return true;
  };
  cpus_.for_each_open([&](unsigned cpu, const Cpu& lists) {
    for (unsigned room = 0; room < kRooms && sound; ++room) {
      const bool any = lists.first[room] != 0;
      if (any != ((lists.mask >> room & 1) != 0) || (any && (room == 0 || cpu >= cpu_end_))) {
        sound = false;
      } else if (any) {
        sound = check_list(cpu, room, lists.first[room] - 1);
      }
    }
  });
  return sound && listed == expected && found == census_;
}

}  // namespace mmkit
