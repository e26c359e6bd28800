// SPDX-License-Identifier: MIT
#include "driver_pool.hpp"

#include <fmt/format.h>

#include <new>
#include <utility>

#include "exit_code.hpp"

namespace mmkit::tool {
namespace {

// Pages that a pool may take beyond two for each object: for structures, and for corpora of a few
// objects.
constexpr std::size_t kSparePages = std::size_t{16} << 10;

std::unique_ptr<SimPageAllocator> make_pages(std::size_t objects) {
  SimPageAllocatorOptions options;
  options.capacity_bytes = (2 * objects + kSparePages) * kPageSize;
  Result<std::unique_ptr<SimPageAllocator>> pages = SimPageAllocator::create(options);
  if (!pages) driver_failed("the page allocator", "create", pages.error());
  return std::move(*pages);
}

}  // namespace

Result<PageRun> RunRecorder::allocate_pages(const PageRequest& request) noexcept {
  Result<PageRun> run = pages_.allocate_pages(request);
  if (!run) return run;
  try {
    const std::lock_guard lock(mutex_);
    runs_.emplace(run->data, *run);
  } catch (const std::bad_alloc&) {
    pages_.free_pages(*run);
    return fail(Errc::out_of_memory);
  }
  return run;
}

void RunRecorder::free_pages(PageRun run) noexcept {
  {
    const std::lock_guard lock(mutex_);
    runs_.erase(run.data);
  }
  pages_.free_pages(run);
}

std::vector<PageRun> RunRecorder::runs() const {
  const std::lock_guard lock(mutex_);
  std::vector<PageRun> runs;
  for (const auto& [data, run] : runs_) runs.push_back(run);
  return runs;
}

DriverPool::DriverPool(const DriverChoice& choice, DriverRegistry& registry, Wishes wishes)
    : pages_(make_pages(wishes.objects)) {
  ZpoolOptions options;
  options.name = "mmkit";
  options.pages = pages_.get();
  if (wishes.records_runs) {
    recorder_ = std::make_unique<RunRecorder>(*pages_);
    options.pages = recorder_.get();
  }
  options.registry = &registry;
  options.params = choice.params;
  options.limit_bytes = wishes.limit_bytes;
  options.evict = std::move(wishes.evict);
  Result<std::unique_ptr<Zpool>> pool = Zpool::create(choice.type, std::move(options));
  if (!pool) driver_failed(choice.name, "create", pool.error());
  pool_ = std::move(*pool);
}

std::vector<PageRun> DriverPool::runs() const {
  return recorder_ == nullptr ? std::vector<PageRun>{} : recorder_->runs();
}

void driver_failed(std::string_view driver, std::string_view call, Errc error) {
  if (error == Errc::out_of_memory) {
    throw Problem(
        ExitCode::out_of_memory,
        fmt::format("no memory for a pool of {}; a smaller --max-bytes needs less", driver));
  }
  throw Problem(ExitCode::internal, fmt::format("{} failed in {}: {}", driver, call, name(error)));
}

std::string fault_in(const Zpool& pool, std::size_t objects) {
  const ZpoolStats stats = pool.stats();
  if (const Status valid = pool.validate(); !valid) {
    return fmt::format("validate() says {}", name(valid.error()));
  }
  if (stats.objects != objects) {
    return fmt::format("{} objects were stored, stats() counts {}", objects, stats.objects);
  }
  if (stats.pages * kPageSize != pool.total_bytes()) {
    return fmt::format("stats() counts {} pages, total_bytes() is {}", stats.pages,
                       pool.total_bytes());
  }
  return {};
}

}  // namespace mmkit::tool
