// SPDX-License-Identifier: MIT
//
// Traces - the files of bench/data in memory. Their formats are described in bench/data/README.md.
//
// Errors: std::runtime_error naming the file, the offset of the bad byte and what is wrong there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace mmkit::bench {

inline constexpr std::size_t kLargestSizeBytes = 4096;  // a page that did not shrink

/// The compressed sizes of one trace, in bytes, in the order of the file.
struct SizeTrace {
  std::string name;
  std::vector<std::uint16_t> sizes;
};

enum class ChurnOp : std::uint8_t { snapshot_end = 0, store = 1, overwrite = 2, drop = 3 };
struct ChurnRecord {
  ChurnOp op;
  std::uint32_t key;
  std::uint16_t size_bytes;
};

/// Where the traces lie: $MMKIT_BENCH_DATA, else where the build found them.
inline std::string data_directory() {
  const char* const chosen = std::getenv("MMKIT_BENCH_DATA");
  return chosen != nullptr && *chosen != '\0' ? chosen : MMKIT_DATA_DIR;
}

[[noreturn]] inline void bad_trace(const std::string& path, std::size_t offset_bytes,
                                   const std::string& reason) {
  throw std::runtime_error(path + ": offset " + std::to_string(offset_bytes) + ": " + reason);
}

inline std::vector<unsigned char> read_records(const std::string& path, std::size_t record_bytes) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw std::runtime_error(path + ": cannot be read");
  if (bytes.empty()) bad_trace(path, 0, "the file is empty");
  const std::size_t rest = bytes.size() % record_bytes;
  if (rest != 0) {
    bad_trace(path, bytes.size() - rest,
              "the file ends after " + std::to_string(rest) + " of the " +
                  std::to_string(record_bytes) + " bytes of a record");
  }
  return bytes;
}

/// Reads `name`.u16, such as "mem-node.lz4".
inline SizeTrace load_sizes(const std::string& name) {
  const std::string path = data_directory() + "/" + name + ".u16";
  const std::vector<unsigned char> bytes = read_records(path, 2);
  SizeTrace trace{name, {}};
  trace.sizes.reserve(bytes.size() / 2);
  for (std::size_t at = 0; at < bytes.size(); at += 2) {
    const unsigned size = bytes[at] + 256u * bytes[at + 1];
    if (size == 0 || size > kLargestSizeBytes) {
      bad_trace(path, at, "size " + std::to_string(size) + " is not within 1 to 4096");
    }
    trace.sizes.push_back(static_cast<std::uint16_t>(size));
  }
  return trace;
}

/// Reads `name`.ops and follows it once: a key is stored before it is overwritten or dropped, and
/// is dropped with the size it has.
inline std::vector<ChurnRecord> load_churn(const std::string& name) {
  constexpr std::size_t kRecordBytes = 7;
  const std::string path = data_directory() + "/" + name + ".ops";
  const std::vector<unsigned char> bytes = read_records(path, kRecordBytes);
  std::vector<ChurnRecord> records;
  records.reserve(bytes.size() / kRecordBytes);
  std::unordered_map<std::uint32_t, std::uint16_t> live;
  for (std::size_t at = 0; at < bytes.size(); at += kRecordBytes) {
    const unsigned char* const raw = &bytes[at];
    if (raw[0] > 3) bad_trace(path, at, "operation " + std::to_string(raw[0]) + " is unknown");
    const ChurnRecord record{static_cast<ChurnOp>(raw[0]),
                             raw[1] + 256u * (raw[2] + 256u * (raw[3] + 256u * raw[4])),
                             static_cast<std::uint16_t>(raw[5] + 256u * raw[6])};
    records.push_back(record);
    if (record.op == ChurnOp::snapshot_end) continue;
    const std::string key = "key " + std::to_string(record.key);
    if (record.size_bytes == 0 || record.size_bytes > kLargestSizeBytes) {
      bad_trace(path, at + 5, key + ": size is not within 1 to 4096");
    }
    const auto found = live.find(record.key);
    if ((found != live.end()) != (record.op != ChurnOp::store)) {
      bad_trace(path, at, key + (found != live.end() ? " is stored twice" : " is not live"));
    }
    if (record.op != ChurnOp::drop) {
      live[record.key] = record.size_bytes;
    } else if (found->second != record.size_bytes) {
      bad_trace(path, at + 5, key + " is dropped with a size it does not have");
    } else {
      live.erase(found);
    }
  }
  return records;
}

}  // namespace mmkit::bench
