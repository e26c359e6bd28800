// SPDX-License-Identifier: MIT
//
// What searches cost, in words looked at: these are the same on every machine.
//
// A search may be misled, but each disappointment is paid by a raise: so over a trace the words are
// at most C x operations x log2 of the granules. C is printed.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/captured_failure.hpp"

namespace mmkit {
namespace {

constexpr std::uint32_t kFree = std::uint32_t{1} << 31;

// The operations of bench/data/genpool/<name>.gpt; the format is described there.
std::vector<std::uint32_t> operations_of(const std::string& name) {
  std::string path = MMKIT_DATA_DIR;
  path.append("/genpool/").append(name).append(".gpt");
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() < 16 || std::memcmp(bytes.data(), "GPT1", 4) != 0) return {};
  std::vector<std::uint32_t> words(bytes.size() / 4);
  std::memcpy(words.data(), bytes.data(), words.size() * 4);
  words.erase(words.begin(), words.begin() + 4);
  return words;
}

std::size_t heap_for(const std::vector<std::uint32_t>& operations, unsigned order) {
  std::vector<std::size_t> sizes;
  std::size_t used = 0, peak = 0;
  for (const std::uint32_t operation : operations) {
    if ((operation & kFree) != 0) {
      used -= sizes[operation & ~kFree];
      continue;
    }
    sizes.push_back((operation + (std::size_t{1} << order) - 1) >> order << order);
    used += sizes.back();
    if (used > peak) peak = used;
  }
  return (peak + peak / 4) >> order << order;
}

GenPoolStats replay(const std::vector<std::uint32_t>& operations, GenPool& pool) {
  struct Block {
    std::uintptr_t start;
    std::size_t size_bytes;
    bool live;
  };
  std::vector<Block> blocks;
  for (const std::uint32_t operation : operations) {
    if ((operation & kFree) == 0) {
      const auto place = pool.allocate(operation);
      blocks.push_back({place ? *place : 0, operation, place.has_value()});
      continue;
    }
    Block& block = blocks[operation & ~kFree];
    if (block.live) pool.free(block.start, block.size_bytes);
    block.live = false;
  }
  const GenPoolStats stats = pool.stats();
  for (const Block& block : blocks) {
    if (block.live) pool.free(block.start, block.size_bytes);
  }
  return stats;
}

TEST(GenPoolCost, ATraceTouchesFewWordsAnOperation) {
  for (const char* const name : {"sqlite", "python_json", "cc1plus", "gpu_frames_synth"}) {
    const std::vector<std::uint32_t> operations = operations_of(name);
    ASSERT_GT(operations.size(), 50'000u) << name;
    const unsigned order = std::strncmp(name, "gpu", 3) == 0 ? 8 : 4;
    const std::size_t bytes = heap_for(operations, order);
    for (const bool best : {false, true}) {
      const Fit fit = best ? Fit(BestFit{}) : Fit(FirstFit{});
      const auto pool = GenPool::create({.min_alloc_order = order, .fit = fit}).value();
      ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = bytes}));
      const GenPoolStats stats = replay(operations, *pool);
      const double words =
          static_cast<double>(stats.words_touched) / static_cast<double>(operations.size());
      const double c = words / std::log2(static_cast<double>(bytes >> order));
      std::printf("%s, %s fit: %.1f words an operation, C = %.2f, at most %llu in one\n", name,
                  best ? "best" : "first", words, c,
                  static_cast<unsigned long long>(stats.most_words_touched));
      EXPECT_LT(c, 2.5) << name;
      EXPECT_EQ(pool->available_bytes(), bytes);
    }
  }
}

// Thousands of free runs of nearly one length: a search by classes of lengths would look at all.
TEST(GenPoolCost, BestFitAmongThousandsOfLongRunsLooksAtFew) {
  constexpr std::size_t kGranules = std::size_t{1} << 23;
  for (const auto& [low, high] : {std::pair<std::size_t, std::size_t>{600, 800}, {600, 6000}}) {
    std::mt19937_64 random(low + high);
    const auto size = [&, least = low, most = high] {
      return least + random() % (most - least + 1);
    };
    const auto pool = GenPool::create({.fit = BestFit{}}).value();
    ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules}));
    std::vector<std::pair<std::uintptr_t, std::size_t>> live;
    while (true) {
      const std::size_t bytes = size();
      const auto place = pool->allocate(bytes);
      if (!place) break;
      live.emplace_back(*place, bytes);
    }
    for (std::size_t i = 0; i < live.size(); i += 2) pool->free(live[i].first, live[i].second);
    for (std::size_t i = 0; 2 * i + 1 < live.size(); ++i) live[i] = live[2 * i + 1];
    live.resize(live.size() / 2);
    const std::uint64_t before = pool->stats().words_touched;
    constexpr int kRounds = 5000;
    for (int i = 0; i < kRounds; ++i) {
      const std::size_t bytes = size();
      const auto place = pool->allocate(bytes);
      if (place) live.emplace_back(*place, bytes);
      std::swap(live[random() % live.size()], live.back());
      pool->free(live.back().first, live.back().second);
      live.pop_back();
    }
    const GenPoolStats stats = pool->stats();
    const double words =
        static_cast<double>(stats.words_touched - before) / static_cast<double>(2 * kRounds);
    std::printf("runs of %zu to %zu: %.0f words an operation, at most %llu in one\n", low, high,
                words, static_cast<unsigned long long>(stats.most_words_touched));
    EXPECT_LT(words, 1000);
    EXPECT_TRUE(pool->validate());
    for (const auto& [start, bytes] : live) pool->free(start, bytes);
  }
}

// Fixed allocations take what hints still promise: each such hint misleads one search.
TEST(GenPoolCost, HintsMadeStaleByFixedAllocationsMisleadOnce) {
  constexpr std::size_t kGranules = std::size_t{1} << 22, kStride = 512;
  for (const bool best : {false, true}) {
    const testing::CapturedLeaks leaks;
    const Fit fit = best ? Fit(BestFit{}) : Fit(FirstFit{});
    const auto pool = GenPool::create({.fit = fit}).value();
    ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules}));
    ASSERT_TRUE(pool->allocate(kGranules));
    for (std::size_t at = 0; at < kGranules; at += kStride) pool->free(at + 100, 20);
    for (std::size_t at = 0; at < kGranules; at += kStride) {
      ASSERT_TRUE(pool->allocate_at(at + 110, 1));
    }
    const std::uint64_t before = pool->stats().words_touched;
    EXPECT_EQ(pool->allocate(20).error(), Errc::no_space);
    const std::uint64_t first = pool->stats().words_touched;
    for (int i = 0; i < 100; ++i) EXPECT_EQ(pool->allocate(20).error(), Errc::no_space);
    const std::uint64_t more = pool->stats().words_touched - first;
    std::printf("%s fit: %llu words for %zu stale hints, then %llu a search\n",
                best ? "best" : "first", static_cast<unsigned long long>(first - before),
                kGranules / kStride, static_cast<unsigned long long>(more / 100));
    EXPECT_LT(first - before, kGranules / kStride * 40);
    EXPECT_LT(more, 100u * 64);
  }
}

// The first best fit of a pool that was made for first fit looks into each leaf, the next does not.
TEST(GenPoolCost, AnIndexThatComesToLifeLooksAtEachLeafOnce) {
  constexpr std::size_t kGranules = std::size_t{1} << 20;
  const testing::CapturedLeaks leaks;
  const auto pool = GenPool::create().value();
  ASSERT_TRUE(pool->add_chunk({.start = 0, .size_bytes = kGranules}));
  std::vector<std::uintptr_t> places;
  while (const auto place = pool->allocate(300)) places.push_back(*place);
  for (std::size_t i = 0; i < places.size(); i += 2) pool->free(places[i], 300);
  const std::uint64_t before = pool->stats().words_touched;
  ASSERT_EQ(pool->allocate(200, BestFit{}).value(), 0u);
  const std::uint64_t first = pool->stats().words_touched;
  EXPECT_GT(first - before, kGranules / 512);
  EXPECT_LT(first - before, kGranules / 512 * 40);
  ASSERT_TRUE(pool->allocate(200, BestFit{}));
  EXPECT_LT(pool->stats().words_touched - first, 1000u);
  EXPECT_TRUE(pool->validate());
}

}  // namespace
}  // namespace mmkit
