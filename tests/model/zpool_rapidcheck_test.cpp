// SPDX-License-Identifier: MIT
//
// Any script on any driver: random lists of operations, cut down to the shortest one that fails.
//
// The generator is rapidcheck's, the operations and the model are those of ZpoolScript, and what is
// tested is every type that the default registry knows.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/driver_variants.hpp"
#include "support/scale.hpp"
#include "support/seed.hpp"
#include "support/zpool_script.hpp"

// How rapidcheck makes a ScriptOp and makes it simpler: by its fields.
template <>
struct rc::Arbitrary<mmkit::testing::ScriptOp> {
  static Gen<mmkit::testing::ScriptOp> arbitrary() {
    using mmkit::testing::ScriptOp;
    return gen::build<ScriptOp>(
        gen::set(&ScriptOp::kind,
                 gen::inRange<std::uint8_t>(0, std::uint8_t{mmkit::testing::kScriptKinds})),
        gen::set(&ScriptOp::which, gen::inRange<std::uint16_t>(0, 0xffff)),
        gen::set(&ScriptOp::choices, gen::inRange<std::uint16_t>(0, 0xffff)));
  }
};

namespace mmkit {
namespace {

using testing::ScriptOp;
using testing::ScriptPool;
using testing::ZpoolScript;

class ZpoolRapidcheck : public ::testing::TestWithParam<testing::DriverVariant> {
 protected:
  // Runs a property so many times, from the seed of the test run, and reports the shortest failure.
  template <class Property>
  void check(std::uint64_t stream, Property&& property) {
    rc::detail::TestParams params;
    params.seed = testing::test_seed(stream);
    params.maxSuccess = static_cast<int>(testing::scaled(2000, 100));
    params.maxSize = 200;
    rc::detail::TestMetadata metadata;
    metadata.id = GetParam().name();
    const rc::detail::TestResult result =
        rc::detail::checkTestable(std::forward<Property>(property), metadata, params);
    if (result.template is<rc::detail::SuccessResult>()) return;
    std::ostringstream text;
    rc::detail::printResultMessage(result, text);
    FAIL() << text.str();
  }

  // Throws rapidcheck's failure, which ends the property.
  static void run(ZpoolScript& script, const std::vector<ScriptOp>& ops) {
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (!script.run(ops[i]) || !script.check()) {
        std::ostringstream text;
        text << "operation " << i << ", " << ops[i] << ", not so: " << script.fault();
        RC_FAIL(text.str());
      }
    }
    if (!script.finish()) RC_FAIL("at the end, not so: " + script.fault());
  }

  std::unique_ptr<SimPageAllocator> source_ =
      SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20}).value();
};

TEST_P(ZpoolRapidcheck, AnyScriptKeepsEveryObjectAndEveryPage) {
  check(1, [this](const std::vector<ScriptOp>& ops) {
    ZpoolScript script(
        {.type = GetParam().type, .params = GetParam().params, .pages = source_.get()});
    run(script, ops);
  });
}

TEST_P(ZpoolRapidcheck, AnyScriptStaysWithinItsLimit) {
  check(2, [this](const std::vector<ScriptOp>& ops, bool evictable) {
    const std::size_t limit = *rc::gen::inRange<std::size_t>(1, 12);
    ZpoolScript script({GetParam().type, GetParam().params, source_.get(), limit, evictable});
    run(script, ops);
  });
}

INSTANTIATE_TEST_SUITE_P(Driver, ZpoolRapidcheck, ::testing::ValuesIn(testing::driver_variants()),
                         [](const auto& variant) { return variant.param.name(); });

}  // namespace
}  // namespace mmkit
