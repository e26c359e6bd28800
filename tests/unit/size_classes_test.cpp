// SPDX-License-Identifier: MIT
#include <mmkit/zpool/size_classes.hpp>

#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

namespace mmkit {
namespace {

// The kernel's rules, said naively: every step has a best length; from the largest down, a step that
// has the pages and objects of the one above belongs to it.
struct NaiveClass {
  std::size_t size_bytes, pages, objects;
};
std::vector<NaiveClass> naive_classes(std::size_t chain_pages) {
  std::vector<NaiveClass> classes;
  for (std::size_t size = 4096; size >= 32; size -= 16) {
    NaiveClass best{size, 1, 4096 / size};
    for (std::size_t pages = 1; pages <= chain_pages; ++pages) {
      if (pages * 4096 % size < best.pages * 4096 % size) {
        best = {size, pages, pages * 4096 / size};
      }
    }
    if (!classes.empty() && classes.back().pages == best.pages &&
        classes.back().objects == best.objects) {
      continue;
    }
    classes.push_back(best);
  }
  return {classes.rbegin(), classes.rend()};
}

TEST(SizeClasses, AreThoseOfTheKernelsRules) {
  const std::map<std::size_t, std::pair<std::size_t, std::size_t>> known = {
      {4, {69, 3264}}, {8, {119, 3632}}, {16, {192, 3840}}};  // classes, the largest not huge
  for (const auto& [chain, expected] : known) {
    const SizeClasses& classes = *SizeClasses::for_chain(chain);
    const std::vector<NaiveClass> naive = naive_classes(chain);
    ASSERT_EQ(classes.count(), expected.first);
    ASSERT_EQ(classes.count(), naive.size());
    for (unsigned c = 0; c < classes.count(); ++c) {
      EXPECT_EQ(classes[c].size_bytes, naive[c].size_bytes);
      EXPECT_EQ(classes[c].pages, naive[c].pages);
      EXPECT_EQ(classes[c].objects, naive[c].objects);
      EXPECT_LE(classes[c].objects, SizeClasses::kMostObjects);
      EXPECT_LE(std::size_t{classes[c].objects} * classes[c].size_bytes,
                classes[c].pages * kPageSize);
    }
    const unsigned last = classes.count() - 1;
    EXPECT_TRUE(classes[last].is_huge());
    EXPECT_FALSE(classes[last - 1].is_huge());
    EXPECT_EQ(classes[last - 1].size_bytes, expected.second);
  }
}

TEST(SizeClasses, GiveEachSizeTheSmallestClassThatFits) {
  for (const std::size_t chain : {4u, 8u, 16u}) {
    const SizeClasses& classes = *SizeClasses::for_chain(chain);
    for (std::size_t size = 1; size <= kPageSize; ++size) {
      const unsigned c = classes.find(size);
      ASSERT_LT(c, classes.count());
      ASSERT_GE(classes[c].size_bytes, size);
      if (c != 0) {
        ASSERT_LT(classes[c - 1].size_bytes, size);
      }
    }
  }
}

TEST(SizeClasses, ExistForThreeLengthsOnly) {
  for (std::size_t chain = 0; chain < 100; ++chain) {
    EXPECT_EQ(SizeClasses::for_chain(chain) != nullptr, chain == 4 || chain == 8 || chain == 16);
  }
}

}  // namespace
}  // namespace mmkit
