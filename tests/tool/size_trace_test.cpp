// SPDX-License-Identifier: MIT
//
// The reader of u16 and ops traces: every fault of a file by its offset, every figure by hand.
#include "replay/size_trace.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace mmkit::replay {
namespace {

void put(std::string& bytes, std::uint32_t value, unsigned count) {
  for (unsigned i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 0xff);
}

std::string record(unsigned op, std::uint32_t key, std::uint32_t size) {
  std::string bytes(1, static_cast<char>(op));
  put(bytes, key, 4);
  put(bytes, size, 2);
  return bytes;
}

auto filled(const std::string& bytes) {
  return filled_from({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()});
}
SizeTrace u16(const std::string& bytes) {
  return read_u16(filled(bytes));
}
SizeTrace ops(const std::string& bytes) {
  return read_ops(filled(bytes));
}

template <class Read>
void refuses(Read read, const std::string& bytes, std::uint64_t offset, const std::string& reason) {
  try {
    read(bytes);
    ADD_FAILURE() << "was read; it should not: " << reason;
  } catch (const TraceError& error) {
    EXPECT_EQ(error.offset_bytes(), offset) << error.what();
    EXPECT_EQ(std::string(error.what()), reason);
  }
}

TEST(SizeTrace, ReadsSizesAsStoresOfNewPages) {
  const SizeTrace trace = u16(std::string("\1\0\0\x10", 4));
  ASSERT_EQ(trace.steps.size(), 2u);
  EXPECT_EQ(trace.steps[1].op, SizeOp::store);
  EXPECT_EQ(trace.steps[1].slot, 1u);
  EXPECT_EQ(trace.steps[1].size_bytes, 4096u);
  EXPECT_EQ(trace.slots, 2u);
  EXPECT_EQ(trace.peak_objects, 2u);
  EXPECT_EQ(trace.peak_payload_bytes, 4097u);
}

TEST(SizeTrace, RefusesSizesThatNoPageCompressesTo) {
  refuses(u16, "", 0, "the file is empty");
  refuses(u16, std::string("\1\0\0", 3), 2, "the file ends within a record of 2 bytes");
  refuses(u16, std::string("\1\0\0\0", 4), 2, "a size of 0; a compressed page has 1 to 4096 bytes");
  refuses(u16, std::string("\1\x10", 2), 0,
          "a size of 4097; a compressed page has 1 to 4096 bytes");
}

TEST(SizeTrace, FindsFaultsBehindTheFirstBufferToo) {
  std::string bytes;
  for (int i = 0; i < 8192; ++i) put(bytes, 1, 2);
  EXPECT_EQ(u16(bytes).slots, 8192u) << "a whole buffer";
  put(bytes, 1, 2);
  EXPECT_EQ(u16(bytes).slots, 8193u);
  refuses(u16, bytes + "x", 2 * 8193, "the file ends within a record of 2 bytes");
}

TEST(SizeTrace, FollowsKeysAsSlots) {
  const SizeTrace trace =
      ops(record(1, 900, 100) + record(1, 5, 50) + record(0, 0, 0) + record(2, 900, 30) +
          record(3, 5, 50) + record(1, 5, 7) + record(0, 1, 0));
  ASSERT_EQ(trace.steps.size(), 7u);
  EXPECT_EQ(trace.slots, 2u);
  EXPECT_EQ(trace.snapshots, 2u);
  EXPECT_EQ(trace.peak_objects, 2u);
  EXPECT_EQ(trace.peak_payload_bytes, 150u);
  EXPECT_EQ(trace.steps[3].op, SizeOp::overwrite);
  EXPECT_EQ(trace.steps[3].slot, 0u);
  EXPECT_EQ(trace.steps[4].op, SizeOp::drop);
  EXPECT_EQ(trace.steps[5].slot, 1u) << "the slot that the key had";
  EXPECT_EQ(trace.steps[6].op, SizeOp::snapshot);
  EXPECT_EQ(trace.steps[6].slot, 1u);
}

TEST(SizeTrace, RefusesOperationsThatCannotBe) {
  const std::string stored = record(1, 9, 100);
  refuses(ops, "", 0, "the file is empty");
  refuses(ops, stored + "\1", 7, "the file ends within a record of 7 bytes");
  refuses(ops, stored + record(4, 0, 1), 7, "operation 4; there are only 0 to 3");
  refuses(ops, stored + stored, 8, "key 9 is stored, and it lives");
  refuses(ops, record(2, 9, 100), 1, "key 9 is overwritten, and it does not live");
  refuses(ops, record(3, 9, 100), 1, "key 9 is dropped, and it does not live");
  refuses(ops, stored + record(3, 9, 100) + record(3, 9, 100), 15,
          "key 9 is dropped, and it does not live");
  refuses(ops, stored + record(3, 9, 99), 12,
          "key 9 is dropped with 99 bytes, it was stored with 100");
  refuses(ops, record(1, 9, 0), 5, "a size of 0; a compressed page has 1 to 4096 bytes");
  refuses(ops, stored + record(2, 9, 5000), 12,
          "a size of 5000; a compressed page has 1 to 4096 bytes");
  refuses(ops, stored + record(0, 3, 0), 8, "the end of snapshot 3, and it is number 0");
  refuses(ops, stored + record(0, 0, 7), 12, "the end of a snapshot with a size");
  refuses(ops, record(0, 0, 0), 0, "a trace that stores nothing");
}

}  // namespace
}  // namespace mmkit::replay
