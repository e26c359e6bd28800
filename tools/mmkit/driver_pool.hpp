// SPDX-License-Identifier: MIT
//
// DriverPool - a pool of one driver with a simulated page allocator of its own: what a driver held
// before does not come back warm to the next.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mmkit/page.hpp>
#include <mmkit/zpool.hpp>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace mmkit::tool {

/// A driver as the command line names it: NAME or NAME:PARAMS.
struct DriverChoice {
  std::string name;  // all of it
  std::string type;
  std::string params;
};

/// A page source that passes everything on and knows which runs are held: what a picture shows as the
/// driver's zspages, blocks or pages.
class RunRecorder final : public PageSource {
 public:
  explicit RunRecorder(PageSource& pages) : pages_(pages) {}
  Result<PageRun> allocate_pages(const PageRequest& request) noexcept override;
  void free_pages(PageRun run) noexcept override;
  Result<SharedRange> share(const PageRun& run) const noexcept override {
    return pages_.share(run);
  }
  PageSourceStats stats() const noexcept override { return pages_.stats(); }

  /// Held runs, by address.
  std::vector<PageRun> runs() const;

 private:
  PageSource& pages_;
  mutable std::mutex mutex_;
  std::map<const std::byte*, PageRun> runs_;
};

class DriverPool {
 public:
  struct Wishes {
    std::size_t objects = 0;      // at once, at most
    std::size_t limit_bytes = 0;  // 0: none
    EvictFn evict{};
    bool records_runs = false;
  };
  /// Throws a Problem as driver_failed() does.
  DriverPool(const DriverChoice& choice, DriverRegistry& registry, Wishes wishes);

  Zpool& operator*() const noexcept { return *pool_; }
  Zpool* operator->() const noexcept { return pool_.get(); }
  /// Empty unless wished for.
  std::vector<PageRun> runs() const;

 private:
  std::unique_ptr<SimPageAllocator> pages_;
  std::unique_ptr<RunRecorder> recorder_;
  std::unique_ptr<Zpool> pool_;  // goes before its pages
};

/// Ends the command: out_of_memory, or internal for what a driver has no business to say.
[[noreturn]] void driver_failed(std::string_view driver, std::string_view call, Errc error);

/// What does not add up in a pool that should have so many objects; empty when all does.
std::string fault_in(const Zpool& pool, std::size_t objects);

}  // namespace mmkit::tool
