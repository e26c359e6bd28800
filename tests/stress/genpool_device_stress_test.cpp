// SPDX-License-Identifier: MIT
//
// What surrounds pools, under threads: one std::pmr resource and the zeroing forms, whose bytes show
// whether two had them at once; devices that come and go beside lookups.
//
// Load: 40,000 blocks a thread; 3,000 devices; MMKIT_SCALE multiplies both. Under AddressSanitizer a
// range that is poisoned too late or too early is a report of it.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mmkit/genalloc.hpp>
#include <mmkit/genalloc/pool_resource.hpp>
#include <new>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::find_pattern_break;
using testing::scaled;
using testing::test_seed;
using testing::write_pattern;

constexpr unsigned kThreads = 4;
constexpr std::size_t kBytes = std::size_t{1} << 18;

struct Block {
  std::byte* start;
  std::size_t size_bytes, align;
  std::uint64_t key;
};

// A life of random blocks; each holds its pattern until it is freed.
class Worker {
 public:
  Worker(GenPool& pool, unsigned thread)
      : pool_(pool), resource_(pool), random_(test_seed(thread)), thread_(thread) {}
  ~Worker() {
    while (!live_.empty()) drop(0);
  }

  void step() {
    if (live_.size() > 30 || (!live_.empty() && random_() % 2 == 0)) {
      drop(random_() % live_.size());
      return;
    }
    const std::size_t size = 1 + random_() % 1500;
    const bool zeroed = random_() % 4 == 0;
    Block block{nullptr, size, std::size_t{1} << random_() % 9, ++keys_ * kThreads + thread_};
    if (zeroed) {
      const Result<DmaBlock> got = pool_.allocate_zeroed_dma(size, FirstFitAlign{block.align});
      if (!got) return;
      block.start = static_cast<std::byte*>(got->address);
      for (std::size_t i = 0; i < size; ++i) wrong_ += block.start[i] != std::byte{0};
    } else {
      try {
        block.start = static_cast<std::byte*>(resource_.allocate(size, block.align));
      } catch (const std::bad_alloc&) {
        return;
      }
    }
    wrong_ += reinterpret_cast<std::uintptr_t>(block.start) % block.align != 0;
    write_pattern({block.start, size}, block.key);
    live_.push_back(block);
    ++made_;
  }
  /// Bytes and addresses that were not what they must be.
  std::uint64_t wrong() const { return wrong_; }
  std::uint64_t made() const { return made_; }

 private:
  void drop(std::size_t index) {
    const Block block = live_[index];
    live_[index] = live_.back();
    live_.pop_back();
    wrong_ += find_pattern_break({block.start, block.size_bytes}, block.key) != block.size_bytes;
    resource_.deallocate(block.start, block.size_bytes, block.align);
  }

  GenPool& pool_;
  GenPoolResource resource_;
  std::mt19937_64 random_;
  const unsigned thread_;
  std::vector<Block> live_;
  std::uint64_t keys_ = 0, wrong_ = 0, made_ = 0;
};

TEST(GenPoolResourceStress, NoTwoThreadsHaveOneByte) {
  struct alignas(4096) Memory {
    std::byte bytes[kBytes];
  };
  const auto memory = std::make_unique<Memory>();
  const auto pool = GenPool::create({.min_alloc_order = 4, .kind = AddressKind::host}).value();
  // Too little for all at once, so that refusals are part of it.
  ASSERT_TRUE(pool->add_chunk({.start = reinterpret_cast<std::uintptr_t>(memory->bytes),
                               .size_bytes = kBytes / 4,
                               .phys = 0}));
  const std::uint64_t steps = scaled(40'000);
  std::atomic<std::uint64_t> wrong{0}, made{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Worker worker(*pool, t);
      for (std::uint64_t i = 0; i < steps; ++i) worker.step();
      wrong += worker.wrong();
      made += worker.made();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(made, steps / 4);
  EXPECT_EQ(pool->available_bytes(), kBytes / 4);
  EXPECT_TRUE(pool->validate());
}

TEST(DeviceStress, DevicesComeAndGoBesideLookups) {
  constexpr std::uint64_t kStays = 0x1000, kComesAndGoes = 0x2000;
  Device stays("stays");
  GenPool* const staying = stays.create_pool({.name = "s"}).value();
  ASSERT_TRUE(staying->add_chunk({.start = 0, .size_bytes = 16, .phys = kStays}));
  DeviceNode user("user"), steady("steady"), fleeting("fleeting");
  steady.set_reg(kStays);
  fleeting.set_reg(kComesAndGoes);
  ASSERT_TRUE(user.add_phandle("p", steady));
  ASSERT_TRUE(user.add_phandle("p", fleeting));

  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> missed{0}, seen{0};
  std::thread looker([&] {
    while (!over) {
      missed += find_pool_by_phandle(user, "p", 0) != staying;
      // Its device may end at any moment: that there is one may be asked, no more.
      seen += find_pool_by_phandle(user, "p", 1) != nullptr;
    }
  });
  std::vector<std::thread> makers;
  for (unsigned t = 0; t < 2; ++t) {
    makers.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < scaled(1'500); ++i) {
        Device device("device " + std::to_string(t));
        const auto pool = device.create_pool({.name = "x"});
        if (!pool) continue;
        EXPECT_TRUE((*pool)->add_chunk({.start = 0, .size_bytes = 16, .phys = kComesAndGoes}));
        EXPECT_EQ(device.find_pool("x"), *pool);
        EXPECT_NE(find_pool_by_phandle(user, "p", 1), nullptr);
      }
    });
  }
  for (std::thread& maker : makers) maker.join();
  over = true;
  looker.join();
  EXPECT_EQ(missed, 0u);
  EXPECT_EQ(find_pool_by_phandle(user, "p", 1), nullptr);
}

}  // namespace
}  // namespace mmkit
