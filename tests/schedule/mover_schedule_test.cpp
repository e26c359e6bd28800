// SPDX-License-Identifier: MIT
//
// Objects that are moved while others map, write, free and store them: in interleavings that are chosen
// instead of hoped for. Two or three fibers, up to three preemptions, at any access to memory that
// others change.
//
// Each object has a pattern of its own, which says whose it is and what was written last. A mapping must
// show it, whole, from its beginning to its end, wherever the object went; and at rest the pool is valid,
// and every object is whole. A scenario runs without preemption first, which tells how many steps it
// has, then again and again from the same start with others.
// Load: schedules, times MMKIT_SCALE.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/base/step.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool/zheap.hpp>
#include <mmkit/zpool/zsmalloc.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/fibers.hpp"
#include "support/pattern.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::FiberSchedule;
using testing::has_pattern;
using testing::make_pattern;
using testing::Preemption;
using testing::scaled;
using testing::test_seed;
using testing::write_pattern;

// What makes a pool of three pages or four, of which a compaction can empty one.
template <class Pool>
struct Shape;
template <>
struct Shape<ZheapPool> {
  static constexpr const char* kParams = "floor=0";
  static constexpr std::size_t kPages = 3, kLeastBytes = 300, kSpreadBytes = 300, kLess = 40;
};
// Of one class, three in a page.
template <>
struct Shape<ZsmallocPool> {
  static constexpr const char* kParams = "cache=8 chain_pages=4";
  static constexpr std::size_t kPages = 4, kLeastBytes = 1350, kSpreadBytes = 10, kLess = 4;
};

template <class Pool>
class Scenario {
  using Form = Shape<Pool>;

 public:
  Scenario(PageSource& source, std::uint64_t seed) : random_(seed) {
    pool_ =
        Pool::create({.name = "schedule", .params = Form::kParams, .pages = &source, .pool_tag = 7})
            .value();
    std::vector<Handle> gone;
    while (pool_->total_pages() < Form::kPages) {
      const std::size_t size_bytes = Form::kLeastBytes + random_() % Form::kSpreadBytes;
      if (random_() % 2 == 0) {
        gone.push_back(pool_->allocate(size_bytes, Gfp::kernel).value());
      } else {
        objects_.push_back(make(size_bytes));
      }
    }
    for (const Handle handle : gone) EXPECT_TRUE(pool_->free(handle));
  }
  Scenario(const Scenario&) = delete;
  Scenario& operator=(const Scenario&) = delete;
  ~Scenario() {
    EXPECT_TRUE(pool_->validate());
    for (const Object& object : objects_) {
      EXPECT_TRUE(is_whole(object));
      EXPECT_TRUE(pool_->free(object.handle));
    }
    EXPECT_EQ(pool_->total_pages(), 0u);
  }

  // What a fiber does. Of each object one fiber alone takes care; the mover of none.
  void move() { EXPECT_TRUE(pool_->compact()); }
  void use(unsigned part, unsigned parts) {
    for (std::size_t i = part; i < objects_.size(); i += parts) {
      Object& object = objects_[i];
      switch ((object.key + i) % 4) {
        case 0:  // another in its place
          EXPECT_TRUE(pool_->free(object.handle));
          object = make(object.size_bytes - object.key % Form::kLess);
          break;
        case 1:
          rewrite(object);
          break;
        default:
          EXPECT_TRUE(is_whole(object));
          break;
      }
    }
  }
  void replace_all() {
    for (Object& object : objects_) {
      EXPECT_TRUE(pool_->free(object.handle));
      object = make(object.size_bytes);
    }
  }
  std::uint64_t moved() const { return pool_->stats().moved; }

 private:
  struct Object {
    Handle handle;
    std::size_t size_bytes;
    std::uint64_t key;
  };

  Object make(std::size_t size_bytes) {
    const std::uint64_t key = ++keys_;
    return {pool_->store(make_pattern(size_bytes, key), Gfp::kernel).value(), size_bytes, key};
  }
  bool is_whole(const Object& object) {
    const auto bytes = pool_->map(object.handle, MapMode::read_only);
    if (!bytes || bytes->size() != object.size_bytes) return false;
    bool whole = has_pattern(*bytes, object.key);
    detail::step();
    whole = whole && has_pattern(*bytes, object.key);
    pool_->unmap(object.handle);
    return whole;
  }
  void rewrite(Object& object) {
    const auto bytes = pool_->map(object.handle, MapMode::read_write);
    ASSERT_TRUE(bytes);
    EXPECT_TRUE(has_pattern(*bytes, object.key));
    object.key = ++keys_;
    detail::step();
    write_pattern(*bytes, object.key);
    detail::step();
    EXPECT_TRUE(has_pattern(*bytes, object.key));
    pool_->unmap(object.handle);
  }

  std::mt19937_64 random_;
  std::uint64_t keys_ = 0;
  std::unique_ptr<Pool> pool_;
  std::vector<Object> objects_;
};

template <class Pool>
class MoverSchedule : public ::testing::Test {
 protected:
  // At each step of a mover another replaces every object: whatever was found to be moved is somebody
  // else's by then.
  void explore_replacements(std::uint64_t stream, std::uint64_t scenarios) {
    FiberSchedule fibers(2);
    std::mt19937_64 random(test_seed(stream));
    for (std::uint64_t done = 0; done < scenarios; ++done) {
      const std::uint64_t seed = random();
      std::uint64_t steps = 1;
      for (std::uint64_t at = 1; at <= steps; ++at) {
        Scenario<Pool> scenario(*source_, seed);
        steps = fibers.run({{at, 1}}, [&](unsigned fiber) {
          if (fiber == 0) return scenario.move();
          scenario.replace_all();
        });
        moved_ += scenario.moved();
        ASSERT_FALSE(HasFailure()) << "scenario " << seed << " at " << at;
      }
    }
  }
  // One run; the number of steps that it took. Fiber 0 moves.
  std::uint64_t run_once(FiberSchedule& fibers, unsigned users, std::uint64_t seed,
                         const std::vector<Preemption>& preemptions) {
    Scenario<Pool> scenario(*source_, seed);
    const std::uint64_t steps = fibers.run(preemptions, [&](unsigned fiber) {
      if (fiber == 0) return scenario.move();
      scenario.use(fiber - 1, users);
    });
    moved_ += scenario.moved();
    return steps;
  }
  // Every pair of preemptions, of a grid where there are many: a user is interrupted by the mover, which
  // is interrupted by the user; and the other way round.
  void explore_pairs(std::uint64_t stream, std::uint64_t schedules) {
    FiberSchedule fibers(2);
    std::mt19937_64 random(test_seed(stream));
    for (std::uint64_t done = 0; done < schedules;) {
      const std::uint64_t seed = random();
      const std::uint64_t steps = run_once(fibers, 1, seed, {});
      const std::uint64_t stride = 1 + steps / 60;
      for (std::uint64_t first = 1 + random() % stride; first < steps; first += stride) {
        for (std::uint64_t second = first + 1 + random() % stride; second < steps;
             second += stride, ++done) {
          const unsigned starter = static_cast<unsigned>(random() % 2);
          run_once(fibers, 1, seed, {{1, starter}, {first, 1 - starter}, {second, starter}});
          ASSERT_FALSE(HasFailure())
              << "scenario " << seed << " from " << starter << " at " << first << " and " << second;
        }
      }
    }
  }
  void explore_at_random(std::uint64_t stream, unsigned users, std::uint64_t schedules) {
    FiberSchedule fibers(users + 1);
    std::mt19937_64 random(test_seed(stream));
    constexpr unsigned kSchedulesPerScenario = 40;
    for (std::uint64_t done = 0; done < schedules;) {
      const std::uint64_t seed = random();
      const std::uint64_t steps = run_once(fibers, users, seed, {});
      for (unsigned i = 0; i < kSchedulesPerScenario; ++i, ++done) {
        std::vector<Preemption> preemptions(1 + random() % 4);
        std::string text;
        for (Preemption& at : preemptions) {
          at = {1 + random() % (steps + 1), static_cast<unsigned>(random() % (users + 1))};
        }
        std::sort(preemptions.begin(), preemptions.end(),
                  [](const Preemption& a, const Preemption& b) { return a.step < b.step; });
        for (const Preemption& at : preemptions) {
          text += " at step " + std::to_string(at.step) + " to " + std::to_string(at.fiber);
        }
        run_once(fibers, users, seed, preemptions);
        ASSERT_FALSE(HasFailure()) << "scenario " << seed << text;
      }
    }
  }
  void TearDown() override { EXPECT_NE(moved_, 0u) << "nothing was moved"; }

 private:
  std::unique_ptr<SimPageAllocator> source_ =
      SimPageAllocator::create({.capacity_bytes = std::size_t{1} << 20}).value();
  std::uint64_t moved_ = 0;
};

using ZheapSchedule = MoverSchedule<ZheapPool>;
TEST_F(ZheapSchedule, AMoverAndAUserMeetAtEveryPairOfSteps) {
  explore_pairs(1, scaled(20'000));
}
TEST_F(ZheapSchedule, AMoverAndAUserMeetAnywhere) {
  explore_at_random(2, 1, scaled(20'000));
}
TEST_F(ZheapSchedule, AMoverAndTwoUsersMeetAnywhere) {
  explore_at_random(3, 2, scaled(20'000));
}

TEST_F(ZheapSchedule, AMoverMeetsOneWhoReplacesEverythingAtEachStep) {
  explore_replacements(7, scaled(20, 2));
}

using ZsmallocSchedule = MoverSchedule<ZsmallocPool>;
TEST_F(ZsmallocSchedule, AMoverAndAUserMeetAtEveryPairOfSteps) {
  explore_pairs(4, scaled(20'000));
}
TEST_F(ZsmallocSchedule, AMoverAndAUserMeetAnywhere) {
  explore_at_random(5, 1, scaled(20'000));
}
TEST_F(ZsmallocSchedule, AMoverAndTwoUsersMeetAnywhere) {
  explore_at_random(6, 2, scaled(20'000));
}
TEST_F(ZsmallocSchedule, AMoverMeetsOneWhoReplacesEverythingAtEachStep) {
  explore_replacements(8, scaled(20, 2));
}

}  // namespace
}  // namespace mmkit
