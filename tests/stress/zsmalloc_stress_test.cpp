// SPDX-License-Identifier: MIT
//
// zsmalloc under threads: everything at once, in every shape that its pools have.
//
// Eight threads, on however many CPUs there are, work on a field of objects (object_field.hpp) with
// every operation of the pool, checks and statistics among them. The shapes: small objects, many in
// a zspage; objects of about a page, of which hardly two share one; with what each CPU keeps and
// without; threads that are moved between CPUs all the time; fewer pages than objects. Races aimed
// at one object are in zsmalloc_race_stress_test.cpp.
//
// Load: kOperations in all, times MMKIT_SCALE.
#include <gtest/gtest.h>

#include <cstdint>
#include <mmkit/zpool/zsmalloc.hpp>

#include "support/field_work.hpp"
#include "support/object_field.hpp"
#include "support/sanitized.hpp"
#include "support/scale.hpp"

namespace mmkit {
namespace {

using testing::FieldOptions;
using testing::ObjectField;
using testing::work_together;

constexpr unsigned kThreads = 8;
constexpr std::uint64_t kOperations = 1'000'000;

struct Shape {
  const char* name;
  FieldOptions field;
};
const Shape kShapes[] = {
    {"SmallNotKept", {.params = "cache=0", .places = 512, .most_bytes = 200}},
    {"SmallKeptWandering", {.params = "cache=64", .places = 600, .most_bytes = 64, .wander = true}},
    {"PageSizedKept", {.params = "cache=32", .least_bytes = 3000}},
    {"PageSizedNotKeptWandering",
     {.params = "cache=0 chain_pages=4", .least_bytes = 2000, .wander = true}},
    {"AllSizesLongChains", {.params = "chain_pages=16", .wander = true}},
    {"AtTheLimit",
     {.params = "cache=16",
      .least_bytes = 100,
      .most_bytes = 700,
      .limit_pages = 20,
      .wander = true}},
};

void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.name;
}

class ZsmallocStress : public ::testing::TestWithParam<Shape> {};

TEST_P(ZsmallocStress, KeepsEveryObjectWholeWhateverThreadsDo) {
  ObjectField field("zsmalloc", GetParam().field);
  work_together(field, kThreads, testing::scaled(kOperations / std::size(kShapes), 8000), {});
}

// Nearly all that happens is that objects move: what else there is meets a mover.
TEST_P(ZsmallocStress, KeepsEveryObjectWholeWhileObjectsMove) {
  ObjectField field("zsmalloc", GetParam().field);
  work_together(field, kThreads, testing::scaled(kOperations / 20, 4000),
                {.fill = 20, .free = 22, .shrink = 1, .compact = 20});
}

// A child of a fork finds no operation half done.
TEST_P(ZsmallocStress, AForkFindsThePoolWholeAndCanUseAndEndIt) {
  if (!testing::kHeapSurvivesForks) GTEST_SKIP() << "the child's checks allocate";
  ObjectField field("zsmalloc", GetParam().field);
  testing::fork_beside_work(field, kThreads - 1, testing::scaled(25, 5));
}

INSTANTIATE_TEST_SUITE_P(Shape, ZsmallocStress, ::testing::ValuesIn(kShapes),
                         [](const auto& shape) { return shape.param.name; });

}  // namespace
}  // namespace mmkit
