// SPDX-License-Identifier: MIT
//
// HookedSource - a page source that fails when told so, and calls back while a page is on its way.
#pragma once

#include <functional>
#include <mmkit/page/page_source.hpp>
#include <utility>

namespace mmkit::testing {

class HookedSource final : public PageSource {
 public:
  explicit HookedSource(PageSource& source) : source_(source) {}
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override {
    if (on_allocate) std::exchange(on_allocate, nullptr)(request);
    if (fails) return fail(Errc::out_of_memory);
    return source_.allocate_pages(request);
  }
  void free_pages(PageRun run) noexcept override {
    if (on_free) std::exchange(on_free, nullptr)();
    source_.free_pages(run);
  }
  PageSourceStats stats() const noexcept override { return source_.stats(); }

  std::function<void(const PageRequest&)> on_allocate;  // once
  std::function<void()> on_free;                        // once
  bool fails = false;

 private:
  PageSource& source_;
};

}  // namespace mmkit::testing
