// SPDX-License-Identifier: MIT
//
// Every page and every piece of metadata that a pool asks for is denied in turn, once and for ever.
//
// A scenario is a list of steps. It runs once without failures, and then for each n with the n-th
// allocation failing: a step that fails must say out_of_memory, leave everything as it was but the
// count of failures, and succeed when it is repeated; at the end every object must be where it is
// without failures, and after that nothing may be left of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/testing/failing_page_source.hpp>
#include <mmkit/zpool.hpp>
#include <mmkit/zpool/zbud.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fault/zpool_failing_heap.hpp"
#include "support/driver_variants.hpp"
#include "support/pattern.hpp"
#include "support/percpu_threads.hpp"

namespace mmkit {
namespace {

using testing::FailingHeap;

enum class Denied { nothing, pages, metadata };
enum class HowOften { once, for_ever };

// Denies the n-th allocation of a kind.
class Denial {
 public:
  Denial(FailingPageSource& pages, Denied what) : pages_(pages), what_(what) {}
  void begin(std::uint64_t n, HowOften how) {
    const bool once = how == HowOften::once;
    if (what_ == Denied::pages) {
      pages_.fail_nth(n,
                      once ? FailingPageSource::Repeat::once : FailingPageSource::Repeat::for_ever);
    } else if (what_ == Denied::metadata) {
      FailingHeap::fail_nth(n, once ? FailingHeap::Failing::once : FailingHeap::Failing::for_ever);
    }
  }
  void end() {
    pages_.succeed();
    FailingHeap::succeed();
  }
  std::uint64_t failed() const {
    if (what_ == Denied::nothing) return 0;
    return what_ == Denied::pages ? pages_.failed_calls() : FailingHeap::failed();
  }

 private:
  FailingPageSource& pages_;
  const Denied what_;
};

// What the steps of a scenario work on. Nothing here allocates while something may be denied.
struct Bench {
  static constexpr std::size_t kMost = 2400;

  explicit Bench(PageSource& source) : pages(source) {
    handles.reserve(kMost);
    mappings.reserve(kMost);
  }

  void remember(Handle handle, std::size_t size_bytes) {
    handles.push_back(handle);
    sizes[handles.size() - 1] = size_bytes;
  }
  Status store(std::size_t size_bytes, Gfp gfp = Gfp::kernel) {
    std::byte object[kPageSize];
    const std::span<std::byte> bytes(object, size_bytes);
    testing::write_pattern(bytes, handles.size());
    const Result<Handle> handle = pool->store(bytes, gfp);
    if (!handle) return fail(handle.error());
    remember(*handle, size_bytes);
    return {};
  }
  Status allocate(std::size_t size_bytes, Gfp gfp = Gfp::kernel) {
    const Result<Handle> handle = pool->allocate(size_bytes, gfp);
    if (!handle) return fail(handle.error());
    Mapping mapping = pool->map(*handle);
    testing::write_pattern(mapping.bytes().first(size_bytes), handles.size());
    remember(*handle, size_bytes);
    return {};
  }
  // Where everything lies, pages numbered as they come; every live object must be whole.
  std::vector<std::uint64_t> layout() {
    std::vector<std::uint64_t> places;
    std::unordered_map<std::uintptr_t, std::uint64_t> numbers;
    if (pool == nullptr) return places;
    for (std::size_t i = 0; i < handles.size(); ++i) {
      const Result<Mapping> mapping = pool->try_map(handles[i], MapMode::read_only);
      if (!mapping) {
        places.push_back(0);
        continue;
      }
      EXPECT_TRUE(testing::has_pattern(mapping->const_bytes().first(sizes[i]), i));
      const auto address = reinterpret_cast<std::uintptr_t>(mapping->const_bytes().data());
      const std::uint64_t number =
          numbers.emplace(address / kPageSize, numbers.size() + 1).first->second;
      places.push_back(number * kPageSize + address % kPageSize);
    }
    return places;
  }

  FailingPageSource pages;
  DriverRegistry registry;
  std::unique_ptr<Zpool> pool;
  std::vector<Handle> handles;
  std::size_t sizes[kMost] = {};
  std::vector<Mapping> mappings;  // end before the pool
  std::size_t evictions = 0;
};

struct Step {
  std::function<Status(Bench&)> run;
  // Whether a failed step may have evicted: all else stays.
  bool may_evict = false;
  // Whether what it evicted may have been stored again by the callback.
  bool may_store = false;
  // Allocations that may fail inside a failed step.
  std::uint64_t most_failures = 1;
};

struct Scenario {
  std::function<void(Bench&)> prepare;
  std::vector<Step> steps;
};

struct Outcome {
  std::vector<std::uint64_t> layout;
  std::uint64_t denied = 0;
  std::uint64_t failed_steps = 0;
};

class ZpoolFault : public ::testing::TestWithParam<testing::DriverVariant> {
 protected:
  // Runs a scenario with the n-th allocation denied.
  Outcome run(const Scenario& scenario, Denied what, std::uint64_t n, HowOften how) {
    Outcome outcome;
    Bench bench(*source_);
    scenario.prepare(bench);
    Denial denial(bench.pages, what);
    denial.begin(n, how);
    for (const Step& step : scenario.steps) {
      const std::optional<ZpoolStats> before = stats_of(bench);
      const Status first = step.run(bench);
      if (first) continue;
      ++outcome.failed_steps;
      EXPECT_NE(denial.failed(), 0u) << "a step fails that nothing was denied to";
      EXPECT_EQ(first.error(), Errc::out_of_memory);
      expect_unchanged(bench, before, step);
      if (how == HowOften::for_ever) {
        const Status second = step.run(bench);
        EXPECT_TRUE(!second && second.error() == Errc::out_of_memory);
        denial.end();
      }
      const Status again = step.run(bench);
      EXPECT_TRUE(again) << "the same step, with nothing denied";
      if (!again) break;
    }
    denial.end();
    outcome.denied = denial.failed();
    EXPECT_TRUE(bench.pool == nullptr || bench.pool->validate());
    outcome.layout = bench.layout();
    bench.mappings.clear();
    for (const Handle handle : bench.handles) static_cast<void>(bench.pool->try_free(handle));
    return outcome;
  }

  // All points of failure, as many as there are; returns how many that is.
  std::uint64_t deny_each(const Scenario& scenario, Denied what) {
    const Outcome whole = run(scenario, Denied::nothing, 1, HowOften::once);
    EXPECT_EQ(whole.failed_steps, 0u);
    std::uint64_t points = 0;
    for (const HowOften how : {HowOften::once, HowOften::for_ever}) {
      for (std::uint64_t n = 1;; ++n) {
        const std::size_t blocks = FailingHeap::live_blocks(), bytes = FailingHeap::live_bytes();
        bool denied = false;
        {
          const Outcome outcome = run(scenario, what, n, how);
          denied = outcome.denied != 0;
          if (places_by_page()) {
            EXPECT_EQ(outcome.layout, whole.layout) << "allocation " << n;
          }
        }
        EXPECT_EQ(FailingHeap::live_blocks(), blocks) << "allocation " << n;
        EXPECT_EQ(FailingHeap::live_bytes(), bytes) << "allocation " << n;
        EXPECT_EQ(source_->stats().held_pages, 0u) << "allocation " << n;
        if (HasFailure()) return n;
        if (!denied) break;
        points = n;
      }
    }
    return points;
  }

  // Where each page is asked for by itself a denial changes no place. A driver that asks for runs may
  // get by with a shorter one.
  static bool places_by_page() {
    return default_registry().traits(GetParam().type).value().most_run_pages == 1;
  }
  // A page is asked for by half the objects; a run by a few.
  static std::uint64_t fewest_points() { return places_by_page() ? 20 : 6; }

  Status make_pool(Bench& bench, std::size_t limit_pages = 0, EvictFn evict = {}) {
    ZpoolOptions options;
    options.params = GetParam().params;
    options.pages = &bench.pages;
    options.limit_bytes = limit_pages * kPageSize;
    options.evict = std::move(evict);
    auto pool = Zpool::create(GetParam().type, std::move(options));
    if (!pool) return fail(pool.error());
    bench.pool = *std::move(pool);
    return {};
  }
  std::function<void(Bench&)> with_pool(std::size_t limit_pages = 0, EvictFn evict = {}) {
    return [=, this](Bench& bench) { ASSERT_TRUE(make_pool(bench, limit_pages, evict)); };
  }
  static std::vector<Step> repeat(std::size_t times,
                                  std::function<Status(Bench&, std::size_t)> step) {
    std::vector<Step> steps;
    for (std::size_t i = 0; i < times; ++i) {
      steps.push_back({[step, i](Bench& bench) { return step(bench, i); }});
    }
    return steps;
  }

  // On one CPU: where an object goes may depend on the CPU.
  testing::PinnedThread pinned_;
  std::unique_ptr<SimPageAllocator> source_ =
      SimPageAllocator::create({.capacity_bytes = std::size_t{32} << 20}).value();

 private:
  static std::optional<ZpoolStats> stats_of(const Bench& bench) {
    return bench.pool == nullptr ? std::nullopt : std::optional(bench.pool->stats());
  }
  static void expect_unchanged(const Bench& bench, const std::optional<ZpoolStats>& before,
                               const Step& step) {
    EXPECT_EQ(bench.pool != nullptr, before.has_value());
    if (bench.pool == nullptr || !before) return;
    EXPECT_TRUE(bench.pool->validate());
    const ZpoolStats now = bench.pool->stats();
    if (step.may_store) return;
    const std::uint64_t evicted = now.evicted - before->evicted;
    EXPECT_EQ(now.objects, before->objects - evicted);
    EXPECT_EQ(now.allocations, before->allocations);
    EXPECT_EQ(now.frees, before->frees + evicted);
    EXPECT_LE(now.failures, before->failures + step.most_failures);
    if (step.may_evict) return;
    EXPECT_EQ(evicted, 0u);
    EXPECT_EQ(now.payload_bytes, before->payload_bytes);
    EXPECT_EQ(now.pages, before->pages);
  }
};

// ---------------------------------------------------------------- a pool and its objects

TEST_P(ZpoolFault, CreateLeavesNothingBehind) {
  Scenario scenario{[](Bench&) {}, {}};
  scenario.steps.push_back({[this](Bench& bench) { return make_pool(bench); }});
  EXPECT_GE(deny_each(scenario, Denied::metadata), 3u);
  EXPECT_EQ(deny_each(scenario, Denied::pages), 0u);
}

std::size_t size_of(std::size_t i) {
  constexpr std::size_t kSizes[] = {2016, 1, 3000, 900, 2016, 64, 1500, 3968, 2016, 100};
  return kSizes[i % std::size(kSizes)];
}

TEST_P(ZpoolFault, StoreChangesNothingWhenItFails) {
  const Scenario few{with_pool(),
                     repeat(40, [](Bench& b, std::size_t i) { return b.store(size_of(i)); })};
  EXPECT_GE(deny_each(few, Denied::pages), fewest_points());
  // So many that handles and descriptors are added; zsmalloc's of runs are added one by one.
  const std::size_t objects = GetParam().type == "zsmalloc" ? 300 : 2200;
  const Scenario many{with_pool(), repeat(objects, [](Bench& b, std::size_t i) {
                        return b.store(i % 2 == 0 ? 2000 : 1900);
                      })};
  EXPECT_GE(deny_each(many, Denied::metadata), 3u);
}

TEST_P(ZpoolFault, AllocateChangesNothingWhenItFails) {
  const Scenario scenario{with_pool(), repeat(40, [](Bench& b, std::size_t i) {
                            return b.allocate(size_of(i), i % 2 == 0 ? Gfp::zero : Gfp::kernel);
                          })};
  EXPECT_GE(deny_each(scenario, Denied::pages), fewest_points());
}

// Takes and frees pages so that the page source has some that were touched, then asks for no other.
TEST_P(ZpoolFault, NowaitChangesNothingWhenItFailsAndAsksForNoMetadata) {
  const auto warm = [this](Bench& bench) {
    ASSERT_TRUE(make_pool(bench));
    for (std::size_t i = 0; i < 40; ++i) ASSERT_TRUE(bench.store(3968));
    for (const Handle handle : bench.handles) bench.pool->free(handle);
    bench.handles.clear();
  };
  const Scenario scenario{
      warm, repeat(40, [](Bench& b, std::size_t i) { return b.store(size_of(i), Gfp::nowait); })};
  EXPECT_GE(deny_each(scenario, Denied::pages), fewest_points());
  EXPECT_EQ(deny_each(scenario, Denied::metadata), 0u);
}

// ---------------------------------------------------------------- eviction

TEST_P(ZpoolFault, EvictionAtTheLimitChangesNothingElseWhenPagesAreDenied) {
  const EvictFn evict = [](Zpool& pool, Handle handle) { return pool.try_free(handle); };
  Scenario scenario{with_pool(8, evict),
                    repeat(60, [](Bench& b, std::size_t i) { return b.store(size_of(i)); })};
  for (Step& step : scenario.steps) step.may_evict = true;
  EXPECT_GE(deny_each(scenario, Denied::pages), fewest_points());
  const std::uint64_t points = deny_each(scenario, Denied::metadata);
  if (places_by_page()) {
    EXPECT_EQ(points, 0u);  // what describes pages stays, what describes runs comes with them
  }
}

// The callback stores a smaller copy of what it evicts; when it cannot, it refuses.
TEST_P(ZpoolFault, ShrinkLosesNothingWhenItsCallbackCannotAllocate) {
  Bench* current = nullptr;
  bool refused = false;
  const EvictFn evict = [&](Zpool& pool, Handle handle) -> Status {
    if (Status stored = current->store(2400); !stored) {
      refused = true;
      return stored;
    }
    return pool.try_free(handle);
  };
  Scenario scenario;
  scenario.prepare = [&](Bench& bench) {
    current = &bench;
    ASSERT_TRUE(make_pool(bench, 0, evict));
    for (std::size_t i = 0; i < 30; ++i) ASSERT_TRUE(bench.store(3500));
  };
  const auto shrink = [&](Bench& bench) -> Status {
    refused = false;
    const std::size_t before = bench.pool->total_bytes();
    const ShrinkOutcome done = bench.pool->shrink(1);
    EXPECT_TRUE(bench.pool->validate());
    // A page that stays may be followed by one that goes: then the shrink is a success.
    EXPECT_TRUE(done.status || refused);
    if (done.status) return {};
    EXPECT_EQ(done.status.error(), Errc::try_again);
    EXPECT_EQ(done.reclaimed_pages, 0u);
    if (places_by_page()) {
      EXPECT_EQ(bench.pool->total_bytes(), before);  // else a copy may have needed a run
    }
    return fail(Errc::out_of_memory);
  };
  // The callback is asked for as many pages as a shrink looks at before it gives up.
  for (int i = 0; i < (places_by_page() ? 4 : 8); ++i) {
    // Of the objects that leave together some may be gone before one is refused.
    scenario.steps.push_back({.run = shrink,
                              .may_evict = !places_by_page(),
                              .may_store = !places_by_page(),
                              .most_failures = ZbudPool::kDefaultReclaimRetries});
  }
  const Outcome whole = run(scenario, Denied::nothing, 1, HowOften::once);
  EXPECT_EQ(whole.failed_steps, 0u);
  std::uint64_t failed_steps = 0;
  for (const HowOften how : {HowOften::once, HowOften::for_ever}) {
    for (std::uint64_t n = 1;; ++n) {
      const Outcome outcome = run(scenario, Denied::pages, n, how);
      EXPECT_EQ(source_->stats().held_pages, 0u);
      // Which objects went differs, by the page that was passed over; how many does not, where each
      // page has one.
      if (places_by_page()) {
        EXPECT_EQ(std::count(outcome.layout.begin(), outcome.layout.end(), 0u),
                  std::count(whole.layout.begin(), whole.layout.end(), 0u));
      }
      failed_steps += outcome.failed_steps;
      if (outcome.denied == 0 || HasFailure()) break;
    }
  }
  EXPECT_NE(failed_steps, 0u);
}

// ---------------------------------------------------------------- compaction

// Where there is no memory left is where compaction is called for: it asks for none.
TEST_P(ZpoolFault, CompactAndShrinkAskForNothing) {
  const DriverTraits traits = default_registry().traits(GetParam().type).value();
  const EvictFn evict = [](Zpool& pool, Handle handle) { return pool.try_free(handle); };
  const auto sparse = [this, evict](Bench& bench) {
    ASSERT_TRUE(make_pool(bench, 0, evict));
    for (std::size_t i = 0; i < 300; ++i) ASSERT_TRUE(bench.store(1 + size_of(i) / 2));
    for (std::size_t i = 0; i < bench.handles.size(); ++i) {
      if (i % 3 == 0) continue;
      ASSERT_TRUE(bench.pool->try_free(bench.handles[i]));
    }
  };
  Scenario scenario{sparse, {}};
  if (traits.can_compact) {
    scenario.steps.push_back({[](Bench& bench) -> Status {
      const Result<std::size_t> freed = bench.pool->compact();
      return freed ? Status{} : Status(fail(freed.error()));
    }});
  }
  scenario.steps.push_back(
      {.run = [](Bench& bench) { return bench.pool->shrink(2).status; }, .may_evict = true});
  EXPECT_EQ(deny_each(scenario, Denied::pages), 0u);
  EXPECT_EQ(deny_each(scenario, Denied::metadata), 0u);
}

// ---------------------------------------------------------------- mappings

TEST_P(ZpoolFault, AMappingThatCannotBeCountedIsNotMade) {
  const Scenario scenario{[this](Bench& bench) {
                            ASSERT_TRUE(make_pool(bench));
                            ASSERT_TRUE(bench.store(100));
                          },
                          repeat(130, [](Bench& bench, std::size_t) -> Status {
                            const std::size_t before = bench.mappings.size();
                            Result<Mapping> mapping =
                                bench.pool->try_map(bench.handles[0], MapMode::read_only);
                            if (!mapping) return fail(mapping.error());
                            bench.mappings.push_back(*std::move(mapping));
                            EXPECT_EQ(bench.mappings.size(), before + 1);
                            const Status freed = bench.pool->try_free(bench.handles[0]);
                            EXPECT_TRUE(!freed && freed.error() == Errc::busy);
                            // All of them, at the end: were one counted that is not there, it would stay busy.
                            if (bench.mappings.size() == 130) {
                              bench.mappings.clear();
                              EXPECT_TRUE(bench.pool->try_free(bench.handles[0]));
                            }
                            return {};
                          })};
  // The entry that counts on where the slot ends.
  // Audit builds note each mapping besides, and go without the note.
  EXPECT_EQ(deny_each(scenario, Denied::metadata), MMKIT_CHECK_LEVEL < 2 ? 1u : 131u);
  EXPECT_EQ(deny_each(scenario, Denied::pages), 0u);
}

// Named here and not asked of the default registry, which would register the fork handlers of this
// process before the tests of that begin.
const std::vector<std::string> kTypes = {"zbud", "z3fold", "zsmalloc", "zheap"};
INSTANTIATE_TEST_SUITE_P(Driver, ZpoolFault, ::testing::ValuesIn(testing::variants_of(kTypes)),
                         [](const auto& variant) { return variant.param.name(); });

TEST(ZpoolFaultTypes, AreAllThatThereAre) {
  EXPECT_EQ(testing::registered_types(), kTypes);
}

}  // namespace
}  // namespace mmkit
