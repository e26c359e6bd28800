// SPDX-License-Identifier: MIT
//
// Percpu operations - any bytes are a script of operations on a PercpuAllocator, run beside a naive
// list of what is live.
//
//   byte 0         lowest bit: mapped; the next: a reserved part; the next: pages may run out
//   5 bytes each   an operation: kind, which (2), choice (2)
//
// Everything is compared after the last operation and at the end (PercpuScript).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mmkit/base/cpu.hpp>
#include <mmkit/page/sim_page_allocator.hpp>

#include "support/percpu_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using mmkit::PercpuBacking;
using mmkit::SimPageAllocator;
using mmkit::testing::PercpuOp;
using mmkit::testing::PercpuScript;

constexpr std::size_t kHeaderBytes = 1;
constexpr std::size_t kOpBytes = 5;
constexpr std::uint8_t kMapped = 1, kReserved = 2, kScarce = 4;

// Made once: page sources are no part of what is fuzzed. The few are used up by five full chunks of
// four units.
SimPageAllocator& pages(bool scarce) {
  const auto make = [](std::size_t capacity_bytes) {
    return SimPageAllocator::create({.capacity_bytes = capacity_bytes, .shareable = true}).value();
  };
  static const auto few = make(std::size_t{5} * 4 * 17 * mmkit::kPageSize);
  static const auto many = make(std::size_t{64} << 20);
  return scarce ? *few : *many;
}

std::uint16_t number(const std::uint8_t* bytes) {
  return static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8);
}

void require(bool well, const char* fault) {
  if (well) return;
  std::fprintf(stderr, "not so: %s\n", fault);
  std::abort();
}

PercpuScript::Setup setup_for(std::uint8_t header) {
  PercpuScript::Setup setup;
  const bool mapped = (header & kMapped) != 0 && mmkit::possible_cpus() <= 16;
  const bool scarce = mapped && (header & kScarce) != 0;
  setup.options.max_cpus = std::max(mapped ? 4u : 33u, mmkit::possible_cpus());
  setup.options.reserved_bytes = (header & kReserved) != 0 ? 8192 : 0;
  setup.written_units = {0, setup.options.max_cpus - 1};
  setup.may_run_out = scarce;
  if (mapped) {
    setup.options.backing = PercpuBacking::mapped;
    setup.options.pages = &pages(scarce);
  }
  return setup;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHeaderBytes) return 0;
  {
    PercpuScript script(setup_for(data[0]));
    for (std::size_t at = kHeaderBytes; at + kOpBytes <= size; at += kOpBytes) {
      const std::uint8_t* op = data + at;
      require(script.run(PercpuOp{op[0], number(op + 1), number(op + 3)}), script.fault().c_str());
    }
    require(script.check(), script.fault().c_str());
    require(script.finish(), script.fault().c_str());
  }
  for (const bool scarce : {false, true}) {
    require(pages(scarce).stats().held_pages == 0, "pages that did not go back");
  }
  return 0;
}
