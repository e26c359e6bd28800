// SPDX-License-Identifier: MIT
//
// PercpuAllocator beside a naive list of what is live (PercpuScript), with both backings: objects of
// all sizes and alignments come and go, with pages and chunks around them, and copies are written
// through units at both ends and between. A full run is MMKIT_SCALE=33: ten million operations.
#include <gtest/gtest.h>

#include <cstdint>
#include <mmkit/base/cpu.hpp>
#include <mmkit/page/sim_page_allocator.hpp>
#include <random>

#include "support/percpu_script.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"

namespace mmkit {
namespace {

using testing::PercpuOp;
using testing::PercpuScript;

// Fills, empties and fills again, so that chunks come and go.
class Tide {
 public:
  explicit Tide(std::uint64_t seed) : random_(seed) {}
  PercpuOp next() {
    if (++steps_ % 20'000 == 0) ebb_ = !ebb_;
    const std::uint64_t bits = random_();
    PercpuOp op{static_cast<std::uint8_t>(bits), static_cast<std::uint16_t>(bits >> 8),
                static_cast<std::uint16_t>(bits >> 24)};
    if (ebb_ && op.kind % 64 < 28 && (bits >> 40) % 2 != 0) op.kind = 40;  // a free
    return op;
  }

 private:
  std::mt19937_64 random_;
  std::uint64_t steps_ = 0;
  bool ebb_ = false;
};

void run_beside_the_list(PercpuScript& script, std::uint64_t seed) {
  Tide tide(seed);
  const std::uint64_t operations = testing::scaled(300'000, 20'000);
  for (std::uint64_t i = 0; i < operations; ++i) {
    const PercpuOp op = tide.next();
    ASSERT_TRUE(script.run(op)) << script.fault() << " at operation " << i;
    const std::uint64_t pause = i < 1000 ? 10 : 2000;
    if (i % pause == 0) {
      ASSERT_TRUE(script.check()) << script.fault() << " at operation " << i;
    }
  }
  ASSERT_TRUE(script.check()) << script.fault();
  ASSERT_TRUE(script.finish()) << script.fault();
}

TEST(PercpuModel, LazyMemoryIsWhatANaiveListSays) {
  PercpuScript::Setup setup;
  setup.options = {.max_cpus = 256, .backing = PercpuBacking::lazy, .reserved_bytes = 8192};
  setup.written_units = {0, 1, 17, 255};
  PercpuScript script(setup);
  run_beside_the_list(script, testing::test_seed(1));
  EXPECT_GT(script.allocator().stats().max_chunks, 4u);
}

TEST(PercpuModel, MappedMemoryIsWhatANaiveListSays) {
  if (possible_cpus() > 16) GTEST_SKIP() << "a mapped backing has at most 16 units";
  const auto pages =
      SimPageAllocator::create({.capacity_bytes = std::size_t{256} << 20, .shareable = true})
          .value();
  {
    PercpuScript::Setup setup;
    setup.options = {.max_cpus = 16,
                     .backing = PercpuBacking::mapped,
                     .reserved_bytes = 8192,
                     .pages = pages.get()};
    setup.written_units = {0, 1, 7, 15};
    PercpuScript script(setup);
    run_beside_the_list(script, testing::test_seed(2));
    EXPECT_GT(script.allocator().stats().max_chunks, 4u);
  }
  EXPECT_EQ(pages->stats().held_pages, 0u);
  EXPECT_TRUE(pages->validate());
}

// Fewer pages than are asked for: refusals change nothing, and what is live stays as it is.
TEST(PercpuModel, MappedMemoryThatRunsOutIsStillWhatANaiveListSays) {
  if (possible_cpus() > 16) GTEST_SKIP() << "a mapped backing has at most 16 units";
  const auto pages =
      SimPageAllocator::create({.capacity_bytes = std::size_t{3} << 20, .shareable = true}).value();
  {
    PercpuScript::Setup setup;
    setup.options = {.max_cpus = 16, .backing = PercpuBacking::mapped, .pages = pages.get()};
    setup.written_units = {0, 15};
    setup.may_run_out = true;
    PercpuScript script(setup);
    run_beside_the_list(script, testing::test_seed(3));
    EXPECT_GT(script.allocator().stats().failures, 0u);
  }
  EXPECT_EQ(pages->stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
