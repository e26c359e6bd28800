// SPDX-License-Identifier: MIT
//
// zheap, its blocks and shards: they come as the pool grows, and blocks go as soon as they are empty.
#include <mmkit/zpool/zheap.hpp>

#include <algorithm>
#include <mmkit/base/bits.hpp>
#include <new>

#include "base/probe.hpp"

namespace mmkit {
namespace {

// A block is a quarter of the pool, until that is a whole one: a small pool has small blocks.
constexpr std::size_t kBlocksOfASmallPool = 4;
constexpr std::size_t kPagesPerShard = 16 * HeapBlock::kMostPages;
// A pool that can evict takes blocks shorter than that only as long as it is no larger than this:
// beyond, an eviction makes room for a whole one.
constexpr std::size_t kSmallPoolPages = 64;

constexpr std::size_t pages_for(unsigned granules) noexcept {
  std::size_t pages = 1;
  while (HeapBlock::granules_in(pages) < granules) pages *= 2;
  return pages;
}

}  // namespace

Result<PageRun> ZheapPool::take_run(std::size_t fewest_pages, Gfp gfp) noexcept {
  const std::size_t held = total_pages();
  std::size_t pages = std::clamp(std::size_t{1} << log2_floor(held / kBlocksOfASmallPool + 1),
                                 fewest_pages, std::size_t{HeapBlock::kMostPages});
  while (true) {
    // Zero is for the object, which is cleared later, and not for the whole run.
    Result<PageRun> run = source_.allocate_pages({.pages = pages, .gfp = without(gfp, Gfp::zero)});
    if (run || run.error() != Errc::out_of_memory || pages == fewest_pages) return run;
    if (evict_ && held >= kSmallPoolPages) return run;
    pages /= 2;
  }
}

// A number for pages that nobody knows yet. Gives them back if there is none.
Result<std::uint32_t> ZheapPool::describe(const PageRun& run, bool is_whole, unsigned mine,
                                          Gfp gfp) noexcept {
  const Result<std::uint32_t> number = blocks_.take_number(has(gfp, Gfp::nowait));
  if (!number) {
    source_.free_pages(run);
    return number;
  }
  HeapBlockInfo& info = blocks_[*number];
  info.first_frame = static_cast<std::uint64_t>(run.first);
  info.pages = static_cast<std::uint8_t>(run.pages);
  info.key_shift = static_cast<std::uint8_t>(
      is_whole ? 0 : log2_floor(HeapBlock::kMostPages) - log2_floor(run.pages));
  info.shard.store(static_cast<std::uint8_t>(mine), std::memory_order_relaxed);
  clock_.begin(info.age);
  blocks_.set_data(*number, run.data, is_whole);
  MMKIT_PROBE(zheap_block_open, this, *number, run.pages);
  return number;
}

// A block for a shard that nobody knows yet, with room for one extent at least.
Result<std::uint32_t> ZheapPool::open(unsigned mine, unsigned granules, Gfp gfp) noexcept {
  const Result<PageRun> run = take_run(pages_for(granules), gfp);
  if (!run) return fail(run.error());
  // Touched here, where the caller may wait: whoever gets room in it later may be one who must not
  // meet a page fault.
  for (std::size_t page = 0; page < run->pages; ++page) run->data[page * kPageSize] = std::byte{0};
  const Result<std::uint32_t> number = describe(*run, /*is_whole=*/false, mine, gfp);
  if (number) blocks_.block(*number).format(blocks_[*number].granules());
  return number;
}

// Pages of one object that nobody knows yet.
Result<std::uint32_t> ZheapPool::open_whole(unsigned mine, std::size_t pages, Gfp gfp) noexcept {
  const Result<PageRun> run =
      source_.allocate_pages({.pages = pages, .gfp = without(gfp, Gfp::zero)});
  if (!run) return fail(run.error());
  return describe(*run, /*is_whole=*/true, mine, gfp);
}

// Under the shard's lock, so that who holds them all finds as many pages as are counted.
void ZheapPool::add_whole(HeapShard&, std::uint32_t number, std::uint32_t slot) noexcept {
  HeapBlockInfo& info = blocks_[number];
  info.at = slot;
  info.used = 1;
  info.become(HeapBlockInfo::State::open);
  pages_.fetch_add(info.pages, std::memory_order_relaxed);
}

PageRun ZheapPool::run_of(std::uint32_t number) const noexcept {
  const HeapBlockInfo& info = blocks_[number];
  return {blocks_.data(number), info.pages, Pfn{info.first_frame}};
}

void ZheapPool::close(HeapShard& shard, std::uint32_t number, Closed& closed) noexcept {
  if (shard.victim() == number) emptied_.fetch_add(1, std::memory_order_relaxed);
  shard.remove(number);
  pages_.fetch_sub(blocks_[number].pages, std::memory_order_seq_cst);  // see fit_waiting_to_size()
  closed.push(blocks_, number);
}

void ZheapPool::close_whole(std::uint32_t number, Closed& closed) noexcept {
  blocks_[number].become(HeapBlockInfo::State::none);
  pages_.fetch_sub(blocks_[number].pages, std::memory_order_seq_cst);  // see fit_waiting_to_size()
  closed.push(blocks_, number);
}

// Returns how many pages went.
std::size_t ZheapPool::give_some_pages(Closed& closed) noexcept {
  std::size_t pages = 0;
  for (std::uint32_t number = closed.pop(blocks_); number != kNone; number = closed.pop(blocks_)) {
    const PageRun run = run_of(number);
    MMKIT_PROBE(zheap_block_close, this, number, run.pages);
    blocks_.give_number(number);
    source_.free_pages(run);
    pages += run.pages;
  }
  return pages;
}

// As many as the pool's size is worth. Without memory for one more there are fewer.
void ZheapPool::activate_shards() noexcept {
  const unsigned wanted = static_cast<unsigned>(
      std::clamp<std::size_t>(total_pages() / kPagesPerShard, 1, most_shards_));
  if (active_.load(std::memory_order_relaxed) >= wanted) return;
  // Who holds all shards holds this, so that there is none but those.
  MutexLock lock(evictions_mutex_);
  for (unsigned active = active_.load(std::memory_order_relaxed); active < wanted; ++active) {
    auto* const fresh = new (std::nothrow) HeapShard(blocks_);
    if (fresh == nullptr) return;
    shards_[active].store(fresh, std::memory_order_release);  // pairs with shard()
    active_.store(active + 1, std::memory_order_release);     // pairs with shard_here()
  }
}

}  // namespace mmkit
