// SPDX-License-Identifier: MIT
//
// PercpuAllocator under threads that allocate, write, verify and free across each other, on CPUs
// that change, while others balance, take pages away and bring them back, and walk everything.
//
// Every copy of an object is stamped by its owner when it is handed out and must be zero before and
// untouched until it is freed: one object with two owners shows in either. Objects also change hands
// through a shared table. A fork in the middle finds an allocator that is whole, or (mapped) one that
// it may not use.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/percpu/percpu_allocator.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/child_process.hpp"
#include "support/percpu_threads.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::Crew;
using testing::Wanderer;

constexpr unsigned kWorkers = 6;
constexpr std::size_t kHeld = 100;      // objects a worker has at most
constexpr std::size_t kExchanged = 64;  // places through which objects change hands

// An object and what is written in all of its copies.
struct Object {
  std::byte* p = nullptr;
  std::size_t size_bytes = 0;
  std::uint64_t stamp = 0;
};

class Field {
 public:
  Field(PercpuBacking backing, PageSource* pages) {
    PercpuOptions options;
    options.max_cpus = std::max(4u, possible_cpus());
    options.backing = backing;
    options.pages = pages;
    allocator_ = std::move(PercpuAllocator::create(options)).value();
  }
  ~Field() {
    for (auto& place : exchange_) delete place.load();
  }

  PercpuAllocator& allocator() { return *allocator_; }
  std::uint64_t faults() const { return faults_.load(); }
  std::uint64_t refusals() const { return refusals_.load(); }

  // Stamps the first and the last bytes of each copy: of neighbours these are the closest.
  bool stamp(const Object& object, bool must_be_zero) {
    bool good = true;
    for (unsigned unit = 0; unit < allocator_->units(); ++unit) {
      std::byte* const copy = per_cpu_ptr(PercpuPtr<std::byte>{object.p}, unit);
      for (const std::size_t at : edges(object)) {
        good = good && (!must_be_zero || read(copy + at) == 0);
        write(copy + at, mark(object, unit));
      }
    }
    return good;
  }
  bool has_stamp(const Object& object) {
    for (unsigned unit = 0; unit < allocator_->units(); ++unit) {
      std::byte* const copy = per_cpu_ptr(PercpuPtr<std::byte>{object.p}, unit);
      for (const std::size_t at : edges(object)) {
        if (read(copy + at) != mark(object, unit)) return false;
      }
    }
    return true;
  }

  bool add(std::vector<Object>& mine, std::uint64_t random, std::uint64_t stamp_of) {
    constexpr std::size_t kSizes[] = {8, 64, 16, 40, 4, 100, 200, 700, 1000, 3000, 20'000, 48};
    const Gfp gfp = random % 16 == 0 ? Gfp::nowait : Gfp::kernel;
    Object object;
    object.size_bytes = kSizes[random / 16 % std::size(kSizes)];
    const auto p = allocator_->allocate(object.size_bytes, 4, gfp);
    if (!p) {
      refusals_.fetch_add(1);
      return gfp == Gfp::nowait || fault();
    }
    object.p = p->unit0;
    object.stamp = stamp_of;
    if (!stamp(object, /*must_be_zero=*/true)) return fault();
    mine.push_back(object);
    return true;
  }
  bool drop(std::vector<Object>& mine, std::size_t index) {
    const Object object = mine[index];
    mine[index] = mine.back();
    mine.pop_back();
    if (!has_stamp(object)) return fault();
    if (object.stamp % 2 != 0) {
      allocator_->free({object.p});
      return true;
    }
    return allocator_->try_free({object.p}) ? true : fault();
  }
  // Puts one of ours there, and takes what somebody else put.
  void trade(std::vector<Object>& mine, std::uint64_t random) {
    Object* offered = nullptr;
    if (!mine.empty()) {
      offered = new Object(mine.back());
      mine.pop_back();
    }
    Object* const got = exchange_[random % kExchanged].exchange(offered);
    if (got == nullptr) return;
    mine.push_back(*got);
    delete got;
  }
  void drop_exchanged() {
    std::vector<Object> rest;
    for (auto& place : exchange_) {
      if (Object* const object = place.exchange(nullptr)) {
        rest.push_back(*object);
        delete object;
      }
    }
    while (!rest.empty()) drop(rest, 0);
  }

  // One thread's life.
  void work(unsigned number, std::uint64_t operations) {
    std::mt19937_64 random(testing::test_seed(number));
    Wanderer wanderer(testing::test_seed(100 + number));
    std::vector<Object> mine;
    for (std::uint64_t i = 0; i < operations && faults_ == 0; ++i) {
      const std::uint64_t choice = random();
      if (choice % 1024 == 0) wanderer.move();
      // Swells and ebbs, so that pages and chunks come and go.
      const bool ebb = i / 1500 % 2 != 0;
      if (choice % 8 == 7) {
        trade(mine, choice >> 16);
      } else if (mine.empty() || (choice % 8 < (ebb ? 2u : 5u) && mine.size() < kHeld)) {
        add(mine, choice >> 8, number * operations + i);
      } else {
        drop(mine, (choice >> 8) % mine.size());
      }
    }
    while (!mine.empty()) drop(mine, mine.size() - 1);
  }

  // What a worker of a kernel would do, and what a curious user may.
  void meddle(std::atomic<bool>& stop, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!stop && faults_ == 0) {
      const std::uint64_t choice = random();
      if (choice % 8 == 0) {
        allocator_->balance();
      } else if (choice % 8 == 1) {
        if (!allocator_->validate()) fault();
      } else if (choice % 8 < 5) {
        allocator_->for_each_chunk([&](PercpuChunk& chunk) {
          const std::uint64_t here = random();
          const auto begin = static_cast<unsigned>(here % 16);
          const auto end = begin + static_cast<unsigned>(here / 16 % (17 - begin));
          if (here % 3 == 0) {
            if (!chunk.populate(begin, end)) fault();
          } else if (chunk.depopulate(begin, end) > end - begin) {
            fault();
          }
          if (chunk.free_bytes() > kPercpuUnitBytes) fault();
        });
      } else {
        const PercpuStats stats = allocator_->stats();
        if (stats.populated_pages > 16 * stats.max_chunks) fault();
        std::this_thread::yield();
      }
    }
  }

  bool fault() {
    faults_.fetch_add(1);
    return false;
  }

 private:
  static std::array<std::size_t, 2> edges(const Object& object) {
    return {0, object.size_bytes - 1};
  }
  // Never zero.
  static unsigned char mark(const Object& object, unsigned unit) {
    return static_cast<unsigned char>((object.stamp + unit) | 1);
  }
  // Two owners of one object would race here: it is their stamps that must tell.
  static unsigned char read(const std::byte* at) {
    return __atomic_load_n(reinterpret_cast<const unsigned char*>(at), __ATOMIC_RELAXED);
  }
  static void write(std::byte* at, unsigned char value) {
    __atomic_store_n(reinterpret_cast<unsigned char*>(at), value, __ATOMIC_RELAXED);
  }

  std::unique_ptr<PercpuAllocator> allocator_;
  std::array<std::atomic<Object*>, kExchanged> exchange_{};
  std::atomic<std::uint64_t> faults_{0}, refusals_{0};
};

class PercpuAllocatorStress : public ::testing::TestWithParam<PercpuBacking> {
 protected:
  void SetUp() override {
    if (GetParam() == PercpuBacking::mapped) {
      if (possible_cpus() > 16) GTEST_SKIP() << "a mapped backing has at most 16 units";
      pages_ =
          SimPageAllocator::create({.capacity_bytes = std::size_t{512} << 20, .shareable = true})
              .value();
    }
    field_ = std::make_unique<Field>(GetParam(), pages_.get());
  }
  void TearDown() override {
    field_.reset();
    if (pages_ != nullptr) {
      EXPECT_EQ(pages_->stats().held_pages, 0u);
      EXPECT_TRUE(pages_->validate());
    }
  }
  void expect_nothing_left() {
    field_->drop_exchanged();
    EXPECT_EQ(field_->faults(), 0u);
    PercpuAllocator& allocator = field_->allocator();
    EXPECT_TRUE(allocator.validate());
    allocator.balance();
    EXPECT_TRUE(allocator.validate());
    const PercpuStats stats = allocator.stats();
    EXPECT_EQ(stats.live, 0u);
    EXPECT_EQ(stats.live_bytes, 0u);
    EXPECT_EQ(stats.chunks, 1u);
    EXPECT_EQ(stats.failures, field_->refusals());
  }

  std::unique_ptr<SimPageAllocator> pages_;
  std::unique_ptr<Field> field_;
};

TEST_P(PercpuAllocatorStress, NoObjectHasTwoOwnersWhileEverythingMoves) {
  const std::uint64_t operations = testing::scaled(600'000, 3000) / kWorkers;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> working{kWorkers};
  Crew crew;
  for (unsigned number = 0; number < kWorkers; ++number) {
    crew.add([&, number] {
      field_->work(number, operations);
      if (working.fetch_sub(1) == 1) stop = true;
    });
  }
  crew.add([&] { field_->meddle(stop, testing::test_seed(200)); });
  crew.add([&] { field_->meddle(stop, testing::test_seed(201)); });
  crew.join();
  expect_nothing_left();
}

// Chunks end while they are visited: a visit holds on to its chunk.
TEST_P(PercpuAllocatorStress, AChunkThatIsVisitedStays) {
  const std::uint64_t rounds = testing::scaled(300, 20);
  std::atomic<bool> stop{false};
  PercpuAllocator& allocator = field_->allocator();
  Crew crew;
  crew.add([&] {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      // Four chunks' worth, then none.
      std::vector<PercpuPtr<std::byte>> all;
      for (int i = 0; i < 8; ++i) all.push_back(allocator.allocate(kPercpuMaxBytes, 64).value());
      for (const auto p : all) allocator.free(p);
      allocator.balance();
    }
    stop = true;
  });
  for (int visitor = 0; visitor < 2; ++visitor) {
    crew.add([&] {
      while (!stop) {
        allocator.for_each_chunk([&](PercpuChunk& chunk) {
          for (int i = 0; i < 20; ++i) {
            std::this_thread::yield();
            if (chunk.free_bytes() > kPercpuUnitBytes || chunk.pages() != 16 ||
                chunk.largest_free_bytes() > kPercpuUnitBytes || chunk.reserved()) {
              field_->fault();
            }
          }
          if (!chunk.populate(3, 5)) field_->fault();
        });
      }
    });
  }
  crew.join();
  expect_nothing_left();
}

TEST_P(PercpuAllocatorStress, AForkInTheMiddleFindsItWhole) {
  const std::uint64_t operations = testing::scaled(200'000, 2000) / kWorkers;
  std::atomic<unsigned> working{kWorkers};
  std::atomic<bool> stop{false};
  Crew crew;
  for (unsigned number = 0; number < kWorkers; ++number) {
    crew.add([&, number] {
      field_->work(number, operations);
      if (working.fetch_sub(1) == 1) stop = true;
    });
  }
  crew.add([&] { field_->meddle(stop, testing::test_seed(300)); });
  crew.add([&] {
    do {
      const int code = testing::run_in_child([&] {
        if (GetParam() == PercpuBacking::mapped) {
          field_.release();  // not the child's: only to end it is allowed, and that does nothing
          return 0;
        }
        // In the child one thread is left; what the others had is as it was.
        PercpuAllocator& allocator = field_->allocator();
        if (!allocator.validate()) return 1;
        std::vector<Object> mine;
        for (std::uint64_t i = 0; i < 300; ++i) {
          if (!field_->add(mine, i * 16 + 1, i)) return 2;
        }
        while (!mine.empty()) {
          if (!field_->drop(mine, 0)) return 3;
        }
        allocator.balance();
        if (!allocator.validate()) return 4;
        set_leak_handler([](const FailureReport&) noexcept {});
        field_.reset();
        return 0;
      });
      if (code != 0) {
        ADD_FAILURE() << "child: " << code;
        field_->fault();
      }
    } while (!stop && field_->faults() == 0);
  });
  crew.join();
  expect_nothing_left();
}

// Two frees of one object from two threads, one after the other or at once: never is it given to two
// afterwards, and one of them at least succeeds.
TEST_P(PercpuAllocatorStress, ADoubleFreeInTurnIsRefused) {
  PercpuAllocator& allocator = field_->allocator();
  for (std::uint64_t round = testing::scaled(2000, 100); round != 0; --round) {
    const auto p = allocator.allocate(round % 2 == 0 ? 64 : 5000, 8).value();
    std::atomic<bool> freed{false};
    bool second = true;
    std::thread other([&] {
      while (!freed.load(std::memory_order_acquire)) std::this_thread::yield();
      second = allocator.try_free(p).has_value();
    });
    ASSERT_TRUE(allocator.try_free(p));
    freed.store(true, std::memory_order_release);
    other.join();
    ASSERT_FALSE(second);
  }
  expect_nothing_left();
}

INSTANTIATE_TEST_SUITE_P(Backing, PercpuAllocatorStress,
                         ::testing::Values(PercpuBacking::lazy, PercpuBacking::mapped),
                         [](const auto& one) {
                           return one.param == PercpuBacking::lazy ? "Lazy" : "Mapped";
                         });

}  // namespace
}  // namespace mmkit
