// SPDX-License-Identifier: MIT
//
// Linked into every test executable: where the environment says which mode is expected, prints the
// mode, and fails the whole run when it is another one, whatever tests there are.
//
// MMKIT_EXPECT_MODE is words that stand in percpu_mode_reason(), such as "our own".
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <mmkit/percpu/mode.hpp>
#include <string_view>

namespace mmkit {
namespace {

class ExpectedMode : public ::testing::Environment {
 public:
  void SetUp() override {
    const char* const expected = std::getenv("MMKIT_EXPECT_MODE");
    if (expected == nullptr) return;
    const std::string_view reason = percpu_mode_reason();
    std::printf("[ MODE     ] %.*s\n", static_cast<int>(reason.size()), reason.data());
    ASSERT_NE(reason.find(expected), std::string_view::npos)
        << "expected: " << expected << "; is: " << reason;
    const bool named_rseq = reason.substr(0, 5) == "rseq:";
    ASSERT_EQ(named_rseq, percpu_mode() == PercpuMode::rseq) << reason;
  }
};

// The framework owns it.
const auto* const registered = ::testing::AddGlobalTestEnvironment(new ExpectedMode);

}  // namespace
}  // namespace mmkit
