// SPDX-License-Identifier: MIT
//
// An object of static life may use pools in its destructor, whatever was made first.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mmkit/zpool/zpool.hpp>

namespace mmkit {
namespace {

// Runs after the destructor of everything that was made since it was registered.
void use_a_pool_at_exit() {
  const auto pool = Zpool::create("zbud", {.name = "late"}).value();
  const Handle handle = pool->allocate(100).value();
  pool->map(handle).bytes()[0] = std::byte{1};
  pool->free(handle);
  if (!pool->validate() || !default_registry().has_pool("zbud")) std::_Exit(1);
  std::fputs("used at exit\n", stderr);
}

TEST(ZpoolExitDeathTest, PoolsWorkUntilTheEndOfTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::atexit(use_a_pool_at_exit);
        static const std::unique_ptr<Zpool> pool = Zpool::create("zbud").value();
        std::exit(pool != nullptr ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "used at exit");
}

}  // namespace
}  // namespace mmkit
