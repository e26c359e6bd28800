// SPDX-License-Identifier: MIT
//
// Zpool operations - any bytes are a script of operations on a pool, run beside a tiny model.
//
//   byte 0         which driver, or variant of one (driver_variants.hpp)
//   byte 1         limit in pages, 0: none; the highest bit: not evictable
//   5 bytes each   an operation: kind, which (2), choices (2)
//
// Everything is compared after the last operation and at the end (ZpoolScript).
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mmkit/page/sim_page_allocator.hpp>
#include <mmkit/zpool.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "support/driver_variants.hpp"
#include "support/zpool_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using mmkit::testing::ScriptOp;
using mmkit::testing::ZpoolScript;

constexpr std::size_t kHeaderBytes = 2;
constexpr std::size_t kOpBytes = 5;
constexpr std::uint8_t kNotEvictable = 0x80;

// Made once: a page source is no part of what is fuzzed.
mmkit::PageSource& pages() {
  static auto source =
      mmkit::SimPageAllocator::create({.capacity_bytes = std::size_t{16} << 20}).value();
  return *source;
}
const std::vector<mmkit::testing::DriverVariant>& variants() {
  static const auto all = mmkit::testing::driver_variants();
  return all;
}

std::uint16_t number(const std::uint8_t* bytes) {
  return static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8);
}

void require(bool well, const ZpoolScript& script) {
  if (well) return;
  std::fprintf(stderr, "not so: %s\n", script.fault().c_str());
  std::abort();
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kHeaderBytes) return 0;
  const mmkit::testing::DriverVariant& variant = variants()[data[0] % variants().size()];
  ZpoolScript script({.type = variant.type,
                      .params = variant.params,
                      .pages = &pages(),
                      .limit_pages = data[1] % std::size_t{kNotEvictable},
                      .evictable = (data[1] & kNotEvictable) == 0});
  for (std::size_t at = kHeaderBytes; at + kOpBytes <= size; at += kOpBytes) {
    const std::uint8_t* op = data + at;
    require(script.run(ScriptOp{op[0], number(op + 1), number(op + 3)}), script);
  }
  require(script.check(), script);
  require(script.finish(), script);
  return 0;
}
