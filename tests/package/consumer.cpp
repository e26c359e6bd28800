// SPDX-License-Identifier: MIT
//
// Consumer - what a user of the package writes, a little of each part: says what it found.
//
// Compiled as C++20 and C++23, with and without exceptions and RTTI. Its own page source stands
// before the library's, so that virtual functions are called both ways.
#include <cstdio>
#include <cstring>
#include <memory>
#include <mmkit/genalloc/pool_resource.hpp>
#include <mmkit/mmkit.hpp>
#include <span>
#include <string_view>

namespace {

class CountingPages final : public mmkit::PageSource {
 public:
  mmkit::Result<mmkit::PageRun> allocate_pages(
      const mmkit::PageRequest& request) noexcept override {
    ++requests;
    return mmkit::default_page_source().allocate_pages(request);
  }
  void free_pages(mmkit::PageRun run) noexcept override {
    mmkit::default_page_source().free_pages(run);
  }
  mmkit::PageSourceStats stats() const noexcept override {
    return mmkit::default_page_source().stats();
  }
  unsigned requests = 0;
};

inline constinit mmkit::StaticPercpu<long> hits;

bool stores_in(const char* driver) {
  constexpr std::string_view kText = "kept in a pool";
  CountingPages pages;
  auto pool = mmkit::Zpool::create(driver, {.name = "consumer", .pages = &pages});
  if (!pool) return false;
  auto handle = (*pool)->store(std::as_bytes(std::span(kText)));
  if (!handle) return false;
  bool same = false;
  {
    auto mapping = (*pool)->map(*handle, mmkit::MapMode::read_only);
    const auto bytes = mapping.const_bytes();
    same =
        bytes.size() >= kText.size() && std::memcmp(bytes.data(), kText.data(), kText.size()) == 0;
  }
  (*pool)->free(*handle);
  return same && pages.requests != 0;
}

bool manages_ranges() {
  auto pool = mmkit::GenPool::create({.min_alloc_order = 4, .name = "consumer"});
  alignas(16) static std::byte memory[4096];
  if (!pool || !(*pool)->add_chunk({.start = reinterpret_cast<std::uintptr_t>(memory),
                                    .size_bytes = sizeof memory})) {
    return false;
  }
  mmkit::GenPoolResource resource(**pool);
  void* const block = resource.allocate(100);
  const bool inside = block >= memory && block < memory + sizeof memory;
  resource.deallocate(block, 100);
  return inside && (*pool)->available_bytes() == sizeof memory;
}

bool counts_per_cpu() {
  for (int i = 0; i < 10; ++i) mmkit::this_cpu_inc(hits.get());
  auto counter = mmkit::PercpuCounter::create(0);
  if (!counter) return false;
  counter->add(5);
  return mmkit::percpu_sum(hits.get(), mmkit::PercpuAllocator::instance().units()) == 10 &&
         counter->sum() == 5;
}

}  // namespace

int main() {
  for (const char* const driver : {"zheap", "zsmalloc", "z3fold", "zbud"}) {
    if (!stores_in(driver)) return 1;
  }
  if (!manages_ranges()) return 2;
  if (!counts_per_cpu()) return 3;
#ifdef __cpp_rtti
  if (dynamic_cast<mmkit::SimPageAllocator*>(&mmkit::default_page_source()) == nullptr) return 4;
#endif
  std::puts("consumer: objects, ranges and counters are as they should be");
  return 0;
}
