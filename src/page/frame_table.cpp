// SPDX-License-Identifier: MIT
#include "page/frame_table.hpp"

#include <mmkit/base/gfp.hpp>
#include <mmkit/page/page_size.hpp>

namespace mmkit::page_detail {
namespace {

constexpr std::size_t kMaps = 4;

std::size_t map_bytes(std::size_t frames) noexcept {
  return align_up(bitmap::words_for(frames + 1) * sizeof(std::uint64_t), kPageSize);
}

// Commits the pages of [begin, end), without changing a byte.
void commit(void* memory, std::size_t begin, std::size_t end) noexcept {
  volatile std::byte* const bytes = static_cast<std::byte*>(memory);
  for (std::size_t at = begin; at < end; at = align_down(at, kPageSize) + kPageSize) {
    bytes[at] = bytes[at];
  }
}

// Calls f(node) for each node in order, until one gives a place.
template <class F>
Place first_place(FrameNode* nodes, unsigned count, F&& f) noexcept {
  for (unsigned i = 0; i < count; ++i) {
    if (const Place place = f(nodes[i])) return place;
  }
  return {};
}

}  // namespace

std::size_t FrameTable::bytes_for(std::size_t frames) noexcept {
  return kMaps * map_bytes(frames) + align_up(frames * sizeof(FrameLink), kPageSize);
}

FrameTable::FrameTable(std::byte* memory, FrameNode* nodes, unsigned node_count,
                       FrameIndex node_frames) noexcept
    : nodes_(nodes),
      node_count_(node_count),
      node_frames_(node_frames),
      frames_(std::size_t{node_count} * node_frames) {
  const std::size_t bytes = map_bytes(frames());
  // Zero bytes are what both types begin as; nothing is written, so nothing is committed.
  std::uint64_t** const maps[kMaps] = {&taken_, &held_, &retained_, &start_};
  for (std::uint64_t** map : maps) {
    *map = reinterpret_cast<std::uint64_t*>(memory);
    memory += bytes;
  }
  links_ = reinterpret_cast<FrameLink*>(memory);
  for (unsigned i = 0; i < node_count; ++i) {
    FrameNode& node = nodes[i];
    node.begin = i * node_frames;
    node.end = node.begin + node_frames;
    node.high = node.begin;
    node.hints.reset(node.begin);
  }
}

Place FrameTable::place_somewhere(std::size_t pages, std::size_t align, int node) noexcept {
  if (pages > node_frames_) return {};
  if (node != kAnyNode) {
    FrameNode& preferred = nodes_[node];
    if (const Place place = place_retained(preferred, pages, align)) return place;
    if (const Place place = place_fresh(preferred, pages, align)) return place;
  }
  const Place place = first_place(nodes_, node_count_, [&](FrameNode& any) noexcept {
    return place_retained(any, pages, align);
  });
  if (place) return place;
  return first_place(nodes_, node_count_,
                     [&](FrameNode& any) noexcept { return place_fresh(any, pages, align); });
}

Place FrameTable::place_somewhere_resident(std::size_t pages, std::size_t align,
                                           int node) noexcept {
  if (pages > counts_.retained_pages) return {};
  if (node != kAnyNode) {
    FrameNode& preferred = nodes_[node];
    if (const Place place = place_retained(preferred, pages, align)) return place;
    if (const Place place = place_joined(preferred, pages, align)) return place;
  }
  const Place place = first_place(nodes_, node_count_, [&](FrameNode& any) noexcept {
    return place_retained(any, pages, align);
  });
  if (place) return place;
  return first_place(nodes_, node_count_,
                     [&](FrameNode& any) noexcept { return place_joined(any, pages, align); });
}

Place FrameTable::place_any(std::size_t pages, std::size_t align, int node) noexcept {
  if (node != kAnyNode) {
    if (const Place place = place_unheld(nodes_[node], pages, align)) return place;
  }
  return first_place(nodes_, node_count_,
                     [&](FrameNode& any) noexcept { return place_unheld(any, pages, align); });
}

Place FrameTable::place_retained(FrameNode& node, std::size_t pages, std::size_t align) noexcept {
  const RunsByLength::Fit fit = node.retained.find(links_, pages, align);
  if (fit.run == kNoFrame) return {};
  if (fit.run == fit.place && links_[fit.run].pages == pages) {
    take_whole(node, fit.run, links_[fit.run].pages);
    return {fit.run, /*dirty=*/true};
  }
  return {fit.place, carve(node, fit.place, static_cast<FrameIndex>(pages))};
}

Place FrameTable::place_fresh(FrameNode& node, std::size_t pages, std::size_t align) noexcept {
  // First to where a run of the class's shortest length begins: that moves the hint up for good.
  const std::size_t length_class = FreeHints::class_of(pages);
  const std::size_t floor = FreeHints::floor_of(length_class);
  std::size_t first = bitmap::find_clear_run(taken_, node.hints.get(length_class), node.end, floor);
  node.hints.set(length_class, static_cast<FrameIndex>(first));
  if (pages != floor || align != 1) {
    first = bitmap::find_clear_run(taken_, first, node.end, pages, align);
  }
  if (first >= node.end) return {};
  return {static_cast<FrameIndex>(first),
          carve(node, static_cast<FrameIndex>(first), static_cast<FrameIndex>(pages))};
}

Place FrameTable::place_joined(FrameNode& node, std::size_t pages, std::size_t align) noexcept {
  const std::size_t first = bitmap::find_set_run(retained_, node.begin, node.high, pages, align);
  if (first >= node.high) return {};
  return {static_cast<FrameIndex>(first),
          carve(node, static_cast<FrameIndex>(first), static_cast<FrameIndex>(pages))};
}

Place FrameTable::place_unheld(FrameNode& node, std::size_t pages, std::size_t align) noexcept {
  MMKIT_ASSERT(counts_.departing_pages == 0);
  if (pages > node_frames_ - node.held) return {};
  const std::size_t first = bitmap::find_clear_run(held_, node.begin, node.end, pages, align);
  if (first >= node.end) return {};
  return {static_cast<FrameIndex>(first),
          carve(node, static_cast<FrameIndex>(first), static_cast<FrameIndex>(pages))};
}

bool FrameTable::carve(FrameNode& node, FrameIndex first, FrameIndex pages) noexcept {
  const FrameIndex end = first + pages;
  raise_high(node, end);
  std::size_t at = bitmap::next_set(retained_, first, end);
  const bool dirty = at < end;
  while (at < end) {
    const FrameIndex run = static_cast<FrameIndex>(bitmap::last_set(start_, node.begin, at + 1));
    const std::size_t run_end = run + links_[run].pages;
    cut_retained_run(node, run, first, end);
    at = run_end < end ? bitmap::next_set(retained_, run_end, end) : end;
  }
  bitmap::clear_range(retained_, first, pages);
  bitmap::clear_range(start_, first, pages);
  bitmap::set(start_, first);
  bitmap::set_range(taken_, first, pages);
  bitmap::set_range(held_, first, pages);
  count_held(node, pages);
  return dirty;
}

// What sticks out below and above [first, end) stays retained, at the run's age.
void FrameTable::cut_retained_run(FrameNode& node, FrameIndex run, FrameIndex first,
                                  FrameIndex end) noexcept {
  const FrameIndex run_end = run + links_[run].pages;
  FrameIndex left = links_[run].pages;
  node.retained.remove(links_, run, left);
  if (run_end > end) {
    bitmap::set(start_, end);
    node.retained.insert(links_, end, run_end - end);
    by_age_.insert_after(links_, run, end);
    left -= run_end - end;
  }
  if (run < first) {
    node.retained.insert(links_, run, first - run);
    left -= first - run;
  } else {
    by_age_.remove(links_, run);
  }
  counts_.retained_pages -= left;
}

void FrameTable::depart(FrameIndex first, FrameIndex pages) noexcept {
  unhold(node_of(first), first, pages);
  bitmap::clear(start_, first);
  counts_.departing_pages += pages;
}

DepartingRuns FrameTable::collect_oldest(std::size_t keep_pages) noexcept {
  DepartingRuns runs(links_, node_frames_);
  while (counts_.retained_pages > keep_pages) {
    const FrameIndex run = by_age_.oldest();
    const FrameIndex pages = links_[run].pages;
    by_age_.remove(links_, run);
    node_of(run).retained.remove(links_, run, pages);
    bitmap::clear_range(retained_, run, pages);
    bitmap::clear(start_, run);
    counts_.retained_pages -= pages;
    counts_.departing_pages += pages;
    runs.push(run);
  }
  return runs;
}

void FrameTable::settle_free(FrameSpan span) noexcept {
  FrameNode& node = node_of(span.first);
  bitmap::clear_range(taken_, span.first, span.pages);
  node.hints.lower(span.first, node.begin);
  counts_.departing_pages -= span.pages;
}

void FrameTable::settle_retained(FrameSpan span) noexcept {
  counts_.departing_pages -= span.pages;
  bitmap::set(start_, span.first);
  enter_retained(node_of(span.first), span.first, span.pages);
}

// Commits what describes the frames below `end`, so that nobody who uses them meets a page fault
// here later.
void FrameTable::raise_high(FrameNode& node, FrameIndex end) noexcept {
  if (end <= node.high) return;
  for (std::uint64_t* const map : {taken_, held_, retained_, start_}) {
    commit(map, node.high / 8, end / 8 + 1);  // with the bit behind, which kind_of() reads
  }
  commit(links_, node.high * sizeof(FrameLink), end * sizeof(FrameLink));
  node.high = end;
}

std::size_t FrameTable::descriptor_bytes() const noexcept {
  std::size_t bytes = 0;
  for (unsigned i = 0; i < node_count_; ++i) {
    const std::size_t known = nodes_[i].high - nodes_[i].begin;
    bytes += known * sizeof(FrameLink) + kMaps * divide_up<std::size_t>(known, 8);
  }
  return bytes;
}

}  // namespace mmkit::page_detail
