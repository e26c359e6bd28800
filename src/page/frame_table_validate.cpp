// SPDX-License-Identifier: MIT
//
// The walk over a FrameTable that tests its invariants, by the numbers of frame_table.hpp.
#include <initializer_list>

#include "page/frame_table.hpp"

namespace mmkit::page_detail {
namespace {

// Frames of [begin, end) that are marked in both maps.
std::size_t count_both(const std::uint64_t* a, const std::uint64_t* b, std::size_t begin,
                       std::size_t end) noexcept {
  std::size_t count = 0;
  for (std::size_t at = bitmap::next_set(b, begin, end); at < end;
       at = bitmap::next_set(b, at + 1, end)) {
    if (bitmap::test(a, at)) ++count;
  }
  return count;
}

constexpr Status verdict(bool holds) noexcept {
  return holds ? Status() : Status(fail(Errc::bad_format));
}

}  // namespace

Status FrameTable::validate() const noexcept {
  for (unsigned i = 0; i < node_count_; ++i) {
    const FrameNode& node = nodes_[i];
    for (const Status& status : {validate_node(node), validate_runs(node), validate_lists(node)}) {
      if (!status) return status;
    }
  }
  if (const Status status = validate_age(); !status) return status;
  return validate_counts();
}

// Invariants 1, 2 and 7.
Status FrameTable::validate_node(const FrameNode& node) const noexcept {
  if (node.high < node.begin || node.high > node.end) return verdict(false);
  for (std::size_t at = node.begin; at < node.high; ++at) {
    const bool held = bitmap::test(held_, at);
    const bool retained = bitmap::test(retained_, at);
    if (held && retained) return verdict(false);
    if ((held || retained) && !bitmap::test(taken_, at)) return verdict(false);
  }
  for (const std::uint64_t* const map : {taken_, held_, retained_, start_}) {
    if (bitmap::next_set(map, node.high, node.end) != node.end) return verdict(false);
  }
  for (std::size_t i = 0; i < FreeHints::kClasses; ++i) {
    const FrameIndex hint = node.hints.get(i);
    if (hint < node.begin || hint > node.end) return verdict(false);
    // A run that begins below the hint ends below hint + its length.
    const std::size_t floor = FreeHints::floor_of(i);
    const std::size_t end = node.end - hint < floor - 1 ? node.end : hint + floor - 1;
    if (bitmap::find_clear_run(taken_, node.begin, end, floor) < end) return verdict(false);
  }
  return {};
}

// Invariant 3, and of 4 the length.
Status FrameTable::validate_runs(const FrameNode& node) const noexcept {
  std::size_t at = node.begin;
  while (at < node.high) {
    const bool held = bitmap::test(held_, at);
    if (!held && !bitmap::test(retained_, at)) {
      if (bitmap::test(start_, at)) return verdict(false);
      ++at;
      continue;
    }
    if (!bitmap::test(start_, at)) return verdict(false);
    const std::uint64_t* const map = held ? held_ : retained_;
    const std::size_t next_start = bitmap::next_set(start_, at + 1, node.high);
    const std::size_t end = bitmap::next_clear(map, at, next_start);
    if (!held && links_[at].pages != end - at) return verdict(false);
    at = end;
  }
  return {};
}

// Invariant 4. No run can be in two lists: it has one prev, and a head has none.
Status FrameTable::validate_lists(const FrameNode& node) const noexcept {
  std::size_t runs = 0;
  for (std::size_t list = 0; list < RunsByLength::kLists; ++list) {
    const FrameIndex head = node.retained.head(list);
    if (list < RunsByLength::kExactLengths &&
        (node.retained.lengths() >> list & 1) != (head != kNoFrame ? 1u : 0u)) {
      return verdict(false);
    }
    FrameIndex before = kNoFrame;
    for (FrameIndex run = head; run != kNoFrame; before = run, run = links_[run].next) {
      if (run < node.begin || run >= node.high || links_[run].prev != before) return verdict(false);
      if (!bitmap::test(retained_, run) || !bitmap::test(start_, run)) return verdict(false);
      if (RunsByLength::list_of(links_[run].pages) != list) return verdict(false);
      if (++runs > node.high - node.begin) return verdict(false);
    }
  }
  return verdict(runs == count_both(retained_, start_, node.begin, node.high));
}

// Invariant 5: as many as are marked, each marked, and no ring.
Status FrameTable::validate_age() const noexcept {
  std::size_t pages = 0;
  FrameIndex before = kNoFrame;
  for (FrameIndex run = by_age_.oldest(); run != kNoFrame; run = links_[run].newer) {
    if (run >= frames() || links_[run].older != before) return verdict(false);
    if (!bitmap::test(retained_, run) || !bitmap::test(start_, run)) return verdict(false);
    pages += links_[run].pages;
    if (pages > counts_.retained_pages) return verdict(false);
    before = run;
  }
  return verdict(pages == counts_.retained_pages && before == by_age_.newest());
}

// Invariant 6.
Status FrameTable::validate_counts() const noexcept {
  std::size_t held = 0;
  std::size_t held_runs = 0;
  for (unsigned i = 0; i < node_count_; ++i) {
    const FrameNode& node = nodes_[i];
    const std::size_t here = bitmap::count_set(held_, node.begin, node.end - node.begin);
    if (here != node.held) return verdict(false);
    held += here;
    held_runs += count_both(held_, start_, node.begin, node.high);
  }
  const std::size_t retained = bitmap::count_set(retained_, 0, frames());
  const std::size_t taken = bitmap::count_set(taken_, 0, frames());
  return verdict(held == counts_.held_pages && retained == counts_.retained_pages &&
                 taken == held + retained + counts_.departing_pages && counts_.peak_pages >= held &&
                 counts_.allocations - counts_.frees == held_runs);
}

}  // namespace mmkit::page_detail
