// SPDX-License-Identifier: MIT
//
// PageSource as a user writes one: the least that must be said, and what is so unless said otherwise.
#include <gtest/gtest.h>

#include <array>
#include <mmkit/page/page_source.hpp>

namespace mmkit {
namespace {

// One page of its own.
class OnePage final : public PageSource {
 public:
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    if (held_ || request.pages != 1) return fail(Errc::out_of_memory);
    held_ = true;
    return PageRun{page_.data(), 1, Pfn{0}};
  }
  void free_pages(PageRun) noexcept override { held_ = false; }
  PageSourceStats stats() const noexcept override { return {.held_pages = held_ ? 1u : 0u}; }

 private:
  alignas(kPageSize) std::array<std::byte, kPageSize> page_{};
  bool held_ = false;
};

TEST(PageSource, DefaultsSayPrivateAndInherited) {
  OnePage one;
  PageSource& pages = one;
  const Result<PageRun> run = pages.allocate_pages({});
  ASSERT_TRUE(run);
  EXPECT_FALSE(pages.allocate_pages({}));
  EXPECT_EQ(pages.stats().held_pages, 1u);
  const Result<SharedRange> shared = pages.share(*run);
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error(), Errc::not_supported);
  EXPECT_TRUE(pages.inherited_by_fork());
  pages.free_pages(*run);
  EXPECT_EQ(pages.stats().held_pages, 0u);
}

}  // namespace
}  // namespace mmkit
