// SPDX-License-Identifier: MIT
#include <mmkit/genalloc/json.hpp>

#include <cinttypes>
#include <cstdarg>
#include <cstdio>

namespace mmkit {
namespace {

using Sink = std::function<void(std::string_view)>;

[[gnu::format(printf, 2, 3)]] void print(const Sink& sink, const char* format, ...) noexcept {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  sink({text, static_cast<std::size_t>(length)});
}

void print_text(const Sink& sink, std::string_view text) noexcept {
  sink("\"");
  for (const char byte : text) {
    if (byte == '"' || byte == '\\') {
      const char escaped[] = {'\\', byte};
      sink({escaped, 2});
    } else if (byte >= 0 && byte < ' ') {
      print(sink, "\\u%04x", static_cast<unsigned>(byte));
    } else {
      const char plain = byte < 0 || byte == 0x7f ? '?' : byte;
      sink({&plain, 1});
    }
  }
  sink("\"");
}

void print_stats(const Sink& sink, const GenPoolStats& stats) noexcept {
  print(sink, "\"stats\":{\"size_bytes\":%zu,\"available_bytes\":%zu,\"peak_used_bytes\":%zu,",
        stats.size_bytes, stats.available_bytes, stats.peak_used_bytes);
  print(sink, "\"largest_free_bytes\":%zu,\"metadata_bytes\":%zu,\"chunks\":%zu,",
        stats.largest_free_bytes, stats.metadata_bytes, stats.chunks);
  print(sink, "\"free_runs\":%zu,\"allocations\":%" PRIu64 ",\"frees\":%" PRIu64 ",",
        stats.free_runs, stats.allocations, stats.frees);
  print(sink, "\"failed_no_space\":%" PRIu64 ",\"failed_fragmented\":%" PRIu64 ",",
        stats.failed_no_space, stats.failed_fragmented);
  print(sink, "\"retries\":%" PRIu64 ",\"words_touched\":%" PRIu64 ",", stats.retries,
        stats.words_touched);
  print(sink, "\"most_words_touched\":%" PRIu64 "}", stats.most_words_touched);
}

}  // namespace

void write_json(const GenPool& pool, const Sink& sink) noexcept {
  sink("{\"name\":");
  print_text(sink, pool.name());
  print(sink, ",\"granule_bytes\":%zu,", pool.granule_bytes());
  print_stats(sink, pool.stats());
  sink(",\"chunks\":[");
  bool first = true;
  pool.for_each_chunk([&](const GenPoolChunk& chunk) {
    print(sink, "%s{\"start\":%" PRIuPTR ",\"size_bytes\":%zu,\"available_bytes\":%zu,\"phys\":",
          first ? "" : ",", chunk.start, chunk.size_bytes, chunk.available_bytes);
    if (chunk.phys) {
      print(sink, "%" PRIu64 "}", *chunk.phys);
    } else {
      sink("null}");
    }
    first = false;
  });
  sink("],\"free_runs\":[");
  first = true;
  pool.for_each_free_run([&](const FreeRun& run) {
    print(sink, "%s[%" PRIuPTR ",%zu]", first ? "" : ",", run.start, run.size_bytes);
    first = false;
  });
  sink("]}");
}

}  // namespace mmkit
