// SPDX-License-Identifier: MIT
#include <mmkit/page/default_page_source.hpp>

#include <memory>
#include <mmkit/base/check.hpp>
#include <mmkit/page/sim_page_allocator.hpp>

namespace mmkit {
namespace {

// Less is tried where the address space is limited: `ulimit -v`, emulators, memory checkers.
constexpr std::size_t kLeastCapacityBytes = std::size_t{64} << 20;

SimPageAllocator* make_default() noexcept {
  SimPageAllocatorOptions options;
  for (; options.capacity_bytes >= kLeastCapacityBytes; options.capacity_bytes /= 2) {
    Result<std::unique_ptr<SimPageAllocator>> made = SimPageAllocator::create(options);
    if (made) return made->release();
    if (made.error() != Errc::out_of_memory) break;
  }
  report_failure({"page", {}, "no addresses for the default page source", options.capacity_bytes});
}

}  // namespace

PageSource& default_page_source() noexcept {
  // Reachable from here for ever, so that leak checkers stay silent.
  static SimPageAllocator* const source = make_default();
  return *source;
}

}  // namespace mmkit
