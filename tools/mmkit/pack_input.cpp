// SPDX-License-Identifier: MIT
#include "pack_input.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "console.hpp"
#include "corpus.hpp"
#include "exit_code.hpp"
#include "progress.hpp"
#include "units.hpp"

namespace mmkit::tool {
namespace {

void warn_of(const Complaints& complaints, std::string_view more, Console& console) {
  for (const std::string& text : complaints.first()) console.warn(text);
  const std::uint64_t rest = complaints.count() - complaints.first().size();
  if (rest > 0) console.warn(fmt::format("and {} more {}", format_count(rest), more));
}

void report_input(const PackInput& input, Console& console) {
  warn_of(input.inputs.unreadable, "paths that cannot be read", console);
  warn_of(input.reading.unreadable, "files that cannot be read", console);
  warn_of(input.reading.shrunk, "files that became shorter", console);
  if (input.inputs.duplicates > 0) {
    console.note(fmt::format("{} given or met again (same device and inode): counted once",
                             input.inputs.duplicates == 1 ? std::string("1 file or directory was")
                                                          : format_count(input.inputs.duplicates) +
                                                                " files or directories were"));
  }
  if (input.left_out_bytes() > 0) {
    console.note(fmt::format("input cut after {} (--max-bytes {}): {} more were found and left out",
                             format_counted(input.reading.pages, "page"),
                             format_bytes(input.max_bytes), format_bytes(input.left_out_bytes())));
  }
}

/// Why there is not one page, in words.
std::string why_nothing(const PackInput& input) {
  const std::uint64_t unreadable = input.unreadable();
  if (unreadable == 1) {
    const Complaints& complaints =
        input.inputs.unreadable.empty() ? input.reading.unreadable : input.inputs.unreadable;
    return fmt::format("nothing could be read: {}", complaints.first().front());
  }
  if (unreadable > 1) {
    return fmt::format("nothing could be read: none of {} paths and files",
                       format_count(unreadable));
  }
  if (input.reading.shrunk.count() > 0) return "nothing to pack: the files were emptied meanwhile";
  if (input.inputs.empty_files > 0) {
    return fmt::format("nothing to pack: {}, all empty",
                       format_counted(input.inputs.empty_files, "file"));
  }
  return fmt::format("nothing to pack: no regular file in the paths given ({} and {} passed over)",
                     format_counted(input.inputs.links, "symbolic link"),
                     format_counted(input.inputs.special, "special file"));
}

std::uint64_t limit_in_pages(std::uint64_t max_bytes) {
  if (max_bytes < kPageSize) {
    throw Problem(ExitCode::usage, fmt::format("--max-bytes is {}; it must be at least one page, "
                                               "{} bytes",
                                               max_bytes, kPageSize));
  }
  return std::min<std::uint64_t>(max_bytes / kPageSize, kMaxCorpusPages);
}

}  // namespace

PackInput read_input(const std::vector<std::string>& paths, std::uint64_t max_bytes,
                     const std::function<void(PageBytes)>& take, Console& console) {
  PackInput input;
  input.max_bytes = max_bytes;
  const std::uint64_t limit_pages = limit_in_pages(max_bytes);
  input.inputs = walk_inputs(paths, limit_pages, console);
  Progress progress(console, "reading and compressing",
                    std::min(input.inputs.listed_pages, limit_pages) * kPageSize,
                    ProgressUnit::bytes);
  input.reading = read_pages(input.inputs.files, limit_pages, [&](PageBytes page, std::size_t) {
    take(page);
    progress.advance(kPageSize);
  });
  return input;
}

void check_input(const PackInput& input, InputRule rule, Console& console) {
  const bool nothing = input.reading.pages == 0;
  // One complaint and nothing else: the error says it, a warning before it would say it twice.
  if (!nothing || input.unreadable() != 1) report_input(input, console);
  if (nothing) throw Problem(ExitCode::no_input, why_nothing(input));
  if (rule == InputRule::lenient) return;
  const std::uint64_t bad = input.unreadable() + input.reading.shrunk.count();
  if (bad == 0) return;
  throw Problem(ExitCode::no_input,
                fmt::format("{} could not be read as a whole, and --strict is set",
                            format_counted(bad, "path or file", "paths and files")));
}

}  // namespace mmkit::tool
