// SPDX-License-Identifier: MIT
#include <mmkit/base/version.hpp>

#include <gtest/gtest.h>

#include <string>

// The headers' and the build's: a plug-in compares the one, a package the other.
TEST(Version, IsThatOfTheBuild) {
  EXPECT_EQ(std::to_string(MMKIT_VERSION_MAJOR) + "." + std::to_string(MMKIT_VERSION_MINOR) + "." +
                std::to_string(MMKIT_VERSION_PATCH),
            MMKIT_PROJECT_VERSION);
}
