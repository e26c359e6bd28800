// SPDX-License-Identifier: MIT
//
// What `mmkit percpu` is made of: the race loses nothing where nothing can be lost, and the picture
// is that of the chunks.
#include "percpu_picture.hpp"

#include <gtest/gtest.h>

#include "exit_code.hpp"
#include "percpu_race.hpp"

namespace mmkit::tool {
namespace {

TEST(PercpuRace, CountsEachWayAndLosesNothingThatIsAtomic) {
  double last = 0;
  const std::vector<RaceResult> results = run_percpu_race(3, 0.02, [&last](double done) {
    EXPECT_GE(done, last);
    last = done;
  });
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].way, "this_cpu_add");
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(results[i].lost, 0) << results[i].way;
  for (const RaceResult& result : results) {
    EXPECT_GT(result.adds, 0u) << result.way;
    EXPECT_GT(result.ns_per_add, 0) << result.way;
  }
  EXPECT_DOUBLE_EQ(last, 1);
}

TEST(PercpuRace, EndsItsThreadsWhenTheReportThrows) {
  const auto stop = [](double) { throw Problem(ExitCode::interrupted, "interrupted"); };
  EXPECT_THROW(run_percpu_race(2, 60, stop), Problem);
}

TEST(PercpuPicture, FollowsOnePageFromEmptyToFullAndBack) {
  const auto allocator = PercpuAllocator::create().value();
  EXPECT_EQ(drawn(picture_of(*allocator)[0]).find_first_of("+#"), std::string::npos);

  const PercpuPtr<std::byte> large = allocator->allocate(kPageSize + 4, 4).value();
  std::string text = drawn(picture_of(*allocator)[0]);
  ASSERT_EQ(text.size(), 16u);
  EXPECT_EQ(text.find('#') + 1, text.find('+')) << text;

  allocator->free(large);
  allocator->balance();
  text = drawn(picture_of(*allocator)[0]);
  EXPECT_EQ(text.find_first_of("+#"), std::string::npos) << text;
  EXPECT_NE(text.find('o'), std::string::npos) << "the reserve of: " << text;
}

TEST(PercpuPicture, MarksTheReservedChunkAndShowsEveryState) {
  const Demonstration shown = demonstrate_chunks();
  EXPECT_EQ(shown.chunks.size(), shown.stats.chunks);
  std::string all;
  int reserved = 0;
  for (const ChunkPicture& chunk : shown.chunks) {
    all += drawn(chunk);
    reserved += chunk.reserved ? 1 : 0;
    EXPECT_LE(chunk.largest_free_bytes, chunk.free_bytes);
  }
  EXPECT_EQ(reserved, 1);
  for (const char state : {'.', 'o', '+', '#'}) EXPECT_NE(all.find(state), std::string::npos);
}

}  // namespace
}  // namespace mmkit::tool
