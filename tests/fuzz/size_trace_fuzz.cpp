// SPDX-License-Identifier: MIT
//
// Traces of sizes - any bytes are a file in the formats u16 and ops, or are refused with an offset that
// lies in them.
//
// What is accepted has a step a record and is followed with a plain array: every operation is possible,
// and the peaks are what was counted.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "tools/replay/size_trace.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using mmkit::replay::SizeOp;
using mmkit::replay::SizeStep;
using mmkit::replay::SizeTrace;

void require(bool well, const char* what) {
  if (well) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

void follow(const SizeTrace& trace) {
  std::vector<std::uint16_t> live(trace.slots, 0);
  std::uint64_t payload = 0, peak_payload = 0;
  std::size_t objects = 0, peak_objects = 0;
  std::uint32_t snapshots = 0;
  for (const SizeStep& step : trace.steps) {
    if (step.op == SizeOp::snapshot) {
      require(step.slot == snapshots++, "snapshots count from 0");
      continue;
    }
    require(step.slot < trace.slots, "the slot is there");
    require(step.size_bytes >= 1 && step.size_bytes <= 4096, "the size is that of a page");
    require((step.op == SizeOp::store) == (live[step.slot] == 0), "what is done can be done");
    if (step.op != SizeOp::store) {
      payload -= live[step.slot];
      --objects;
    }
    if (step.op == SizeOp::drop) require(live[step.slot] == step.size_bytes, "the size dropped");
    live[step.slot] = step.op == SizeOp::drop ? std::uint16_t{0} : step.size_bytes;
    if (step.op != SizeOp::drop) {
      payload += step.size_bytes;
      ++objects;
    }
    peak_payload = std::max(peak_payload, payload);
    peak_objects = std::max(peak_objects, objects);
  }
  require(snapshots == trace.snapshots, "the number of snapshots");
  require(peak_objects == trace.peak_objects, "the most objects");
  require(peak_payload == trace.peak_payload_bytes, "the most bytes");
}

template <class Read>
void attempt(std::span<const std::uint8_t> bytes, std::size_t record_bytes, Read read) {
  try {
    const SizeTrace trace = read(mmkit::replay::filled_from(bytes));
    require(trace.steps.size() * record_bytes == bytes.size(), "a step a record");
    follow(trace);
  } catch (const mmkit::replay::TraceError& error) {
    require(error.offset_bytes() <= bytes.size(), "the offset lies in the file");
    require(error.what()[0] != '\0', "a reason is given");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> bytes(data, size);
  attempt(bytes, 2, [](auto fill) { return mmkit::replay::read_u16(fill); });
  attempt(bytes, 7, [](auto fill) { return mmkit::replay::read_ops(fill); });
  return 0;
}
